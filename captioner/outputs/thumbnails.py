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
    return _jpeg(Image.fromarray(image), width)


def smaller(thumbnail: str, width: int) -> str | None:
    """A base64 JPEG made smaller; None if it is no picture.

    Args:
        thumbnail: As records carry it.
        width: Greatest width and height in pixels.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(thumbnail, validate=True)), formats=["JPEG"]) as picture:
            return base64.b64encode(_jpeg(picture, width)).decode("ascii")
    except (binascii.Error, ValueError, OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _jpeg(picture: Image.Image, width: int) -> bytes:
    picture = picture.convert("RGB")
    picture.thumbnail((width, width), reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
