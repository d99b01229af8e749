"""Files of results: whole ones are read, and whatever else has their name is none."""

from __future__ import annotations

import json
import os

import pytest

from captioner.errors import CaptionerError
from captioner.outputs import records
from captioner.outputs.records import json_line, read_json_lines, read_record

RUN = {"format": 1, "source": {"path": "/in/a.jpg", "size": 3, "mtime_ns": 4}, "settings": "5", "failed": False}
PHOTO = {
    "run": RUN, "file": "a.jpg", "caption": "a dog", "score": -1.5, "confidence": 0.5, "familiarity": None,
    "finished": True, "words": [{"word": "a", "logprob": -0.1}], "model": "m", "thumbnail": "AAAA",
    "tags": [{"tag": "dog", "probability": 0.9}],
    "alternatives": [{"caption": "a cat", "score": -2.0, "confidence": 0.25}],
}  # fmt: skip
SEGMENT = {
    "start": 0,
    "end": 2.5,
    "caption": "a dog",
    "confidence": 0.5,
    "labels": [{"label": "run", "probability": 1}],
}
VIDEO = {
    "run": RUN, "file": "a.mp4", "duration": 2.5, "width": 64, "height": 48, "fps": 25.0, "segments": [SEGMENT],
    "label": None, "truncated": False, "model": "m", "classifier": None,
    "windows": [{"start": 0, "end": 2, "label": None, "probability": 0.5}],
    "novelty": [{"time": 0.0, "value": 1.5, "unusual": False}],
}  # fmt: skip
CLIP = {"run": RUN, "file": "a", "label": "run", "probability": 0.75, "probabilities": {"run": 0.75}, "windows": []}
FAILURE = {"run": RUN, "file": "a.jpg", "error": {"type": "ImageReadError", "kind": "empty", "message": "is empty"}}
OTHER = {"run": RUN, "file": "a.jpg", "text": "of a task of another version"}
ALL = [PHOTO, VIDEO, CLIP, FAILURE, OTHER]


def write(folder, text):
    path = folder / "a.jpg.json"
    path.write_text(text if isinstance(text, str) else json_line(text) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("record", ALL, ids=lambda record: record["file"])
def test_a_whole_result_comes_back(tmp_path, record):
    assert read_record(write(tmp_path, record)) == record


@pytest.mark.parametrize("record", ALL, ids=lambda record: record["file"])
def test_a_torn_result_is_none(tmp_path, record):
    text = json_line(record)
    for length in (0, 1, 10, len(text) // 2, len(text) - 1):
        assert read_record(write(tmp_path, text[:length])) is None


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (PHOTO, {"file": 3}),
        (PHOTO, {"caption": None}),
        (PHOTO, {"caption": ["a", "dog"]}),
        (PHOTO, {"score": "good"}),
        (PHOTO, {"confidence": None}),
        (PHOTO, {"confidence": "\udcff"}),
        (VIDEO, {"windows": [{"start": 0, "end": 2, "label": None, "probability": None}]}),
        (CLIP, {"probabilities": {"run": None}}),
        (PHOTO, {"words": "a dog"}),
        (PHOTO, {"alternatives": [{"caption": "x"}]}),
        (PHOTO, {"thumbnail": 3}),
        (VIDEO, {"duration": None}),
        (VIDEO, {"duration": -1}),
        (VIDEO, {"fps": "25"}),
        (VIDEO, {"classifier": 3}),
        (VIDEO, {"duration": 1e300}),
        (VIDEO, {"segments": {}}),
        (VIDEO, {"segments": [{**SEGMENT, "start": "0"}]}),
        (VIDEO, {"segments": [{"start": 0, "end": 1}]}),
        (VIDEO, {"segments": [{"start": 0, "end": 1, "caption": "a dog"}]}),
        (VIDEO, {"segments": [{**SEGMENT, "labels": [3]}]}),
        (VIDEO, {"truncated": "no"}),
        (VIDEO, {"novelty": [1, 2]}),
        (CLIP, {"probabilities": [0.75]}),
        (CLIP, {"label": 7}),
        (FAILURE, {"error": None}),
        (FAILURE, {"error": "is empty"}),
        (FAILURE, {"error": {"type": "x"}}),
    ],
)
def test_an_edited_result_is_none(tmp_path, record, change):
    assert read_record(write(tmp_path, {**record, **change})) is None


@pytest.mark.parametrize(
    "missing",
    [
        *("file", "caption", "score", "alternatives", "duration", "fps", "label", "truncated", "model", "probability"),
        *("segments", "probabilities"),
    ],
)
def test_what_every_reader_needs_is_there(tmp_path, missing):
    for record in (PHOTO, VIDEO, CLIP):
        if missing in record and not (missing == "model" and record is PHOTO):  # which is not looked at
            part = {key: value for key, value in record.items() if key != missing}
            assert read_record(write(tmp_path, part)) is None
    assert read_record(write(tmp_path, {"run": RUN, "file": "a"})) is None


def test_more_values_than_any_video_has_are_not_read(tmp_path, monkeypatch):
    path = write(tmp_path, PHOTO)
    values = path.read_bytes().count(b",")
    monkeypatch.setattr(records, "MAX_RECORD_VALUES", values)
    before = read_record(path)
    monkeypatch.setattr(records, "MAX_RECORD_VALUES", values - 1)
    assert before is not None and read_record(path) is None


def test_what_is_no_file_is_none(tmp_path, monkeypatch):
    path = write(tmp_path, PHOTO)
    (tmp_path / "link.json").symlink_to(path)
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    for name in ("link", "fifo", "zero", "folder", "nothing"):
        assert read_record(tmp_path / f"{name}.json") is None
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 20)
    assert read_record(path) is None


@pytest.mark.parametrize("line", ["[1]", "null", '{"caption": "a"}', '{"file": 3}', '{"file": "a", "words": 4}', "["])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(PHOTO) + "\n\n" + line + "\n")
    with pytest.raises(CaptionerError, match=r"results\.jsonl, line 3: .*; remove the line, or make the file again"):
        list(read_json_lines(path))


def test_lines_without_end_and_pipes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(PHOTO) + "\n")
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 50)
    with pytest.raises(CaptionerError, match="line 1: longer than 50 bytes"):
        list(read_json_lines(path))
    os.mkfifo(tmp_path / "fifo")
    for name in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(CaptionerError, match="is a device or a pipe"):
            list(read_json_lines(name))
