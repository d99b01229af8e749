"""``captioner search``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from captioner.cli.options import MarkUnsure, OverwriteFile, app, choice, command, refuse_idle
from captioner.cli.terminal import is_watched
from captioner.errors import CaptionerError
from captioner.names import printable

if TYPE_CHECKING:
    from captioner.outputs.index import Hit

FORMATS = ("text", "jsonl", "html")


class _Searching(TyperCommand):
    """Takes ``-cat`` for what captions must not have; options with one dash have one letter."""

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, [_without(one) for one in args])


def _without(argument: str) -> str:
    if not re.match(r'-["\w][\w:]', argument):
        return argument
    return f'not:"{argument[1:]}"' if " " in argument and '"' not in argument else f"not:{argument[1:]}"


@command(app, "search", cls=_Searching)
def search(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run.", metavar="DIR")],
    words: Annotated[
        list[str],
        typer.Argument(
            help='Words; "a phrase" (in quotes of its own), -not, tag:dog, video:NAME, photo:NAME, after 10:00, before '
            "1:02:03.",
            metavar="WORDS...",
        ),
    ],
    limit: Annotated[int, typer.Option(help="Most hits to print.")] = 20,
    format: Annotated[str, choice(*FORMATS)] = "text",
    mark_unsure: MarkUnsure = None,
    output: Annotated[str | None, typer.Option(help="A file for the page of --format html.", metavar="FILE")] = None,
    overwrite: OverwriteFile = False,
) -> int:
    """Finds photos and moments of videos by what their captions say, best first."""
    from captioner.atomic import write_atomic
    from captioner.cli.progress import note
    from captioner.outputs.index import search_folder
    from captioner.outputs.marks import is_ours, refuse_to_replace
    from captioner.outputs.records import json_line

    if format not in FORMATS:
        raise CaptionerError(f"unknown format {format!r}; known: {', '.join(FORMATS)}", kind="usage")
    if limit < 1:
        raise CaptionerError(f"the limit must be 1 or more, not {limit}", kind="usage")
    if format != "text":
        refuse_idle("needs text", "mark_unsure")
    if format != "html":
        refuse_idle("needs --format html", "output")
    if output is None:
        refuse_idle("needs --output", "overwrite")
    elif not overwrite:
        refuse_to_replace(output, is_ours(os.path.realpath(output), ".html"))
    text = " ".join(words)
    hits = search_folder(folder, text, limit)
    if format == "html":
        page = hits_page(folder, hits, text, os.path.dirname(output or ""))
        if output is None:
            print(page)
        else:
            write_atomic(output, page)
    mark_unsure = is_watched() if mark_unsure is None else mark_unsure
    for hit in hits if format != "html" else ():
        mark = f" (unsure: {printable(hit.unsure)})" if mark_unsure and hit.unsure else ""
        print(f"{hit}{mark}" if format == "text" else json_line(hit.to_dict(), ascii_only=True))
    for word, near in hits.unknown.items():
        perhaps = f"; perhaps: {', '.join(map(printable, near))}" if near else ""
        note(f"captioner: no caption has {printable(word)}{perhaps}")
    shown = f"the best {len(hits)} of " if len(hits) < hits.total else ""
    note(f"captioner: {shown}{hits.total} hit{'' if hits.total == 1 else 's'}" if hits else "nothing found")
    return 0


def hits_page(folder: Path, hits: Sequence[Hit], title: str, place: str) -> str:
    """A page of hits with their pictures, and links to the files.

    Args:
        folder: Output folder of the run.
        hits: What was found.
        title: Heading.
        place: Folder of the page, for the links.
    """
    from captioner.outputs.report import images_page
    from captioner.outputs.writers import clock
    from captioner.runs.folder import stored_records

    stored = stored_records(folder, {hit.file for hit in hits})
    entries = []
    for hit in hits:
        path, record = stored.get(hit.file, (None, {}))
        inside = [one for one in record.get("segments", [record]) if one.get("start") == hit.start]
        known = {"caption": hit.caption, "confidence": 0.0, "tags": (), "alternatives": (), **(inside or [{}])[0]}
        times = "" if hit.start is None else f", {clock(hit.start)} - {clock(hit.end)}"
        link = path and os.path.relpath(path, place or os.curdir)
        entries.append(({**known, "file": hit.file + times}, link))
    return images_page(entries, title=title)
