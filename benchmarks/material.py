"""Photos and videos to measure with, made from the real photographs inside scikit-image; nothing is downloaded."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from captioner.media.images import read_image


@functools.cache
def _photographs() -> list[np.ndarray]:
    from skimage import data

    return [read_image(getattr(data, name)()) for name in ("chelsea", "coffee", "astronaut", "rocket")]


def _cut(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A random part of a photograph at the asked size."""
    photo = _photographs()[rng.integers(len(_photographs()))]
    share = rng.uniform(0.5, 1.0)
    h, w = (int(side * share) for side in photo.shape[:2])
    top, left = rng.integers(photo.shape[0] - h + 1), rng.integers(photo.shape[1] - w + 1)
    part = photo[top : top + h, left : left + w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)


def photos(folder: Path, count: int, width: int = 640, height: int = 480) -> list[str]:
    """JPEG files of quality 90, all different; those that exist are used again."""
    folder = folder / f"photos-{width}x{height}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            Image.fromarray(_cut(np.random.default_rng(number), width, height)).save(path, quality=90)
    return [str(path) for path in paths]


def video(folder: Path, seconds: float, width: int = 320, height: int = 240, fps: int = 25) -> str:
    """An MPEG-4 file that pans over photographs, with a cut every four seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{width}x{height}-{fps}-{seconds:g}s.mp4"
    if path.exists():
        return str(path)
    partial = path.with_name("partial.mp4")
    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise RuntimeError("this build of OpenCV cannot write MPEG-4 files")
    for number in range(round(seconds * fps)):
        shot, frame = divmod(number, 4 * fps)
        if frame == 0:
            scene = _cut(np.random.default_rng(shot), width + 4 * fps, height)
        writer.write(np.ascontiguousarray(scene[:, frame : frame + width, ::-1]))
    writer.release()
    partial.replace(path)
    return str(path)
