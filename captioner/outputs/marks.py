"""Marks by which files that this package wrote are known: it replaces and passes over those, and no others."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

from captioner.errors import CaptionerError
from captioner.files import open_regular

PNG_SOFTWARE = "captioner"
"""What pictures have under ``Software``."""

SQLITE_APPLICATION_ID = 0x43617074
"""``PRAGMA application_id`` of search indexes."""

_HEAD_BYTES = 4096  # folders may hold very many pictures
_REPORT_START = re.compile(rb'\{\n  "model": "[^\n]*",\n  "split": ')
_CSV_STARTS = (b"file,rank,caption,", b"file,start,end,caption,", b"file,label,probability,")


def _is_result_line(head: bytes) -> bool:
    if not head.startswith(b'{"file": '):
        return False
    line, end, _ = head.partition(b"\n")
    if not end and len(head) == _HEAD_BYTES:  # the record of a long video
        return True
    try:
        return isinstance(json.loads(line)["file"], str)
    except (ValueError, RecursionError):
        return False


_IS_OURS: dict[str, Callable[[bytes], bool]] = {
    ".jsonl": _is_result_line,
    ".json": lambda head: head.startswith((b'[\n{"file": ', b"[]\n")) or _REPORT_START.match(head) is not None,
    ".csv": lambda head: head.removeprefix(b"\xef\xbb\xbf").startswith(_CSV_STARTS),
    ".html": lambda head: b'<meta name="generator" content="captioner">' in head,
    ".png": lambda head: f"tEXtSoftware\0{PNG_SOFTWARE}".encode() in head,
    ".sqlite": lambda head: head[68:72] == SQLITE_APPLICATION_ID.to_bytes(4, "big"),
}


def is_ours(path: str | os.PathLike, extension: str | None = None) -> bool:
    """Whether this package wrote a file, judged by its beginning; a file without content is nobody's, so ours.

    Args:
        path: A table, page, JSON or JSON lines of results, picture or search index, by its extension; others are never
            ours, nor are links and what cannot be read.
        extension: What it is by another extension than its own.
    """
    judge = _IS_OURS.get(extension or os.path.splitext(path)[1].lower())
    if judge is None:
        return False
    try:
        with open_regular(path, follow_links=False) as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return False
    return not head or judge(head)


def refuse_to_replace(path: str | os.PathLike, is_own: bool) -> None:
    """Refuses to write over somebody else's file that an output is named after.

    Args:
        path: The output, there or not.
        is_own: Whether what is there is an earlier output.

    Raises:
        CaptionerError: A file with a content is there that is not (``kind="usage"``).
    """
    if os.path.isfile(path) and os.path.getsize(path) and not is_own:
        raise CaptionerError(
            f"{os.fspath(path)}: is there and was not written by this command; give --output another name, or "
            "--overwrite",
            kind="usage",
        )
