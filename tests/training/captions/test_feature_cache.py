"""The feature cache: computed once, resumed after a kill, built anew when anything changes, never trusted when torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionerError, DatasetError
from captioner.training.captions import feature_cache
from captioner.training.captions.feature_cache import FLIPPED, View, cached_features, encode_photos

SIZE = 8
COUNT = 11


class Encoder:
    """Counts the batches; a photo's features are plain sums, so that they are easy to foretell."""

    def __init__(self, stop_after=None):
        self.batches = 0
        self.stop_after = stop_after

    def __call__(self, images):
        assert images.dtype == np.uint8 and images.shape == (4, SIZE, SIZE, 3)
        if self.batches == self.stop_after:
            raise KeyboardInterrupt
        self.batches += 1
        grid = images.reshape(4, 2, SIZE // 2, 2, SIZE // 2, 3).mean(axis=(2, 4)).astype(np.float32)
        return {"grid": grid, "pooled": grid.mean(axis=(1, 2)), "class_scores": grid[:, 0, 0]}


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(COUNT)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)).save(path)
    return paths


def run(tmp_path, paths, encode, key="key", **options):
    files = [path.name for path in paths]
    options = {"outputs": ("grid", "pooled"), "batch_size": 4, **options}
    return cached_features(tmp_path / "cache", files, paths, encode, key=key, image_size=SIZE, **options)


def expected(paths):
    """The grid of every photo, read and averaged anew."""
    images = np.stack([np.asarray(Image.open(path), np.float64) for path in paths])
    return images.reshape(-1, 2, SIZE // 2, 2, SIZE // 2, 3).mean(axis=(2, 4)).reshape(-1, 4, 3)


def state_of(tmp_path):
    (path,) = (tmp_path / "cache").glob("*/state.json")
    return path


def test_features_are_computed_once(tmp_path, photos):
    encode, calls = Encoder(), []
    features = run(tmp_path, photos, encode, progress=lambda *call: calls.append(call))
    assert features.files == tuple(path.name for path in photos) and features.failures == {}
    assert features.rows.tolist() == list(range(COUNT))
    assert features.arrays["grid"].dtype == np.float16
    assert features.arrays["grid"].shape == (COUNT, 4, 3) and features.arrays["pooled"].shape == (COUNT, 3)
    np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)
    np.testing.assert_allclose(features.arrays["pooled"], expected(photos).mean(axis=1), atol=0.1)
    assert encode.batches == 3 and calls == [(4, COUNT), (8, COUNT), (11, COUNT)]

    again = run(tmp_path, photos, Encoder(stop_after=0))
    np.testing.assert_array_equal(again.arrays["grid"], features.arrays["grid"])
    with pytest.raises(ValueError, match="read-only"):
        again.arrays["grid"][0] = 0


def touch(paths):
    os.utime(paths[3], ns=(1, 1))


def rewrite(paths):
    Image.new("RGB", (SIZE, SIZE), "red").save(paths[3])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (touch, {}),
        (rewrite, {}),
        (lambda paths: paths.pop(), {}),
        (lambda paths: paths.reverse(), {}),
        (lambda paths: None, {"key": "another encoder"}),
        (lambda paths: None, {"view": FLIPPED}),
        (lambda paths: None, {"view": View("plain", crop=0.25)}),
        (lambda paths: None, {"outputs": ("grid", "class_scores")}),
    ],
    ids=["time", "content", "fewer", "order", "encoder", "flip", "crop", "outputs"],
)
def test_another_cache_is_built_when_anything_changes(tmp_path, photos, change, options):
    run(tmp_path, photos, Encoder())
    change(photos)
    encode = Encoder()
    features = run(tmp_path, photos, encode, **options)
    assert encode.batches == 3
    if not options:
        np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)


def test_views(tmp_path, photos):
    plain = run(tmp_path, photos, Encoder()).arrays["grid"].reshape(-1, 2, 2, 3)
    flipped = run(tmp_path, photos, Encoder(), view=FLIPPED).arrays["grid"].reshape(-1, 2, 2, 3)
    np.testing.assert_array_equal(flipped, plain[:, :, ::-1])
    image = np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(SIZE, SIZE, 3)
    corner = View("corner", crop=0.5, corner=(0, 1)).apply(image)
    assert corner.shape == image.shape
    np.testing.assert_array_equal(corner[0, -1], image[0, -1])
    np.testing.assert_array_equal(corner[-1, 0], image[SIZE // 2 - 1, SIZE // 2])


def test_a_stopped_run_goes_on(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(feature_cache, "_FLUSH_EVERY", 1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, photos, Encoder(stop_after=2))
    assert json.loads(state_of(tmp_path).read_text()) == {"done": 8, "failures": {}}
    encode = Encoder()
    features = run(tmp_path, photos, encode)
    assert encode.batches == 1
    np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)


def test_what_was_not_yet_on_the_disk_is_computed_again(tmp_path, photos):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, photos, Encoder(stop_after=2))
    encode = Encoder()
    features = run(tmp_path, photos, encode)
    assert encode.batches == 3
    np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)


def test_a_killed_process_leaves_a_cache_that_can_be_trusted(tmp_path, photos):
    code = f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
import test_feature_cache as test
test.feature_cache._FLUSH_EVERY = 1
class Killed(test.Encoder):
    def __call__(self, images):
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(images)
test.run(Path({str(tmp_path)!r}), [Path(path) for path in {[str(path) for path in photos]!r}], Killed())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    encode = Encoder()
    features = run(tmp_path, photos, encode)
    assert encode.batches == 1
    np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: cut(home / "grid.npy"),
        lambda home: (home / "pooled.npy").unlink(),
        lambda home: (home / "grid.npy").write_bytes(b""),
        lambda home: np.save(home / "grid.npy", np.zeros((COUNT - 1, 4, 3), np.float16)),
        lambda home: np.save(home / "grid.npy", np.zeros((COUNT, 4, 3), np.float32)),
        lambda home: np.save(home / "grid.npy", np.float16(1)),
        lambda home: (home / "state.json").write_text('{"done": 11, "fail'),
        lambda home: (home / "state.json").write_text("[]"),
        lambda home: (home / "state.json").write_text('{"done": 12, "failures": {}}'),
        lambda home: (home / "state.json").write_text('{"done": "all", "failures": {}}'),
        lambda home: (home / "state.json").write_text('{"done": 11}'),
    ],
)
def test_torn_files_are_not_trusted(tmp_path, photos, damage):
    run(tmp_path, photos, Encoder())
    damage(state_of(tmp_path).parent)
    encode = Encoder()
    features = run(tmp_path, photos, encode)
    assert encode.batches == 3
    np.testing.assert_allclose(features.arrays["grid"], expected(photos), atol=0.1)


def test_unreadable_photos_are_reported(tmp_path, photos):
    photos[2].write_bytes(b"no photo")
    photos[5].unlink()
    for _ in range(2):  # computed, then from the cache
        features = run(tmp_path, photos, Encoder())
        assert sorted(features.failures) == ["2.png", "5.png"]
        assert "2.png" in features.failures["2.png"] and "5.png" in features.failures["5.png"]
        assert features.files == tuple(f"{number}.png" for number in range(COUNT) if number not in (2, 5))
        good = [path for path in photos if path.name in features.files]
        np.testing.assert_allclose(features.arrays["grid"][features.rows], expected(good), atol=0.1)


@pytest.mark.parametrize("count", [0, 2])
def test_no_photo_can_be_read(tmp_path, count):
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    with pytest.raises(DatasetError, match=f"none of the {count} photos can be read"):
        run(tmp_path, paths, Encoder())
    with pytest.raises(DatasetError, match=f"none of the {count} photos can be read"):
        encode_photos([path.name for path in paths], paths, Encoder(), SIZE, batch_size=4)


def test_a_folder_that_cannot_be_written(tmp_path, photos):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CaptionerError, match="cache"):
        run(tmp_path, photos, Encoder())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error(tmp_path, photos, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CaptionerError, match="No space left") as error:
        run(tmp_path, photos, Encoder())
    assert error.value.kind == "disk_full"


def test_photos_are_not_read_far_ahead(tmp_path, photos, monkeypatch):
    """However slow the encoder is, only a few batches wait for it."""
    started = []
    read = feature_cache._read_batch
    monkeypatch.setattr(feature_cache, "_read_batch", lambda paths, *rest: started.append(paths) or read(paths, *rest))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, photos * 10, Encoder(stop_after=1))
    assert len(started) <= 2 + feature_cache._READERS + 1


def test_in_memory(photos):
    photos[2].write_bytes(b"no photo")
    features = encode_photos([path.name for path in photos], photos, Encoder(), SIZE, batch_size=4)
    assert "2.png" in features.failures and features.arrays["grid"].dtype == np.float16
    good = [path for path in photos if path.name != "2.png"]
    np.testing.assert_allclose(features.arrays["grid"][features.rows], expected(good), atol=0.1)
