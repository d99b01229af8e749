"""Which frames of a video are looked at: of times that are an interval apart, the first frame at or after each."""

from __future__ import annotations

import math

TOLERANCE = 1e-3
"""Times closer than this, in seconds, are the same: containers keep milliseconds."""


class FrameClock:
    """Says of rising times which are due.

    Args:
        interval: Seconds between the times ``start``, ``start + interval``...; None is every frame from ``start``.
        start: Seconds.
    """

    def __init__(self, interval: float | None, start: float = 0.0):
        self._interval = interval
        self._start = start
        self._next = start

    def due(self, time: float) -> bool:
        """Whether a frame of that time is wanted; it stays so until one is taken."""
        return time >= self._next - TOLERANCE

    def take(self, time: float) -> bool:
        """Takes the frame of that time if it is due, so that the next is due at the next multiple of the interval.

        Returns:
            Whether it was due.
        """
        if not self.due(time):
            return False
        if self._interval is not None:
            done = math.floor((time - self._start + TOLERANCE) / self._interval)
            self._next = self._start + (done + 1) * self._interval
        return True
