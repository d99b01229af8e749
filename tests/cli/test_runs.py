"""Folders on the command line: what is passed over, kept, refused and said; formats by names; hostile surroundings."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from captioner.outputs.records import json_line

PROGRAM = [sys.executable, "-m", "captioner"]


def copied(photos, folder, *names):
    """Some of the photos, flat in a folder of their own."""
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(photos / name, folder / os.path.basename(name))
    return folder


@pytest.fixture
def caption(run, tiny_captioner):
    """Runs ``captioner image`` with the small model and captions of two words."""
    return lambda *arguments: run("image", *arguments, "--model", tiny_captioner, "--max-length", 2)


# --- formats ---------------------------------------------------------------------------------------------------------


def test_the_name_of_the_output_says_its_format(caption, photos, tmp_path):
    def written(name):
        assert caption(photos / "1.png", "--output", tmp_path / name, "-q") == (0, "", "")
        return (tmp_path / name).read_text()

    for name in ("new.csv", "NEW2.CSV"):
        assert next(csv.reader(written(name).splitlines()))[:3] == ["file", "rank", "caption"]
    assert len(json.loads(written("new.json"))) == 1
    assert "caption" in json.loads(written("new.jsonl")) and "caption" in json.loads(written("new.ndjson"))
    assert written("new.txt") == written("new") and written("new").startswith(str(photos / "1.png"))
    assert caption(photos / "1.png", "--output", tmp_path / "x.csv", "--format", "jsonl")[0] == 0
    assert json.loads((tmp_path / "x.csv").read_text())


@pytest.mark.parametrize("name", ["new.html", "new.xlsx", "new.srt"])
def test_a_name_that_promises_another_type_is_refused(run, caption, photos, tmp_path, name):
    status, out, err = caption(photos / "1.png", "--output", tmp_path / name)
    assert (status, out) == (2, "") and name in err and "--format" in err and len(err.splitlines()) == 1
    assert run("classify", photos / "1.png", "--output", tmp_path / name)[0] == 2
    assert not list(tmp_path.iterdir())


def test_other_commands_refuse_what_they_do_not_write(run, photos, tmp_path):
    status, _, err = run("video", photos, "--output", tmp_path / "results.csv")
    assert status == 2 and "results.csv: the results go to a folder" in err
    status, _, err = run("evaluate", "--data", photos, "--output", tmp_path / "report.csv")
    assert status == 2 and "report.csv: the report is JSON" in err


# --- what is passed over ---------------------------------------------------------------------------------------------


def test_what_was_passed_over_is_said(caption, photos, tmp_path):
    source = copied(photos, tmp_path / "in", "1.png")
    for name in (*(f"{i}.HEIC" for i in range(10)), "x.dng", "y.dng"):
        (source / name).touch()
    said = "12 files passed over: 10 .heic, 2 .dng (cannot be decoded here; convert to JPEG)"
    status, _, err = caption(source)
    assert status == 0 and err.splitlines()[0] == f"captioner: {said}"
    status, _, err = caption(source, "--output", tmp_path / "out")
    assert status == 0 and "1 done" in err and err.splitlines()[-1] == said
    (source / "1.png").unlink()
    status, _, err = caption(source)
    assert status == 2 and said in err


def test_pictures_of_attention_are_never_captioned(caption, photos, tmp_path):
    source = copied(photos, tmp_path / "in", "1.png", "sub/b.JPG")
    for looks in (source / "looks", source):
        for _ in range(2):
            status, out, _ = caption(source, "--attention-dir", looks)
            assert status == 0 and len(out.splitlines()) == 2
    assert len(caption(source)[1].splitlines()) == 2, "nor by a run that knows nothing of them"
    assert (source / "b.png").exists() and not (source / "b.png.png").exists()


def test_patterns_and_folders_of_systems(caption, photos, tmp_path):
    source = copied(photos, tmp_path / "in", "1.png", "2.jpg", "10.png")
    copied(photos, source / "@eaDir/1.png", "1.png")
    assert len(caption(source)[1].splitlines()) == 3
    assert len(caption(source, "--exclude", "2.*")[1].splitlines()) == 2
    err = caption(source, "--exclude", "2.*", "--exclude", "10*", "--output", tmp_path / "out")[2]
    assert "1 done" in err
    assert caption(source, "--exclude", "*")[0] == 2


# --- what is kept and refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["results.csv", "index.html", "results.jsonl"])
def test_files_of_others_in_the_output_folder(caption, photos, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    arguments = [photos / "1.png", "--output", tmp_path / "out", "--formats", "csv,html"]
    status, _, err = caption(*arguments)
    assert status == 2 and f"{name}: is there and was not written by a run" in err and len(err.splitlines()) == 1
    assert (tmp_path / "out" / name).read_text() == "mine" and len(os.listdir(tmp_path / "out")) == 1
    (tmp_path / "out" / name).unlink()
    assert caption(*arguments)[0] == 0 == caption(*arguments, "--overwrite")[0], "its own are replaced"


def test_a_picture_of_somebody_elses_keeps_its_name(caption, photos, tmp_path):
    looks = tmp_path / "looks"
    looks.mkdir()
    (looks / "1.png").write_text("mine")
    (tmp_path / "mine.png").write_bytes((photos / "1.png").read_bytes())
    (looks / "2.png").symlink_to(tmp_path / "mine.png")
    before = (tmp_path / "mine.png").read_bytes()
    for _ in range(2):
        assert caption(photos / "1.png", photos / "2.jpg", "--attention-dir", looks)[0] == 0
    assert (looks / "1.png").read_text() == "mine" and (tmp_path / "mine.png").read_bytes() == before
    assert sorted(os.listdir(looks)) == ["1.png", "1~2.png", "2.png", "2~2.png"]


def test_pictures_are_not_drawn_through_links(caption, photos, tmp_path):
    looks = tmp_path / "looks"
    looks.mkdir()
    (tmp_path / "outside").mkdir()
    (looks / "sub").symlink_to(tmp_path / "outside")
    status, out, err = caption(photos / "sub", photos / "1.png", "--attention-dir", looks, "--format", "jsonl")
    failed = ["error" in json.loads(line) for line in out.splitlines()]
    assert status == 1 and failed == [True, True, True, False] and "is a link" in err
    assert not os.listdir(tmp_path / "outside")


def test_results_of_files_that_are_gone(caption, photos, tmp_path, run):
    source, output = copied(photos, tmp_path / "in", "1.png", "2.jpg"), tmp_path / "out"
    assert caption(source, "--output", output)[0] == 0
    (source / "2.jpg").unlink()
    status, _, err = caption(source, "--output", output)
    assert status == 0 and "Results of files that are gone: 1; --prune drops them." in err
    assert "dropped: 1" in caption(source, "--output", output, "--prune")[2]
    assert len((output / "results.jsonl").read_text().splitlines()) == 1 and not (output / "2.jpg.json").exists()
    assert caption(source, "--prune")[0] == 2
    (source / "1.png").unlink()
    assert "Results of files that are gone: 1" in caption(source, "--output", output)[2]
    status, _, err = caption(source, "--output", output, "--prune", "--formats", "csv,html")
    assert status == 0 and "dropped: 1" in err and not (output / "1.png.json").exists()
    assert (output / "results.jsonl").read_text() == ""
    assert caption(source, "--output", tmp_path / "other")[0] == 2, "nothing there, and no run before"


def test_a_full_disk_is_not_the_fault_of_photos(caption, photos, tmp_path):
    """Pictures of attention are larger than results, so that a limit on the size of files hits them alone."""
    source, output = copied(photos, tmp_path / "in", "1.png", "2.jpg", "10.png"), tmp_path / "out"
    looks = ["--attention-dir", tmp_path / "looks"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        status, _, err = caption(source, "--output", output, *looks)
        assert status == 2 and "the disk is full" in err and "failed" not in err
        assert caption(source, *looks)[0] == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    status, _, err = caption(source, "--output", output, *looks)
    assert status == 0 and "3 done" in err and len(list((tmp_path / "looks").iterdir())) == 3


# --- surroundings ----------------------------------------------------------------------------------------------------


def test_any_encoding_of_the_output(tmp_path):
    record = {"file": "été 狗.jpg", "caption": "a boy – 狗", "score": -1.0, "confidence": 0.5, "words": []}
    (tmp_path / "results.jsonl").write_text(json_line(record) + "\n", encoding="utf-8")
    for encoding in ("ascii", "latin-1", "cp1252"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([*PROGRAM, "search", str(tmp_path), "boy"], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"captioner: 1 hit\n")
        assert b"\\u72d7.jpg  a boy" in done.stdout


@pytest.mark.parametrize("settings", ["text.usetex: True\nfigure.facecolor: red\nfont.size: 3\n", b"\xff\xfe\0", None])
def test_settings_of_the_working_folder_are_not_obeyed(photos, tiny_captioner, tmp_path, settings):
    (tmp_path / "here").mkdir()
    rc = tmp_path / "here/matplotlibrc"
    if settings is None:
        os.mkfifo(rc)
    else:
        rc.write_bytes(settings if isinstance(settings, bytes) else settings.encode())
    pictures = []
    for number, folder in enumerate((tmp_path / "here", tmp_path)):
        command = [
            *PROGRAM, "image", str(photos / "1.png"), "--model", str(tiny_captioner), "--max-length", "2",
            "--attention-dir", str(tmp_path / f"looks{number}"),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
        said = "captioner: the caption is unsure (--mark-unsure says which, and why)\n"  # and nothing of Matplotlib's
        assert (done.returncode, done.stderr) == (0, said)
        pictures.append(Image.open(tmp_path / f"looks{number}/1.png").convert("RGB").tobytes())
    assert pictures[0] == pictures[1]


def test_settings_of_the_process_are_neither_obeyed_nor_changed():
    import matplotlib
    import numpy as np

    from captioner.outputs.plots import photos_figure

    def drawn():
        return photos_figure([np.zeros((9, 9, 3), np.uint8)], ["black"], title="one").to_png()

    plain = drawn()
    with matplotlib.rc_context({"text.usetex": True, "figure.facecolor": "red", "font.size": 3.0}):
        before = dict(matplotlib.rcParams)
        assert drawn() == plain and dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["image", "{hostile}/x.jpg"],
        ["image", "{hostile}"],
        ["image", "{photo}", "--model", "{hostile}"],
        ["image", "{photo}", "--output", "{hostile}.zip"],
        ["image", "{photo}", "--output", "{hostile}/", "--formats", "csv"],
        ["video", "{hostile}/x.mp4", "--output", "{out}", "--classifier", "none"],
        ["search", "{hostile}", "dog"],
        ["evaluate", "--data", "{hostile}"],
        ["train", "captions", "--data", "{hostile}", "--output", "{out}"],
        ["train", "clips", "--data", "{hostile}", "--output", "{out}"],
    ],
)
def test_no_message_steers_the_terminal(run, photos, tiny_captioner, tmp_path, arguments):
    hostile = tmp_path / "\x1b[31mred\x07\u202e"
    hostile.mkdir()
    for name in ("config.json", "metadata.json", "results.csv", "results.jsonl", "labels.csv", "captions.txt"):
        (hostile / name).write_text('{"\x1b[31m": "\x1b[2J"}\n')
    (hostile / "x.mp4").write_text("\x1b[31m")
    values = {"hostile": hostile, "photo": photos / "1.png", "out": tmp_path / "out"}
    given = [one.format(**values) for one in arguments]
    if given[0] in ("image", "video") and "--model" not in given:
        given += ["--model", str(tiny_captioner)]
    status, out, err = run(*given)
    assert status in (1, 2)
    assert not {"\x1b", "\x07", "\u202e"} & set(out + err) and err.count("\n") <= 2
