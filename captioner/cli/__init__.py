"""The command line: parses, calls the package, returns an exit status; what it does is done elsewhere.

One file a group of commands, and nothing heavy is imported before a command runs, so that ``captioner --help`` is there
at once. What commands share: `options`, `streams` (results one by one), `folders` (results to a folder), `progress`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from captioner import __version__

# Each adds its commands, in the order of the help.
# isort: off
from captioner.cli import describe, photos, films, clips, translate, search, demo, serve, models, training  # noqa: F401
from captioner.cli.options import app


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if hasattr(sys.stdout, "reconfigure"):  # what its encoding cannot carry is written as escapes, whatever prints it
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the ``captioner`` command."""
    app(prog_name="captioner")
