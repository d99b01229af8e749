"""Which files of a folder are taken, which are passed over, and what is said of those."""

from __future__ import annotations

import os

import numpy as np
import pytest
from batch_tasks import make
from PIL import Image

from captioner.errors import CaptionerError
from captioner.media.images import IMAGE_EXTENSIONS, UNDECODABLE_EXTENSIONS
from captioner.outputs.plots import photos_figure
from captioner.runs.inputs import find_inputs


def found(root, **options):
    return [os.path.relpath(one.file, root) for one in find_inputs([root], {".jpg"}, **options)]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "@EADIR", "#recycle", "#snapshot", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "lost+found", "__MACOSX",
     "System Volume Information", "FOUND.000", "@Recycle", "@Recently-Snapshot"],
)  # fmt: skip
def test_folders_of_systems_are_passed_over_unless_named(tmp_path, name):
    make(tmp_path, "a.jpg", f"{name}/b.jpg", f"sub/{name}/deep/c.jpg", "sub/d.jpg")
    assert found(tmp_path) == ["a.jpg", "sub/d.jpg"]
    assert found(tmp_path / name) == ["b.jpg"]


@pytest.mark.parametrize("name", ["@home", "#2020", "recycled paper", "found.0000", "lost", "macosx"])
def test_folders_of_people_are_not(tmp_path, name):
    make(tmp_path, f"{name}/a.jpg")
    assert found(tmp_path) == [f"{name}/a.jpg"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["thumb*"], ["2019/raw/a.jpg", "2020/raw/a.jpg", "b.jpg"]),
        (["2019/raw"], ["2020/raw/a.jpg", "b.jpg", "thumbs/c.jpg"]),
        (["raw/"], ["b.jpg", "thumbs/c.jpg"]),
        (["*/a.jpg", "b.jp?"], ["thumbs/c.jpg"]),
        (["{root}/2019"], ["2020/raw/a.jpg", "b.jpg", "thumbs/c.jpg"]),
        (["B.JPG", "a", ""], ["2019/raw/a.jpg", "2020/raw/a.jpg", "b.jpg", "thumbs/c.jpg"]),
    ],
)
def test_patterns_of_files_and_folders(tmp_path, patterns, left):
    make(tmp_path, "2019/raw/a.jpg", "2020/raw/a.jpg", "b.jpg", "thumbs/c.jpg")
    assert found(tmp_path, patterns=[one.format(root=tmp_path) for one in patterns]) == left


def test_patterns_hold_for_named_files_too(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    inputs = find_inputs([tmp_path / "a.jpg", tmp_path / "b.jpg"], {".jpg"}, patterns=["b*"])
    assert [os.path.basename(one.file) for one in inputs] == ["a.jpg"]


def test_what_cannot_be_decoded_is_counted(tmp_path):
    make(tmp_path, "a.jpg", *(f"{i}.HEIC" for i in range(10)), "x.dng", "sub/y.DNG", "notes.txt", ".hidden.heic")
    inputs = find_inputs([tmp_path], {".jpg"}, undecodable=UNDECODABLE_EXTENSIONS, remedy="convert to JPEG")
    assert len(inputs) == 1
    expected = "12 files passed over: 10 .heic, 2 .dng (cannot be decoded here; convert to JPEG)"
    assert inputs.passed_over_text == expected
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(CaptionerError) as caught:
        find_inputs([tmp_path], {".jpg"}, undecodable=UNDECODABLE_EXTENSIONS, remedy="convert to JPEG")
    assert expected in str(caught.value)


def test_what_is_decoded_is_not_called_undecodable():
    assert not IMAGE_EXTENSIONS & UNDECODABLE_EXTENSIONS


def test_pictures_that_this_package_drew_are_no_photos(tmp_path):
    photo = np.zeros((20, 30, 3), np.uint8)
    photos_figure([photo], ["black"], title="looks").save(tmp_path / "a.png.png")
    Image.fromarray(photo).save(tmp_path / "b.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = [os.path.basename(one.file) for one in find_inputs([tmp_path], {".png"})]
    assert names == ["b.png", "pipe.png"]
    assert len(find_inputs([tmp_path / "a.png.png"], {".png"})) == 1
