"""Records as text, JSON, JSON Lines and CSV: whole files, or one record at a time to a stream.

JSON and JSON Lines keep every file name exactly and are the formats for programs. Text and CSV are for people: in them
a name's invisible characters and line ends are written as escapes, and a CSV cell that a spreadsheet would run as a
formula starts with an apostrophe (CSV injection; OWASP's rule: ``=``, ``+``, ``-``, ``@``, tab and line ends, and their
full-width forms). CSV is UTF-8 with ``\\n`` line ends and a header; some spreadsheets need the byte order mark that
``bom`` asks for.
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
    "image": (
        *("file", "rank", "caption", "confidence", "familiarity", "unsure", "score", "finished", "tags", "model"),
        "error",
    ),
    "clip": ("file", "label", "probability", "probabilities", "known", "error"),
    "video": (
        *("file", "start", "end", "caption", "confidence", "familiarity", "unsure", "tags", "label", "probability"),
        "error",
    ),
}


def image_csv_rows(record: Record) -> list[list[Any]]:
    """Rows of one photo: its caption (rank 1) and the alternatives, or the error.

    Returns:
        Rows of ``file, rank, caption, confidence, familiarity, unsure, score, finished, tags, model, error``; with the
        first caption stand familiarity, why it is unsure, and the tags, as ``dog 0.91; grass 0.82``.
    """
    file = _cell(record["file"])
    if "error" in record:
        return [[file, *[""] * 9, _cell(_reason(record))]]
    model = _cell(record.get("model") or "")
    rows = []
    for rank, one in enumerate([record, *record.get("alternatives", ())], 1):
        known = [one["confidence"], *_sureness(one), one["score"], _yes(one.get("finished")), _tags(one)]
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
        Rows of ``file, start, end, caption, confidence, familiarity, unsure, tags, label, probability, error``; times
        in seconds.
    """
    file = _cell(record["file"])
    if "error" in record:
        return [[file, *[""] * 9, _cell(_reason(record))]]
    rows = []
    nothing = {"label": NOTHING_KNOWN if record.get("classifier") else "", "probability": ""}
    for segment in record["segments"]:
        first = segment["labels"][0] if segment["labels"] else nothing
        times = [segment["start"], segment["end"]]
        caption = [_cell(segment["caption"]), segment["confidence"], *_sureness(segment), _tags(segment)]
        rows.append([file, *times, *caption, _cell(first["label"]), first["probability"], ""])
    return rows


def image_text(record: Record, mark_unsure: bool = False) -> str:
    """A photo's caption as a line for people, with the alternatives and the translations below it.

    Args:
        record: Record of a photo.
        mark_unsure: Whether to end an unsure caption with ``(unsure: unfamiliar)``, or what else makes it so.
    """
    lines = [record["caption"] + (_mark(record) if mark_unsure else "")]
    lines += [f"    {one['caption']}" for one in record.get("alternatives", ())]
    lines += _translations(record)
    return "\n".join(printable(line) for line in lines)


def clip_text(record: Record, mark_unsure: bool = False) -> str:
    """A clip's label as a line for people, with its probability, nothing known being one of the possibilities."""
    if record["label"] is not None:
        said = f"{record['label']} ({certainty(record):.0%})"
    else:
        nearest, _ = _descending(record["probabilities"])[0]
        said = f"{NOTHING_KNOWN} (nearest: {nearest}, {certainty(record):.0%})"
    return "\n".join(map(printable, [said + _cut(record), *_notes(record)]))


def video_text(record: Record, mark_unsure: bool = False) -> str:
    """A video's segments as lines for people, below a line about all of it; see `segment_text` and `image_text`."""
    lines = [f"{clock(record['duration'])} long" + _cut(record)]
    if record.get("classifier"):
        lines[0] += f", {record['label'] or NOTHING_KNOWN}"
    lines += _notes(record)
    for segment in record["segments"]:
        lines += [f"    {segment_text(segment, mark_unsure)}", *_translations(segment)]
    return "\n".join(printable(line) for line in lines)


def segment_text(segment: Record, mark_unsure: bool = False) -> str:
    """A segment as a line for people: ``[00:12.0 -> 00:18.4] a man rides a bike (cycling 93%)``; see `image_text`."""
    start, end = (clock(segment[name], 1).zfill(7) for name in ("start", "end"))
    label = "".join(f" ({one['label']} {one['probability']:.0%})" for one in segment["labels"][:1])
    return printable(f"[{start} -> {end}] {segment['caption']}{label}" + (_mark(segment) if mark_unsure else ""))


def _translations(record: Record) -> list[str]:
    return [f"    {language}: {one['caption']}" for language, one in (record.get("translations") or {}).items()]


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


def to_csv(records: Iterable[Record], kind: str, bom: bool = False) -> str:
    """Records as a whole CSV file, with its header.

    Args:
        records: Records of one kind, failures among them.
        kind: ``image``, ``clip`` or ``video``.
        bom: Whether to begin with a byte order mark, by which spreadsheets know UTF-8.
    """
    text = io.StringIO()
    with RecordWriter(text, "csv", kind, bom=bom) as writer:
        for record in records:
            writer.write(record)
    return text.getvalue()


def video_sidecars(
    *, subtitle_unsure: str = "mark", mark_unsure: bool = False, bom: bool = False
) -> dict[str, Callable[[Record], str]]:
    """The files that can lie beside a video's other results: extension without dot -> what makes the file's text.

    Args:
        subtitle_unsure: What subtitles do with unsure captions; see `captioner.outputs.subtitles.to_srt`.
        mark_unsure: See `image_text`.
        bom: See `to_csv`.
    """
    return {
        "json": lambda record: json_line(without_thumbnails(record)) + "\n",
        "srt": lambda record: to_srt(record["segments"], unsure=subtitle_unsure),
        "vtt": lambda record: to_vtt(record["segments"], unsure=subtitle_unsure),
        "csv": lambda record: to_csv([record], "video", bom),
        "txt": lambda record: video_text(record, mark_unsure) + "\n",
    }


def image_sidecars(*, mark_unsure: bool = False, bom: bool = False) -> dict[str, Callable[[Record], str]]:
    """The same for photos."""
    return {
        "json": lambda record: json_line(without_thumbnails(record)) + "\n",
        "csv": lambda record: to_csv([record], "image", bom),
        "txt": lambda record: image_text(record, mark_unsure) + "\n",
    }


class RecordWriter:
    """Writes records to a text stream as they come; each is on its way when `write` returns.

    A context manager: leaving it ends a JSON array, also after an exception, so that what was written can be read. The
    stream is flushed, not closed. What a stream's encoding cannot carry is written as escapes.

    Args:
        stream: An open text stream, for example ``sys.stdout``.
        format: ``text`` (``file: caption``), ``json`` (one array), ``jsonl`` (one object a line) or ``csv``.
        kind: What the records are about: ``image``, ``clip`` or ``video``; None is photos and videos, which need not
            be the same (not CSV).
        mark_unsure: Whether text marks unsure captions; see `image_text`.
        bom: Whether CSV begins with a byte order mark; see `to_csv`.
        name: How text shows the name of a file.

    Raises:
        ValueError: Unknown ``format`` or ``kind``.
    """

    def __init__(
        self,
        stream: TextIO,
        format: str,
        kind: str | None = "image",
        *,
        mark_unsure: bool = False,
        bom: bool = False,
        name: Callable[[str], str] = printable,
    ):
        if format not in FORMATS:
            raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
        if kind not in KINDS and (kind is not None or format == "csv"):
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        self._stream = stream
        self._format = format
        self._kind = kind
        self._mark_unsure = mark_unsure
        self._bom = bom
        self._name = name
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._ascii_only = not self._encoding.lower().replace("_", "-").startswith("utf")
        self._count = 0

    def __enter__(self) -> RecordWriter:
        if self._format == "csv":
            self._put("\ufeff" * self._bom + _csv_lines([_COLUMNS[self._kind]]))
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
            failed = "error" in record
            text = f"failed: {_reason(record)}" if failed else self._text(record)
            self._put(f"{self._name(record['file'])}: {text}\n")
        elif self._format == "csv":
            self._put(_csv_lines(_ROWS[self._kind](record)))
        else:
            line = json_line(without_thumbnails(record), ascii_only=self._ascii_only)
            start = "" if self._format == "jsonl" else ",\n" if self._count else "[\n"
            self._put(start + line + ("\n" if self._format == "jsonl" else ""))
        self._count += 1

    def _text(self, record: Record) -> str:
        kind = self._kind or ("video" if "segments" in record else "image")
        return _TEXT[kind](record, self._mark_unsure)

    def _put(self, text: str) -> None:
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        self._stream.flush()


@contextlib.contextmanager
def open_writer(
    output: str | os.PathLike | None, format: str, kind: str | None = "image", **look: Any
) -> Iterator[RecordWriter]:
    """A `RecordWriter` on a file, or on standard output.

    The file grows record by record, so that a long run can be watched and what a killed run wrote is there; missing
    folders are made and an old file is replaced.

    Args:
        output: The file, or None for standard output.
        format: See `RecordWriter`.
        kind: See `RecordWriter`.
        **look: The other arguments of `RecordWriter`.

    Raises:
        CaptionerError: The file cannot be written; see `captioner.atomic.write_atomic` for ``kind``.
    """
    if output is None:
        with RecordWriter(sys.stdout, format, kind, **look) as writer:
            yield writer
        return
    with _File(output) as stream, RecordWriter(stream, format, kind, **look) as writer:
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


def _sureness(record: Record) -> list[Any]:
    familiarity = record.get("familiarity")
    return ["" if familiarity is None else familiarity, record.get("unsure") or ""]


def _mark(record: Record) -> str:
    return f" (unsure: {record['unsure']})" if record.get("unsure") else ""


def _cut(record: Record) -> str:
    return ", cut short" if record.get("truncated") else ""


def _notes(record: Record) -> list[str]:
    return [f"    note: {warning}" for warning in record.get("warnings", ())]


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _descending(probabilities: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(probabilities.items(), key=lambda item: -item[1])
