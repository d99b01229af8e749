"""Matplotlib's settings: its own, whatever lies in the current folder and whatever the caller set for other figures."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_LOCK = threading.RLock()  # settings are those of the process


@contextlib.contextmanager
def local_settings_unread() -> Iterator[None]:
    """Around the first import of Matplotlib, which reads ``matplotlibrc`` of the current folder.

    The file may have come with a folder of photos, and may be a pipe, or no text.
    """
    if "matplotlib" in sys.modules or not os.path.lexists("matplotlibrc"):
        yield
        return
    before = os.open(".", os.O_RDONLY)
    os.chdir(os.path.dirname(__file__))
    try:
        yield
    finally:
        os.chdir(before)
        os.close(before)


@contextlib.contextmanager
def fixed_settings() -> Iterator[None]:
    """Has a function make or draw a figure by Matplotlib's own settings; used as its decorator."""
    import matplotlib.style

    with _LOCK, matplotlib.style.context("default"):
        yield
