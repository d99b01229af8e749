"""Photos changed a little each time they are trained on, so that an encoder cannot learn a few thousand by heart."""

from __future__ import annotations

import numpy as np


def augment_photo(image: np.ndarray, rng: np.random.Generator, flip_allowed: bool) -> np.ndarray:
    """A photo as it might have been taken: cropped by up to 25 %, flipped, in slightly other light.

    Args:
        image: uint8 (S, S, 3).
        rng: Source of chance.
        flip_allowed: False where a caption says left or right.

    Returns:
        uint8 (S, S, 3).
    """
    import cv2

    side = image.shape[0]
    # Height and width are cut independently, which also varies the proportions.
    height, width = (side - rng.integers(0, round(side * 0.25) + 1, size=2)).tolist()
    top = int(rng.integers(0, side - height + 1))
    left = int(rng.integers(0, side - width + 1))
    image = cv2.resize(image[top : top + height, left : left + width], (side, side), interpolation=cv2.INTER_LINEAR)
    if flip_allowed and rng.random() < 0.5:
        image = image[:, ::-1]
    brightness, contrast, saturation = rng.uniform(-30, 30), rng.uniform(0.8, 1.2), rng.uniform(0.7, 1.3)
    image = image.astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + saturation * (image - grey)
    image = (image - 127) * contrast + 127 + brightness
    return np.clip(image, 0, 255).astype(np.uint8)


def augment_photo_strongly(image: np.ndarray, rng: np.random.Generator, flip_allowed: bool) -> np.ndarray:
    """`augment_photo`, and often turned and sheared a little, made coarse, or with a part covered.

    The cover (random erasing, Zhong et al. 2020) takes 3 to 15 % of the photo, the turn is at most 10 degrees.

    Args:
        image: uint8 (S, S, 3).
        rng: Source of chance.
        flip_allowed: False where a caption says left or right.

    Returns:
        uint8 (S, S, 3).
    """
    import cv2

    side = image.shape[0]
    if rng.random() < 0.5:
        image = _turned(image, np.deg2rad(rng.uniform(-10, 10)), rng.uniform(-0.1, 0.1))
    image = augment_photo(image, rng, flip_allowed)
    if rng.random() < 0.25:
        coarse = max(8, int(side * rng.uniform(0.4, 0.9)))
        image = cv2.resize(image, (coarse, coarse), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        area, proportion = rng.uniform(0.03, 0.15), np.exp(rng.uniform(-0.8, 0.8))
        height, width = (int(side * min(0.6, np.sqrt(area * p))) for p in (proportion, 1 / proportion))
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        image = image.copy()
        image[top : top + height, left : left + width] = rng.integers(0, 256, size=3)
    return image


def _turned(image: np.ndarray, angle: float, shear: float) -> np.ndarray:
    """Turned and sheared around its middle; what comes in from outside is a reflection."""
    import cv2

    side = image.shape[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, shear - sine], [sine, cosine]])
    middle = np.full(2, side / 2)
    matrix = np.concatenate([turn, (middle - turn @ middle)[:, None]], axis=1)
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
