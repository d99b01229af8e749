"""What is meant for the eyes of people: tables, and on a terminal, never in a pipe or a file, links and short names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.names import printable


def is_watched() -> bool:
    """Whether standard output goes to a terminal, in front of which somebody sits."""
    return sys.stdout is not None and sys.stdout.isatty()


def linked(file: str) -> str:
    """A file's name from where one stands, as a link that opens it where the terminal can (OSC 8)."""
    if not os.path.exists(file):  # - and addresses among others
        return printable(file)
    path = os.path.abspath(file)
    here = os.path.join(os.getcwd(), "")
    text = printable(os.path.relpath(path) if path.startswith(here) else file)
    if os.environ.get("TERM", "dumb") in ("dumb", "linux"):
        return text
    return f"\x1b]8;;{Path(path).as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the heads, as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(printable(line.rstrip()) for line in lines)


def shown(file: str) -> str:
    """A file's name in text: for the eye on a terminal, as it was given everywhere else."""
    return linked(file) if is_watched() else printable(file)
