"""What is said on standard error: progress bars, only on a terminal and for what takes longer than two seconds, and as
much else as people asked for."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from captioner.errors import CaptionerError
from captioner.names import printable

_LOG = logging.getLogger("captioner")
_QUIET, _NORMAL, _VERBOSE = range(3)
_talking = _NORMAL

DELAY = 2.0
"""Seconds before the first bar is drawn."""

Item = TypeVar("Item")


def talk(*, quiet: bool = False, verbose: bool = False) -> None:
    """How much is said on standard error from now on.

    Raises:
        CaptionerError: Both more and less (``kind="usage"``).
    """
    global _talking
    if quiet and verbose:
        raise CaptionerError("--quiet and --verbose ask for opposites; give one of them", kind="usage")
    _talking = _QUIET if quiet else _VERBOSE if verbose else _NORMAL
    _LOG.setLevel(logging.INFO if verbose else logging.NOTSET)
    (_LOG.addHandler if verbose else _LOG.removeHandler)(_VERBOSELY)


def note(text: object) -> None:
    """Prints what people may want to know on standard error, unless they asked for quiet."""
    if _talking >= _NORMAL:
        print(text, file=sys.stderr, flush=True)


class ProgressBars:
    """Bars with rate and time left; a context manager.

    Args:
        silent: Whether never to draw, for example because results go to the same terminal.
        log: Whether what the package logs, such as the epochs of a training, is printed as well.
    """

    def __init__(self, *, silent: bool = False, log: bool = False):
        self._handler = _Printing(self.note) if log and _talking != _VERBOSE else None  # else it is printed already
        self._wanted = not silent and _talking >= _NORMAL and sys.stderr is not None and sys.stderr.isatty()
        self._begin = time.monotonic()
        self._drawn = None
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> ProgressBars:
        if self._handler:
            _LOG.addHandler(self._handler)
            _LOG.setLevel(logging.INFO)
        return self

    def __exit__(self, *exc_info) -> None:
        if self._handler:
            _LOG.removeHandler(self._handler)
        if self._drawn:
            self._drawn.stop()

    def update(self, name: str, done: float, total: float | None, note: str = "") -> None:
        """Sets a bar; the first call with a name makes it.

        Args:
            name: What the bar is about.
            done: How much is done.
            total: Of how much; None if nobody knows.
            note: A word beside the bar.
        """
        if not self._wanted or (self._drawn is None and time.monotonic() - self._begin < DELAY):
            return
        if self._drawn is None:
            self._drawn = _rich_bars()
            self._drawn.start()
        if name not in self._tasks:
            self._tasks[name] = self._drawn.add_task(name, total=total, note="", completed=0)
        self._drawn.update(self._tasks[name], completed=done, total=total, note=_fitting(note))

    def remove(self, name: str) -> None:
        """Takes a bar away."""
        if name in self._tasks:
            self._drawn.remove_task(self._tasks.pop(name))

    def say(self, text: str) -> None:
        """Prints a line on standard error, above the bars."""
        text = printable(text)
        if self._drawn:
            self._drawn.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        elif sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """`say`, unless people asked for quiet."""
        if _talking >= _NORMAL:
            self.say(text)

    def track(self, items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
        """The items, with a bar that moves on as each one has been dealt with."""
        for done, item in enumerate(items, 1):
            yield item
            self.update(name, done, total)


class _Printing(logging.Handler):
    """Prints what is logged, with the time of day."""

    def __init__(self, write: Callable[[str], None]):
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        self._write(f"{time.strftime('%H:%M:%S')} {record.getMessage()}")


_VERBOSELY = _Printing(note)


class BatchBars:
    """Shows a `captioner.runs.batch.run_batch`: one for all files, one for the file in work; failures are named.

    Args:
        bars: Where to draw.
        name: What the files are, for example ``videos``.
    """

    def __init__(self, bars: ProgressBars, name: str):
        self._bars = bars
        self._name = name
        self._files = self._done = 0

    def started(self, files: int) -> None:
        """So many files are to be worked on."""
        self._files = files
        self._bars.update(self._name, 0, files)

    def progressed(self, path: str, fraction: float) -> None:
        """So much of a file is done, 0..1."""
        self._bars.update(self._name, self._done, self._files)
        self._bars.update("this one", fraction * 100, 100, os.path.basename(path))

    def finished(self, path: str, record: Mapping) -> None:
        """A file is done, or has failed."""
        self._bars.remove("this one")
        if "error" in record:
            self._bars.say(f"failed: {record['error']['message']}")
        if self._files:
            self._done += 1
            self._bars.update(self._name, self._done, self._files)


def _rich_bars():
    from rich import progress
    from rich.console import Console

    class Rate(progress.ProgressColumn):
        def render(self, task):
            return f"{task.speed:.1f}/s" if task.speed else ""

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        redirect_stdout=False,  # results go there, not to the bars' console
        redirect_stderr=False,
        transient=True,
    )


def _fitting(note: str, width: int = 40) -> str:
    note = printable(note)
    return note if len(note) <= width else note[: width - 1] + "…"
