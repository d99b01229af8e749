"""Progress bars: where they are drawn, when, and what is beside them."""

from __future__ import annotations

import io
import sys

import pytest

from captioner.cli import progress
from captioner.cli.progress import BatchBars, ProgressBars


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch, delay: float = 0.0) -> Terminal:
    """Makes standard error a terminal; not a fixture, since pytest puts its own stream back before the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "DELAY", delay)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


def test_bars_are_drawn_on_standard_error_alone(monkeypatch, capsys):
    stream = terminal(monkeypatch)
    with ProgressBars() as bars:
        assert list(bars.track("abc", "letters", 3)) == ["a", "b", "c"]
        bars.update("loss", 1, 2, "a note")
        bars._drawn.refresh()
    assert all(word in stream.getvalue() for word in ("letters", "3/3", "a note"))
    assert capsys.readouterr().out == ""


def test_not_before_the_delay(monkeypatch):
    stream = terminal(monkeypatch, delay=1000.0)
    with ProgressBars() as bars:
        bars.update("letters", 1, 2)
        bars.remove("letters")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("silent", [True, False])
def test_not_where_it_is_no_terminal_or_unwanted(monkeypatch, silent):
    stream = terminal(monkeypatch)
    if not silent:
        stream.isatty = lambda: False
    with ProgressBars(silent=silent) as bars:
        bars.update("letters", 1, 2)
        bars.say("failed: [bold]x.mp4[/bold] \udcff")
    assert stream.getvalue() == "failed: [bold]x.mp4[/bold] \\xff\n"


def test_a_batch(monkeypatch):
    stream = terminal(monkeypatch)
    with ProgressBars() as bars:
        batch = BatchBars(bars, "videos")
        batch.started(2)
        batch.progressed("films/[red]\x1b[2J.mp4", 0.5)
        bars._drawn.refresh()
        batch.finished("films/[red]\x1b[2J.mp4", {})
        batch.finished("b.mp4", {"error": {"message": "b.mp4: is [empty]\n"}})
        bars._drawn.refresh()
    text = stream.getvalue()
    assert "videos" in text and "2/2" in text and "[red]\\x1b[2J.mp4" in text
    assert "failed: b.mp4: is [empty]\\n" in text
    assert "\x1b[2J" not in text, "a file name must not steer the terminal"
