"""Records: the plain dictionaries that stand for one input each, and their JSON lines.

A record is ``{"file", **result.to_dict()}``, or ``{"file", "error"}`` for an input that failed. Everything else that is
written (CSV, subtitles, HTML pages, the search index) is made from records, so it can be made again from the disk.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from msgspec import Meta

from captioner.errors import CaptionerError
from captioner.files import open_regular, read_regular
from captioner.names import printable
from captioner.schema import fit, parse

Record = Mapping[str, Any]

MAX_RECORD_BYTES = 2**28
"""Limit on the file of one result; a video of some hours has as many thousand pictures."""
MAX_RECORD_VALUES = 2_000_000
"""Limit on the values in it, each of which takes far more memory than file; a day of film has a million windows."""
MAX_LINE_BYTES = 2**25
"""Limit on a line of ``results.jsonl``, which has no pictures."""
MAX_LINES_BYTES = 2**36
"""Limit on all of ``results.jsonl``."""

_Value = Annotated[float, Meta(ge=-1e15, le=1e15)]
_Time = Annotated[float, Meta(ge=0, le=1e9)]

# Characters that are legal inside a JSON string but end a line for `str.splitlines` and some readers, and the
# surrogates by which Python keeps file names that are no UTF-8.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Result(Protocol):
    """A `Caption`, `ClipPrediction` or `VideoAnalysis`."""

    def to_dict(self) -> dict:
        """The record without ``file``."""


def record_of(file: str | os.PathLike, result: Result | BaseException) -> dict:
    """The record of one input.

    Args:
        file: Its name, as the user gave it or as the folder scan found it.
        result: What the model said, or the error that stopped it.

    Returns:
        ``{"file", **result.to_dict()}`` or ``{"file", "error": {"type", "message", ...}}``.
    """
    name = os.fsdecode(file)
    if isinstance(result, CaptionerError):
        return {"file": name, "error": result.to_dict()}
    if isinstance(result, BaseException):
        return {"file": name, "error": {"type": type(result).__name__, "message": str(result)}}
    return {"file": name, **result.to_dict()}


def with_thumbnails(record: Record, segments: tuple) -> dict:
    """A video's record whose segments carry their pictures, as base64 JPEG under ``thumbnail``.

    The record of one video keeps its pictures so that its page can be made again from the disk; `without_thumbnails`
    undoes it for the files that hold many videos.

    Args:
        record: Record of a video.
        segments: The `Segment` objects it was made from, in the same order.
    """
    pictured = [
        with_thumbnail(plain, segment.thumbnail) for plain, segment in zip(record["segments"], segments, strict=True)
    ]
    return {**record, "segments": pictured}


def with_thumbnail(record: Record, jpeg: bytes | None) -> dict:
    """The record of a photo, or of one segment, with its picture as base64 under ``thumbnail``, if there is one."""
    return {**record, "thumbnail": base64.b64encode(jpeg).decode("ascii")} if jpeg else dict(record)


def without_thumbnails(record: Record) -> dict:
    """A record as ``results.jsonl`` has it: everything but the pictures."""
    plain = {key: value for key, value in record.items() if key != "thumbnail"}
    if "segments" in record:
        plain["segments"] = [without_thumbnails(one) for one in record["segments"]]
    return plain


def count_unsure(record: Record) -> tuple[int, int]:
    """How many captions a record of a photo or a video has, its segments', and how many of them are unsure."""
    captions = record.get("segments", (record,) if "caption" in record else ())
    return len(captions), sum(bool(one.get("unsure")) for one in captions)


def json_line(record: Record, *, ascii_only: bool = False) -> str:
    r"""A record as JSON on one line, without the line end.

    The line holds no character that any reader takes for a line end, and no lone surrogate: a name that is no UTF-8 is
    written as ``\udcff``, which `json.loads` turns back into the very same name. Numbers that JSON cannot hold
    (infinite, not a number) become null.

    Args:
        record: Anything that `json.dumps` takes.
        ascii_only: Whether to escape everything beyond ASCII, for streams that cannot carry it.
    """
    try:
        text = json.dumps(record, ensure_ascii=ascii_only, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record), ensure_ascii=ascii_only, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@dataclass(frozen=True)
class _Error:
    message: str
    type: str
    kind: str = ""


@dataclass(frozen=True)
class _Word:
    word: str
    logprob: _Value


@dataclass(frozen=True)
class _Alternative:
    caption: str
    score: _Value
    confidence: _Value


@dataclass(frozen=True)
class _Label:
    label: str
    probability: _Value


@dataclass(frozen=True)
class _Tag:
    tag: str
    probability: _Value


@dataclass(frozen=True)
class _Translation:
    caption: str


@dataclass(frozen=True)
class _Segment:
    start: _Time
    end: _Time
    caption: str
    confidence: _Value = 0.0
    familiarity: _Value | None = None
    unsure: str | None = None
    tags: tuple[_Tag, ...] = ()
    labels: tuple[_Label, ...] = ()
    translations: dict[str, _Translation] = field(default_factory=dict)
    thumbnail: str | None = None


@dataclass(frozen=True)
class _Window:
    start: _Time
    end: _Time
    label: str | None
    probability: _Value
    known: _Value | None = None


@dataclass(frozen=True)
class _NoveltyPoint:
    time: _Time
    value: _Value
    unusual: bool


@dataclass(frozen=True)
class _AnyRecord:
    """What a record may hold: of what programs look at, the types; a field that none looks at may be anything."""

    file: str
    error: _Error | None = None
    caption: str | None = None
    score: _Value | None = None
    confidence: _Value | None = None
    familiarity: _Value | None = None
    finished: bool | None = None
    unsure: str | None = None
    words: tuple[_Word, ...] = ()
    tags: tuple[_Tag, ...] = ()
    alternatives: tuple[_Alternative, ...] = ()
    translations: dict[str, _Translation] = field(default_factory=dict)
    model: str | None = None
    thumbnail: str | None = None
    duration: _Time = 0.0
    width: Annotated[int, Meta(ge=0, le=2**31)] = 0
    height: Annotated[int, Meta(ge=0, le=2**31)] = 0
    fps: _Value = 0.0
    classifier: str | None = None
    segments: tuple[_Segment, ...] = ()
    label: str | None = None
    probability: _Value | None = None
    probabilities: dict[str, _Value] | None = None
    known: _Value | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = ()
    windows: tuple[_Window, ...] = ()
    novelty: tuple[_NoveltyPoint, ...] = ()


_TELLING = {
    "error": ("error",),
    "segments": ("segments", "duration", "width", "height", "fps", "label", "truncated", "model", "classifier"),
    "probabilities": ("probabilities", "label", "probability"),
    "caption": ("caption", "score", "confidence", "alternatives"),
}
"""Field that tells what a record is about, the most telling first, to those that such a record has."""
_PARTS = {"score", "finished", "alternatives", "width", "height", "known", "windows"}
"""Fields that come only with one that tells."""
_MAY_BE_NONE = {"label", "model", "classifier"}


def read_record(path: str | os.PathLike) -> dict | None:
    """One record that a run stored in a file of its own, or None where the file holds no whole record.

    A file that was cut, emptied or edited, a link, or something that is no regular file gives None, so that a run makes
    the record again.

    Args:
        path: The file: one JSON object, with what a run notes about it under ``run``.
    """
    try:
        data = read_regular(path, MAX_RECORD_BYTES, follow_links=False)
        if data.count(b",") > MAX_RECORD_VALUES:
            return None
        record = parse(data, "", error=CaptionerError)
        fit(record, _AnyRecord, "", more=True)
    except (OSError, CaptionerError):
        return None
    telling = next((name for name in _TELLING if name in record), None)
    if telling is None:  # of a task of another version, if it is whole
        return record if set(record) - {"file", "run", "thumbnail"} and not _PARTS & set(record) else None
    is_whole = all(name in record and (record[name] is not None or name in _MAY_BE_NONE) for name in _TELLING[telling])
    is_whole &= all({"confidence", "labels"} <= set(one) for one in record.get("segments", ()))
    return record if is_whole else None


def read_json_lines(path: str | os.PathLike) -> Iterator[dict]:
    """The records of a JSON Lines file, one at a time.

    A last line without its line end that is no JSON (a process was killed while it wrote) is left out.

    Args:
        path: A file that this package wrote.

    Raises:
        CaptionerError: The file is missing (``kind`` ``missing``), cannot be read, or a line is no record (``read``).
    """
    name = printable(os.fspath(path))
    remedy = "remove the line, or make the file again"
    with _explained(path), open_regular(path, MAX_LINES_BYTES) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            where = f"{name}, line {number}"
            if not line.strip():
                continue
            if len(line) == MAX_LINE_BYTES:
                raise CaptionerError(f"{where}: longer than {MAX_LINE_BYTES:,} bytes; {remedy}", kind="read")
            try:
                record = parse(line, where, error=CaptionerError, remedy=remedy)
            except CaptionerError:
                if not line.endswith(b"\n"):
                    return
                raise
            fit(record, _AnyRecord, where, more=True, error=CaptionerError, remedy=remedy)
            yield record


@contextlib.contextmanager
def _explained(path: str | os.PathLike) -> Iterator[None]:
    name = printable(os.fspath(path))
    try:
        yield
    except FileNotFoundError as error:
        raise CaptionerError(f"{name}: no such file; give the output folder of a run", kind="missing") from error
    except OSError as error:
        raise CaptionerError(f"{name}: cannot be read: {error.strerror}; check what it is", kind="read") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
