"""Records: the plain dictionaries that stand for one input each, and their JSON lines.

A record is ``{"file", **result.to_dict()}``, or ``{"file", "error"}`` for an input that failed. Everything else that is
written (CSV, subtitles, HTML pages, the search index) is made from records, so it can be made again from the disk.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from captioner.errors import CaptionerError
from captioner.names import printable

Record = Mapping[str, Any]

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


def read_json_lines(path: str | os.PathLike) -> Iterator[dict]:
    """The records of a JSON Lines file, one at a time.

    A last line without its line end that is no JSON (a process was killed while it wrote) is left out.

    Args:
        path: A file that this package wrote.

    Raises:
        CaptionerError: The file is missing (``kind`` ``missing``), cannot be read, or a line is no record (``read``).
    """
    name = printable(os.fspath(path))
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict) or "file" not in record:
                        raise ValueError('no object with "file"')
                except ValueError as error:
                    if not line.endswith("\n"):
                        return
                    raise CaptionerError(
                        f"{name}, line {number}: not a record ({error}); remove the line, or make the file again",
                        kind="read",
                    ) from error
                yield record
    except FileNotFoundError as error:
        raise CaptionerError(f"{name}: no such file; give the output folder of a run", kind="missing") from error
    except UnicodeDecodeError as error:
        raise CaptionerError(f"{name}: not UTF-8 text; make the file again", kind="read") from error
    except OSError as error:
        raise CaptionerError(f"{name}: cannot be read: {error.strerror}; check its permissions", kind="read") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
