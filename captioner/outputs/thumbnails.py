"""Small pictures for pages: RGB arrays to JPEG."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

WIDTH = 320
"""Greatest width and height of a picture in a record, in pixels."""

_QUALITY = 75


def thumbnail(image: np.ndarray, width: int = WIDTH) -> bytes:
    """An image as a small JPEG of the same shape, never enlarged.

    Args:
        image: uint8 RGB, (height, width, 3).
        width: Greatest width and height in pixels.
    """
    import cv2

    height, breadth = image.shape[:2]
    factor = min(1.0, width / max(height, breadth))
    if factor < 1:
        size = (max(1, round(breadth * factor)), max(1, round(height * factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def smaller(encoded: str, width: int) -> str | None:
    """A base64 JPEG made smaller; None if it is no picture.

    Args:
        encoded: As records carry it.
        width: Greatest width and height in pixels.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["JPEG"]) as picture:
            return base64.b64encode(thumbnail(np.asarray(picture.convert("RGB")), width)).decode("ascii")
    except (binascii.Error, ValueError, OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
