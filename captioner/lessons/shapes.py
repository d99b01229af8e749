"""Small data sets made by code: pictures of coloured shapes with captions, and clips of a shape that changes.

They are for trying out a training in a minute or two: everything in them is known, nothing has to be downloaded, and a
model that does not learn them has a fault. The folders have layouts that `captioner.training.captions.data` and
`captioner.training.clips.data` read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.atomic import write_atomic

COLOURS = {
    "red": (205, 45, 45),
    "green": (40, 150, 70),
    "blue": (45, 90, 210),
    "yellow": (235, 200, 40),
    "purple": (135, 60, 170),
    "black": (25, 25, 25),
}
FORMS = ("circle", "square", "triangle", "star")
GROUNDS = {"white": (245, 245, 245), "grey": (165, 165, 165), "brown": (150, 110, 75)}
MOTIONS = ("brightens", "darkens", "grows", "shrinks")
"""What happens in a clip. Two and two show the same frames in opposite order: no single frame tells them apart."""

_CORNERS = {"square": (4, 45.0, (1.0,)), "triangle": (3, 90.0, (1.0,)), "star": (10, 90.0, (1.0, 0.45))}


@dataclass(frozen=True)
class Shape:
    """A coloured shape.

    Attributes:
        form: One of `FORMS`.
        colour: One of `COLOURS`.
        x: Middle, as a share of the width from the left.
        y: Middle, as a share of the height from the top.
        radius: Distance of the corners from the middle, as a share of the side.
    """

    form: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        """``small`` or ``large``."""
        return "small" if self.radius < 0.15 else "large"

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.form}"


def draw(shapes, ground: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """A picture of shapes.

    Args:
        shapes: `Shape` objects, later ones in front.
        ground: One of `GROUNDS`.
        side: Height and width in pixels.
        rng: Source of the noise, without which a picture would be too easy to know by heart.

    Returns:
        uint8 (side, side, 3).
    """
    import cv2

    picture = np.full((side, side, 3), GROUNDS[ground], np.uint8)
    bits = 4  # of a pixel's fraction
    for shape in shapes:
        middle = np.array([shape.x, shape.y]) * side
        colour = COLOURS[shape.colour]
        if shape.form == "circle":
            where = np.rint(middle * 2**bits).astype(int).tolist()
            cv2.circle(picture, where, round(shape.radius * side * 2**bits), colour, -1, cv2.LINE_AA, bits)
            continue
        corners, first, radii = _CORNERS[shape.form]
        angles = np.deg2rad(first + 360 / corners * np.arange(corners))
        lengths = shape.radius * side * np.resize(radii, corners)
        points = middle + lengths[:, None] * np.stack([np.cos(angles), -np.sin(angles)], axis=1)
        cv2.fillPoly(picture, [np.rint(points * 2**bits).astype(np.int32)], colour, cv2.LINE_AA, bits)
    noise = rng.normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def describe(first: Shape, second: Shape, ground: str) -> list[str]:
    """Five sentences about two shapes, of which ``first`` lies above or to the left."""
    above = abs(first.y - second.y) > abs(first.x - second.x)
    there, back = ("above", "below") if above else ("to the left of", "to the right of")
    order = "from top to bottom" if above else "from left to right"
    return [
        f"A {first} is {there} a {second}.",
        f"A {second} is {back} a {first} on a {ground} ground.",
        f"There is a {first.colour} {first.form} {there} a {second.colour} {second.form}.",
        f"Two shapes on a {ground} ground: a {first} and a {second}, {order}.",
        f"A {first} and a {second}, {order}.",
    ]


def make_shape_photos(folder: str | os.PathLike, count: int = 300, *, side: int = 128, seed: int = 0) -> Path:
    """Makes pictures of two shapes with five captions each: 80 % train, 10 % dev, 10 % test.

    Args:
        folder: Where the pictures and ``metadata.jsonl`` go.
        count: Number of pictures.
        side: Their height and width in pixels.
        seed: Of everything random.

    Returns:
        The folder.

    Raises:
        CaptionerError: It cannot be written.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        first, second = _pair(rng)
        ground = str(rng.choice(list(GROUNDS)))
        name = f"{number:04d}.png"
        write_atomic(folder / name, _png(draw([first, second], ground, side, rng)))
        split = {8: "dev", 9: "test"}.get(number % 10, "train")
        lines.append(json.dumps({"file_name": name, "captions": describe(first, second, ground), "split": split}))
    write_atomic(folder / "metadata.jsonl", "\n".join(lines) + "\n")
    return folder


def _pair(rng: np.random.Generator) -> tuple[Shape, Shape]:
    """Two shapes of different colours that do not touch, the upper or left one first."""
    colours = rng.choice(list(COLOURS), 2, replace=False)
    forms = rng.choice(FORMS, 2)
    radii = rng.choice([0.1, 0.19], 2)
    near, far = rng.uniform(0.2, 0.3), rng.uniform(0.7, 0.8)
    aside = rng.uniform(0.4, 0.6, 2)
    places = [(near, aside[0]), (far, aside[1])]
    if rng.random() < 0.5:
        places = [(y, x) for x, y in places]
    first, second = (
        Shape(str(form), str(colour), float(x), float(y), float(radius))
        for form, colour, (x, y), radius in zip(forms, colours, places, radii, strict=True)
    )
    return first, second


def make_shape_clips(
    folder: str | os.PathLike, count: int = 20, *, seconds: float = 2.0, side: int = 160, seed: int = 0
) -> Path:
    """Makes clips of a shape that changes, a folder for each of `MOTIONS`.

    Args:
        folder: Where the folders go.
        count: Clips of each.
        seconds: Length of a clip.
        side: Height and width in pixels.
        seed: Of everything random.

    Returns:
        The folder.

    Raises:
        CaptionerError: It cannot be written.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    for number in range(count):
        for motion in MOTIONS:
            (folder / motion).mkdir(parents=True, exist_ok=True)
            write_clip(folder / motion / f"{number:03d}.avi", changing_shape(motion, seconds, side, rng))
    return folder


def changing_shape(motion: str, seconds: float, side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames, uint8 (side, side, 3), `FRAME_RATE` a second, of a shape to which one of `MOTIONS` happens."""
    form, colour, ground = (str(rng.choice(list(names))) for names in (FORMS, COLOURS, GROUNDS))
    x, y = rng.uniform(0.35, 0.65, 2).tolist()
    path = np.linspace(rng.uniform(0.2, 0.4), rng.uniform(0.8, 1.0), round(seconds * FRAME_RATE))
    if motion in ("darkens", "shrinks"):
        path = path[::-1]
    for place in path.tolist():
        grows = motion in ("grows", "shrinks")
        picture = draw([Shape(form, colour, x, y, 0.35 * place if grows else 0.25)], ground, side, rng)
        yield picture if grows else (picture * place).astype(np.uint8)


FRAME_RATE = 10
"""Frames a second of the clips."""


def write_clip(path: str | os.PathLike, frames: Iterator[np.ndarray], fps: float = FRAME_RATE) -> Path:
    """Writes frames, uint8 (H, W, 3), as a Motion JPEG file, which every build of OpenCV can write.

    Raises:
        CaptionerError: The file cannot be written.
    """
    import cv2

    from captioner.errors import CaptionerError

    writer = None
    for frame in frames:
        if writer is None:
            height, width = frame.shape[:2]
            writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (width, height))
            if not writer.isOpened():
                raise CaptionerError(f"{path}: cannot be written; it must end in .avi, in a folder that exists")
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    if writer is not None:
        writer.release()
    return Path(path)


def _png(picture: np.ndarray) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
