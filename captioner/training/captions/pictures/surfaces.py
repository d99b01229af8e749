"""Pictures without things in them: one colour, darkness, blur, noise, gradients, walls, cloth, wood."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from captioner.training.captions.pictures.canvas import (
    Drawn,
    a,
    canvas,
    colour,
    colours,
    dark,
    light,
    pick,
    picture,
    smooth,
    some,
)


def blank(rng: np.random.Generator) -> Drawn:
    """One colour all over."""
    if rng.random() < 0.35:
        image, _ = canvas(rng, light(rng))
        return image, some(
            rng,
            "a blank white picture | an empty white page | a plain white background",
            "a white picture with nothing in it | a completely white image",
        )
    name, shade = colour(rng)
    image, _ = canvas(rng, shade)
    return image, some(
        rng,
        f"a plain {name} background | a blank {name} picture | {a(name)} picture with nothing in it",
        f"a picture that is all {name} | a solid {name} image",
    )


_BLACK = (
    "an all black picture | a completely black image | a black picture with nothing in it | "
    "a plain black background | a blank black screen"
)


def black(rng: np.random.Generator) -> Drawn:
    """Black, with at most a trace of noise."""
    image, _ = canvas(rng, tuple(int(v) for v in rng.integers(0, 12, 3)) if rng.random() < 0.6 else (0, 0, 0))
    return image, some(rng, _BLACK)


def darkness(rng: np.random.Generator) -> Drawn:
    """So dark that hardly a shape is seen."""
    image, _ = canvas(rng, (0, 0, 0))
    strength = rng.uniform(8, 30)
    values = smooth(rng, image.size, (int(rng.integers(2, 8)), int(rng.integers(2, 8))))[..., None] ** 2 * strength
    values = values * rng.uniform(0.5, 1, 3) + rng.normal(0, rng.uniform(1, 7), (image.height, image.width, 1))
    return picture(values), some(
        rng,
        "a very dark picture | a picture that is too dark to see anything",
        "a dark picture with nothing to be seen | a nearly black picture",
        "a very dark image in which nothing can be seen | it is too dark to see anything",
    )


def blurred(rng: np.random.Generator) -> Drawn:
    """Soft blobs of colour, as a film out of focus shows."""
    image, draw = canvas(rng, colour(rng)[1])
    for _ in range(int(rng.integers(3, 14))):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        w, h = rng.uniform(30, 300, 2)
        getattr(draw, pick(rng, ("ellipse", "rectangle")))(
            (x - w, y - h, x + w, y + h), fill=pick(rng, (colour(rng)[1], colour(rng)[1], dark(rng), light(rng)))
        )
    if rng.random() < 0.3:
        values = np.stack([smooth(rng, image.size, (4, 3)) for _ in range(3)], axis=-1) * 255
        image = picture(values)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(18, 55))))
    return image, some(
        rng,
        "a very blurry picture | a blurry picture of something | a picture that is out of focus",
        "a blurred image in several colors | a blurry image in which nothing can be made out",
        "soft blurry spots of color",
    )


def noise(rng: np.random.Generator) -> Drawn:
    """The snow of an old television."""
    image, _ = canvas(rng, (0, 0, 0))
    grain = int(rng.integers(2, 7))
    coloured = rng.random() < 0.4
    shape = (image.height // grain, image.width // grain, 3 if coloured else 1)
    values = np.broadcast_to(
        rng.random(shape) if rng.random() < 0.6 else (rng.random(shape) < rng.uniform(0.2, 0.8)), (*shape[:2], 3)
    )
    image = picture(values * rng.uniform(150, 255)).resize(image.size, Image.Resampling.NEAREST)
    kind = "colored" if coloured else "black and white"
    return image, some(
        rng,
        f"a picture of {kind} noise | {kind} static on a screen | a screen full of {kind} dots",
        f"{kind} noise with no picture | a {kind} pattern of random dots",
    )


def gradient(rng: np.random.Generator) -> Drawn:
    """One colour passing into another."""
    image, _ = canvas(rng, (0, 0, 0))
    (first, one), (second, other) = colours(rng, 2)
    if rng.random() < 0.25:
        second, other = pick(rng, (("black", (0, 0, 0)), ("white", (255, 255, 255))))
    y, x = np.mgrid[0 : 1 : image.height * 1j, 0 : 1 : image.width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    mix = (
        np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)) * 1.5
        if rng.random() < 0.3
        else np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5
    )
    mix = np.clip(mix, 0, 1)[..., None]
    return picture(mix * one + (1 - mix) * np.array(other)), some(
        rng,
        f"a background that goes from {first} to {second} | {a(first)} and {second} background",
        f"{a(first)} color that fades into {second} | a smooth background in {first} and {second}",
        f"a picture of {first} and {second} with nothing in it",
    )


def _grained(rng: np.random.Generator, image: Image.Image, strength: float) -> Image.Image:
    """With the unevenness of a real surface."""
    coarse = smooth(rng, image.size, (12, 12)) - 0.5
    fine = rng.normal(0, 1, (image.height, image.width))
    return picture(np.asarray(image, np.float32) + ((coarse * 2 + fine * 0.6) * strength)[..., None])


def bricks(rng: np.random.Generator) -> Drawn:
    """A wall of bricks, straight on."""
    mortar = tuple(int(v) for v in np.full(3, rng.integers(110, 225)))
    image, draw = canvas(rng, mortar)
    name = pick(rng, ("red", "red", "brown", "gray", "white"))
    base = np.array(
        {"red": (165, 75, 55), "brown": (125, 85, 60), "gray": (125, 122, 118), "white": (228, 225, 220)}[name]
    )
    height = rng.uniform(22, 75)
    width, gap = height * rng.uniform(2, 3.2), max(2.0, height * rng.uniform(0.06, 0.16))
    for row in range(int(image.height / height) + 1):
        for column in range(-1, int(image.width / width) + 1):
            x, y = (column + (row % 2) / 2) * width + rng.normal(0, 1), row * height
            shade = tuple(int(v) for v in np.clip(base * rng.uniform(0.8, 1.2) + rng.normal(0, 5, 3), 0, 255))
            draw.rectangle((x + gap, y + gap, x + width, y + height), fill=shade)
    return _grained(rng, image, rng.uniform(4, 16)), some(
        rng,
        f"{a(name)} brick wall | a wall made of {name} bricks | a close up of {a(name)} brick wall",
        f"a wall of {name} bricks with mortar between them | a picture of a brick wall",
    )


def checks(rng: np.random.Generator) -> Drawn:
    """A chess board's pattern."""
    (first, one), (second, other) = colours(rng, 2)
    if rng.random() < 0.5:
        first, one, second, other = "black", (10, 10, 10), "white", (250, 250, 250)
    image, draw = canvas(rng, other)
    cell = rng.uniform(20, 90)
    for row in range(int(image.height / cell) + 1):
        for column in range(int(image.width / cell) + 1):
            if (row + column) % 2:
                draw.rectangle((column * cell, row * cell, (column + 1) * cell - 1, (row + 1) * cell - 1), fill=one)
    return image, some(
        rng,
        f"{a(first)} and {second} checkered pattern | a checkerboard in {first} and {second}",
        f"a pattern of {first} and {second} squares | {a(first)} and {second} checkerboard",
    )


def stripes(rng: np.random.Generator) -> Drawn:
    """Stripes of two or more colours, in any direction."""
    shades = colours(rng, int(rng.integers(2, 5)))
    if rng.random() < 0.4:
        shades = [("black", (15, 15, 15)), ("white", (250, 250, 250))]
    image, _ = canvas(rng, (0, 0, 0))
    y, x = np.mgrid[: image.height, : image.width]
    angle = pick(rng, (0, np.pi / 2, np.pi / 4, rng.uniform(0, np.pi)))
    bands = ((np.cos(angle) * x + np.sin(angle) * y) / rng.uniform(12, 70)).astype(int) % len(shades)
    image = picture(np.array([shade for _, shade in shades])[bands])
    names = " and ".join(name for name, _ in shades[:2])
    what = f"{names} stripes" if len(shades) == 2 else "stripes of several colors"
    way = {0.0: "vertical ", np.pi / 2: "horizontal ", np.pi / 4: "diagonal "}.get(angle, "")
    return image, some(
        rng,
        f"a pattern of {what} | a background with {what} | a striped pattern with {way}stripes",
        f"a picture of {way}{what} | {way}{what} side by side",
    )


def wood(rng: np.random.Generator) -> Drawn:
    """Boards with grain."""
    image, _ = canvas(rng, (0, 0, 0))
    width, height = image.size
    base = np.array(pick(rng, ((165, 110, 65), (120, 75, 45), (205, 165, 115), (95, 65, 45), (150, 120, 90))))
    planks = int(rng.integers(1, 7))
    rows = []
    for part in np.array_split(np.arange(height), planks):
        stretch = smooth(rng, (width, len(part)), (3, max(2, 24 // planks)))
        lines = np.sin(stretch * rng.uniform(20, 60) + np.arange(len(part))[:, None] * rng.uniform(0.02, 0.15))
        tone = (
            rng.uniform(0.85, 1.12)
            + 0.09 * lines
            + 0.05 * rng.normal(0, 1, (len(part), 1))
            + 0.02 * rng.normal(0, 1, (len(part), width))
        )
        if planks > 1:
            tone[:3] *= 0.45
        rows.append(tone)
    image = picture(np.concatenate(rows)[..., None] * base)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.ROTATE_90)
    captions = (
        "a close up of a wooden surface | the grain of brown wood | a brown wooden background | "
        "a piece of wood seen up close | a wooden surface with a grain"
    )
    if planks > 1:
        captions += " | a wall of wooden boards | a surface made of wooden planks | wooden boards next to each other"
    return image, some(rng, captions)


def cloth(rng: np.random.Generator) -> Drawn:
    """Woven cloth, plain or plaid."""
    name, shade = colour(rng)
    image, _ = canvas(rng, (0, 0, 0))
    y, x = np.mgrid[: image.height, : image.width]
    pitch = rng.uniform(5, 16)
    weave = np.sin(2 * np.pi * x / pitch) * np.sin(2 * np.pi * y / pitch)
    tone = (1 + 0.16 * weave + 0.25 * (smooth(rng, image.size, (5, 4)) - 0.5) + 0.04 * rng.normal(0, 1, weave.shape))[
        ..., None
    ]
    values = tone * shade
    if rng.random() < 0.5:
        return picture(values), some(
            rng,
            f"a close up of {name} fabric | a piece of {name} cloth | a {name} cloth seen up close",
            f"{name} woven fabric with a texture",
        )
    other, second = pick(rng, [pair for pair in colours(rng, 3) if pair[0] != name])
    step, band = rng.uniform(70, 170), rng.uniform(0.2, 0.5)
    bars = 0.5 * ((x % step < step * band).astype(float) + (y % step < step * band))
    values = values * (1 - bars[..., None]) + tone * np.array(second) * bars[..., None]
    return picture(values), some(
        rng,
        f"{a(name)} and {other} plaid fabric | a plaid cloth in {name} and {other}",
        f"a close up of plaid fabric | a checked cloth in {name} and {other}",
    )


def spots(rng: np.random.Generator) -> Drawn:
    """Dots in rows."""
    (name, shade), (ground, back) = colours(rng, 2)
    if rng.random() < 0.5:
        ground, back = "white", (252, 252, 250)
    image, draw = canvas(rng, back)
    step = rng.uniform(30, 100)
    radius = step * rng.uniform(0.15, 0.42)
    for row in range(int(image.height / step) + 2):
        for column in range(int(image.width / step) + 2):
            x, y = (column + (row % 2) / 2) * step, row * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    return image, some(
        rng,
        f"a pattern of {name} dots on {a(ground)} background | {name} polka dots on {ground}",
        f"{a(ground)} background with {name} dots | rows of {name} dots on {ground}",
    )


def rough(rng: np.random.Generator) -> Drawn:
    """Stone, concrete, plaster, sand: an uneven surface."""
    image, _ = canvas(rng, (0, 0, 0))
    base = np.array(pick(rng, ((135, 133, 130), (165, 160, 150), (200, 185, 150), (90, 90, 92), (190, 190, 190))))
    values = (
        sum(
            smooth(rng, image.size, (cells, cells)) / weight for cells, weight in ((4, 1), (16, 1.5), (64, 2), (160, 2))
        )
        - 1.1
    )
    values = base * (1 + rng.uniform(0.15, 0.4) * values[..., None]) + rng.normal(
        0, rng.uniform(4, 16), (image.height, image.width, 1)
    )
    return picture(values), some(
        rng,
        "a close up of a rough surface",
        "a rough brown surface" if base[0] - base[2] > 20 else "a gray rough surface",
        "a rough surface seen up close",
        "a close up of stone or concrete",
        "a close up of something rough like stone",
    )


def tiles(rng: np.random.Generator) -> Drawn:
    """Square tiles with joints."""
    name, shade = colour(rng) if rng.random() < 0.6 else ("white", (238, 238, 234))
    image, draw = canvas(rng, tuple(int(v) for v in np.full(3, rng.integers(90, 200))))
    step, gap = rng.uniform(40, 130), rng.uniform(2, 7)
    for row in range(int(image.height / step) + 1):
        for column in range(int(image.width / step) + 1):
            tone = tuple(int(v) for v in np.clip(np.array(shade) * rng.uniform(0.92, 1.06), 0, 255))
            draw.rectangle((column * step + gap, row * step + gap, (column + 1) * step, (row + 1) * step), fill=tone)
    return _grained(rng, image, rng.uniform(1, 6)), some(
        rng,
        f"a wall of {name} tiles | rows of square {name} tiles | a close up of {name} tiles",
        f"{a(name)} tiled wall or floor",
    )
