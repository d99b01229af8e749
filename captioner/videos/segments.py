"""The segments of a video: division into pieces while it passes by, merging of equal captions, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from captioner.media.clock import TOLERANCE
from captioner.media.shots import split_long
from captioner.models.runtime import Features
from captioner.models.words import FUNCTION_WORDS
from captioner.results import Caption, Segment, Window

_MOST_LABELS = 3


@dataclass(frozen=True)
class EncodedFrame:
    """A frame of which captions may be made.

    Attributes:
        time: Seconds.
        features: From the captioner's ``encode``, of one image.
        picture: JPEG, or None.
    """

    time: float
    features: Features
    picture: bytes | None = None


@dataclass(frozen=True)
class Piece:
    """A stretch of a video.

    Attributes:
        start: Seconds.
        end: Seconds.
        frames: Frames in it, evenly spread, at least one.
    """

    start: float
    end: float
    frames: tuple[EncodedFrame, ...]


class SegmentBuilder:
    """Divides a video into pieces while it passes by, as `captioner.media.shots.split_long` would with all of it.

    A piece without a frame becomes part of the one before, whose last frame still stands there, or, where a shot has
    none yet, of the next one.

    Args:
        longest: Seconds that a piece lasts at most.
        frames: Frames that a piece holds at most; where there are more, evenly spread ones are kept.
        start: Seconds at which the picture begins.
    """

    def __init__(self, longest: float, frames: int, start: float = 0.0):
        self._longest = longest
        self._most = frames
        self._shot = start  # where what is not yet divided begins
        self._start = start  # where the next piece begins
        self._certain = 0.0
        self._last: float | None = None  # time of the last frame that the shot has had in a piece
        self._frames: list[EncodedFrame] = []

    def add(self, frame: EncodedFrame) -> None:
        """Takes the next frame."""
        # Half the memory; rounding to 11 bits is far below what the encoder itself is exact to.
        grid = frame.features.grid.astype(np.float16)
        self._frames.append(replace(frame, features=replace(frame.features, grid=grid)))
        # Frames after the last certain moment stay: the cut that makes them a short shot may not be known yet.
        times = np.array([one.time for one in self._frames if one.time < self._certain])
        if len(times) > 8 * self._most:
            del self._frames[1 + int((times[2:] - times[:-2]).argmin())]  # close to its neighbours: missed least

    def cut(self, time: float) -> list[Piece]:
        """Ends the shot; gives its last pieces. What lies between two pieces belongs to the first."""
        pieces = self._close(split_long([(self._shot, time)], self._longest))
        self._last = None
        return pieces

    def advance(self, certain: float) -> list[Piece]:
        """Gives the pieces that cannot change any more, all cuts up to ``certain`` seconds being known."""
        self._certain = certain
        pieces = []
        while certain - self._shot >= 1.5 * self._longest:
            pieces += self._close([(self._shot, self._shot + self._longest)])
        return pieces

    def finish(self, end: float) -> list[Piece]:
        """Gives the last pieces of a video of ``end`` seconds; the last of all may end before it, if frames lack."""
        return self.cut(end) if end > self._shot else []

    def _close(self, spans: list[tuple[float, float]]) -> list[Piece]:
        pieces = []
        for _, end in spans:
            count = sum(frame.time < end - TOLERANCE for frame in self._frames)
            inside, self._frames = self._frames[:count], self._frames[count:]
            self._shot = end
            if inside:
                chosen = np.linspace(0, count - 1, min(count, self._most)).round().astype(int)
                if (
                    self._last is not None and inside[0].time - self._last > self._longest
                ):  # the last one stood till now
                    self._start = inside[0].time
                pieces.append(Piece(self._start, end, tuple(inside[index] for index in chosen)))
                self._last = inside[-1].time
            if self._last is not None:
                self._start = end
        return pieces


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """Segments of which no neighbours say the same.

    Two captions say the same if they consist of the same words but for function words ("a", "is", "on"). The surer
    caption stays, and the picture with it.
    """
    result: list[Segment] = []
    for segment in segments:
        if result and result[-1].end == segment.start and _content(result[-1].caption) == _content(segment.caption):
            before = result.pop()
            surer = max(before, segment, key=lambda one: one.caption.confidence)
            segment = replace(surer, start=before.start, end=segment.end)
        result.append(segment)
    return result


def _content(caption: Caption) -> tuple[str, ...]:
    return tuple(word.text for word in caption.words if word.text not in FUNCTION_WORDS)


def labels_between(
    windows: Sequence[Window], start: float, end: float, threshold: float
) -> tuple[tuple[str, float], ...]:
    """Labels of a stretch of a video: the windows' probabilities, averaged by how long each overlaps it.

    The probabilities are those of a label with the possibility that nothing known happens.

    Args:
        windows: From the classifier.
        start: Seconds.
        end: Seconds.
        threshold: Probability that a label needs.

    Returns:
        (label, probability), most likely first; at most three, none below the threshold.
    """
    overlaps = [(min(end, window.end) - max(start, window.start), window) for window in windows]
    overlaps = [(seconds, window) for seconds, window in overlaps if seconds > 0]
    total = sum(seconds for seconds, _ in overlaps)
    names = overlaps[0][1].probabilities if overlaps else ()
    overlaps = [(s * (1.0 if window.known is None else window.known), window) for s, window in overlaps]
    means = {name: sum(s * window.probabilities[name] for s, window in overlaps) / total for name in names}
    likely = sorted(((name, p) for name, p in means.items() if p >= threshold), key=lambda pair: -pair[1])
    return tuple(likely[:_MOST_LABELS])
