"""Cutting a video into sliding windows, and measuring a window, frame by frame in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from msgspec import Meta

from captioner.clips.frames import PLAIN, Encode, View, measure_region
from captioner.clips.head import frame_inputs, grid_change
from captioner.clips.known import SCENE, SCENE_FRAMES
from captioner.clips.local_motion import LOCAL_MOTION, LocalMotionMeter, mirrored_cells
from captioner.clips.motion import MotionMeter, mirrored
from captioner.errors import CaptionerError
from captioner.media.clock import TOLERANCE
from captioner.media.images import read_image
from captioner.schema import Share, check_fields

MOST_FRAMES = 1000
"""Limit on the frames of a window, which are in memory together."""
MOST_OVERLAPS = 100
"""Limit on the windows that a moment lies in: each is computed by itself."""

# Anything smaller than the tolerance would cut windows without end out of a single frame's time.
Seconds = Annotated[float, Meta(ge=TOLERANCE, le=86400)]

_KEPT_SIDE = 480  # frames kept for the region are made no smaller than this on their shorter side


@dataclass(frozen=True)
class WindowOptions:
    """How a video is cut into windows, and when a window has a label.

    Attributes:
        interval: Seconds between the frames that are looked at.
        window: Length of a window in seconds.
        stride: Seconds from the start of a window to the start of the next.
        threshold: Probability below which nothing known happens, 0..1.

    Raises:
        CaptionerError: A value is out of bounds, the stride exceeds the window, a window has more than `MOST_FRAMES` or
            overlaps more than `MOST_OVERLAPS` others (``kind="usage"``).
    """

    interval: Seconds
    window: Seconds
    stride: Seconds
    threshold: Share = 0.0

    def __post_init__(self):
        check_fields(self)
        if self.stride > self.window:
            raise CaptionerError(
                f"stride ({self.stride:g} s) must not exceed window ({self.window:g} s), or parts would never be seen",
                kind="usage",
            )
        if self.window / self.interval > MOST_FRAMES:
            raise CaptionerError(
                f"window ({self.window:g} s) must hold at most {MOST_FRAMES} frames, {self.interval:g} s apart",
                kind="usage",
            )
        if self.window / self.stride > MOST_OVERLAPS:
            raise CaptionerError(
                f"stride ({self.stride:g} s) must be at least a {MOST_OVERLAPS}th of window ({self.window:g} s)",
                kind="usage",
            )


@dataclass
class Sample:
    """A frame while a window may still need it.

    Attributes:
        time: Seconds.
        image: RGB uint8: squashed to the encoder's square, or in its own shape where regions are looked at.
        motion: Motion vector since the frame before, where it is wanted.
        cells: How things moved place by place since then, where it is wanted; see `captioner.clips.local_motion`.
        unrest: Where motion changed, where regions are looked at; see `captioner.clips.motion.MotionMeter`.
        grid: Grid (positions, C), once known.
        pooled: Pooled embedding (C,), once known.
        number: Of the frame, where its measurements lie elsewhere.
    """

    time: float
    image: np.ndarray | None = None
    motion: np.ndarray | None = None
    cells: np.ndarray | None = None
    unrest: np.ndarray | None = None
    grid: np.ndarray | None = None
    pooled: np.ndarray | None = None
    number: int | None = None


@dataclass
class WindowCutter:
    """Cuts a stream of samples into windows, keeping no more than one window's samples.

    Windows start at the first sample, ``stride`` later, 2 ``stride`` later...; where the video's end leaves a rest that
    no window covers, one more window ends there. A video that is shorter than a window is one window.

    Args:
        options: Length and stride.
    """

    options: WindowOptions
    samples: list[Sample] = field(default_factory=list)
    first: float | None = None
    start: float = 0.0
    covered: float = 0.0

    def push(self, sample: Sample) -> Iterable[tuple[float, float, list[Sample]]]:
        """Takes a sample; gives (start, end, samples) of every window that it completes."""
        window, stride = self.options.window, self.options.stride
        if self.first is None:
            self.first = self.start = sample.time
        while sample.time >= self.start + window - TOLERANCE:
            inside = self._between(self.start, self.start + window)
            if inside:
                yield self.start, self.start + window, inside
                self.covered = self.start + window
            self.start += stride
            if not inside:  # a gap in the video: go on where it does
                self.start += max(0, math.floor((sample.time - window - self.start) / stride)) * stride
        self.samples.append(sample)
        oldest = min(self.start, sample.time - window) - TOLERANCE
        self.samples = [kept for kept in self.samples if kept.time >= oldest]

    def finish(self, duration: float) -> Iterable[tuple[float, float, list[Sample]]]:
        """Gives the last window of a video of that many seconds."""
        if not self.samples:
            return
        end = max(duration, self.samples[-1].time)
        if self.samples[-1].time >= self.covered - TOLERANCE or not self.covered:
            start = max(self.first, end - self.options.window)
            inside = self._between(start, end + 1) or self.samples[-1:]
            yield min(start, inside[0].time), max(end, start + TOLERANCE), inside

    def _between(self, start: float, end: float) -> list[Sample]:
        return [sample for sample in self.samples if start - TOLERANCE <= sample.time < end - TOLERANCE]


class WindowSampler:
    """Takes the frames of a video and gives windows of samples.

    Args:
        options: Interval between the frames, length and stride of the windows.
        streams: What the head looks at; see `captioner.clips.ridge.RidgeConfig`.
        region: Whether it looks at regions.
    """

    def __init__(self, options: WindowOptions, streams: Sequence[str], region: bool):
        self.options = options
        self.region = region
        self._cutter = WindowCutter(options)
        self._meter = MotionMeter() if region or "motion" in streams else None
        self._local_meter = LocalMotionMeter() if LOCAL_MOTION in streams else None
        self._time = 0.0

    def push(self, time: float, image: np.ndarray, encoded=None) -> list[tuple[float, float, list[Sample]]]:
        """Takes a frame that is due; gives (start, end, samples) of the windows that it completes.

        Args:
            time: Seconds, rising.
            image: RGB uint8: the encoder's square, or the whole frame where regions are looked at.
            encoded: Grid (positions, C) and pooled embedding (C,), where they are known.
        """
        self._time = time
        sample = Sample(time, _shrunk(image) if self.region else image)
        if self._meter and self.region:  # motion is measured on the region, once that is known
            self._meter.follow(time, image)
            sample.unrest = self._meter.unrest
        elif self._meter:
            sample.motion = self._meter.push(time, image)
        if self._local_meter:
            sample.cells = self._local_meter.push(time, image)
        if encoded is not None and not self.region:
            sample.grid, sample.pooled = encoded
        return list(self._cutter.push(sample))

    def finish(self, duration: float | None = None) -> list[tuple[float, float, list[Sample]]]:
        """The last window of a video of that many seconds; None is up to the last frame."""
        return list(self._cutter.finish(self._time if duration is None else duration))


def measure_window(
    samples: Sequence[Sample],
    encode: Encode,
    *,
    streams: Sequence[str],
    region: bool,
    image_size: int,
    view: View = PLAIN,
) -> dict[str, np.ndarray]:
    """Inputs of the head for one window.

    Args:
        samples: From `WindowSampler`, at least one.
        encode: The encoder; called for what is not known yet.
        streams: What to measure.
        region: Whether to look at the region where something moves.
        image_size: Input size of the encoder.
        view: How to look at it; without ``region`` only its ``flip`` matters.

    Returns:
        See `captioner.clips.head.frame_inputs`; ``local_motion`` has the cells (T - 1, rows, columns, CELL_SIZE)
        of all frames but the first, and ``scene`` the pooled embeddings (frames, C) of all or some frames, both always
        of the whole frame.
    """
    vectors = [name for name in streams if name != LOCAL_MOTION]
    if region:
        inputs = measure_region(
            [sample.time for sample in samples],
            [sample.image for sample in samples],
            [sample.unrest for sample in samples[1:]],
            encode,
            image_size=image_size,
            streams=[name for name in vectors if name != SCENE],
            view=view,
        )
        if SCENE in streams:
            inputs[SCENE] = _encode_scene(samples, encode, image_size, view)
    else:
        inputs = _measure_whole(samples, encode, vectors, view)
    if LOCAL_MOTION in streams:
        cells = np.stack([sample.cells for sample in samples])[1:]
        inputs[LOCAL_MOTION] = mirrored_cells(cells) if view.flip else cells
    return inputs


def _encode_scene(samples: Sequence[Sample], encode: Encode, image_size: int, view: View) -> np.ndarray:
    """Pooled embeddings of some whole frames, evenly spread."""
    rows = np.linspace(0, len(samples) - 1, min(SCENE_FRAMES, len(samples))).round().astype(int)
    squares = np.stack([read_image(samples[row].image, size=image_size) for row in rows])
    return encode(np.ascontiguousarray(squares[:, :, ::-1]) if view.flip else squares)[1]


def _measure_whole(samples: Sequence[Sample], encode: Encode, streams: Sequence[str], view: View):
    """Inputs from the whole frames."""
    if view.flip:
        grids, pooled = encode(np.stack([sample.image[:, ::-1] for sample in samples]))
        grids = grids.reshape(len(grids), -1, grids.shape[-1])
    else:
        _encode_missing(samples, encode)
        pooled = np.stack([sample.pooled for sample in samples])
        grids = np.stack([sample.grid for sample in samples]) if "grid_change" in streams else None
    motion = None
    if "motion" in streams:
        motion = np.stack([sample.motion for sample in samples])
        motion = mirrored(motion) if view.flip else motion
    return window_inputs(streams, pooled, motion, grids)


def window_inputs(
    streams: Sequence[str], pooled: np.ndarray, motion: np.ndarray | None, grids: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Inputs of the network for one window from (T, C), (T, MOTION_SIZE) and (T, positions, C).

    A window knows nothing of what was before it, so its first frame has no motion.
    """
    if motion is not None:
        motion = np.concatenate([np.zeros_like(motion[:1]), motion[1:]])
    changes = None
    if grids is not None and "grid_change" in streams:
        grids = grids.reshape(len(grids), -1, grids.shape[-1])
        changes = np.concatenate([np.zeros_like(pooled[:1], np.float32), grid_change(grids[:-1], grids[1:])])
    inputs = frame_inputs([name for name in streams if name != SCENE], pooled, motion, changes)
    return inputs | ({SCENE: np.asarray(pooled, np.float32)} if SCENE in streams else {})


def _encode_missing(samples: Sequence[Sample], encode: Encode) -> None:
    missing = [sample for sample in samples if sample.pooled is None]
    if missing:
        grids, pooled = encode(np.stack([sample.image for sample in missing]))
        for sample, grid, vector in zip(missing, grids, pooled, strict=True):
            sample.grid, sample.pooled = grid.reshape(-1, grid.shape[-1]), vector


def _shrunk(image: np.ndarray) -> np.ndarray:
    """The frame with its shorter side at most `_KEPT_SIDE`: a window of large frames would fill the memory."""
    import cv2

    height, width = image.shape[:2]
    scale = _KEPT_SIDE / min(height, width)
    if scale >= 1:
        return image
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
