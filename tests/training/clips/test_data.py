"""Reading labelled clips: layouts, groups and splits, what is refused, cached measurements."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_makers import grey_frames, write_video

from captioner.clips.frames import View
from captioner.clips.windows import WindowOptions
from captioner.errors import DatasetError
from captioner.training.clips import data as clip_data
from captioner.training.clips.data import (
    Clip,
    ClipDataset,
    assign_splits,
    check_trainable,
    grouped_share,
    measured_clips,
    read_clips,
)


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write_table(folder: Path, text: str, *names: str) -> Path:
    make_files(folder, *names)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_folder_per_class(tmp_path):
    make_files(tmp_path, "run/a.mp4", "run/deep/b.AVI", "walk/a.mp4", "walk/notes.txt", ".hidden/c.mp4", "top.mp4")
    dataset = read_clips(tmp_path)
    assert [(clip.name, clip.label) for clip in dataset.clips] == [
        ("run/a.mp4", "run"),
        ("run/deep/b.AVI", "run"),
        ("walk/a.mp4", "walk"),
    ]
    assert dataset.labels == ("run", "walk")
    assert len({clip.group for clip in dataset.clips}) == 3 and all(clip.split is None for clip in dataset.clips)


def test_table(tmp_path):
    text = 'clip,label,group,split\nx/1.mp4,run,r1,train\nx/2.mp4,walk,r2,VAL\n"x/a, b.mp4",walk,r3,test\n'
    folder = write_table(tmp_path, text, "x/1.mp4", "x/2.mp4", "x/a, b.mp4")
    for source in (folder, folder / "labels.csv"):
        dataset = read_clips(source)
        assert [(c.name, c.label, c.group, c.split) for c in dataset.clips] == [
            ("x/1.mp4", "run", "r1", "train"),
            ("x/2.mp4", "walk", "r2", "val"),
            ("x/a, b.mp4", "walk", "r3", "test"),
        ]
        assert all(clip.path.is_file() for clip in dataset.clips)
    assert [clip.name for clip in dataset.split("validation")] == ["x/2.mp4"]
    assert len(dataset.split("all")) == 3


def test_table_of_two_columns_with_a_byte_order_mark(tmp_path):
    folder = write_table(tmp_path, "\ufeffclip,label\r\n1.mp4, run \r\n", "1.mp4")
    (clip,) = read_clips(folder).clips
    assert (clip.label, clip.group, clip.split) == ("run", "1.mp4", None)


def test_missing_clips_are_left_out_and_listed(tmp_path):
    dataset = read_clips(write_table(tmp_path, "clip,label\n1.mp4,run\ngone.mp4,walk\n", "1.mp4"))
    assert [clip.name for clip in dataset.clips] == ["1.mp4"]
    (warning,) = dataset.warnings
    assert "gone.mp4" in warning and "1 clips" in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip,label,colour\n1.mp4,run,red\n", "unknown column 'colour'"),
        ("clip\n1.mp4\n", "clip and label"),
        (f"clip,label,{'x' * 20_000}\n1.mp4,run,red\n", "unknown column 'x{50}'"),
        ("clip,label\n1\0.mp4,run\n", "line 2: .*null character"),
        ("clip,label,label\n1.mp4,run,walk\n", "once"),
        ("", "clip and label"),
        ("clip,label\n1.mp4," + 200_000 * "x" + "\n", "line 2: .*field larger"),
        (200_000 * "x" + "\n", "line 1: .*field larger"),
        ("clip,label\n1.mp4\n", "line 2"),
        ("clip,label\n1.mp4,run,more\n", "line 2"),
        ("clip,label\n1.mp4,\n", "line 2"),
        ("clip,label\n1.mp4,run\n2.mp4,run\n./1.mp4,walk\n", "line 4.*in line 2"),
        ("clip,label,split\n1.mp4,run,later\n", "unknown split 'later'"),
        ("clip,label\ngone.mp4,run\n", "gone.mp4"),
        ("clip,label,group,split\n1.mp4,run,g,train\n2.mp4,run,g,val\n", "group 'g'"),
        ("clip,label,group,split\n1.mp4,run,g,train\n2.mp4,run,g,\n", "group 'g'"),
    ],
)
def test_refused_tables(tmp_path, text, message):
    folder = write_table(tmp_path, text, "1.mp4", "2.mp4")
    with pytest.raises(DatasetError, match=message) as caught:
        read_clips(folder)
    assert str(tmp_path) in str(caught.value)


def test_table_in_another_encoding(tmp_path):
    make_files(tmp_path, "1.mp4")
    (tmp_path / "labels.csv").write_bytes("clip,label\n1.mp4,Läufer\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="UTF-8"):
        read_clips(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_clips(tmp_path / "absent")
    with pytest.raises(DatasetError, match="no clips"):
        read_clips(tmp_path)


def test_empty_split_names_the_others(tmp_path):
    dataset = read_clips(write_table(tmp_path, "clip,label,split\n1.mp4,run,train\n", "1.mp4"))
    with pytest.raises(DatasetError, match=r"train \(1\)"):
        dataset.split("test")


def dataset_of(*rows) -> ClipDataset:
    """Rows (label, group, split, count)."""
    clips = tuple(
        Clip(f"{label}-{group}-{i}", Path(f"{label}-{group}-{i}"), label, group, split)
        for label, group, split, count in rows
        for i in range(count)
    )
    return ClipDataset(Path("data"), clips, tuple(sorted({clip.label for clip in clips})))


def test_whole_groups_are_held_out():
    rng = np.random.default_rng(0)
    rows = [(label, f"g{g}", None, int(rng.integers(1, 6))) for g in range(30) for label in ("run", "walk")]
    dataset = dataset_of(*rows)
    for seed in range(5):
        divided = assign_splits(dataset, val_share=0.25, seed=seed)
        splits = {clip.group: set() for clip in divided.clips}
        for clip in divided.clips:
            splits[clip.group].add(clip.split)
        assert all(len(names) == 1 for names in splits.values())
        val = Counter(clip.label for clip in divided.clips if clip.split == "val")
        total = Counter(clip.label for clip in divided.clips)
        for label in total:
            assert 0.15 <= val[label] / total[label] <= 0.35
    assert assign_splits(dataset, seed=1) == assign_splits(dataset, seed=1) != assign_splits(dataset, seed=2)


def test_every_class_is_on_both_sides():
    dataset = dataset_of(*[(label, f"{label}{g}", None, 4) for label in "abcdef" for g in range(2)])
    divided = assign_splits(dataset, val_share=0.1)
    for split in ("train", "val"):
        assert {clip.label for clip in divided.clips if clip.split == split} == set("abcdef")


def test_given_splits_stay():
    dataset = dataset_of(("a", "1", "val", 2), ("a", "2", None, 2), ("b", "3", "test", 2))
    assert [clip.split for clip in assign_splits(dataset).clips] == ["val", "val", "train", "train", "test", "test"]


def test_test_clips_never_validate():
    dataset = dataset_of(
        *[(label, f"{label}{g}", "test" if g == 0 else "train", 3) for label in "ab" for g in range(6)]
    )
    divided = assign_splits(dataset, val_share=0.3)
    assert {clip.name for clip in divided.clips if clip.split == "test"} == {
        clip.name for clip in dataset.clips if clip.split == "test"
    }
    assert any(clip.split == "val" for clip in divided.clips)


def test_class_of_a_single_recording():
    with pytest.raises(DatasetError, match="'b' are of one group"):
        assign_splits(dataset_of(("a", "1", None, 4), ("a", "2", None, 4), ("b", "3", None, 8)))


def test_share_of_groups_of_mixed_classes():
    clips = dataset_of(*[(label, f"g{g}", None, 2) for g in range(10) for label in "ab"]).clips
    assert len(grouped_share(clips, 0.3, 0)) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "1", "train", 9), ("a", "2", "val", 9)], "single class"),
        (
            [("a", "1", "train", 9), ("a", "2", "val", 9), ("b", "3", "train", 2), ("b", "4", "val", 1)],
            "'b' has 3 clips",
        ),
        ([("a", "1", "train", 9), ("a", "2", "val", 9), ("b", "3", "train", 9)], "val has no clip of 'b'"),
        ([("a", "1", "train", 9), ("a", "2", "val", 9), ("b", "3", "val", 9)], "train has no clip of 'b'"),
    ],
)
def test_refused_for_training(rows, message):
    with pytest.raises(DatasetError, match=message):
        check_trainable(dataset_of(*rows))


SETTINGS = {
    "key": "k",
    "image_size": 16,
    "options": WindowOptions(0.1, 1.0, 0.5),
    "streams": ("appearance", "change", "grid_change", "motion"),
    "region": False,
    "views": (View(), View(flip=True)),
}


def encode(images):
    grids = images.reshape(len(images), 16 * 16, 3).astype(np.float32)
    # Left and right count differently, so that a mirrored picture has another embedding.
    return grids[:, ::16] / 255, (images * np.linspace(0, 1, 16)[None, None, :, None]).mean(axis=(1, 2)) / 255


@pytest.fixture
def two_clips(tmp_path):
    for name, frames in (("a", 30), ("b", 12)):
        images = grey_frames(frames)
        for image in images:
            image[:, :20] //= 2
        write_video(tmp_path / f"{name}.mp4", images, fps=20.0)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [Clip(name, tmp_path / f"{name}.mp4", "x", name) for name in ("a", "b", "bad")]


@pytest.mark.parametrize("region", [False, True])
def test_measurements(tmp_path, two_clips, region):
    seen = []
    measured, failures = measured_clips(
        tmp_path / "cache", two_clips, encode, progress=lambda *x: seen.append(x), **{**SETTINGS, "region": region}
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(failures) == ["bad"] and "bad.mp4" in failures["bad"]
    plain, flipped = measured["a"]
    assert plain.spans == flipped.spans
    np.testing.assert_allclose(plain.spans, [(0.0, 1.0), (0.5, 1.5)], atol=1e-9)
    for view in (plain, flipped):
        for window in view.inputs:
            assert set(window) == set(SETTINGS["streams"]) and {len(value) for value in window.values()} == {10}
            assert not window["change"][0].any() and not window["motion"][0].any()
    assert np.abs(plain.inputs[0]["appearance"] - flipped.inputs[0]["appearance"]).max() > 5e-4
    assert len(measured["b"][0].inputs) == 1


def test_cache_is_used_and_belongs_to_file_encoder_and_settings(tmp_path, two_clips):
    calls = []

    def counting(images):
        calls.append(len(images))
        return encode(images)

    def measure(clips=two_clips[:1], **changes):
        calls.clear()
        measured, _ = measured_clips(tmp_path / "cache", clips, counting, **{**SETTINGS, **changes})
        return measured["a"][0].inputs[0]["appearance"], bool(calls)

    first, computed = measure()
    again, recomputed = measure()
    assert computed and not recomputed
    np.testing.assert_allclose(first, again, atol=1e-3)
    assert measure(key="other")[1] and measure(image_size=16, options=WindowOptions(0.2, 1.0, 0.5))[1]
    assert measure(views=(View(),))[1] and measure(region=True)[1] and not measure()[1]
    write_video(two_clips[0].path, grey_frames(25), fps=20.0)
    assert measure()[1]


def test_measurements_are_those_of_classification(tmp_path, two_clips):
    """What is trained on is what the classifier sees."""
    from captioner.clips.windows import WindowSampler, measure_window
    from captioner.media.videos import VideoReader

    measured, _ = measured_clips(tmp_path / "cache", two_clips[:1], encode, **SETTINGS)
    sampler = WindowSampler(SETTINGS["options"], SETTINGS["streams"], False)
    with VideoReader(two_clips[0].path, every=SETTINGS["options"].interval, size=16) as reader:
        cut = [window for frame in reader for window in sampler.push(frame.time, frame.image)]
        cut += sampler.finish(reader.duration)
    assert len(cut) == len(measured["a"][0].inputs)
    for (start, end, samples), span, inputs in zip(cut, measured["a"][0].spans, measured["a"][0].inputs, strict=True):
        assert (start, end) == pytest.approx(span)
        live = measure_window(samples, encode, streams=SETTINGS["streams"], region=False, image_size=16)
        for name, value in live.items():
            np.testing.assert_allclose(value, inputs[name], atol=2e-3)


def test_damaged_cache_file_is_measured_again(tmp_path, two_clips):
    measured_clips(tmp_path / "cache", two_clips[:1], encode, **SETTINGS)
    (path,) = (tmp_path / "cache").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    measured, failures = measured_clips(tmp_path / "cache", two_clips[:1], encode, **SETTINGS)
    assert measured["a"] and not failures
    assert clip_data._load_windows(path, 2) is not None


@pytest.mark.data
def test_shared_clips(shared):
    for name, labels, counts in (("fights", 2, {"train": 208, "val": 38}), ("ucf101", 6, {"train": 252, "val": 72})):
        dataset = read_clips(shared / "clips" / name)
        assert len(dataset.labels) == labels and not dataset.warnings
        assert Counter(clip.split for clip in dataset.clips) == counts
        check_trainable(dataset)
