"""Drawings: shapes, houses, stick figures, faces, silhouettes, logos, abstract art."""

from __future__ import annotations

import numpy as np
from PIL import ImageFilter

from captioner.training.captions.pictures.canvas import (
    Drawn,
    a,
    canvas,
    colour,
    colours,
    curve,
    dark,
    font,
    light,
    phrase,
    pick,
    picture,
    some,
)


def _pen(rng: np.random.Generator):
    """Paper, ink with its name, and a pen's width."""
    name, ink = ("black", dark(rng)) if rng.random() < 0.7 else colour(rng)
    return light(rng), name, ink, int(rng.integers(2, 8))


def shapes(rng: np.random.Generator) -> Drawn:
    """Geometric shapes, in outline or filled."""
    paper, name, ink, width = _pen(rng)
    image, draw = canvas(rng, paper)
    filled, kinds = rng.random() < 0.6, []
    for _ in range(int(rng.integers(3, 10))):
        x, y, size = rng.uniform(0.1, 0.9) * image.width, rng.uniform(0.1, 0.9) * image.height, rng.uniform(30, 120)
        kind = pick(rng, ("circle", "square", "triangle"))
        kinds.append(kind)
        style = {"fill": colour(rng)[1]} if filled else {"outline": ink, "width": width}
        if kind == "circle":
            draw.ellipse((x - size, y - size, x + size, y + size), **style)
        elif kind == "square":
            draw.rectangle((x - size, y - size, x + size, y + size), **style)
        else:
            draw.regular_polygon((x, y, size), 3, rotation=float(rng.uniform(0, 360)), **style)
    names = " and ".join(f"{kind}s" for kind in sorted(set(kinds))[:2])
    look = "colored" if filled else name
    return image, some(
        rng,
        (
            f"{look} {names} on a white background | a drawing of {names} | "
            f"simple {look} shapes on a white background | a picture of {look} geometric shapes"
        )
        + ("" if filled else f" | a line drawing of {names}"),
    )


def house(rng: np.random.Generator) -> Drawn:
    """A house as a child draws it, maybe with a tree and a sun."""
    paper, _, ink, width = _pen(rng)
    image, draw = canvas(rng, paper)
    w, h = image.size
    x, y, size = w * rng.uniform(0.3, 0.6), h * rng.uniform(0.45, 0.6), h * rng.uniform(0.16, 0.27)
    filled = rng.random() < 0.4
    fills = [c for _, c in colours(rng, 6)] if filled else [None] * 6
    base = y + size * 1.2
    draw.rectangle((x - size, y, x + size, base), outline=ink, width=width, fill=fills[0])
    draw.polygon(
        [(x - size * 1.25, y), (x, y - size * rng.uniform(0.7, 1.2)), (x + size * 1.25, y)],
        outline=ink,
        width=width,
        fill=fills[1],
    )
    draw.rectangle((x - size * 0.2, base - size * 0.65, x + size * 0.2, base), outline=ink, width=width, fill=fills[2])
    for side in (-0.6, 0.6):
        u = x + side * size
        draw.rectangle(
            (u - size * 0.2, y + size * 0.2, u + size * 0.2, y + size * 0.55), outline=ink, width=width, fill=fills[3]
        )
    if rng.random() < 0.6:
        draw.line((0, base, w, base), fill=ink, width=width)
    extra = ""
    if rng.random() < 0.5:
        u = x + size * rng.uniform(1.6, 2.1)
        draw.rectangle(
            (u - 8, base - size * 0.7, u + 8, base), outline=ink, width=width, fill=(120, 80, 45) if filled else None
        )
        draw.ellipse(
            (u - size * 0.4, base - size * 1.6, u + size * 0.4, base - size * 0.6),
            outline=ink,
            width=width,
            fill=(60, 150, 70) if filled else None,
        )
        extra = " and a tree"
    if rng.random() < 0.5:
        r, u, v = h * 0.07, w * 0.14, h * 0.16
        draw.ellipse((u - r, v - r, u + r, v + r), outline=ink, width=width, fill=(245, 205, 50) if filled else None)
        for t in np.linspace(0, 2 * np.pi, 9)[:-1]:
            draw.line(
                (u + np.cos(t) * r * 1.3, v + np.sin(t) * r * 1.3, u + np.cos(t) * r * 1.9, v + np.sin(t) * r * 1.9),
                fill=ink,
                width=width,
            )
        extra = extra or " and the sun"
    kind = "drawing" if filled else "line drawing"
    return image, some(
        rng,
        f"a {kind} of a house{extra} | a simple drawing of a house{extra}",
        f"a house drawn with simple lines | a child's drawing of a house{extra}",
        "a drawing of a house with a door and windows",
    )


def figures(rng: np.random.Generator) -> Drawn:
    """Stick figures."""
    paper, name, ink, width = _pen(rng)
    image, draw = canvas(rng, paper)
    w, h = image.size
    count = int(rng.integers(1, 5))
    for i in range(count):
        x, size = w * (i + 0.5 + rng.normal(0, 0.08)) / count, min(h * rng.uniform(0.2, 0.34), w / count * 0.8)
        y = h * 0.5 + rng.normal(0, 12)
        draw.ellipse((x - size * 0.25, y - size * 1.2, x + size * 0.25, y - size * 0.7), outline=ink, width=width)
        draw.line((x, y - size * 0.7, x, y + size * 0.3), fill=ink, width=width)
        for side in (-1, 1):
            draw.line(
                (x, y - size * 0.45, x + side * size * 0.5, y - size * rng.uniform(-0.2, 0.9)), fill=ink, width=width
            )
            draw.line(
                (x, y + size * 0.3, x + side * size * rng.uniform(0.2, 0.45), y + size * 1.1), fill=ink, width=width
            )
    many = {1: "a stick figure", 2: "two stick figures", 3: "three stick figures", 4: "four stick figures"}[count]
    return image, some(
        rng,
        f"a drawing of {many} | a line drawing of {many} | {many} on a white background",
        f"{many} drawn in {name} lines",
        f"a simple drawing of {'a person' if count == 1 else 'people'} with lines",
    )


def face(rng: np.random.Generator) -> Drawn:
    """A drawn face."""
    paper, _, ink, width = _pen(rng)
    smiley = rng.random() < 0.5
    image, draw = canvas(rng, paper, (1.0, 4 / 3))
    w, h = image.size
    r = h * rng.uniform(0.28, 0.42)
    x, y = w / 2, h / 2
    draw.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=width + 2, fill=(250, 215, 60) if smiley else None)
    for side in (-1, 1):
        u, v, e = x + side * r * 0.38, y - r * 0.25, r * rng.uniform(0.08, 0.14)
        draw.ellipse((u - e, v - e, u + e, v + e), fill=ink)
    happy = rng.random() < 0.75
    if happy:
        draw.arc((x - r * 0.55, y - r * 0.4, x + r * 0.55, y + r * 0.6), 20, 160, fill=ink, width=width + 3)
    else:
        draw.arc((x - r * 0.5, y + r * 0.25, x + r * 0.5, y + r), 200, 340, fill=ink, width=width + 3)
    mood = "smiling" if happy else "sad"
    return image, some(
        rng,
        f"a drawing of a {mood} face",
        f"a yellow {mood} face on a white background" if smiley else f"a line drawing of a {mood} face",
        f"a simple round {mood} face | a cartoon of a {mood} face",
    )


def plant(rng: np.random.Generator) -> Drawn:
    """A drawn flower or tree."""
    paper, _, ink, width = _pen(rng)
    image, draw = canvas(rng, paper, (0.75, 1.0, 4 / 3))
    w, h = image.size
    x = w / 2
    filled = rng.random() < 0.6
    if rng.random() < 0.6:
        y, size, petals = h * 0.38, h * rng.uniform(0.1, 0.15), int(rng.integers(5, 9))
        hue, shade = colour(rng)
        draw.line((x, y, x + rng.normal(0, 12), h * 0.92), fill=(60, 140, 60) if filled else ink, width=width + 4)
        for t in np.linspace(0, 2 * np.pi, petals + 1)[:-1]:
            u, v = x + np.cos(t) * size * 1.25, y + np.sin(t) * size * 1.25
            draw.ellipse(
                (u - size * 0.75, v - size * 0.75, u + size * 0.75, v + size * 0.75),
                outline=ink,
                width=width,
                fill=shade if filled else paper,
            )
        draw.ellipse(
            (x - size, y - size, x + size, y + size), outline=ink, width=width, fill=(245, 205, 50) if filled else paper
        )
        return image, some(
            rng,
            f"a drawing of {a(hue)} flower" if filled else "a line drawing of a flower",
            "a simple drawing of a flower",
            "a flower drawn on a white background",
            f"a drawing of one {hue} flower" if filled else "an outline drawing of one flower",
        )
    draw.rectangle(
        (x - 18, h * 0.55, x + 18, h * 0.92), outline=ink, width=width, fill=(120, 80, 45) if filled else None
    )
    for _ in range(5):
        u, v, r = x + rng.normal(0, 55), h * 0.36 + rng.normal(0, 38), h * rng.uniform(0.1, 0.17)
        draw.ellipse(
            (u - r, v - r, u + r, v + r),
            outline=None if filled else ink,
            width=width,
            fill=(60, 150, 70) if filled else None,
        )
    return image, some(
        rng,
        "a simple drawing of a tree",
        "a drawing of a tree with a trunk" if not filled else "a drawing of a green tree with a brown trunk",
        "a tree drawn on a white background",
        "a cartoon of one tree",
    )


def vehicle(rng: np.random.Generator) -> Drawn:
    """A drawn car, boat or cup, from the side."""
    paper, name, ink, width = _pen(rng)
    image, draw = canvas(rng, paper, (1.0, 4 / 3, 1.5))
    s, cx, cy = image.height * rng.uniform(0.28, 0.4), image.width / 2, image.height / 2
    hue, shade = colour(rng)
    fill = shade if rng.random() < 0.5 else None

    def at(*points):
        return [(cx + x * s, cy + y * s) for x, y in points]

    what = pick(rng, ("car", "boat", "cup", "fish"))
    if what == "car":
        draw.polygon(
            at(
                (-1.2, 0.3),
                (-1.2, -0.1),
                (-0.7, -0.15),
                (-0.4, -0.6),
                (0.4, -0.6),
                (0.75, -0.15),
                (1.2, -0.05),
                (1.2, 0.3),
            ),
            outline=ink,
            width=width,
            fill=fill,
        )
        for x in (-0.7, 0.7):
            draw.ellipse(
                at((x - 0.25, 0.05), (x + 0.25, 0.55)), outline=ink, width=width, fill=(60, 60, 60) if fill else paper
            )
    elif what == "boat":
        draw.polygon(at((-1, 0.3), (1, 0.3), (0.7, 0.8), (-0.7, 0.8)), outline=ink, width=width, fill=fill)
        draw.line(at((0, 0.3), (0, -1)), fill=ink, width=width)
        draw.polygon(at((0.05, -0.95), (0.8, 0.2), (0.05, 0.2)), outline=ink, width=width)
    elif what == "cup":
        draw.polygon(at((-0.6, -0.5), (0.6, -0.5), (0.5, 0.6), (-0.5, 0.6)), outline=ink, width=width, fill=fill)
        draw.arc(at((0.4, -0.3), (1, 0.4)), 250, 110, fill=ink, width=width)
    else:
        draw.ellipse(at((-0.9, -0.45), (0.7, 0.45)), outline=ink, width=width, fill=fill)
        draw.polygon(at((0.6, 0), (1.1, -0.4), (1.1, 0.4)), outline=ink, width=width, fill=fill)
        draw.ellipse(at((-0.6, -0.15), (-0.5, -0.05)), fill=ink)
    thing = f"{a(hue)} {what}" if fill else a(what)
    return image, some(
        rng,
        f"a simple drawing of {thing} | a drawing of {thing} on a white background",
        f"{a(what)} drawn with {name} lines | a picture of a drawn {what}",
    )


# Outlines in a unit square, y down, traced by hand.
_OUTLINES = {
    "horse": (
        "18,40 22,28 20,20 26,14 34,18 40,30 44,38 58,40 70,38 78,42 84,56 82,60 77,50 76,60 80,76 79,90 "
        "75,90 74,76 68,64 54,64 46,62 44,76 45,90 41,90 39,76 36,60 32,52 30,40 26,36 22,42"
    ),
    "cat": (
        "30,90 32,60 30,40 28,30 30,16 37,24 45,24 52,16 54,30 52,40 60,52 64,70 66,82 76,78 80,64 84,66 80,82 70,90"
    ),
    "dog": (
        "12,34 20,26 26,20 30,28 36,36 64,38 76,26 80,28 74,42 74,60 76,86 70,86 67,64 58,58 40,58 38,70 "
        "39,86 33,86 31,66 28,52 24,42 14,40"
    ),
    "bird": "10,40 26,34 38,40 50,20 60,14 58,34 66,44 84,54 92,60 76,60 58,60 44,56 30,48 18,44",
    "fish": "8,50 24,34 46,30 66,42 84,28 80,50 84,72 66,58 46,70 24,66",
    "person": (
        "46,8 54,8 57,14 54,22 62,26 68,50 64,52 58,36 58,54 62,92 54,92 50,62 46,92 38,92 42,54 42,36 36,52 "
        "32,50 38,26 46,22 43,14"
    ),
    "tree": "46,92 47,68 30,70 20,56 26,44 22,32 36,26 40,12 54,10 64,20 76,26 76,42 82,54 70,68 54,68 55,92",
    "plane": "8,48 30,44 46,20 52,20 48,44 74,44 84,32 88,32 85,50 88,66 84,66 74,56 48,56 52,80 46,80 30,56",
}


def silhouette(rng: np.random.Generator) -> Drawn:
    """The black (or white, or coloured) shape of an animal, a person, a tree."""
    what = pick(rng, list(_OUTLINES))
    style = rng.random()
    (name, ink), (ground, back) = (
        (("black", (8, 8, 8)), ("white", (252, 252, 252)))
        if style < 0.6
        else (("white", (250, 250, 250)), ("black", (5, 5, 5)))
        if style < 0.75
        else (("black", (8, 8, 8)), colour(rng))
    )
    image, draw = canvas(rng, back, (1.0, 4 / 3))
    points = np.array([[float(v) for v in pair.split(",")] for pair in _OUTLINES[what].split()]) / 100 - 0.5
    if rng.random() < 0.5:
        points[:, 0] *= -1
    points = (
        points * (rng.uniform(0.8, 1.15), rng.uniform(0.85, 1.1)) * rng.uniform(0.7, 0.95) * image.height
        + np.array(image.size) / 2
    )
    draw.polygon([tuple(p) for p in points], fill=ink)
    smoothed = image.filter(ImageFilter.GaussianBlur(7))  # rounds the corners of the traced outline
    mask = np.abs(np.asarray(smoothed, np.float32) - back).sum(-1) > np.abs(np.asarray(smoothed, np.float32) - ink).sum(
        -1
    )
    values = np.where(mask[..., None], np.array(ink), np.array(back))
    return picture(values), some(
        rng,
        f"the {name} silhouette of {a(what)} | a {name} silhouette of {a(what)} on {a(ground)} background",
        f"a {name} shape of {a(what)} on {a(ground)} background | the shape of {a(what)} in {name}",
        f"a picture of the silhouette of {a(what)}",
    )


def skyline(rng: np.random.Generator) -> Drawn:
    """Dark mountains or houses against a plain sky."""
    name, sky = pick(
        rng,
        (
            ("orange", (245, 160, 90)),
            ("blue", (110, 160, 220)),
            ("pink", (240, 165, 185)),
            ("white", (245, 245, 245)),
            ("purple", (150, 110, 180)),
        ),
    )
    image, draw = canvas(rng, sky, (4 / 3, 1.5, 16 / 9))
    w, h = image.size
    ink = dark(rng)
    if rng.random() < 0.5:
        ridge = curve(rng, 40, 1.0) * 0.35 + 0.2
        draw.polygon([(0, h), *[(i * w / 39, h * (1 - v)) for i, v in enumerate(ridge)], (w, h)], fill=ink)
        what = "mountains"
    else:
        x = 0.0
        while x < w:
            wide = rng.uniform(25, 80)
            draw.rectangle((x, h * (1 - rng.uniform(0.2, 0.65)), x + wide, h), fill=ink)
            x += wide * rng.uniform(0.9, 1.1)
        what = "a city skyline"
    return image, some(
        rng,
        f"the silhouette of {what} | the dark outline of {what} against {a(name)} background",
        f"the silhouette of {what} on {a(name)} background | a simple picture of {what} in black",
    )


def logo(rng: np.random.Generator) -> Drawn:
    """A sign and a name."""
    name, shade = colour(rng)
    image, draw = canvas(rng, light(rng) if rng.random() < 0.8 else dark(rng), (1.0, 4 / 3, 16 / 9))
    w, h = image.size
    s, x, y = h * rng.uniform(0.14, 0.24), w / 2, h * rng.uniform(0.36, 0.44)
    kind = int(rng.integers(5))
    if kind == 0:
        draw.ellipse((x - s, y - s, x + s, y + s), fill=shade)
        draw.ellipse((x - s * 0.5, y - s * 0.5, x + s * 0.8, y + s * 0.8), fill=image.getpixel((0, 0)))
    elif kind == 1:
        draw.regular_polygon((x, y, s), int(rng.integers(3, 8)), fill=shade)
        draw.text((x, y), phrase(rng, 1)[0], font=font(rng, s, "sans"), fill=(255, 255, 255), anchor="mm")
    elif kind == 2:
        for i, (_, other) in enumerate(colours(rng, 3)):
            draw.ellipse(
                (x - s + i * s * 0.6 - s * 0.3, y - s * 0.5, x + i * s * 0.6 - s * 0.3, y + s * 0.5),
                outline=other,
                width=10,
            )
        name = "colored"
    elif kind == 3:
        draw.rounded_rectangle((x - s, y - s, x + s, y + s), s * 0.3, fill=shade)
        draw.polygon([(x - s * 0.4, y - s * 0.5), (x - s * 0.4, y + s * 0.5), (x + s * 0.55, y)], fill=(255, 255, 255))
    else:
        draw.polygon([(x, y - s), (x + s, y), (x, y + s), (x - s, y)], fill=shade)
    draw.text(
        (w / 2, h * 0.75),
        phrase(rng, 1).upper(),
        font=font(rng, h * rng.uniform(0.1, 0.17), "sans"),
        fill=shade,
        anchor="mm",
    )
    return image, some(
        rng,
        f"{a(name)} logo with a word under it | a logo with {a(name)} sign and a name",
        f"the logo of a company | a picture of {a(name)} logo",
    )


def abstract(rng: np.random.Generator) -> Drawn:
    """Blocks, rings or scribbles in many colours."""
    image, draw = canvas(rng, colour(rng)[1])
    w, h = image.size
    kind = pick(rng, ("blocks", "rings", "lines"))
    if kind == "blocks":
        xs, ys = (np.r_[0, np.sort(rng.uniform(0, 1, int(rng.integers(2, 6)))), 1] for _ in range(2))
        for i in range(len(xs) - 1):
            for j in range(len(ys) - 1):
                draw.rectangle(
                    (xs[i] * w, ys[j] * h, xs[i + 1] * w, ys[j + 1] * h),
                    fill=pick(rng, ((250, 250, 250), colour(rng)[1])),
                    outline=(10, 10, 10),
                    width=6,
                )
        return image, some(
            rng,
            "colored rectangles with black lines between them | a painting of colored rectangles",
            "an abstract picture of colored blocks | blocks in different colors",
        )
    if kind == "rings":
        x, y = rng.uniform(0.35, 0.65) * w, rng.uniform(0.35, 0.65) * h
        for r in np.arange(h * 0.7, 8, -rng.uniform(16, 45)):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour(rng)[1])
        return image, some(
            rng,
            "rings in different colors inside each other | a target of colored rings",
            "colored circles inside each other | an abstract picture of colored rings",
        )
    for _ in range(int(rng.integers(8, 40))):
        points = np.cumsum(rng.normal(0, 60, (12, 2)), axis=0) + rng.uniform(0, 1, 2) * (w, h)
        draw.line([tuple(p) for p in points], fill=colour(rng)[1], width=int(rng.integers(3, 14)), joint="curve")
    return image, some(
        rng,
        "an abstract picture of colored lines | a tangle of lines in many colors",
        "a scribble of colored lines | an abstract painting with many colors",
    )


def spiral(rng: np.random.Generator) -> Drawn:
    """A spiral or a maze of circles."""
    paper, name, ink, width = _pen(rng)
    image, draw = canvas(rng, paper, (1.0, 4 / 3))
    t = np.linspace(0, rng.uniform(4, 12) * 2 * np.pi, 900)
    r = t / t[-1] * image.height * 0.45
    draw.line(
        [(image.width / 2 + x, image.height / 2 + y) for x, y in zip(r * np.cos(t), r * np.sin(t), strict=True)],
        fill=ink,
        width=width,
    )
    return image, some(
        rng,
        f"{a(name)} spiral on a white background | a drawing of {a(name)} spiral",
        f"{a(name)} line in the shape of a spiral | a spiral drawn with a line",
    )
