"""Records, CSV, text and streams: what is written can be read back, whatever the names hold."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from captioner.errors import CaptionerError, VideoReadError
from captioner.outputs.records import json_line, read_json_lines, record_of, with_thumbnails, without_thumbnails
from captioner.outputs.writers import (
    FORMATS,
    RecordWriter,
    clip_text,
    clock,
    image_csv_rows,
    image_sidecars,
    open_writer,
    to_csv,
    video_sidecars,
)
from captioner.results import Caption, ClipPrediction, Segment, VideoAnalysis, Window, Word

HOSTILE_NAMES = [
    "plain.jpg",
    "line\nbreak.jpg",
    "crlf\r\nand\ttab.jpg",
    "😀 émoji 写真.jpg",
    "</script><script>alert(1)</script>.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "@SUM(1+1).jpg",
    "-rf.jpg",
    'quote"comma,semi;.jpg',
    os.fsdecode(b"not-utf8-\xff\xfe.jpg"),
    "line\u2028separator\x85.jpg",
    "turn\u202egpj.exe.jpg",
    "\x1b[31mred.jpg",
    "x" * 250,
]


TAGS = (("dog", 0.912), ("grass", 0.8))


def caption(text="a dog runs", alternatives=(), tags=()):
    words = tuple(Word(word, -0.5, np.full((9, 9), 1 / 81, np.float32)) for word in text.split())
    return Caption(text, words, -0.41, 0.73, True, alternatives, "flickr8k", tags=tags)


def video():
    segments = (
        Segment(0.0, 4.0, caption(tags=TAGS), (("running", 0.9), ("walking", 0.1)), thumbnail=b"\xff\xd8one"),
        Segment(4.0, 9.5, caption("a man rides a bike"), ()),
    )
    window = Window(0.0, 4.0, "running", 0.9, {"running": 0.9, "walking": 0.1})
    return VideoAnalysis(9.5, 320, 240, 25.0, segments, "running", (window,), (), True, "flickr8k", "actions")


RECORDS = {
    "image": record_of("a.jpg", caption("a dog runs", (caption("a brown dog"),), TAGS)),
    "clip": record_of("a.avi", ClipPrediction("diving", 0.8, {"running": 0.2, "diving": 0.8})),
    "video": record_of("a.mp4", video()),
}
FAILED = record_of("bad.mp4", VideoReadError("bad.mp4: no video\nat all", kind="not_a_video"))


def written(format, kind, records, stream=None):
    stream = stream or io.StringIO()
    with RecordWriter(stream, format, kind) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue() if isinstance(stream, io.StringIO) else None


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_json_keeps_every_name_exactly_on_one_line(name):
    line = json_line(record_of(name, caption()))
    assert len(line.splitlines()) == 1
    assert json.loads(line.encode("utf-8"))["file"] == name
    ascii_line = json_line(record_of(name, caption()), ascii_only=True)
    assert ascii_line.isascii() and json.loads(ascii_line)["file"] == name


def test_record_of_result_error_and_bytes_name():
    assert RECORDS["image"]["caption"] == "a dog runs" and RECORDS["image"]["file"] == "a.jpg"
    assert next(iter(RECORDS["image"])) == "file"
    assert FAILED["error"] == {"type": "VideoReadError", "kind": "not_a_video", "message": "bad.mp4: no video\nat all"}
    assert record_of(b"x\xff", MemoryError("big")) == {
        "file": "x\udcff",
        "error": {"type": "MemoryError", "message": "big"},
    }


def test_json_has_no_number_that_json_lacks():
    line = json_line({"file": "a", "score": float("-inf"), "deep": [{"x": float("nan")}, (1.5,)]})
    strict = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert strict == {"file": "a", "score": None, "deep": [{"x": None}, [1.5]]}


@pytest.mark.parametrize("kind", ["image", "clip", "video"])
def test_json_and_jsonl_give_the_records_back(kind):
    records = [RECORDS[kind], FAILED, {**RECORDS[kind], "file": HOSTILE_NAMES[1]}]
    assert [json.loads(line) for line in written("jsonl", kind, records).splitlines()] == records
    assert json.loads(written("json", kind, records)) == records
    assert json.loads(written("json", kind, [])) == []


def test_a_json_array_ends_even_after_an_exception():
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), RecordWriter(stream, "json") as writer:
        writer.write(RECORDS["image"])
        raise KeyboardInterrupt
    assert json.loads(stream.getvalue()) == [RECORDS["image"]]


@pytest.mark.parametrize("format", FORMATS)
def test_each_record_is_on_its_way_at_once(format):
    flushed = []

    class Stream(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    with RecordWriter(Stream(), format) as writer:
        writer.write(RECORDS["image"])
        assert "a dog runs" in flushed[-1]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_no_stream_encoding_makes_it_fail(format, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    records = [{**RECORDS["image"], "file": name} for name in HOSTILE_NAMES]
    written(format, "image", records, stream)
    if format == "jsonl":
        lines = raw.getvalue().decode(encoding).splitlines()
        assert [json.loads(line)["file"] for line in lines] == HOSTILE_NAMES


@pytest.mark.parametrize("kind", ["image", "clip", "video"])
def test_csv_is_rectangular_one_line_a_row_and_never_a_formula(kind):
    records = [{**RECORDS[kind], "file": name} for name in HOSTILE_NAMES]
    records.append({**FAILED, "error": {"type": "E", "message": "=1+1\nsecond line"}})
    text = to_csv(records, kind)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    assert len(text.splitlines()) == len(rows)
    for row in rows[1:]:
        for cell in row:
            is_number = cell.lstrip("-").replace(".", "").isdigit()
            assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert rows[-1][-1] == "'=1+1\\nsecond line"


def test_csv_rows_of_an_image_and_of_a_video():
    rows = image_csv_rows(RECORDS["image"])
    assert rows[0] == ["a.jpg", 1, "a dog runs", 0.73, "", "", -0.41, "yes", "dog 0.91; grass 0.80", "flickr8k", ""]
    assert rows[1][:3] == ["a.jpg", 2, "a brown dog"] and rows[1][8] == ""
    lines = to_csv([RECORDS["video"]], "video").splitlines()
    assert lines == [
        "file,start,end,caption,confidence,familiarity,unsure,tags,label,probability,error",
        "a.mp4,0.0,4.0,a dog runs,0.73,,,dog 0.91; grass 0.80,running,0.9,",
        "a.mp4,4.0,9.5,a man rides a bike,0.73,,,,nothing known,,",
    ]
    strange = replace(caption(), familiarity=0.02)
    assert image_csv_rows(record_of("a.jpg", strange))[0][3:6] == [0.73, 0.02, "unfamiliar"]
    strange = record_of("a.mp4", replace(video(), segments=(Segment(0, 4, strange),)))
    assert ",0.73,0.02,unfamiliar," in to_csv([strange], "video")
    assert to_csv([RECORDS["clip"]], "clip").splitlines()[1] == "a.avi,diving,0.8,diving 0.8000; running 0.2000,,"
    unlike = {**RECORDS["clip"], "label": None, "known": 0.25}
    assert to_csv([unlike], "clip").splitlines()[1] == "a.avi,nothing known,0.8,diving 0.8000; running 0.2000,0.25,"


def test_text_is_one_line_an_item_without_control_characters():
    text = written("text", "image", [{**RECORDS["image"], "alternatives": [], "file": name} for name in HOSTILE_NAMES])
    lines = text.splitlines()
    assert len(lines) == len(HOSTILE_NAMES)
    assert all(line.endswith(": a dog runs") and "\x1b" not in line and "\u202e" not in line for line in lines)
    assert written("text", "image", [RECORDS["image"]]) == "a.jpg: a dog runs\n    a brown dog\n"
    assert written("text", "clip", [FAILED]) == "bad.mp4: failed: bad.mp4: no video\\nat all\n"
    assert written("text", "clip", [RECORDS["clip"]]) == "a.avi: diving (80%)\n"
    assert written("text", "video", [RECORDS["video"]]).splitlines() == [
        "a.mp4: 0:09 long, cut short, running",
        "    [00:00.0 -> 00:04.0] a dog runs (running 90%)",
        "    [00:04.0 -> 00:09.5] a man rides a bike",
    ]


def test_clip_text_without_a_label_names_the_nearest():
    record = {"file": "a", "label": None, "probability": 0.4, "probabilities": {"a": 0.25, "b": 0.4}}
    assert clip_text(record) == "nothing known (nearest: b, 40%)"
    assert clip_text({**record, "known": 0.25}) == "nothing known (nearest: b, 10%)"
    assert clip_text({**record, "label": "b", "known": 0.9}) == "b (36%)"


@pytest.mark.parametrize(
    "seconds, decimals, expected",
    [
        (0, 0, "0:00"),
        (59.999, 0, "0:59"),
        (60, 0, "1:00"),
        (3723.5, 0, "1:02:03"),
        (360000, 0, "100:00:00"),
        (0.3, 1, "0:00.3"),
        (61.29, 1, "1:01.2"),
    ],
)
def test_clock(seconds, decimals, expected):
    assert clock(seconds, decimals) == expected


def test_wrong_format_or_kind():
    with pytest.raises(ValueError, match="text, json, jsonl, csv"):
        RecordWriter(io.StringIO(), "xml")
    with pytest.raises(ValueError, match="image, clip, video"):
        RecordWriter(io.StringIO(), "csv", "photo")


def test_thumbnails_travel_in_the_record_but_not_in_the_run(tmp_path):
    analysis = video()
    full = with_thumbnails(record_of("a.mp4", analysis), analysis.segments)
    assert full["segments"][0]["thumbnail"] == "/9hvbmU=" and "thumbnail" not in full["segments"][1]
    assert json.loads(json.dumps(full)) == full
    assert without_thumbnails(full) == record_of("a.mp4", analysis)
    assert "thumbnail" not in written("jsonl", "video", [full]) + video_sidecars()["json"](full)


@pytest.mark.parametrize("format", sorted(video_sidecars()))
def test_video_sidecars(format):
    text = video_sidecars()[format](RECORDS["video"])
    assert "a man rides a bike" in text and text.endswith("\n")
    empty = {**RECORDS["video"], "segments": []}
    video_sidecars()[format](empty).encode("utf-8")


@pytest.mark.parametrize("format", sorted(image_sidecars()))
def test_image_sidecars(format):
    assert "a dog runs" in image_sidecars()[format](RECORDS["image"])


def test_open_writer_to_a_file_and_to_stdout(tmp_path, capsys):
    path = tmp_path / "new" / "out.jsonl"
    with open_writer(path, "jsonl") as writer:
        writer.write(RECORDS["image"])
        assert json.loads(path.read_text()) == RECORDS["image"]  # it is there before the run ends
        writer.write(FAILED)
    assert list(read_json_lines(path)) == [RECORDS["image"], FAILED]
    with open_writer(None, "text") as writer:
        writer.write(RECORDS["image"])
    assert capsys.readouterr().out.startswith("a.jpg: a dog runs")
    assert not sys.stdout.closed


def test_open_writer_names_the_file_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptionerError, match=r"out\.csv") as caught, open_writer(tmp_path / "file" / "out.csv", "csv"):
        pass
    assert caught.value.kind == "not_a_folder"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_open_writer_says_that_the_disk_is_full():
    with pytest.raises(CaptionerError, match="disk is full") as caught, open_writer("/dev/full", "jsonl") as writer:
        writer.write(RECORDS["image"])
    assert caught.value.kind == "disk_full"


def test_open_writer_leaves_the_caller_s_own_errors_alone(tmp_path):
    with pytest.raises(FileNotFoundError), open_writer(tmp_path / "out.csv", "csv"):
        open(tmp_path / "absent")  # noqa: SIM115


def test_read_json_lines_leaves_out_a_torn_last_line_only(tmp_path):
    path = tmp_path / "results.jsonl"
    whole = json_line(RECORDS["image"]) + "\n"
    path.write_text(whole + '{"file": "b.jpg", "capt')
    assert list(read_json_lines(path)) == [RECORDS["image"]]
    path.write_text('{"file": "b.jpg", "capt\n' + whole)
    with pytest.raises(CaptionerError, match="line 1"):
        list(read_json_lines(path))
    path.write_text("[1]\n")
    with pytest.raises(CaptionerError, match="line 1"):
        list(read_json_lines(path))
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(CaptionerError, match="UTF-8"):
        list(read_json_lines(path))
    with pytest.raises(CaptionerError, match="no such file") as caught:
        list(read_json_lines(tmp_path / "absent"))
    assert caught.value.kind == "missing"
    with pytest.raises(CaptionerError, match="cannot be read"):
        list(read_json_lines(tmp_path))


def test_a_stream_without_an_encoding_is_taken_for_utf8():
    pieces = []
    with RecordWriter(SimpleNamespace(write=pieces.append, flush=lambda: None), "jsonl") as writer:
        writer.write({"file": "é"})
    assert pieces == ['{"file": "é"}\n']


def test_the_command_line_can_import_these_without_heavy_libraries():
    code = (
        "import sys, captioner.outputs.writers, captioner.outputs.index, captioner.outputs.subtitles\n"
        "heavy = {'numpy', 'matplotlib', 'jinja2', 'tensorflow', 'keras', 'cv2', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_byte_order_mark_and_marks_of_unsure_captions_where_they_are_asked_for():
    unsure = record_of("a.jpg", replace(caption(), confidence=0.3))
    film = record_of("a.mp4", replace(video(), segments=(Segment(3723.26, 3724, replace(caption(), confidence=0.3)),)))
    assert to_csv([unsure], "image", bom=True) == "\ufeff" + to_csv([unsure], "image")
    assert video_sidecars(bom=True)["csv"](film).startswith("\ufefffile,")
    for plain, marked in ((image_sidecars(), image_sidecars(mark_unsure=True)), (video_sidecars(), None)):
        one = film if marked is None else unsure
        marked = marked or video_sidecars(mark_unsure=True)
        assert "unsure" not in plain["txt"](one)
        assert marked["txt"](one) == plain["txt"](one).rstrip() + " (unsure: low confidence)\n"
    assert "[1:02:03.2 -> 1:02:04.0] a dog runs" in video_sidecars()["txt"](film)
    for way, text in (("keep", "a dog runs\n"), ("mark", "a dog runs (unsure)\n"), ("drop", "")):
        made = video_sidecars(subtitle_unsure=way)
        assert made["srt"](film).endswith(text) and made["vtt"](film).endswith(text or "WEBVTT\n")
    assert "dog" not in made["srt"](film) + made["vtt"](film)
    assert video_sidecars()["srt"](film) == video_sidecars(subtitle_unsure="mark")["srt"](film)
