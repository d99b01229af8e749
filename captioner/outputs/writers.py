"""Records as text, JSON, JSON Lines and CSV: whole files, or one record at a time to a stream.

JSON and JSON Lines keep every file name exactly and are the formats for programs. Text and CSV are for people: in them
a name's invisible characters and line ends are written as escapes, and a CSV cell that a spreadsheet would run as a
formula starts with an apostrophe (CSV injection; OWASP's rule: ``=``, ``+``, ``-``, ``@``, tab and line ends, and their
full-width forms). CSV is UTF-8 with ``\\n`` line ends and a header.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from captioner.atomic import write_error
from captioner.names import printable
from captioner.outputs.records import Record, json_line, without_thumbnails
from captioner.outputs.subtitles import to_srt, to_vtt
from captioner.results import NOTHING_KNOWN

FORMATS = ("text", "json", "jsonl", "csv")
"""What `RecordWriter` writes."""

KINDS = ("image", "clip", "video")
"""What records are about: `Caption`, `ClipPrediction`, `VideoAnalysis`."""

_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")

_COLUMNS = {
    "image": ("file", "rank", "caption", "confidence", "score", "finished", "tags", "model", "error"),
    "clip": ("file", "label", "probability", "probabilities", "known", "error"),
    "video": ("file", "start", "end", "caption", "confidence", "tags", "label", "probability", "error"),
}


def image_csv_rows(record: Record) -> list[list[Any]]:
    """Rows of one photo: its caption (rank 1) and the alternatives, or the error.

    Returns:
        Rows of ``file, rank, caption, confidence, score, finished, tags, model, error``; with the first caption stand
        the tags, as ``dog 0.91; grass 0.82``.
    """
    file = _cell(record["file"])
    if "error" in record:
        return [[file, *[""] * 7, _cell(_reason(record))]]
    model = _cell(record.get("model") or "")
    rows = []
    for rank, one in enumerate([record, *record.get("alternatives", ())], 1):
        known = [one["confidence"], one["score"], _yes(one.get("finished")), _tags(one)]
        rows.append([file, rank, _cell(one["caption"]), *known, model, ""])
    return rows


def clip_csv_rows(record: Record) -> list[list[Any]]:
    """Rows of one classified clip: one, with its probabilities as ``dancing 0.9; running 0.1``.

    Returns:
        Rows of ``file, label, probability, probabilities, known, error``.
    """
    file = _cell(record["file"])
    if "error" in record:
        return [[file, "", "", "", "", _cell(_reason(record))]]
    probabilities = "; ".join(f"{label} {p:.4f}" for label, p in _descending(record["probabilities"]))
    known = "" if record.get("known") is None else record["known"]
    return [[file, _cell(record["label"] or NOTHING_KNOWN), record["probability"], _cell(probabilities), known, ""]]


def video_csv_rows(record: Record) -> list[list[Any]]:
    """Rows of one video: one a segment with its most likely label, or the error.

    Returns:
        Rows of ``file, start, end, caption, confidence, tags, label, probability, error``; times in seconds.
    """
    file = _cell(record["file"])
    if "error" in record:
        return [[file, *[""] * 7, _cell(_reason(record))]]
    rows = []
    nothing = {"label": NOTHING_KNOWN if record.get("classifier") else "", "probability": ""}
    for segment in record["segments"]:
        first = segment["labels"][0] if segment["labels"] else nothing
        times = [segment["start"], segment["end"]]
        caption = [_cell(segment["caption"]), segment["confidence"], _tags(segment)]
        rows.append([file, *times, *caption, _cell(first["label"]), first["probability"], ""])
    return rows


def image_text(record: Record) -> str:
    """A photo's caption as a line for people, with the alternatives below it."""
    lines = [record["caption"]] + [f"    {one['caption']}" for one in record.get("alternatives", ())]
    return "\n".join(printable(line) for line in lines)


def clip_text(record: Record) -> str:
    """A clip's label as a line for people, with its probability, nothing known being one of the possibilities."""
    if record["label"] is not None:
        return printable(f"{record['label']} ({certainty(record):.0%})")
    nearest, _ = _descending(record["probabilities"])[0]
    return printable(f"{NOTHING_KNOWN} (nearest: {nearest}, {certainty(record):.0%})")


def video_text(record: Record) -> str:
    """A video's segments as lines for people: ``0:12  a man rides a bike  [cycling 93%]``."""
    lines = [f"{clock(record['duration'])} long" + (", cut short" if record["truncated"] else "")]
    if record.get("classifier"):
        lines[0] += f", {record['label'] or NOTHING_KNOWN}"
    lines += [f"    note: {warning}" for warning in record.get("warnings", ())]
    for segment in record["segments"]:
        labels = ", ".join(f"{one['label']} {one['probability']:.0%}" for one in segment["labels"][:1])
        lines.append(f"    {clock(segment['start'])}  {segment['caption']}" + (f"  [{labels}]" if labels else ""))
    return "\n".join(printable(line) for line in lines)


def certainty(record: Record) -> float:
    """Probability of a window's or a clip's likeliest class, with the possibility that none of them happens."""
    return record["probability"] * (1.0 if record.get("known") is None else record["known"])


def clock(seconds: float, decimals: int = 0) -> str:
    """A time as people write it: ``2:03``, ``1:02:03``; cut, not rounded, to whole seconds or to ``decimals``."""
    units = int(seconds * 10**decimals + 1e-6)
    whole, fraction = divmod(units, 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{text}.{fraction:0{decimals}d}" if decimals else text


_ROWS = {"image": image_csv_rows, "clip": clip_csv_rows, "video": video_csv_rows}
_TEXT = {"image": image_text, "clip": clip_text, "video": video_text}


def to_csv(records: Iterable[Record], kind: str) -> str:
    """Records as a whole CSV file, with its header.

    Args:
        records: Records of one kind, failures among them.
        kind: ``image``, ``clip`` or ``video``.
    """
    text = io.StringIO()
    with RecordWriter(text, "csv", kind) as writer:
        for record in records:
            writer.write(record)
    return text.getvalue()


def video_csv(record: Record) -> str:
    """One video as a whole CSV file; see `video_csv_rows`."""
    return to_csv([record], "video")


VIDEO_SIDECARS: dict[str, Callable[[Record], str]] = {
    "json": lambda record: json_line(without_thumbnails(record)) + "\n",
    "srt": lambda record: to_srt(record["segments"]),
    "vtt": lambda record: to_vtt(record["segments"]),
    "csv": video_csv,
    "txt": lambda record: video_text(record) + "\n",
}
"""The files that can lie beside a video's other results: extension without dot -> the file's text."""

IMAGE_SIDECARS: dict[str, Callable[[Record], str]] = {
    "json": lambda record: json_line(without_thumbnails(record)) + "\n",
    "csv": lambda record: to_csv([record], "image"),
    "txt": lambda record: image_text(record) + "\n",
}
"""The same for photos."""


class RecordWriter:
    """Writes records to a text stream as they come; each is on its way when `write` returns.

    A context manager: leaving it ends a JSON array, also after an exception, so that what was written can be read. The
    stream is flushed, not closed. What a stream's encoding cannot carry is written as escapes.

    Args:
        stream: An open text stream, for example ``sys.stdout``.
        format: ``text`` (``file: caption``), ``json`` (one array), ``jsonl`` (one object a line) or ``csv``.
        kind: What the records are about: ``image``, ``clip`` or ``video``.

    Raises:
        ValueError: Unknown ``format`` or ``kind``.
    """

    def __init__(self, stream: TextIO, format: str, kind: str = "image"):
        if format not in FORMATS:
            raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        self._stream = stream
        self._format = format
        self._kind = kind
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._ascii_only = not self._encoding.lower().replace("_", "-").startswith("utf")
        self._count = 0

    def __enter__(self) -> RecordWriter:
        if self._format == "csv":
            self._put(_csv_lines([_COLUMNS[self._kind]]))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._format == "json":
            self._put("\n]\n" if self._count else "[]\n")

    def write(self, record: Record) -> None:
        """Writes one record.

        Raises:
            OSError: The stream takes no more (a full disk, a closed pipe).
        """
        if self._format == "text":
            text = f"failed: {_reason(record)}" if "error" in record else _TEXT[self._kind](record)
            self._put(f"{printable(record['file'])}: {text}\n")
        elif self._format == "csv":
            self._put(_csv_lines(_ROWS[self._kind](record)))
        else:
            line = json_line(without_thumbnails(record), ascii_only=self._ascii_only)
            start = "" if self._format == "jsonl" else ",\n" if self._count else "[\n"
            self._put(start + line + ("\n" if self._format == "jsonl" else ""))
        self._count += 1

    def _put(self, text: str) -> None:
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        self._stream.flush()


@contextlib.contextmanager
def open_writer(output: str | os.PathLike | None, format: str, kind: str = "image") -> Iterator[RecordWriter]:
    """A `RecordWriter` on a file, or on standard output.

    The file grows record by record, so that a long run can be watched and what a killed run wrote is there; missing
    folders are made and an old file is replaced.

    Args:
        output: The file, or None for standard output.
        format: See `RecordWriter`.
        kind: See `RecordWriter`.

    Raises:
        CaptionerError: The file cannot be written; see `captioner.atomic.write_atomic` for ``kind``.
    """
    if output is None:
        with RecordWriter(sys.stdout, format, kind) as writer:
            yield writer
        return
    with _File(output) as stream, RecordWriter(stream, format, kind) as writer:
        yield writer


class _File:
    """A UTF-8 text file whose own OSErrors, and no others, become errors that name it."""

    encoding = "utf-8"

    def __init__(self, path: str | os.PathLike):
        self._path = path
        with self._explained():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._explained():
            self._file.close()

    def write(self, text: str) -> None:
        with self._explained():
            self._file.write(text)

    def flush(self) -> None:
        with self._explained():
            self._file.flush()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._path, error) from error


def _csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not run, on one line."""
    return printable("'" + text if text.lstrip(" ").startswith(_FORMULA_STARTS) else text)


def _reason(record: Record) -> str:
    return printable(record["error"].get("message") or record["error"].get("type", "unknown error"))


def _tags(record: Record) -> str:
    return _cell("; ".join(f"{one['tag']} {one['probability']:.2f}" for one in record.get("tags") or ()))


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _descending(probabilities: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(probabilities.items(), key=lambda item: -item[1])
