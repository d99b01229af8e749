"""Charts, tables, maps and diagrams."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

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
    number,
    phrase,
    pick,
    picture,
    smooth,
    some,
)

_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}


def _axes(
    rng: np.random.Generator, title: str = ""
) -> tuple[Image.Image, ImageDraw.ImageDraw, tuple[float, float, float, float], tuple]:
    """A picture with axes, ticks, maybe a grid and a title; the box that the data fills; the colour of the lines."""
    night = rng.random() < 0.12
    back, ink = (dark(rng), (220, 220, 220)) if night else (light(rng), dark(rng))
    image, draw = canvas(rng, back, (1.0, 4 / 3, 4 / 3, 1.5, 16 / 9))
    left, top = image.width * rng.uniform(0.08, 0.16), image.height * rng.uniform(0.06, 0.18)
    right, bottom = image.width * rng.uniform(0.88, 0.97), image.height * rng.uniform(0.8, 0.92)
    small = font(rng, rng.uniform(13, 22))
    grid = rng.random() < 0.5
    pale = tuple(int(0.8 * b + 0.2 * i) for b, i in zip(back, ink, strict=True))
    for i in range(count := int(rng.integers(4, 8))):
        y = bottom - (bottom - top) * i / count
        if grid:
            draw.line((left, y, right, y), fill=pale, width=1)
        draw.line((left - 6, y, left, y), fill=ink, width=2)
        draw.text((left - 9, y), f"{i * 10}", font=small, fill=ink, anchor="rm")
    for i in range(count := int(rng.integers(3, 9))):
        x = left + (right - left) * (i + 0.5) / count
        draw.line((x, bottom, x, bottom + 6), fill=ink, width=2)
        draw.text(
            (x, bottom + 9), pick(rng, (f"{i}", f"{2000 + i}", phrase(rng, 1)[:5])), font=small, fill=ink, anchor="mt"
        )
    if rng.random() < 0.4:
        draw.rectangle((left, top, right, bottom), outline=ink, width=2)
    else:
        draw.line((left, top, left, bottom, right, bottom), fill=ink, width=int(rng.integers(2, 4)))
    if rng.random() < 0.7:
        draw.text(
            (image.width / 2, top / 2),
            title or phrase(rng, int(rng.integers(2, 6))),
            font=font(rng, rng.uniform(20, 32)),
            fill=ink,
            anchor="mm",
        )
    return image, draw, (left, top, right, bottom), (back, ink)


def _ground(back) -> str:
    return "black" if sum(back) < 300 else "white"


def bars(rng: np.random.Generator) -> Drawn:
    """A bar chart, standing or lying, of one colour or several."""
    image, draw, (left, top, right, bottom), (back, ink) = _axes(rng)
    count, lying = int(rng.integers(3, 13)), rng.random() < 0.25
    many = rng.random() < 0.4
    name, shade = colour(rng)
    shades = [c for _, c in colours(rng, count)] if many else [shade] * count
    heights = np.sort(rng.uniform(0.05, 0.95, count)) if rng.random() < 0.3 else rng.uniform(0.05, 0.95, count)
    gap = rng.uniform(0.05, 0.4)
    edge = ink if rng.random() < 0.3 else None
    for i, value in enumerate(heights):
        if lying:
            step = (bottom - top) / count
            draw.rectangle(
                (left, top + (i + gap / 2) * step, left + value * (right - left), top + (i + 1 - gap / 2) * step),
                fill=shades[i],
                outline=edge,
            )
        else:
            step = (right - left) / count
            draw.rectangle(
                (left + (i + gap / 2) * step, bottom - value * (bottom - top), left + (i + 1 - gap / 2) * step, bottom),
                fill=shades[i],
                outline=edge,
            )
    what = "bars in several colors" if many else f"{name} bars"
    ground = _ground(back)
    captions = (
        f"a bar chart with {what} | a bar graph with {what} on a {ground} background | "
        f"a chart that shows {what} | a bar chart on a {ground} background | a graph with {what} and numbers"
    )
    if lying:
        captions += " | a bar chart with horizontal bars | a chart with horizontal bars of different lengths"
    else:
        captions += f" | a bar chart with {what} of different heights"
    return image, some(rng, captions)


def lines(rng: np.random.Generator) -> Drawn:
    """A line chart with one line or several."""
    image, draw, (left, top, right, bottom), (back, _) = _axes(rng)
    count = int(rng.integers(1, 5))
    chosen = colours(rng, count)
    points, jagged = int(rng.integers(5, 80)), rng.uniform(0.3, 2)
    for _, shade in chosen:
        heights = curve(rng, points, jagged)
        if rng.random() < 0.3:
            heights = 0.5 + 0.45 * np.sin(np.linspace(0, rng.uniform(4, 20), points) + rng.uniform(0, 6))
        heights = heights * rng.uniform(0.4, 0.95) + 0.02
        xy = [(left + (right - left) * i / (points - 1), bottom - h * (bottom - top)) for i, h in enumerate(heights)]
        draw.line(xy, fill=shade, width=int(rng.integers(2, 6)), joint="curve")
        if points < 20 and rng.random() < 0.6:
            for x, y in xy:
                draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=shade)
    what = f"{a(chosen[0][0])} line" if count == 1 else f"{_COUNTS[count]} lines in different colors"
    ground = _ground(back)
    return image, some(
        rng,
        f"a line chart with {what} | a line graph with {what}",
        f"a graph with {what} on a {ground} background | a chart that shows {what}",
        f"a line graph with numbers along the sides | a line chart on a {ground} background",
    )


def scatter(rng: np.random.Generator) -> Drawn:
    """A scatter plot."""
    image, draw, (left, top, right, bottom), (back, _) = _axes(rng)
    groups = int(rng.integers(1, 4))
    chosen = colours(rng, groups)
    radius = rng.uniform(3, 9)
    for _, shade in chosen:
        size = int(rng.integers(20, 150))
        centre, spread = rng.uniform(0.3, 0.7, 2), rng.uniform(0.05, 0.2, 2)
        xy = rng.normal(0, 1, (size, 2))
        xy[:, 1] += xy[:, 0] * rng.normal(0, 1.2)
        for x, y in centre + xy * spread:
            if 0 < x < 1 and 0 < y < 1:
                x, y = left + x * (right - left), bottom - y * (bottom - top)
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    what = f"{chosen[0][0]} dots" if groups == 1 else "dots in different colors"
    ground = _ground(back)
    return image, some(
        rng,
        f"a scatter plot with {what} | a chart with many {what}",
        f"a graph with {what} on a {ground} background | a plot of {what} with numbers along the sides",
        f"a scatter plot on a {ground} background",
    )


def pie(rng: np.random.Generator) -> Drawn:
    """A pie or ring chart, maybe with a legend."""
    back = light(rng)
    ink = dark(rng)
    image, draw = canvas(rng, back, (1.0, 4 / 3, 1.5))
    count = int(rng.integers(2, 8))
    shares = rng.dirichlet(np.full(count, 2.0)) * 360
    radius = image.height * rng.uniform(0.28, 0.42)
    x, y = image.width * rng.uniform(0.38, 0.55), image.height * rng.uniform(0.48, 0.56)
    start = rng.uniform(0, 360)
    legend = rng.random() < 0.5
    label = font(rng, 18)
    ring = rng.random() < 0.25
    for i, ((_, shade), share) in enumerate(zip(colours(rng, count), shares, strict=True)):
        draw.pieslice(
            (x - radius, y - radius, x + radius, y + radius),
            start,
            start + share,
            fill=shade,
            outline=back if rng.random() < 0.8 else ink,
            width=2,
        )
        middle = np.radians(start + share / 2)
        start += share
        if legend and image.width > image.height:
            draw.rectangle((image.width * 0.83, 90 + i * 34, image.width * 0.83 + 18, 108 + i * 34), fill=shade)
            draw.text((image.width * 0.83 + 26, 99 + i * 34), phrase(rng, 1)[:8], font=label, fill=ink, anchor="lm")
        elif rng.random() < 0.8 and not ring:
            draw.text(
                (x + np.cos(middle) * radius * 0.65, y + np.sin(middle) * radius * 0.65),
                f"{share / 3.6:.0f}%",
                font=label,
                fill=(255, 255, 255),
                anchor="mm",
            )
    if ring:
        hole = radius * rng.uniform(0.4, 0.7)
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=back)
    if rng.random() < 0.6:
        draw.text(
            (image.width / 2, 30), phrase(rng, int(rng.integers(2, 5))), font=font(rng, 28), fill=ink, anchor="mm"
        )
    return image, some(
        rng,
        "a pie chart with colored slices | a pie chart on a white background",
        "a round chart with slices in different colors | a pie chart in several colors",
        f"a pie chart with {_COUNTS[count]} slices",
    )


def heat_map(rng: np.random.Generator) -> Drawn:
    """A grid of coloured cells."""
    image, draw = canvas(rng, light(rng), (1.0, 4 / 3))
    columns, rows = rng.integers(5, 20, 2)
    (one, low), (two, high) = colours(rng, 2)
    values = smooth(rng, (int(columns), int(rows)), (3, 3)) if rng.random() < 0.6 else rng.random((rows, columns))
    box = (70, 60, image.width - 40, image.height - 60)
    w, h = (box[2] - box[0]) / columns, (box[3] - box[1]) / rows
    for r in range(rows):
        for c in range(columns):
            mix = float(values[r, c])
            draw.rectangle(
                (box[0] + c * w, box[1] + r * h, box[0] + (c + 1) * w - 1, box[1] + (r + 1) * h - 1),
                fill=tuple(int(mix * p + (1 - mix) * q) for p, q in zip(low, high, strict=True)),
            )
        draw.text((62, box[1] + (r + 0.5) * h), f"{r}", font=font(rng, 15, "sans"), fill=(0, 0, 0), anchor="rm")
    draw.text((image.width / 2, 30), phrase(rng, 3), font=font(rng, 26), fill=(0, 0, 0), anchor="mm")
    return image, some(
        rng,
        f"a chart made of colored squares | a grid of squares in {one} and {two}",
        f"a heat map with colored squares | a heat map in shades of {one} and {two}",
    )


def table(rng: np.random.Generator) -> Drawn:
    """A table of words and numbers."""
    image, draw = canvas(rng, light(rng), (0.75, 1.0, 4 / 3, 1.5))
    columns, rows = int(rng.integers(3, 8)), int(rng.integers(5, 18))
    left, top, right = image.width * 0.04, image.height * rng.uniform(0.04, 0.16), image.width * 0.96
    step, width = min(44.0, (image.height * 0.94 - top) / rows), (right - left) / columns
    face = font(rng, min(step * 0.55, width * 0.2))
    head, striped, ruled = colour(rng)[1], rng.random() < 0.4, rng.random() < 0.7
    if top > 50:
        draw.text((left, top / 2), phrase(rng, 3), font=font(rng, 28), fill=(0, 0, 0), anchor="lm")
    for r in range(rows):
        y = top + r * step
        if r == 0 or (striped and r % 2):
            draw.rectangle((left, y, right, y + step), fill=head if r == 0 else (232, 236, 242))
        for c in range(columns):
            text = phrase(rng, 1)[:9] if r == 0 or c == 0 else number(rng)
            draw.text(
                (left + c * width + 6, y + step / 2),
                text,
                font=face,
                fill=(255, 255, 255) if r == 0 else (20, 20, 20),
                anchor="lm",
            )
            if ruled:
                draw.rectangle((left + c * width, y, left + (c + 1) * width, y + step), outline=(120, 120, 120))
    return image, some(
        rng,
        "a table with rows and columns of numbers | a page with a table of numbers",
        "a table of words and numbers | a printed table with many rows",
        "a table with numbers on a white background",
    )


def diagram(rng: np.random.Generator) -> Drawn:
    """Boxes with words, joined by arrows."""
    image, draw = canvas(rng, light(rng))
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    many = rng.random() < 0.5
    name, shade = colour(rng)
    w, h = image.width / columns, image.height / rows
    plain = rng.random() < 0.3
    face = font(rng, min(22, w * 0.13))
    centres = {}
    for r in range(rows):
        for c in range(columns):
            if rng.random() < 0.9 or len(centres) < 3:
                centres[r, c] = ((c + 0.5) * w + rng.normal(0, 5), (r + 0.5) * h + rng.normal(0, 5))
    for (r, c), (x, y) in centres.items():
        for other in ((r, c + 1), (r + 1, c)):
            if other in centres and rng.random() < 0.9:
                u, v = centres[other]
                ex, ey = (u - w * 0.32, v) if other[0] == r else (u, v - h * 0.26)
                draw.line((x, y, ex, ey), fill=(40, 40, 40), width=3)
                nose = (
                    [(ex, ey), (ex - 13, ey - 8), (ex - 13, ey + 8)]
                    if other[0] == r
                    else [(ex, ey), (ex - 8, ey - 13), (ex + 8, ey - 13)]
                )
                draw.polygon(nose, fill=(40, 40, 40))
    shape = pick(rng, ("rounded_rectangle", "rectangle", "ellipse"))
    for x, y in centres.values():
        fill = (255, 255, 255) if plain else colour(rng)[1] if many else shade
        box = (x - w * 0.32, y - h * 0.24, x + w * 0.32, y + h * 0.24)
        if shape == "rounded_rectangle":
            draw.rounded_rectangle(box, 14, fill=fill, outline=(40, 40, 40), width=3)
        else:
            getattr(draw, shape)(box, fill=fill, outline=(40, 40, 40), width=3)
        draw.text(
            (x, y),
            phrase(rng, int(rng.integers(1, 3)))[:14],
            font=face,
            fill=(0, 0, 0) if plain or sum(fill) > 330 else (255, 255, 255),
            anchor="mm",
        )
    things = "circles" if shape == "ellipse" else "boxes"
    colored = "white" if plain else "colored" if many else name
    return image, some(
        rng,
        f"a diagram with {colored} {things} and arrows | a flow chart with {colored} {things}",
        f"{colored} {things} with words joined by arrows | a diagram of {things} joined by lines",
        f"a chart with words in {colored} {things}",
    )


def graph(rng: np.random.Generator) -> Drawn:
    """Dots joined by lines."""
    image, draw = canvas(rng, light(rng))
    name, shade = colour(rng)
    dots = rng.uniform(0.08, 0.92, (int(rng.integers(6, 25)), 2)) * image.size
    for one in dots:
        for j in np.argsort(((dots - one) ** 2).sum(1))[1 : int(rng.integers(2, 5))]:
            draw.line((*one, *dots[j]), fill=(110, 110, 110), width=2)
    radius = rng.uniform(8, 22)
    for x, y in dots:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade, outline=(30, 30, 30), width=2)
    return image, some(
        rng,
        f"a diagram of {name} circles joined by lines | {name} dots connected by lines",
        f"a network of {name} dots and lines | a diagram with lines between {name} dots",
    )


def street_map(rng: np.random.Generator) -> Drawn:
    """A map of streets, with water and a park."""
    image, draw = canvas(rng, pick(rng, ((242, 239, 233), (235, 235, 230), (225, 230, 220))))
    w, h = image.size
    water = rng.random() < 0.7
    if rng.random() < 0.7:
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        draw.rectangle((x, y, x + rng.uniform(80, 220), y + rng.uniform(80, 200)), fill=(190, 220, 165))
    if water:
        bank = curve(rng, 12, 1.0) * 0.25 + rng.uniform(0.1, 0.6)
        upper = [(i * w / 11, b * h) for i, b in enumerate(bank)]
        draw.polygon(upper + [(x, y + rng.uniform(50, 110)) for x, y in reversed(upper)], fill=(150, 195, 225))
    tilt = rng.normal(0, 0.3)
    for vertical in (False, True):
        for _ in range(int(rng.integers(4, 11))):
            at, slope = rng.uniform(0, 1), tilt * (1 if vertical else -1) + rng.normal(0, 0.05)
            ends = (
                ((at + slope / 2) * w, 0, (at - slope / 2) * w, h)
                if vertical
                else (0, (at + slope / 2) * h, w, (at - slope / 2) * h)
            )
            width = int(pick(rng, (4, 6, 6, 12)))
            draw.line(ends, fill=(200, 195, 188), width=width + 3)
            draw.line(ends, fill=(250, 205, 110) if width == 12 else (255, 255, 255), width=width)
    for _ in range(int(rng.integers(3, 12))):
        draw.text(
            (rng.uniform(0, w * 0.85), rng.uniform(0, h * 0.95)),
            phrase(rng, int(rng.integers(1, 3))),
            font=font(rng, rng.uniform(13, 24), "sans"),
            fill=(80, 80, 80),
        )
    captions = (
        "a map of a city with streets | a street map with names | a map with roads and names | "
        "a picture of a street map"
    )
    return image, some(rng, captions + " | a map with streets and a blue river" * water)


def land_map(rng: np.random.Generator) -> Drawn:
    """Countries in colours, or an island in the sea."""
    image, _ = canvas(rng, (0, 0, 0))
    height = smooth(rng, image.size, (int(rng.integers(3, 6)), int(rng.integers(3, 5)))) + 0.12 * smooth(
        rng, image.size, (24, 18)
    )
    sea = height < np.quantile(height, rng.uniform(0.35, 0.6))
    seeds = rng.uniform(0, 1, (int(rng.integers(4, 14)), 2)) * (image.height, image.width)
    y, x = np.mgrid[: image.height, : image.width]
    bend = 60 * smooth(rng, image.size, (10, 8))
    country = np.argmin([(y + bend - v) ** 2 + (x + bend - u) ** 2 for v, u in seeds], axis=0)
    shades = np.array([np.array(c) * 0.55 + 110 for _, c in colours(rng, len(seeds))])
    values = np.where(sea[..., None], np.array((165, 205, 235)), shades[country])
    edge = (
        (country != np.roll(country, 2, 0))
        | (country != np.roll(country, 2, 1))
        | (sea != np.roll(sea, 2, 0))
        | (sea != np.roll(sea, 2, 1))
    )
    values[edge] = 90
    image = picture(values)
    draw = ImageDraw.Draw(image)
    for v, u in seeds:
        if not sea[int(v) % image.height, int(u) % image.width]:
            draw.text((u, v), phrase(rng, 1), font=font(rng, 20, "sans"), fill=(30, 30, 30), anchor="mm")
    return image, some(
        rng,
        "a map with countries in different colors | a colored map of land and sea",
        "a map with land and blue water | a map that shows countries and the sea",
    )
