"""What moves between two frames: optical flow and brightness changes summed up in a short vector.

Dense inverse search flow (Kroeger et al. 2016, OpenCV) on small grey frames, less the motion of the camera, is averaged
over the cells of a grid. Where in the picture something moves says little about what happens, so the cells are sorted:
the vector tells how much moves, in how many places, how evenly and how suddenly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GREY_SIZE = 112
"""Side of the grey frames in pixels."""
CELLS = 7
"""Cells a side."""
TOP = 6
"""How many of the sorted cells are kept."""
BINS = 8
"""Directions of the histogram, from rightwards, clockwise on the screen."""
_QUANTITIES = ("speed", "disorder", "coherence", "acceleration", "brightness")
MOTION_SIZE = len(_QUANTITIES) * (TOP + 2) + BINS + 1
"""Length of the vector: top cells, mean and spread of each quantity, the directions, the camera's speed."""
_FLOOR = 0.02  # sides a second: below it lies the noise of the flow


class _Step(NamedTuple):
    """What `MotionMeter` knows of the step from one frame to the next."""

    flow: np.ndarray
    earlier: np.ndarray | None
    camera: np.ndarray
    before: np.ndarray
    after: np.ndarray
    seconds: float


class MotionMeter:
    """Measures the motion of a video fed frame by frame.

    Nothing but the last frame and its flow is kept, so a video of any length takes the same memory.

    Attributes:
        unrest: Where motion changed since the frame before: float32 (GREY_SIZE, GREY_SIZE), length of the difference of
            the two flows in sides a second, without the motion of the camera; the speed itself where there is one flow
            so far, None where there is none. Somebody who walks on leaves less unrest than people who struggle.
    """

    def __init__(self):
        import cv2

        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grey = None
        self._time = 0.0
        self.unrest = None
        self._before = None

    def follow(self, time: float, image: np.ndarray) -> _Step | None:
        """Takes a frame for `unrest` alone, which spares what else `push` computes; None for the first one."""
        import cv2

        small = cv2.resize(image, (GREY_SIZE, GREY_SIZE), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        before, self._grey = self._grey, grey
        seconds, self._time = max(time - self._time, 1e-3), time
        if before is None:
            return None
        flow = self._flow.calc(before, grey, None) / np.float32(GREY_SIZE * seconds)
        camera = np.median(flow[::4, ::4].reshape(-1, 2), axis=0)
        flow -= camera
        earlier, self._before = self._before, flow
        change = flow if earlier is None else flow - earlier
        self.unrest = cv2.magnitude(change[..., 0], change[..., 1])
        return _Step(flow, earlier, camera, before, grey, seconds)

    def push(self, time: float, image: np.ndarray) -> np.ndarray:
        """Motion since the frame before.

        Args:
            time: Seconds.
            image: RGB uint8 (H, W, 3), the whole frame squashed to a square or not.

        Returns:
            float32 (MOTION_SIZE,): logarithms of speeds in frame sides a second, except for the directions, which are
            shares. All zero for the first frame.
        """
        import cv2

        step = self.follow(time, image)
        if step is None:
            return np.zeros(MOTION_SIZE, np.float32)
        flow = step.flow
        speed = np.hypot(flow[..., 0], flow[..., 1])
        slower = speed if step.earlier is None else np.hypot(step.earlier[..., 0], step.earlier[..., 1])
        mean = _cells(speed)
        direction = _cells(flow)
        brightness = cv2.absdiff(step.before, step.after).astype(np.float32) / np.float32(255 * 4 * step.seconds)
        quantities = {
            "speed": mean,
            "disorder": np.sqrt(np.maximum(_cells(speed * speed) - np.square(direction).sum(-1), 0)),
            "coherence": np.hypot(direction[..., 0], direction[..., 1]),
            "acceleration": np.abs(mean - _cells(slower)),
            "brightness": _cells(brightness),
        }
        parts = []
        for name in _QUANTITIES:
            values = np.sort(quantities[name], axis=None)[::-1]
            parts.append(_logarithm(np.array([*values[:TOP], values.mean(), values.std()])))
        angle = np.arctan2(flow[..., 1], flow[..., 0])
        number = np.floor(angle / (2 * np.pi) * BINS + 0.5).astype(int) % BINS
        shares = np.bincount(number.ravel(), weights=speed.ravel(), minlength=BINS)
        parts.append(shares / max(float(speed.sum()), _FLOOR * speed.size))
        parts.append(_logarithm(np.array([np.hypot(*step.camera)])))
        return np.concatenate(parts).astype(np.float32)


def mirrored(motion: np.ndarray) -> np.ndarray:
    """Motion vectors (..., MOTION_SIZE) of the video whose left and right have changed places."""
    swapped = motion.copy()
    first = MOTION_SIZE - 1 - BINS
    swapped[..., first : first + BINS] = motion[..., first + (BINS // 2 - np.arange(BINS)) % BINS]
    return swapped


def _cells(values: np.ndarray) -> np.ndarray:
    """Averages (S, S) or (S, S, n) over the cells of the grid."""
    import cv2

    return cv2.resize(values, (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def _logarithm(speed: np.ndarray) -> np.ndarray:
    """0 at rest, rising by 1 whenever the speed grows e-fold, well above the noise."""
    return np.log1p(speed / _FLOOR)
