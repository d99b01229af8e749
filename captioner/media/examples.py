"""Photos and a film to try things on: photographs inside scikit-image, and a film made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.media.images import read_image

_PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")
_SECONDS, _RATE, _SIZE = 3, 10, (320, 240)  # of each photo in the film, frames a second, pixels


def example_photos() -> list[str]:
    """Paths of photographs inside scikit-image.

    Raises:
        CaptionerError: scikit-image is not installed (``kind="missing"``).
    """
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        message = 'the examples are in scikit-image; install it: pip install "captioner[demo]"'
        raise CaptionerError(message, kind="missing")
    return [os.path.join(spec.submodule_search_locations[0], "data", name) for name in _PHOTOS]


def example_film(photos: Sequence[str], path: str | os.PathLike) -> Path:
    """Makes a film that shows photos one after the other, each coming nearer, in a format that browsers play.

    Args:
        photos: Paths.
        path: The film; its name ends in ``.webm``.

    Raises:
        ImageReadError: A photo cannot be read.
    """
    import av
    import cv2

    with av.open(str(path), "w") as film:
        quick = {"deadline": "good", "cpu-used": "5", "threads": "1"}  # in real time, films would differ
        stream = film.add_stream("libvpx", _RATE, quick, width=_SIZE[0], height=_SIZE[1], bit_rate=500_000)
        for photo in photos:
            image = read_image(photo)
            for number in range(_SECONDS * _RATE):
                margin = [side * number // (10 * _SECONDS * _RATE) for side in image.shape[:2]]
                inside = image[margin[0] : len(image) - margin[0], margin[1] : image.shape[1] - margin[1]]
                picture = cv2.resize(inside, _SIZE, interpolation=cv2.INTER_AREA)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        film.mux(stream.encode())
    return Path(path)
