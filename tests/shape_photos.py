"""A tiny captioning problem that can be learnt in seconds: coloured shapes on a wall, in the layout of Flickr8k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
COLOURS = {"red": (220, 30, 30), "green": (30, 190, 60), "blue": (40, 60, 230)}
SHAPES = ("ball", "box")
WALLS = {"white": (240, 240, 240), "black": (15, 15, 15)}


def write_photos(folder: Path, *, train: int = 24, dev: int = 12, seed: int = 0) -> Path:
    """Photos, captions and lists; every combination comes up in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    kinds = [(colour, shape, wall) for colour in COLOURS for shape in SHAPES for wall in WALLS]
    captions, names = [], []
    for number in range(train + dev):
        colour, shape, wall = kinds[number % len(kinds)]
        name = f"{number:03}.png"
        names.append(name)
        draw_photo(colour, shape, wall, rng).save(folder / name)
        captions.append(f"{name}#0\tA {colour} {shape} on a {wall} wall .")
        captions.append(f"{name}#1\tThere is a {colour} {shape} here .")
    (folder / "shapes.token.txt").write_text("\n".join(captions))
    (folder / "shapes.trainImages.txt").write_text("\n".join(names[:train]))
    (folder / "shapes.devImages.txt").write_text("\n".join(names[train:]))
    return folder


def draw_photo(colour: str, shape: str, wall: str, rng: np.random.Generator) -> Image.Image:
    """A shape of that colour, its place and size a little random."""
    image = Image.new("RGB", (SIZE, SIZE), WALLS[wall])
    side = int(rng.integers(30, 44))
    left, top = (int(n) for n in rng.integers(2, SIZE - side - 2, 2))
    box = (left, top, left + side, top + side)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "ball" else draw.rectangle)(box, fill=COLOURS[colour])
    return image
