"""``captioner translate``."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from captioner.cli.options import BeamSize, Model, Threads, app, choice, command, given
from captioner.errors import CaptionerError
from captioner.files import open_regular
from captioner.names import printable


@command(app, "translate")
def translate(
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="What to translate.", metavar="TEXT...", show_default="lines of standard input"),
    ] = None,
    to: Annotated[str, choice("de", "fr", "cs", help="Language: de, fr or cs.", metavar="LANGUAGE")] = "de",
    input: Annotated[
        Path | None, typer.Option(help="File with a text on every line, instead of TEXT.", metavar="FILE")
    ] = None,
    model: Model = None,
    beam_size: BeamSize = None,
    precision: Annotated[str, choice("auto", "f32", "bf16")] = "auto",
    threads: Threads = None,
) -> int:
    """Translates English sentences, above all captions: one line in, one line out."""
    if texts and input is not None:
        raise CaptionerError("give either texts or --input, not both", kind="usage")
    from captioner.runs.jobs import Computing
    from captioner.translation.translator import SHIPPED_TRANSLATOR

    translator = Computing("auto", precision, threads).load(model or SHIPPED_TRANSLATOR, "translator")
    translator.check(to)
    lines = iter(texts) if texts else _lines(input)
    while some := list(itertools.islice(lines, 1000)):
        for one in translator.translate(some, to, **given(beam_size=beam_size)):
            print(printable(one.text))
    return 0


def _lines(path: Path | None) -> Iterator[str]:
    """Lines of a file, or of standard input."""
    if path is None:
        yield from sys.stdin
        return
    try:
        with open_regular(path) as file:
            yield from io.TextIOWrapper(file, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionerError(f"{printable(str(path))}: cannot be read as UTF-8 text ({error})", kind="read") from error
