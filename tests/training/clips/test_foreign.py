"""Foreign examples: what of a folder is taken, kinds, photos that look like frames, measurements kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_makers import CHANNELS, SIZE, FakeCaptioner
from media_makers import grey_frames, write_video
from PIL import Image

from captioner.clips.classifier import captioner_encode
from captioner.clips.windows import WindowOptions
from captioner.errors import DatasetError
from captioner.training.clips import foreign as module
from captioner.training.clips.data import OTHER, Clip
from captioner.training.clips.foreign import (
    ForeignExample,
    foreign_clips,
    foreign_looks,
    like_a_frame,
    parts_of,
    read_foreign,
)


def noise(size=(90, 120), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "things"
    for inside in ("walks", OTHER, ".hidden"):
        (root / inside).mkdir(parents=True)
    for name in ("walks/one.mp4", f"{OTHER}/sky_1.mp4", f"{OTHER}/cctv-2.mp4", ".hidden/no.mp4"):
        write_video(root / name, grey_frames(24), fps=10.0)
    for number in range(4):
        Image.fromarray(noise(seed=number)).save(root / f"photo{number}.png")
    (root / "text.txt").write_text("neither")
    return root


def test_clips_and_photos_of_a_folder(folder):
    found = read_foreign(folder)
    assert [(one.name, one.kind, one.still) for one in found] == [
        ("things/Other/cctv-2.mp4", "Other/cctv", False),
        ("things/Other/sky_1.mp4", "Other/sky", False),
        ("things/walks/one.mp4", "things", False),
        *[(f"things/photo{number}.png", "things", True) for number in range(4)],
    ]


def test_what_may_show_a_class_is_left_out(folder):
    captions = {
        folder / "photo0.png": ["a dog", "a Surfer on a wave"],
        folder / "photo1.png": ["a dog"],
        folder / "photo2.png": ["a resurfaced road"],
    }
    found = read_foreign(folder, leave_out=["surf", "cctv"], captions=captions)
    assert [one.name for one in found] == [
        "things/Other/sky_1.mp4", "things/walks/one.mp4", "things/photo1.png", "things/photo2.png",
    ]  # fmt: skip


def test_no_more_photos_than_help(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_STILLS", 2)
    assert sum(one.still for one in read_foreign(folder)) == 2 == sum(one.still for one in read_foreign(folder))
    assert read_foreign(folder) == read_foreign(folder)


def test_nothing_to_take(tmp_path):
    with pytest.raises(DatasetError, match="no clip and no photo"):
        read_foreign(tmp_path)


def test_other_clips_among_the_data():
    clips = [Clip(name, Path(name), label, name) for name, label in
             (("sky_1.mp4", OTHER), ("run.mp4", "run"), ("cctv_3.mp4", OTHER))]  # fmt: skip
    assert [(one.name, one.kind) for one in foreign_clips(clips, ["cctv"])] == [("sky_1.mp4", "Other/sky")]


def test_a_kind_is_judged_as_a_whole():
    def parts(kinds):
        return parts_of([ForeignExample(str(i), Path(str(i)), kind, False) for i, kind in enumerate(kinds)], 3)

    found = parts("aaabbc")
    assert len(set(found[:3])) == len(set(found[3:5])) == 1 and len(set(found)) == 3
    assert parts("aaabbb").tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("shape", [(90, 120), (400, 30), (5, 7)])
def test_a_photo_becomes_a_worn_frame(shape):
    image = noise(shape)
    frames = [like_a_frame(image, np.random.default_rng(seed), 32) for seed in (0, 0, 1)]
    assert frames[0].shape == (32, 32, 3) and frames[0].dtype == np.uint8
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


@pytest.mark.parametrize("region", [False, True])
def test_measurements_are_kept(folder, tmp_path, region):
    examples = read_foreign(folder)
    (tmp_path / "bad.png").write_bytes(b"no photo")
    examples.append(ForeignExample("bad.png", tmp_path / "bad.png", "bad", True))
    settings = {"cache": tmp_path / "cache", "key": "k", "image_size": SIZE, "region": region}
    options = WindowOptions(0.1, 1.0, 1.0)
    first, failures = foreign_looks(
        examples, captioner_encode(captioner := FakeCaptioner()), options=options, **settings
    )
    assert set(first) == {one.name for one in examples[:-1]} and set(failures) == {"bad.png"}
    assert {value.shape[1] for value in first.values()} == {CHANNELS}
    assert first["things/photo0.png"].shape[0] == 1 and first["things/walks/one.mp4"].shape[0] == 3
    seen = captioner.encoded
    again, _ = foreign_looks(examples, captioner_encode(captioner), options=options, **settings)
    assert captioner.encoded == seen
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
