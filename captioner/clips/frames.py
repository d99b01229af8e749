"""Frames of a clip to the measurements that the clip network reads: where to look, embeddings, changes, motion.

A network either looks at whole frames, whose embeddings captioning needs anyway, or at the square region of the window
in which something moves. In surveillance pictures people are small, and what they do hardly shows in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.clips.head import frame_inputs, grid_change
from captioner.clips.motion import GREY_SIZE, MotionMeter, mirrored

Encode = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Images uint8 (N, S, S, 3) to grids (N, positions, C) and pooled embeddings (N, C)."""

REGION_SHARE = 0.6
"""Share of a window's unrest that the region holds."""
SMALLEST_REGION = 0.4
"""Smallest side of the region, as a share of the frame's shorter side."""
_ROWS = 56  # resolution of the search for the region


@dataclass(frozen=True)
class Box:
    """A square part of the frame, in pixels."""

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class View:
    """Another way to look at a clip, to train on: mirrored, and with the region zoomed and shifted.

    Attributes:
        flip: Whether left and right change places.
        zoom: Side of the region relative to the one found.
        shift: Shift of the region (right, down), as a share of its side.
    """

    flip: bool = False
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def apply(self, box: Box, width: int, height: int) -> Box:
        """The box of this view, moved into the frame."""
        side = int(np.clip(round(box.side * self.zoom), 8, min(width, height)))
        left = box.left + (box.side - side) / 2 + self.shift[0] * box.side
        top = box.top + (box.side - side) / 2 + self.shift[1] * box.side
        return Box(int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side)), side)


PLAIN = View()


def moving_region(unrest: Sequence[np.ndarray], width: int, height: int) -> Box:
    """The smallest square that holds most of what moves irregularly in a window.

    Args:
        unrest: From `MotionMeter.unrest`, frame by frame, each (GREY_SIZE, GREY_SIZE).
        width: Of the frames, in pixels.
        height: Of the frames, in pixels.

    Returns:
        The square with `REGION_SHARE` of the unrest, at least `SMALLEST_REGION` of the shorter side; the central square
        of full height (or width) where nothing moves.
    """
    import cv2

    shorter = min(width, height)
    central = Box((width - shorter) // 2, (height - shorter) // 2, shorter)
    if not unrest:
        return central
    energy = np.stack(unrest)
    energy = np.minimum(energy, np.quantile(energy[:, ::2, ::2], 0.995)).mean(axis=0)
    energy = np.maximum(energy - np.median(energy), 0)
    total = float(energy.sum())
    if total <= 1e-6 * GREY_SIZE**2:
        return central
    pixel = shorter / _ROWS
    columns, rows = max(_ROWS, round(width / pixel)), max(_ROWS, round(height / pixel))
    energy = cv2.resize(energy, (columns, rows), interpolation=cv2.INTER_AREA)
    sums = cv2.integral(energy / energy.sum())
    for side in range(round(SMALLEST_REGION * _ROWS), _ROWS + 1, 2):
        held = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        top, left = np.unravel_index(held.argmax(), held.shape)
        if held[top, left] >= REGION_SHARE:
            break
    return PLAIN.apply(Box(round(left * pixel), round(top * pixel), round(side * pixel)), width, height)


def measure_region(
    times: Sequence[float],
    images: Sequence[np.ndarray],
    unrest: Sequence[np.ndarray],
    encode: Encode,
    *,
    image_size: int,
    streams: Sequence[str],
    view: View = PLAIN,
) -> dict[str, np.ndarray]:
    """Measurements of a window on the region where something moves.

    Args:
        times: Seconds, (T,).
        images: RGB uint8 frames, each (H, W, 3).
        unrest: From `MotionMeter.unrest`, of all frames but the first.
        encode: The encoder.
        image_size: S, its input size.
        streams: What to measure; see `captioner.clips.head.ClipConfig`.
        view: How to look at it.

    Returns:
        From `captioner.clips.head.frame_inputs`.
    """
    import cv2

    height, width = images[0].shape[:2]
    box = view.apply(moving_region(unrest, width, height), width, height)
    method = cv2.INTER_AREA if box.side > image_size else cv2.INTER_LINEAR
    crops = [image[box.top : box.top + box.side, box.left : box.left + box.side] for image in images]
    squares = np.stack([cv2.resize(crop, (image_size, image_size), interpolation=method) for crop in crops])
    return measure_frames(times, squares, encode, streams=streams, flip=view.flip)


def measure_frames(
    times: Sequence[float], squares: np.ndarray, encode: Encode, *, streams: Sequence[str], flip: bool = False
) -> dict[str, np.ndarray]:
    """Measurements of a window on square images (T, S, S, 3); see `measure_region`."""
    motion = None
    if "motion" in streams:
        meter = MotionMeter()
        motion = np.stack([meter.push(time, square) for time, square in zip(times, squares, strict=True)])
        motion = mirrored(motion) if flip else motion
    grids, pooled = encode(np.ascontiguousarray(squares[:, :, ::-1]) if flip else squares)
    change = None
    if "grid_change" in streams:
        grids = grids.reshape(len(grids), -1, grids.shape[-1])
        change = np.concatenate([np.zeros_like(pooled[:1], np.float32), grid_change(grids[:-1], grids[1:])])
    return frame_inputs(streams, pooled, motion, change)
