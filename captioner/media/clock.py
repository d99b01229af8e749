"""When frames are shown, and which of them are looked at."""

from __future__ import annotations

import math

TOLERANCE = 1e-3
"""Times closer than this, in seconds, are the same: containers keep milliseconds."""


_WAVERING = 0.3  # seconds by which timestamps may fall back where frames are stored out of order


class FrameClock:
    """Says of rising times which are due: of times that are an interval apart, the first at or after each.

    Args:
        interval: Seconds between the times ``start``, ``start + interval``...; None is every frame from ``start``.
        start: Seconds; where the first frame comes later, its time counts.
    """

    def __init__(self, interval: float | None, start: float = 0.0):
        self._interval = interval
        self._start = start
        self._next: float | None = None

    def due(self, time: float) -> bool:
        """Whether a frame of that time is wanted; it stays so until one is taken."""
        if self._next is None:
            self._next = self._start = max(self._start, time)
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


class Timeline:
    """Turns the timestamps of a stream into the times at which a player shows its frames.

    These rise from the start of the file, not of the stream. Where the timestamps leap (recordings that were joined,
    a clock that was set), the film goes on at its usual step. A long gap is no leap while sound is heard in it.

    Args:
        origin: Timestamp of the start of the file, in seconds.
        longest_gap: Seconds without a frame that are believed where nothing is heard.

    Attributes:
        time: Time of the last frame in seconds; None before the first.
    """

    def __init__(self, origin: float, longest_gap: float):
        self.time: float | None = None
        self._shift = -origin
        self._longest_gap = longest_gap
        self._heard = (-math.inf, -math.inf)  # timestamps between which there was sound, without a gap, just now

    def hear(self, start: float, end: float) -> None:
        """Takes note of a piece of sound by its timestamps in seconds; pieces come nearly in order."""
        since, until = self._heard
        if not since - self._longest_gap <= start <= until + self._longest_gap:
            since = start
            until = end
        self._heard = (since, max(until, end))

    def falls_back(self, stamp: float | None) -> bool:
        """Whether a frame with that timestamp would have to be shown before the last one."""
        return stamp is not None and self.time is not None and stamp + self._shift < self.time

    def place(self, stamp: float | None, step: float, longest_gap: float | None = None) -> float:
        """Finds the time of the next frame.

        Args:
            stamp: Its timestamp in seconds; None where it has none.
            step: Seconds from a frame to the next, usually.
            longest_gap: What is believed before this frame, where that is more than usual.

        Returns:
            Seconds by which the timestamps leap at it, 0.0 where they do not.
        """
        expected = 0.0 if self.time is None else self.time + step
        time = expected if stamp is None else stamp + self._shift
        leap = time - expected
        backwards = leap < -max(_WAVERING, 3 * step)
        if backwards or (
            leap > (longest_gap or self._longest_gap) and not self._heard_between(expected - self._shift, stamp)
        ):
            self._shift -= leap
            time = expected
        else:
            leap = 0.0
        # Timestamps that stand still, or waver, neither stop the film nor let it run away.
        self.time = max(time, 0.0) if self.time is None else max(time, self.time + TOLERANCE)
        return leap

    def _heard_between(self, start: float, end: float) -> bool:
        """Whether there was sound in most of a gap; it may be stored a little before or after the frames."""
        since, until = self._heard
        return since <= start + self._longest_gap and until >= (start + end) / 2
