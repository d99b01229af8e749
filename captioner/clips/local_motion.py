"""How things move, place by place: histograms of motion boundaries and of contours in small blocks of space and time.

Motion boundaries are where the optical flow changes from one place to the next, such as at limbs that move against the
body (motion boundary histograms, MBH: Dalal et al. 2006, Wang et al. 2013); contours are those of what moves there
(HOG: Dalal & Triggs 2005). A camera that pans evenly leaves neither. `captioner.clips.ridge` sums the blocks of a
window up.
"""

from __future__ import annotations

import numpy as np

LOCAL_MOTION = "local_motion"
"""Name of the stream: the cells of a window, where the other streams have a vector for each frame."""
CELL = 8
"""Side of a cell in pixels of the small grey frame."""
ROWS = 15
"""Cells along the frame's shorter side."""
MOST_COLUMNS = 40
"""Cells along its longer side at most; longer frames are squashed."""
BINS = 8
"""Directions of each histogram, from rightwards, clockwise on the screen."""
_FIELDS = 3  # boundaries of the horizontal and of the vertical flow, contours
CELL_SIZE = 1 + _FIELDS * BINS
"""Values of a cell: its speed in sides a second, and a histogram of each field."""
LENGTH = 6
"""Frames of a block, in three parts of two; the next begins two frames later. Slower blocks have twice as many."""
SLOWEST = 0.015
"""Average speed of a block in sides a second, below which nothing moves there."""
DESCRIPTORS = {"boundaries": slice(1, 1 + 2 * BINS), "contours": slice(1 + 2 * BINS, CELL_SIZE)}
"""Kinds of descriptors, and which values of a cell they are made of."""
_PARTS, _CORNERS = 3, 4  # of a block: in time, and two by two cells


def descriptor_size(kind: str) -> int:
    """Length of a descriptor of that kind."""
    part = DESCRIPTORS[kind]
    return _PARTS * _CORNERS * (part.stop - part.start)


class LocalMotionMeter:
    """Measures the cells of a video fed frame by frame, keeping nothing but the last frame."""

    def __init__(self):
        import cv2

        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1)  # half the resolution, where the preset takes a quarter: limbs are small
        self._grey = None
        self._time = 0.0

    def push(self, time: float, image: np.ndarray) -> np.ndarray:
        """The cells since the frame before.

        Args:
            time: Seconds.
            image: RGB uint8 (H, W, 3).

        Returns:
            float32 (rows, columns, CELL_SIZE), `ROWS` along the shorter side of the video's first frame. All zero for
            that frame.
        """
        import cv2

        height, width = image.shape[:2]
        if self._grey is None:
            pixel = min(height, width) / ROWS
            rows, columns = (min(MOST_COLUMNS, round(side / pixel)) for side in (height, width))
            size = (columns * CELL, rows * CELL)
        else:  # a frame of another shape is squashed to that of the first
            size = self._grey.shape[::-1]
        method = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
        grey = cv2.cvtColor(cv2.resize(image, size, interpolation=method), cv2.COLOR_RGB2GRAY)
        before, self._grey = self._grey, grey
        seconds, self._time = max(time - self._time, 1e-3), time
        if before is None:
            return np.zeros((size[1] // CELL, size[0] // CELL, CELL_SIZE), np.float32)
        flow = self._flow.calc(before, grey, None) / np.float32(ROWS * CELL * seconds)
        flow -= np.median(flow[::4, ::4].reshape(-1, 2), axis=0)  # the camera's own motion
        right, down = cv2.split(cv2.GaussianBlur(flow, (0, 0), 1))
        fields = [_slopes(right), _slopes(down), _slopes(grey)]
        speed = cv2.magnitude(right, down)
        speed = cv2.resize(speed, (size[0] // CELL, size[1] // CELL), interpolation=cv2.INTER_AREA)
        return np.concatenate([speed[..., None], *(_histograms(*field) for field in fields)], axis=-1)


def mirrored_cells(cells: np.ndarray) -> np.ndarray:
    """Cells (..., rows, columns, CELL_SIZE) of the video whose left and right have changed places."""
    turned = np.arange(BINS)
    # What is measured of the horizontal flow changes its sign as well as its direction.
    order = [(-turned) % BINS, (BINS // 2 - turned) % BINS, (BINS // 2 - turned) % BINS]
    columns = [0, *(1 + BINS * field + bins for field in range(_FIELDS) for bins in order[field])]
    return cells[..., ::-1, :][..., columns]


def local_descriptors(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Descriptors of the blocks in which something moves.

    Args:
        cells: Of the frames of a window, (T, rows, columns, CELL_SIZE); T may be 0.

    Returns:
        Kind to float32 (blocks, `descriptor_size`): square roots of shares, the same number of each kind.
    """
    if 0 < len(cells) < LENGTH:  # a short clip is stretched
        cells = cells[np.linspace(0, len(cells) - 1, LENGTH).round().astype(int)]
    pairs = _pairs(cells.astype(np.float32))
    blocks = _blocks(pairs)
    if len(pairs) >= LENGTH:
        blocks = np.concatenate([blocks, _blocks(_pairs(pairs))])
    found = {}
    for kind, part in DESCRIPTORS.items():
        values = blocks[:, :, part].reshape(len(blocks), descriptor_size(kind))
        found[kind] = np.sqrt(values / (values.sum(axis=1, keepdims=True) + 1e-12))
    return found


def _pairs(cells: np.ndarray) -> np.ndarray:
    """Averages of every two frames."""
    return cells[: len(cells) // 2 * 2].reshape(-1, 2, *cells.shape[1:]).mean(axis=1)


def _blocks(parts: np.ndarray) -> np.ndarray:
    """Blocks (N, parts and corners, values) in which something moves, of the parts (P, rows, columns, values)."""
    count = max(0, len(parts) - _PARTS + 1)
    rows, columns = (side - 1 for side in parts.shape[1:3])
    corners = [(down, right) for down in (0, 1) for right in (0, 1)]
    blocks = np.stack(
        [parts[p : p + count, d : d + rows, r : r + columns] for p in range(_PARTS) for d, r in corners], axis=3
    )
    return blocks[blocks[..., 0].mean(axis=3) > SLOWEST]


def _slopes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of (H, W) to the right and downwards."""
    import cv2

    return cv2.Sobel(values, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(values, cv2.CV_32F, 0, 1, scale=1 / 8)


def _histograms(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Histograms of directions (rows, columns, BINS), weighted by length."""
    import cv2

    length, angle = cv2.cartToPolar(right, down)
    bins = (angle * np.float32(BINS / (2 * np.pi)) + np.float32(0.5)).astype(np.intp) % BINS
    height, width = (side // CELL for side in length.shape)
    rows, columns = np.arange(length.shape[0]) // CELL, np.arange(length.shape[1]) // CELL
    number = (rows[:, None] * width + columns) * BINS + bins
    sums = np.bincount(number.ravel(), length.ravel(), height * width * BINS)
    return (sums / CELL**2).astype(np.float32).reshape(height, width, BINS)
