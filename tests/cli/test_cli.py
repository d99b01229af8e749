"""The command line: its contracts, its defaults, bad input, exit statuses; with a small real model."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from clip_makers import FakeCaptioner, save_classifier
from media_makers import png_header, write_mjpeg, write_video
from PIL import Image
from textual_image.renderable import HalfcellImage

import captioner
from captioner.captions.captioner import BATCH_SIZE
from captioner.cli import app
from captioner.clips.classifier import ClipClassifier
from captioner.clips.windows import WindowOptions
from captioner.models.saving import read_model
from captioner.outputs.writers import segment_text
from captioner.runs.batch import Summary
from captioner.runs.inputs import find_inputs

PROGRAM = [sys.executable, "-m", "captioner"]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def names(records, folder) -> list[str]:
    return [os.path.relpath(record["file"], folder) for record in records]


IN_ORDER = ["1.png", "2.jpg", "10.png", "sub/a.png", "sub/b.JPG", "sub/deep/c.webp"]


# --- help and defaults ---------------------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_next_to_nothing():
    code = (
        "import sys; from captioner.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'numpy', 'rich', 'PIL', 'cv2', 'keras', 'tensorflow', 'openvino', 'matplotlib', 'jinja2'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))"
    )
    text = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True).stdout
    for name in (
        "describe",
        "image",
        "video",
        "classify",
        "train",
        "translate",
        "evaluate",
        "models",
        "demo",
        "search",
        "serve",
    ):
        assert f"\n  {name} " in text
    assert "imported: []" in text


def parameters(command: str) -> dict:
    import typer.main

    return {one.name: one for one in typer.main.get_command(app).commands[command].params}


def test_search_defaults_are_those_of_the_package():
    given = parameters("image")
    for option in fields(captioner.SearchOptions):
        assert given[option.name].default is None, "a default here would override the model's own"
        assert given[option.name].show_default == str(option.default)
    assert given["batch_size"].default == BATCH_SIZE


def test_other_defaults_are_those_of_the_package():
    import inspect

    from captioner.runs.jobs import CaptionImages, ClassifyClips, Computing, WatchVideos

    for command, job in (("image", CaptionImages), ("video", WatchVideos), ("classify", ClassifyClips)):
        given = parameters(command)
        for option in fields(job):
            if command == "video" and option.name in ("interval", "longest_segment"):
                analyzer = inspect.signature(captioner.VideoAnalyzer).parameters[option.name]
                assert given[option.name].default == option.default == analyzer.default
            if option.name in given and option.name not in ("model", "classifier", "must_include"):
                assert given[option.name].default == option.default, option.name
    method = inspect.signature(ClipClassifier.classify).parameters
    for name in ("window", "stride", "threshold"):
        assert parameters("classify")[name].default is method[name].default is None, "else it overrides the model's own"
    for option in fields(Computing):
        assert parameters("image")[option.name].default == option.default
        assert inspect.signature(captioner.load).parameters[option.name].default == option.default


def test_version(run):
    assert run("--version")[:2] == (0, captioner.__version__ + "\n")


@pytest.mark.parametrize(
    "arguments", [["image"], ["video"], ["nonsense"], ["image", "x", "-q", "-v"], ["image", "x", "--beam-size", "many"]]
)
def test_wrong_usage(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and err


# --- photos to a stream --------------------------------------------------------------------------------------------


def test_jsonl_is_as_promised(run, photos, tiny_captioner):
    status, out, err = run("image", photos, "--model", tiny_captioner, "--format", "jsonl", "--n-best", 2)
    assert (status, err) == (0, "")
    records = lines(out)
    assert names(records, photos) == IN_ORDER
    promised = ["file", "caption", "score", "confidence", "finished", "words", "alternatives", "model"]
    assert [key for key in records[0] if key in promised] == promised
    assert set(records[0]["words"][0]) == {"word", "logprob"}
    assert len(records[0]["alternatives"]) == 1
    assert len({record["caption"] for record in records}) > 1


def test_it_says_what_python_says(run, photos, tiny_captioner):
    model = captioner.load(tiny_captioner)
    expected = [model.caption(photos / name, beam_size=2, max_length=5).text for name in IN_ORDER]
    options = ["--model", tiny_captioner, "--format", "jsonl", "--beam-size", 2, "--max-length", 5]
    for batch_size in (1, 4, 16):
        _, out, _ = run("image", photos, *options, "--batch-size", batch_size)
        assert [record["caption"] for record in lines(out)] == expected


def test_every_format(run, photos, tiny_captioner, tmp_path):
    def output(format):
        status, out, _ = run("image", photos, "--model", tiny_captioner, "--format", format)
        file = tmp_path / f"new/captions.{format}"
        assert run("image", photos, "--model", tiny_captioner, "--format", format, "--output", file, "-q") == (
            0,
            "",
            "",
        )
        assert (status, file.read_text()) == (0, out)
        return out

    records = lines(output("jsonl"))
    assert json.loads(output("json")) == records
    rows = list(csv.DictReader(output("csv").splitlines()))
    assert [row["caption"] for row in rows] == [record["caption"] for record in records]
    assert output("text").splitlines() == [f"{record['file']}: {record['caption']}" for record in records]


def test_one_broken_file_among_a_hundred(run, tiny_captioner, tmp_path):
    for i in range(100):
        Image.new("RGB", (20, 20), (i, 2 * i, 255 - i)).save(tmp_path / f"{i}.png")
    (tmp_path / "57.png").write_bytes((tmp_path / "57.png").read_bytes()[:40])
    status, out, err = run("image", tmp_path, "--model", tiny_captioner, "--format", "jsonl")
    records = lines(out)
    assert status == 1 and names(records, tmp_path) == [f"{i}.png" for i in range(100)]
    assert [i for i, record in enumerate(records) if "error" in record] == [57]
    assert set(records[57]) == {"file", "error"} and {"type", "message"} <= set(records[57]["error"])
    assert "57.png" in err and len(err.splitlines()) == 1


def test_bad_files_are_told_apart(run, tiny_captioner, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(png_header(60_000, 60_000))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    paths = [tmp_path / name for name in ("gone.png", "huge.png", "empty.jpg", "good.png", "text.jpg")]
    status, out, _ = run("image", *paths, "--model", tiny_captioner, "--format", "jsonl")
    kinds = [record.get("error", {}).get("kind") for record in lines(out)]
    assert (status, kinds) == (1, ["missing", "too_large", "empty", None, "not_an_image"])


def test_strange_names(run, tiny_captioner, tmp_path):
    strange = ["two words.png", "🐕.png", "new\nline.png", "q\x1b[31mred.png", os.fsdecode(b"\xff.png")]
    for name in strange:
        Image.new("RGB", (9, 9)).save(tmp_path / name, "PNG")
    (tmp_path / "loop").symlink_to(tmp_path)
    status, out, _ = run("image", tmp_path, "--model", tiny_captioner, "--format", "jsonl")
    assert status == 0 and sorted(names(lines(out), tmp_path)) == sorted(strange)
    for format in ("text", "csv"):
        status, out, _ = run("image", tmp_path, "--model", tiny_captioner, "--format", format)
        assert status == 0 and len(out.splitlines()) == len(strange) + (format == "csv") and "\x1b" not in out


@pytest.mark.parametrize("name", ["out.txt", "out.csv", "out.json", "out.jsonl"])
def test_an_output_of_somebody_elses_is_replaced_only_if_asked_for(run, photos, tiny_captioner, tmp_path, name):
    output = tmp_path / name
    output.write_text("mine")
    arguments = ["image", photos / "1.png", "--model", tiny_captioner, "--max-length", 2, "--output", output]
    status, _, err = run(*arguments)
    assert status == 2 and f"{name}: is there" in err and "--overwrite" in err and output.read_text() == "mine"
    for options in (["--overwrite"], []):  # then it is its own
        assert run(*arguments, *options)[0] == 0
        assert str(photos / "1.png") in output.read_text()


@pytest.mark.parametrize("victim", ["input", "other"])
def test_an_output_that_is_a_photo_is_refused(run, tiny_captioner, tmp_path, victim):
    for name in ("input.png", "other.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    before = (tmp_path / f"{victim}.png").read_bytes()
    output = tmp_path / f"{victim}.png"
    status, _, err = run("image", tmp_path / "input.png", "--model", tiny_captioner, "--output", output)
    assert status == 2 and f"{victim}.png" in err
    assert (tmp_path / f"{victim}.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{empty}"], "nothing found"),
        (["{photos}", "--beam-size", "0"], "beam_size"),
        (["{photos}", "--batch-size", "0"], "batch_size"),
        (["{photos}", "--format", "xml"], "unknown format 'xml'"),
        (["{photos}", "--runtime", "steam"], "unknown runtime"),
        (["{photos}", "--prefix", "a xylophone"], "xylophone"),
        (["{photos}", "--output", "{photos}/1.png/out.txt"], "cannot write"),
        (["{photos}", "--output", "{empty}", "--beam-size", "0"], "beam_size"),
        (["{photos}", "--output", "{empty}", "--engine", "steam"], "unknown engine"),
        (["{photos}", "--output", "{empty}", "--formats", "xml"], "unknown format 'xml'"),
        (["{photos}", "--output", "{empty}", "--time-limit", "0"], "time limit"),
        (["{photos}", "--retry-failed"], "--retry-failed"),
        (["{photos}", "--output", "{empty}/captions.csv", "--engine", "ray"], "--engine"),
        (["{photos}", "--output", "{empty}", "--prefix", "a xylophone"], "xylophone"),
    ],
)
def test_senseless_requests(run, photos, tiny_captioner, tmp_path, arguments, reason):
    arguments = [argument.format(photos=photos, empty=tmp_path) for argument in arguments]
    status, out, err = run("image", *arguments, "--model", tiny_captioner)
    assert (status, out) == (2, "")
    assert reason in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("output", [[], ["--output", "{folder}"]])
def test_an_unknown_model(run, photos, tmp_path, output):
    status, out, err = run("image", photos, "--model", "no-such", *(one.format(folder=tmp_path) for one in output))
    assert (status, out) == (2, "")
    assert "no-such" in err and all(name in err for name in captioner.list_models())


def test_a_reader_that_wants_no_more(photos, tiny_captioner):
    command = [*PROGRAM, "image", str(photos), "--model", str(tiny_captioner)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("command", ["models", "image"])
def test_a_full_disk_behind_standard_output(photos, tiny_captioner, command):
    arguments = [str(photos), "--model", str(tiny_captioner)] if command == "image" else []
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, command, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "cannot write to standard output: No space left" in done.stderr


def test_nothing_leaves_the_machine(photos, tiny_captioner, tmp_path):
    """Neither a connection nor a process that might make one."""
    code = (
        "import sys\n"
        "events = {'socket.connect', 'socket.getaddrinfo', 'os.fork', 'os.posix_spawn', 'subprocess.Popen'}\n"
        "sys.addaudithook(lambda event, arguments: event in events and print('AUDIT', event, flush=True))\n"
        "from captioner.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "image", str(photos / "1.png"), "--model", str(tiny_captioner)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert "AUDIT" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir()), "a file in the home folder that nobody asked for"


def test_captioning_imports_neither_tensorflow_nor_keras(photos, tiny_captioner):
    code = (
        "import sys; from captioner.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('tensorflow', 'keras', 'matplotlib', 'rich') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "image", str(photos / "1.png"), "--model", str(tiny_captioner)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"


def test_attention_pictures(run, photos, tiny_captioner, tmp_path):
    same_name = tmp_path / "1.png"
    same_name.write_bytes((photos / "10.png").read_bytes())
    looks = tmp_path / "looks"
    arguments = [photos / "1.png", same_name, "--model", tiny_captioner, "--attention-dir", looks, "--max-length", 3]
    assert run("image", *arguments)[0] == 0
    pictures = sorted(looks.rglob("*.png"))
    assert len(pictures) == 2 and {path.name for path in pictures} == {"1.png"}
    assert all(Image.open(path).size > (200, 200) for path in pictures)
    assert run("image", photos / "2.jpg", "--model", tiny_captioner, "--attention-dir", looks)[0] == 0
    assert (looks / "2.png").exists()


def test_pictures_of_photos_whose_names_differ_in_their_extensions(tmp_path):
    from captioner.runs.jobs import picture_names

    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "b.jpg", "B.png", "sub/a.jpg", "x" * 246 + ".png"):
        (tmp_path / name).touch()
    names = picture_names(find_inputs([tmp_path], {".jpg", ".png"}))
    assert {"B.png", "a", "b.jpg", "sub/a"} < set(names.values())
    assert all(len(name) < 240 for name in names.values())


# --- photos to a folder --------------------------------------------------------------------------------------------


def test_a_folder_of_photos_is_resumable(run, photos, tiny_captioner, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("1.png", "2.jpg", "10.png"):
        (source / name).write_bytes((photos / name).read_bytes())
    (source / "3.png").write_bytes(b"broken")
    arguments = ["image", source, "--model", tiny_captioner, "--output", output]
    status, out, err = run(*arguments)
    assert (status, out) == (1, "") and "3 done, 0 skipped" in err and "1 failed" in err and "3.png" in err
    _, direct, _ = run("image", source, "--model", tiny_captioner, "--format", "jsonl")
    assert lines((output / "results.jsonl").read_text()) == lines(direct)
    assert {path.name for path in output.iterdir()} == {
        "results.jsonl", "1.png.json", "2.jpg.json", "3.png.json", "10.png.json"
    }  # fmt: skip

    status, _, err = run(*arguments)
    assert status == 1 and "0 done, 3 skipped" in err and "--retry-failed" in err
    (source / "3.png").write_bytes((photos / "sub/a.png").read_bytes())
    status, _, err = run(*arguments, "--retry-failed")
    assert status == 0 and "1 done, 3 skipped" in err
    assert "4 done, 0 skipped" in run(*arguments, "--beam-size", 2)[2]
    assert "4 done, 0 skipped" in run(*arguments, "--beam-size", 2, "--overwrite")[2]


def test_what_else_a_folder_can_hold(run, photos, tiny_captioner, tmp_path):
    output = tmp_path / "out"
    formats = ["--formats", "txt,html", "--format", "csv"]
    assert run("image", photos, "--model", tiny_captioner, "--output", f"{output}/", *formats)[0] == 0
    records = lines((output / "results.jsonl").read_text())
    assert not any("thumbnail" in record for record in records)
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    assert [row["caption"] for row in rows] == [record["caption"] for record in records]
    assert (output / "sub/deep/c.webp.txt").read_text().strip() == records[-1]["caption"]
    page = (output / "index.html").read_text()
    assert all(record["caption"] in page for record in records) and "data:image/jpeg" in page
    status, out, _ = run("search", output, records[0]["caption"].split()[-1], "--format", "jsonl")
    assert status == 0 and records[0]["file"] in [hit["file"] for hit in lines(out)]


# --- the rest ------------------------------------------------------------------------------------------------------


def test_demo_captions_real_photographs_and_a_film(run, tiny_captioner, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, out, err = run("demo", "--model", tiny_captioner)
    heads = [line.split(":")[0] for line in out.splitlines() if not line.startswith("    ")]
    assert status == 0 and heads == ["chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "photos.webm"]
    assert "    [00:00.0 -> 00:0" in out and err.count("\n  captioner ") == 3 and not list(tmp_path.iterdir())

    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run("demo", "--model", tiny_captioner, "--open")[:2] == (0, out)
    photos, film = (Path(urllib.parse.urlparse(uri).path).read_text() for uri in opened)
    assert "chelsea.png" in photos and 'src="./photos.webm"' in film and list(tmp_path.glob("*/photos.webm"))


def test_demo_shows_pictures_where_the_terminal_can(run, tiny_captioner, monkeypatch):
    monkeypatch.setattr("captioner.cli.demo.is_watched", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in (("FORCE_COLOR", "1"), ("COLORTERM", "truecolor")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("textual_image.renderable.Image", HalfcellImage)
    status, out, _ = run("demo", "--model", tiny_captioner)
    assert status == 0 and "\x1b[38;2;" in out and "▀" in out and "confidence" in out and "photos.webm, 0:0" in out
    monkeypatch.setenv("NO_COLOR", "")
    assert "▀" not in run("demo", "--model", tiny_captioner)[1]


@pytest.fixture
def unsure_every_other(monkeypatch):
    """Every other photo is unlike those of the training."""
    from captioner.captions.captioner import ImageCaptioner

    shares = itertools.cycle((0.02, 0.5))
    one = ImageCaptioner._one

    def told(self, hypothesis, known, tags, attention):
        return replace(one(self, hypothesis, known, tags, attention), confidence=0.9, familiarity=next(shares))

    monkeypatch.setattr(ImageCaptioner, "_one", told)


def test_text_says_which_captions_are_unsure_where_somebody_looks(
    run, photos, tiny_captioner, unsure_every_other, monkeypatch
):
    command = ["image", photos, "--model", tiny_captioner]
    status, out, err = run(*command)
    assert status == 0 and "unsure" not in out
    assert err == "captioner: 3 of 6 captions are unsure (--mark-unsure says which, and why)\n"
    assert run(*command, "--quiet") == (0, out, "")

    status, marked, err = run(*command, "--mark-unsure")
    assert (status, err) == (0, "")
    for number, (plain, line) in enumerate(zip(out.splitlines(), marked.splitlines(), strict=True)):
        assert line == plain + " (unsure: unfamiliar)" * (number % 2 == 0)

    status, text, err = run(*command, "--format", "jsonl")
    assert (status, err) == (0, "")
    assert [record["unsure"] for record in lines(text)] == ["unfamiliar", None] * 3

    monkeypatch.setattr("captioner.cli.streams.is_watched", lambda: True)
    assert run(*command)[:2] == (0, marked) and run(*command, "--no-mark-unsure")[1] == out


def test_verbose_says_how_it_is_computed_and_no_more_than_once(run, photos, tiny_captioner):
    status, out, err = run("image", photos / "1.png", "--model", tiny_captioner, "--format", "jsonl", "-v")
    assert status == 0 and len(lines(out)) == 1
    opened, took = err.splitlines()
    assert "tiny: openvino, " in opened and "image took " in took
    assert run("image", photos / "1.png", "--model", tiny_captioner, "--format", "jsonl")[2] == ""


def test_the_summary_of_a_folder_says_how_many_captions_are_unsure():
    summary = Summary(Path("out"), done=3, captions=41, unsure=9, media_seconds=110, seconds=2)
    assert " in 2.0 s; 9 of 41 captions are unsure; 1:50 of video, 55.0 times real time. " in str(summary)
    assert "unsure" not in str(Summary(Path("out"), done=2, captions=2))


# --- without a command ---------------------------------------------------------------------------------------------


def test_files_of_any_kind_without_a_command(run, photos, films, tiny_captioner, tmp_path):
    for source, name in ((films / "a.mp4", "b.mp4"), (photos / "1.png", "a.png"), (photos / "2.jpg", "c.jpg")):
        shutil.copy(source, tmp_path / name)
    shutil.copy(films / "sub/b.mp4", tmp_path / "no-extension")
    command = [tmp_path, tmp_path / "no-extension", "--model", tiny_captioner, "--classifier", "none"]
    status, out, _ = run(*command)
    heads = [line for line in out.splitlines() if not line.startswith("    [")]
    assert status == 0
    assert [Path(line.partition(":")[0]).name for line in heads] == ["a.png", "b.mp4", "c.jpg", "no-extension"]
    status, text, _ = run("describe", *command, "--format", "jsonl")
    records = lines(text)
    assert status == 0 and ["segments" in one for one in records] == [False, True, False, True]
    assert heads[0] == f"{tmp_path / 'a.png'}: {records[0]['caption']}"
    said = [f"    {segment_text(one)}" for record in records[1::2] for one in record["segments"]]
    assert said == [line for line in out.splitlines() if line.startswith("    [")]


@pytest.mark.parametrize("name", [["image"], []])
def test_a_photo_on_standard_input(photos, tiny_captioner, name):
    command = [*PROGRAM, *name, "-", str(photos / "2.jpg"), "--model", str(tiny_captioner)]
    done = subprocess.run(command, input=(photos / "1.png").read_bytes(), capture_output=True)
    first, second = captioner.load(tiny_captioner).caption([photos / "1.png", photos / "2.jpg"])
    assert done.returncode == 0
    assert done.stdout.decode() == f"-: {first.text}\n{photos / '2.jpg'}: {second.text}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["serach"], 2, "did you mean search?"),
        (["photo.jpg"], 1, "photo.jpg: no such file"),
        (["https://example.org/a.jpg"], 1, "addresses are not fetched; download"),
        (["image", "https://example.org/a.jpg"], 1, "addresses are not fetched; download"),
        (["image", "-", "--output", "{out}/"], 2, "- can be one photo"),
        (["--format", "xml", "{photo}"], 2, "unknown format 'xml'"),
        (["{photo}", "--no-such-option"], 2, "--no-such-option"),
    ],
)
def test_what_is_meant_without_a_command(run, photos, tiny_captioner, tmp_path, arguments, status, reason):
    given = [one.format(photo=photos / "1.png", out=tmp_path) for one in arguments]
    ended, _, err = run(*given, *(["--model", tiny_captioner] if given[0] != "serach" else []))
    assert ended == status and reason in err


def test_short_help(run):
    for arguments in ([], ["image"], ["train", "clips"]):
        assert run(*arguments, "-h")[1] == run(*arguments, "--help")[1] != ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["image", "{photos}", "--time-limit", "3"], "--time-limit needs a folder"),
        (["image", "{photos}", "--overwrite"], "--overwrite needs --output"),
        (["image", "{photos}", "--temperature", "0.5"], "temperature does nothing with strategy 'beam'"),
        (["image", "{photos}", "--strategy", "greedy", "--beam-size", "5"], "beam_size does nothing"),
        (["image", "{photos}", "--csv-bom"], "--csv-bom needs CSV"),
        (["image", "{photos}", "--format", "csv", "--mark-unsure"], "--mark-unsure needs text"),
        (["video", "{films}", "--formats", "srt"], "--formats needs --output"),
        (["video", "{films}", "--subtitle-unsure", "drop"], "--subtitle-unsure needs --output"),
        (["video", "{films}", "--output", "{out}", "--format", "text"], "--format does nothing with --output"),
        (["video", "{films}", "--output", "{out}", "--formats", "srt", "--csv-bom"], "--csv-bom needs csv"),
        (["video", "{films}", "--output", "{out}", "--subtitle-unsure", "hide"], "known: keep, mark, drop"),
    ],
)
def test_options_that_do_nothing_are_refused(run, photos, films, tiny_captioner, tmp_path, arguments, reason):
    given = [one.format(photos=photos, films=films, out=tmp_path / "out") for one in arguments]
    status, out, err = run(*given, "--model", tiny_captioner)
    assert (status, out) == (2, "") and reason in err and len(err.splitlines()) == 1


def test_files_are_links_and_short_on_a_terminal(monkeypatch, tmp_path):
    from captioner.cli import terminal

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a b.png"
    file.touch()
    assert terminal.shown(str(file)) == str(file)
    monkeypatch.setattr(terminal, "is_watched", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.shown(str(file)) == f"\x1b]8;;{file.as_uri()}\x1b\\a b.png\x1b]8;;\x1b\\"
    assert terminal.shown("/elsewhere\x1b.png") == "/elsewhere\\x1b.png"
    assert terminal.shown("https://a.b/c.jpg") == "https://a.b/c.jpg"
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.shown(str(file)) == "a b.png"


def test_values_are_completed():
    from typer.core import TyperCommand

    def completed(command, option, typed):
        context = TyperCommand(command).make_context(command, [])
        return [one.value for one in parameters(command)[option].shell_complete(context, typed)]

    assert completed("image", "model", "ph") == ["photos"]
    assert completed("image", "format", "js") == ["json", "jsonl"]
    assert completed("video", "formats", "srt,v") == ["srt,vtt"]
    assert completed("video", "classifier", "n") == ["none"]


# --- models and search ---------------------------------------------------------------------------------------------


def test_models_are_listed(run):
    status, out, _ = run("models")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert status == 0 and set(captioner.list_models()) <= set(lines)
    assert all("accuracy 0." in line for line in lines.values() if " clip_classifier " in line)


def test_search_works_where_tensorflow_is_loaded(tmp_path):
    """TensorFlow carries an SQLite without full-text search, which Python would use if it came first."""
    record = {"file": "a.jpg", "caption": "a dog on a beach", "words": [], "alternatives": [], "model": "tiny"}
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n")
    code = "import captioner, tensorflow; from captioner.cli import main; main()"
    command = [sys.executable, "-c", code, "search", str(tmp_path), "dog"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a.jpg  a dog on a beach\n")


def test_search_for_what_captions_must_and_must_not_have(run, photos, tiny_captioner, tmp_path):
    output = tmp_path / "out"
    assert run("image", photos, "--model", tiny_captioner, "--output", f"{output}/", "--formats", "html")[0] == 0
    records = lines((output / "results.jsonl").read_text())
    first, other = records[0]["caption"].split()[0], "zzz"
    status, out, err = run("search", output, "photo:", "--limit", 1)
    assert (status, err) == (0, "captioner: the best 1 of 6 hits\n") and len(out.splitlines()) == 1
    assert {record["unsure"] for record in records} == {"low confidence"}, "the model has learnt nothing"
    assert (
        run("search", output, "photo:", "--limit", 1, "--mark-unsure")[1]
        == out.rstrip() + " (unsure: low confidence)\n"
    )
    assert run("search", output, first, f"-{first}")[1:] == ("", "nothing found\n")
    assert f"no caption has {other}" in run("search", output, other)[2]
    page = tmp_path / "hits/page.html"
    assert run("search", output, "photo:1.png", "--format", "html", "--output", page)[0] == 0
    text = page.read_text()
    assert "data:image/jpeg" in text and f'href="./{os.path.relpath(photos / "1.png", page.parent)}"' in text
    assert run("search", output, first, "--output", page)[0] == 2


def test_search_without_results(run, tmp_path):
    status, out, err = run("search", tmp_path, "dog")
    assert (status, out) == (2, "") and str(tmp_path) in err


def test_evaluate(run, photos, tiny_captioner, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for i, name in enumerate(["1.png", "2.jpg", "10.png"]):
        (data / name).write_bytes((photos / name).read_bytes())
        rows.append({"file_name": name, "captions": ["a dog runs", f"{i} men play ball"], "split": "test"})
    (data / "broken.png").write_bytes(b"broken")
    rows.append({"file_name": "broken.png", "captions": ["a red ball"], "split": "test"})
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "report.json"
    status, out, err = run("evaluate", "--model", tiny_captioner, "--data", data, "--output", output)
    assert status == 1 and "broken.png" in err
    assert "CIDEr-D" in out and "BLEU-4" in out
    report = json.loads(output.read_text())
    assert (report["photos"], report["split"]) == (3, "test") and len(report["failed"]) == 1
    assert [set(one) for one in json.loads((tmp_path / "report.coco.json").read_text())] == [
        {"image_id", "caption"}
    ] * 3
    evaluate = ["evaluate", "--model", tiny_captioner, "--data", data]
    assert run(*evaluate, "--output", output)[0] == 1, "its own are replaced"
    for name in ("report.json", "report.coco.json"):
        output.unlink(missing_ok=True)
        (tmp_path / name).write_text('[{"image_id": "mine", "caption": "mine"}]')
        status, out, err = run(*evaluate, "--output", output)
        assert (status, out) == (2, "") and f"{name}: is there" in err and "mine" in (tmp_path / name).read_text()
    assert run(*evaluate, "--output", output, "--overwrite")[0] == 1
    status, _, err = run(*evaluate, "--split", "dev")
    assert status == 2 and "dev" in err


# --- videos --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """Three short videos in a tree, two of which differ in their extension only, and a broken one."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)

    def scene(frames):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        return [np.asarray(small.resize((96, 64), Image.Resampling.BICUBIC))] * frames

    (folder / "sub").mkdir()
    write_video(folder / "a.mp4", scene(50) + scene(50), fps=10)
    write_mjpeg(folder / "a.avi", scene(30), fps=10)
    write_video(folder / "sub/b.mp4", scene(20), fps=10)
    (folder / "sub/broken.mp4").write_text("this is no video")
    return folder


def test_videos(run, films, tiny_captioner, tmp_path):
    output = tmp_path / "out"
    arguments = ["video", films, "--output", output, "--model", tiny_captioner, "--classifier", "none"]
    status, out, err = run(*arguments)
    failure, summary = err.splitlines()
    assert (status, out) == (1, "") and "broken.mp4" in failure
    assert "3 done, 0 skipped (complete already), 1 failed" in summary and "times real time" in summary
    records = lines((output / "results.jsonl").read_text())
    assert names(records, films) == ["a.avi", "a.mp4", "sub/b.mp4", "sub/broken.mp4"]
    keys = {"file", "duration", "width", "height", "fps", "segments", "label", "truncated", "model", "classifier"}
    assert keys <= set(records[0]) and set(records[3]) == {"file", "error"}
    assert (records[1]["width"], records[1]["height"]) == (96, 64) and abs(records[1]["duration"] - 10) < 0.2
    segments = records[1]["segments"]
    assert set(segments[0]) == {"start", "end", "caption", "confidence", "familiarity", "unsure", "labels", "tags"}
    assert segments[0]["start"] == 0 and abs(segments[-1]["end"] - 10) < 0.2
    for name in ("a.avi", "a.mp4", "sub/b.mp4"):
        assert {f"{name}.{kind}" for kind in ("json", "srt", "vtt", "csv", "html")} <= {
            os.path.relpath(path, output) for path in output.rglob("*")
        }
    for name in ("a.mp4", "sub/b.mp4"):  # the player
        film = os.path.relpath(films / name, (output / name).parent)
        assert f'src="./{film}"' in (output / f"{name}.html").read_text()
    assert (output / "a.mp4.vtt").read_text().startswith("WEBVTT") and "broken.mp4" in (
        output / "index.html"
    ).read_text()

    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    status, _, err = run(*arguments)
    assert status == 1 and "0 done, 3 skipped" in err
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    (output / "a.mp4.html").unlink()
    assert "0 done, 3 skipped" in run(*arguments)[2] and (output / "a.mp4.html").exists()
    assert "3 done" in run(*arguments, "--interval", 2)[2]


def test_videos_are_told_as_they_come(run, films, tiny_captioner):
    command = ["video", films / "a.mp4", "--model", tiny_captioner, "--classifier", "none"]
    analyzer = captioner.VideoAnalyzer(str(tiny_captioner), None)
    told, frames, encode = [], [], analyzer.captioner.encode
    analyzer.captioner.encode = lambda images: frames.append(len(told)) or encode(images)
    analysis = analyzer.analyze(films / "a.mp4", listener=told.append)
    assert tuple(told) == analysis.segments and len(told) > 1
    expected = [segment_text(one.to_dict()) for one in told]
    status, out, _ = run(*command)
    assert status == 0 and out.splitlines() == expected and expected[0].startswith("[00:00.0 -> 00:0")
    status, out, _ = run(*command, films / "sub/b.mp4")
    assert out.splitlines()[: len(expected) + 1] == [f"{films / 'a.mp4'}:", *(f"    {line}" for line in expected)]
    status, out, _ = run(*command, "--format", "jsonl")
    assert status == 0 and lines(out) == [{"file": str(films / "a.mp4"), **json.loads(json.dumps(analysis.to_dict()))}]


def test_subtitles_and_tables_of_unsure_captions(run, films, tiny_captioner, tmp_path):
    command = ["video", films / "a.mp4", "--output", tmp_path, "--model", tiny_captioner, "--classifier", "none"]
    subtitles, table = tmp_path / "a.mp4.srt", tmp_path / "a.mp4.csv"
    assert "captions are unsure" in run(*command)[2], "the model has learnt nothing"
    assert "(unsure)" in subtitles.read_text() and ",low confidence," in table.read_text()
    assert "0 done, 1 skipped" in run(*command, "--subtitle-unsure", "keep", "--csv-bom")[2]
    kept = subtitles.read_text()
    assert "(unsure)" not in kept and table.read_bytes().startswith(b"\xef\xbb\xbffile,")
    assert "0 done, 1 skipped" in run(*command, "--subtitle-unsure", "drop")[2]
    assert len(subtitles.read_text()) < len(kept) and table.read_bytes().startswith(b"file,")


def test_a_folder_of_videos_says_what_python_says(run, films, tiny_captioner, tmp_path):
    arguments = ["video", films / "a.mp4", "--output", tmp_path, "--model", tiny_captioner, "--classifier", "none"]
    assert run(*arguments, "--beam-size", 2)[0] == 0
    (record,) = lines((tmp_path / "results.jsonl").read_text())
    analysis = captioner.VideoAnalyzer(str(tiny_captioner), None, beam_size=2).analyze(films / "a.mp4")
    assert record == {"file": str(films / "a.mp4"), **json.loads(json.dumps(analysis.to_dict()))}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--interval", "0"], "interval"),
        (["--formats", "doc"], "unknown format 'doc'"),
        (["--classifier", "no-such"], "no-such"),
        (["--model", "no-such"], "no-such"),
    ],
)
def test_senseless_requests_for_videos(run, films, tmp_path, tiny_captioner, arguments, reason):
    status, out, err = run("video", films, "--output", tmp_path / "out", "--model", tiny_captioner, *arguments)
    assert (status, out) == (2, "") and reason in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- clips ---------------------------------------------------------------------------------------------------------


class _Runner:
    """Says that clips of more than 5 s are running and is not sure of the others."""

    options = WindowOptions(interval=0.5, window=2.0, stride=1.0)
    window_options = ClipClassifier.window_options

    def classify(self, path, *, still, **windows):
        from captioner.media.videos import VideoReader

        with VideoReader(path) as reader:
            for _ in reader:
                pass
            long = reader.duration > 5
        probabilities = {"running": 0.9, "sitting": 0.1} if long else {"running": 0.4, "sitting": 0.6}
        label, probability = max(probabilities.items(), key=lambda item: item[1])
        window = captioner.Window(0.0, reader.duration, label, probability, probabilities)
        return captioner.ClipPrediction(label if long else None, probability, probabilities, (window,))


def test_classify(run, films, monkeypatch, tmp_path):
    monkeypatch.setattr("captioner.loading.load", lambda name, **computing: _Runner())
    status, out, err = run("classify", films, "--model", "any", "--format", "jsonl")
    assert status == 1 and len(err.splitlines()) == 1
    records = lines(out)
    assert names(records, films) == ["a.avi", "a.mp4", "sub/b.mp4", "sub/broken.mp4"]
    assert set(records[1]) == {
        "file",
        "label",
        "probability",
        "probabilities",
        "known",
        "truncated",
        "warnings",
        "windows",
    }
    assert [record.get("label") for record in records] == [None, "running", None, None]
    assert set(records[1]["windows"][0]) == {"start", "end", "label", "probability", "known"} and "error" in records[3]
    status, out, _ = run(
        "classify", films / "a.mp4", "--model", "any", "--output", tmp_path / "labels.csv", "--format", "csv"
    )
    assert (status, out) == (0, "") and "running" in (tmp_path / "labels.csv").read_text()
    assert run("classify", films, "--model", "any", "--threshold", "7")[0] == 2


@pytest.fixture
def classifier(tmp_path, monkeypatch) -> ClipClassifier:
    """A classifier with random weights, windows of 1 s and a stride of 0.5 s, which every name loads."""
    model = ClipClassifier(read_model(save_classifier(tmp_path / "classifier")), FakeCaptioner())
    monkeypatch.setattr("captioner.loading.load", lambda name, **computing: model)
    return model


@pytest.mark.parametrize(
    "chosen",
    [{"window": 2.0}, {"window": 0.4}, {"stride": 1.0}, {"threshold": 0.9}, {"window": 3, "stride": 2, "threshold": 0}],
)
def test_windows_of_clips_are_those_of_the_method(run, films, classifier, chosen):
    clips = [films / "a.avi", films / "a.mp4"]
    options = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    _, out, _ = run("classify", *clips, "--format", "jsonl", *options)
    expected = [prediction.to_dict() for prediction in classifier.classify(clips, **chosen)]
    assert lines(out) == [{"file": str(clip), **one} for clip, one in zip(clips, expected, strict=True)]
    assert expected != [prediction.to_dict() for prediction in classifier.classify(clips)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--window", "0"], "window must be"),
        (["--window", "nan"], "window must be"),
        (["--stride", "-1"], "stride must be"),
        (["--stride", "1e-320"], "stride must be"),
        (["--stride", "1.5"], "stride (1.5 s) must not exceed window (1 s)"),
        (["--window", "3", "--stride", "4"], "stride (4 s) must not exceed window (3 s)"),
        (["--threshold", "1.1"], "threshold must be"),
        (["--threshold", "nan"], "threshold must be"),
    ],
)
def test_senseless_requests_for_clips(run, films, classifier, tmp_path, options, reason):
    output = tmp_path / "labels.txt"
    output.write_text("old")
    status, out, err = run("classify", films, "--output", output, "--overwrite", *options)
    assert (status, out) == (2, "") and reason in err and len(err.splitlines()) == 1
    assert output.read_text() == "old"


def test_still_pictures_are_refused_unless_they_are_meant(run, films, classifier, tmp_path):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    status, out, err = run("classify", tmp_path / "photo.png")
    assert status == 1 and "photo.png: is a still picture" in err and "--still" in err
    assert run("classify", tmp_path)[0] == 2  # no clip there
    for path in (tmp_path / "photo.png", tmp_path):
        status, out, err = run("classify", path, "--still", "--format", "jsonl")
        assert status == 0 and "photo.png" in out and not err


def test_clips_in_which_nothing_known_happens(run, films, classifier):
    out = {}
    for format in ("text", "json", "jsonl", "csv"):
        status, out[format], _ = run("classify", films / "a.mp4", "--threshold", 1, "--format", format)
        assert status == 0 and "None" not in out[format]
    (record,) = lines(out["jsonl"])
    assert [record] == json.loads(out["json"])
    assert record["label"] is None and {window["label"] for window in record["windows"]} == {None}
    nearest, probability = max(record["probabilities"].items(), key=lambda item: item[1])
    assert out["text"] == f"{films / 'a.mp4'}: nothing known (nearest: {nearest}, {probability:.0%})\n"
    (row,) = csv.DictReader(out["csv"].splitlines())
    assert (row["label"], float(row["probability"])) == ("nothing known", record["probability"])
    assert row["probabilities"].startswith(f"{nearest} {probability:.4f};") and record["probability"] == probability


def test_classify_with_a_captioner(run, films, tiny_captioner):
    status, out, err = run("classify", films, "--model", tiny_captioner)
    assert (status, out) == (2, "") and "not a clip classifier" in err


def test_image_with_a_classifier(run, photos, monkeypatch):
    monkeypatch.setattr("captioner.loading.load", lambda name, **computing: _Runner())
    status, out, err = run("image", photos, "--model", "any")
    assert (status, out) == (2, "") and "not a captioner" in err
