"""Shot boundaries, found while the frames of a video pass by, and the division of long shots."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from captioner.media.clock import TOLERANCE

LONGEST_SEGMENT = 10.0
"""Seconds that one caption covers at most, by default."""

SHORTEST_SHOT = 0.6
"""Seconds that a shot lasts at least, by default; cuts that follow sooner are taken for flashes."""

# Width to which frames are reduced: cuts change the whole picture, and noise averages out.
_WIDTH = 160
# A cut is known this many frames later, because the detector compares it with the frames on both sides.
_WINDOW = 2


class ShotDetector:
    """Finds cuts with ``scenedetect``'s adaptive detector, fed frame by frame.

    The detector compares the change at each frame, in hue, saturation and lightness, with the changes around it, so
    that fast motion is not taken for a row of cuts. Frames should come at 10 to 30 a second: farther apart, motion
    looks like cuts. Memory is constant but for the list of cuts.

    Args:
        shortest: Seconds that a shot lasts at least.
        threshold: How many times larger than around it the change at a cut is.
        minimum_change: Mean change of the channels at a cut, 0..255, at least.
    """

    def __init__(self, *, shortest: float = SHORTEST_SHOT, threshold: float = 3.0, minimum_change: float = 15.0):
        from scenedetect.detectors import AdaptiveDetector

        if not shortest >= 0:
            raise ValueError(f"shortest must be 0 or more, not {shortest}")
        self.shortest = shortest
        # Minimum length is kept here, by time: the detector counts frames, which may come at any rate.
        self._detector = AdaptiveDetector(
            adaptive_threshold=threshold, min_scene_len=0, min_content_val=minimum_change, window_width=_WINDOW
        )
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)
        self._count = 0
        self._cuts: list[float] = []
        self._candidate: float | None = None
        self._size: tuple[int, int] | None = None
        self._start: float | None = None

    def push(self, time: float, image: np.ndarray) -> float | None:
        """Takes the next frame.

        Args:
            time: Seconds; later than the frame before.
            image: uint8 (H, W, 3), RGB; whole, or in its `reduced_size` already.

        Returns:
            The time of a cut that is certain now, because the shot after it has lasted for ``shortest``, or None.
        """
        from scenedetect.common import FrameTimecode

        if self._start is None:
            self._start = time
        self._times.append(time)
        found = self._detector.process_frame(FrameTimecode(self._count, 25.0), self._reduced(image))
        self._count += 1
        if found and self._candidate is None:
            last = self._cuts[-1] if self._cuts else self._start
            if self._times[0] - last >= self.shortest:
                self._candidate = self._times[0]
        cut = self._candidate
        if cut is None or time - cut < self.shortest:
            return None
        self._cuts.append(cut)
        self._candidate = None
        return cut

    @property
    def certain(self) -> float:
        """Seconds up to which all cuts have been told."""
        return self._candidate if self._candidate is not None else self._times[0] if self._times else 0.0

    def finish(self, end: float) -> list[tuple[float, float]]:
        """All shots, when no more frames come.

        Args:
            end: Seconds at which the video ends.

        Returns:
            ``(start, end)`` of each shot in seconds, without gaps, from the first frame's time to ``end``; empty if no
            frame came.
        """
        if self._start is None:
            return []
        cut = self._candidate
        if cut is not None and end - cut >= self.shortest:
            self._cuts.append(cut)
            self._candidate = None
        return list(itertools.pairwise([self._start, *self._cuts, end]))

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        """BGR of constant size: a stream may change its size midway, which the detector does not survive."""
        import cv2

        if self._size is None:
            self._size = reduced_size(image.shape[1], image.shape[0])
        small = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2BGR)


def reduced_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of what cuts are looked for in, for frames of some width and height."""
    factor = min(1.0, _WIDTH / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def split_long(shots: list[tuple[float, float]], longest: float = LONGEST_SEGMENT) -> list[tuple[float, float]]:
    """Divides shots that are longer than one caption should cover.

    From the front, pieces of exactly ``longest`` are cut off; what remains is halved if it is still too long. So a
    piece is known before the end of its shot is, and none is shorter than half of ``longest`` (but for whole shots).

    Args:
        shots: ``(start, end)`` in seconds.
        longest: Seconds that a piece lasts at most, to the millisecond.

    Returns:
        The pieces, in order, without gaps inside a shot.

    >>> split_long([(0.0, 4.0), (4.0, 36.0)], longest=10.0)
    [(0.0, 4.0), (4.0, 14.0), (14.0, 24.0), (24.0, 30.0), (30.0, 36.0)]
    """
    if not longest > 0:
        raise ValueError(f"longest must be positive, not {longest}")
    pieces = []
    for start, end in shots:
        while end - start >= 1.5 * longest:
            pieces.append((start, start + longest))
            start += longest
        if end - start > longest + TOLERANCE:
            middle = (start + end) / 2
            pieces.append((start, middle))
            start = middle
        pieces.append((start, end))
    return pieces
