"""``captioner search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from captioner.cli.options import app, command
from captioner.errors import CaptionerError


@command(app, "search")
def search(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run.", metavar="DIR")],
    words: Annotated[list[str], typer.Argument(help='What to look for, for example "dog on a beach".')],
    limit: Annotated[int, typer.Option(help="Most hits to print.")] = 20,
    format: Annotated[str, typer.Option(help="text or jsonl.")] = "text",
) -> int:
    """Finds photos and moments of videos by what their captions say, best first."""
    from captioner.outputs.index import search_folder
    from captioner.outputs.records import json_line

    if format not in ("text", "jsonl"):
        raise CaptionerError(f"unknown format {format!r}; known: text, jsonl", kind="usage")
    if limit < 1:
        raise CaptionerError(f"the limit must be 1 or more, not {limit}", kind="usage")
    hits = search_folder(folder, " ".join(words), limit)
    for hit in hits:
        if format == "jsonl":
            print(json_line(hit.to_dict(), ascii_only=True))
        else:
            print(hit)
    if not hits:
        print("nothing found", file=sys.stderr)
    return 0
