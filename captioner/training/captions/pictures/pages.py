"""Paper: printed and written pages, forms, receipts, music, codes; and the cards and slides that films hold."""

from __future__ import annotations

import numpy as np

from captioner.training.captions.pictures.canvas import (
    Drawn,
    a,
    canvas,
    colour,
    curve,
    dark,
    font,
    light,
    number,
    paragraph,
    phrase,
    pick,
    prose,
    some,
)


def printed(rng: np.random.Generator) -> Drawn:
    """A page of text, in one column or more."""
    paper, ink = light(rng), dark(rng)
    image, draw = canvas(rng, paper, (0.7, 0.75, 1.0, 1.0, 4 / 3, 1.5))
    face = font(rng, rng.uniform(12, 30))
    margin, top = image.width * rng.uniform(0.03, 0.12), image.height * rng.uniform(0.02, 0.1)
    headed = rng.random() < 0.4
    if headed:
        draw.text((margin, top), phrase(rng, 3), font=font(rng, face.size * 1.8), fill=ink)
        top += face.size * 3
    columns = int(pick(rng, (1, 1, 1, 2, 2, 3))) if face.size < 20 else 1
    width = (image.width - margin) / columns
    for c in range(columns):
        y, end = top, image.height * rng.uniform(0.85, 0.97)
        spacing = rng.uniform(1.2, 1.7)
        while y + face.size < end:
            y = paragraph(
                draw,
                (margin + c * width, y, margin + (c + 1) * width - margin, end),
                prose(rng, int(rng.integers(20, 90))),
                face,
                ink,
                spacing,
            )
            y += face.size * rng.uniform(0, 1)
    captions = (
        "a page of printed text | a page of text from a book | a page with many lines of text | "
        "black text on a white page | a printed page full of words | a close up of printed text | "
        "a document with a lot of text"
    )
    if headed:
        captions += " | a page of text with a heading"
    if columns > 1:
        captions += f" | a page of text in {'two' if columns == 2 else 'three'} columns"
    return image, some(rng, captions)


def newspaper(rng: np.random.Generator) -> Drawn:
    """A page with headlines, columns and grey photos."""
    image, draw = canvas(rng, (int(rng.integers(215, 240)),) * 3, (0.7, 0.75, 1.0))
    w, h = image.size
    draw.text((w / 2, 36), phrase(rng, 2).upper(), font=font(rng, 54, "serif"), fill=(20, 20, 20), anchor="mm")
    draw.line((12, 74, w - 12, 74), fill=(20, 20, 20), width=3)
    columns = int(rng.integers(3, 5))
    step = w / columns
    for c in range(columns):
        y = 86.0
        while y < h - 40:
            if rng.random() < 0.3:
                tall = rng.uniform(50, 110)
                draw.rectangle((c * step + 8, y, (c + 1) * step - 8, y + tall), fill=(int(rng.integers(70, 170)),) * 3)
                y += tall + 8
            y = paragraph(
                draw,
                (c * step + 8, y, (c + 1) * step - 8, h - 8),
                phrase(rng, 4),
                font(rng, 24, "serif"),
                (15, 15, 15),
                1.1,
            )
            y = (
                paragraph(
                    draw,
                    (c * step + 8, y, (c + 1) * step - 8, h - 8),
                    prose(rng, 45),
                    font(rng, 12, "serif"),
                    (50, 50, 50),
                )
                + 8
            )
    return image, some(
        rng,
        "a page of a newspaper | a newspaper with headlines and columns of text",
        "the front page of a newspaper | a newspaper page with a lot of text",
    )


def _stroke(rng: np.random.Generator, x: float, size: float) -> tuple[list[tuple[float, float]], float]:
    """A word's scrawl from x on, as points about the line's height, and where it ends."""
    letters = int(rng.integers(2, 10))
    points = []
    for _ in range(letters):
        tall, wide = pick(rng, (0.4, 0.45, 0.5, 0.5, 1.0, -0.5)), rng.uniform(0.08, 0.24)
        turn = np.linspace(0, 2 * np.pi, 9)
        points += [
            (
                x + size * (0.32 * t / 6.28 + wide * np.sin(t) + 0.1 * tall * (1 - np.cos(t))),
                -size * tall * 0.5 * (1 - np.cos(t)),
            )
            for t in turn
        ]
        x += size * rng.uniform(0.3, 0.5)
    return points, x


def written(rng: np.random.Generator) -> Drawn:
    """A page of handwriting, on plain or ruled paper."""
    paper = light(rng)
    image, draw = canvas(rng, paper, (0.75, 1.0, 4 / 3))
    name, ink = pick(rng, (("blue", (35, 50, 140)), ("black", (25, 25, 30)), ("red", (170, 30, 40))))
    size = rng.uniform(18, 44)
    step = size * rng.uniform(1.7, 2.3)
    ruled = rng.random() < 0.5
    y = step
    while y < image.height - size:
        if ruled:
            draw.line((0, y + 3, image.width, y + 3), fill=(175, 195, 225), width=2)
        x, end = image.width * rng.uniform(0.05, 0.1), image.width * rng.uniform(0.6, 0.92)
        while x < end and rng.random() < 0.98:
            points, x = _stroke(rng, x, size)
            draw.line(
                [(u, y + v + rng.normal(0, 0.6)) for u, v in points],
                fill=ink,
                width=int(rng.integers(2, 4)),
                joint="curve",
            )
            x += size * 0.5
        y += step
    return image, some(
        rng,
        (
            f"a page of handwriting | a handwritten page on white paper | handwriting in {name} ink | "
            f"a sheet of paper with {name} handwriting | a handwritten note on paper | a letter written by hand"
        )
        + " | handwriting on a sheet of lined paper" * ruled,
    )


def form(rng: np.random.Generator) -> Drawn:
    """A form to be filled in."""
    image, draw = canvas(rng, light(rng), (0.7, 0.75, 1.0))
    w, h = image.size
    head = colour(rng)[1] if rng.random() < 0.5 else (20, 20, 20)
    draw.text((30, 26), phrase(rng, 3), font=font(rng, 34), fill=head)
    y, face = 90.0, font(rng, 19)
    while y < h - 50:
        draw.text((30, y), phrase(rng, int(rng.integers(1, 3))) + ":", font=face, fill=(20, 20, 20))
        kind = rng.random()
        if kind < 0.6:
            draw.rectangle((w * 0.42, y - 4, w - 30, y + 26), outline=(90, 90, 90), width=2)
        elif kind < 0.8:
            draw.line((w * 0.42, y + 24, w - 30, y + 24), fill=(90, 90, 90), width=2)
        else:
            for i in range(3):
                x = w * 0.42 + i * 95
                draw.rectangle((x, y, x + 20, y + 20), outline=(60, 60, 60), width=2)
                draw.text((x + 28, y), phrase(rng, 1)[:5], font=face, fill=(20, 20, 20))
        y += rng.uniform(42, 60)
    return image, some(
        rng,
        "a printed form with empty boxes | a form to be filled in | a paper form with lines and boxes",
        "a page of a form with blanks",
    )


def receipt(rng: np.random.Generator) -> Drawn:
    """A till's receipt or a bill."""
    image, draw = canvas(
        rng, pick(rng, ((120, 100, 80), (60, 60, 65), (235, 235, 235), (200, 190, 175))), (0.6, 0.75, 1.0)
    )
    w, h = image.size
    width = min(w * 0.9, h * rng.uniform(0.42, 0.6))
    left, right = (w - width) / 2, (w + width) / 2
    draw.rectangle((left, 14, right, h - 14), fill=(250, 249, 245))
    face = font(rng, width / 18, "mono")
    draw.text((w / 2, 50), phrase(rng, 2).upper(), font=font(rng, width / 12, "mono"), fill=(30, 30, 30), anchor="mm")
    y = 95.0
    while y < h - 90:
        draw.text((left + 16, y), phrase(rng, 1)[:10], font=face, fill=(40, 40, 40))
        draw.text((right - 16, y), f"{rng.uniform(0.5, 60):.2f}", font=face, fill=(40, 40, 40), anchor="ra")
        y += face.size * 1.5
    draw.line((left + 12, y + 4, right - 12, y + 4), fill=(40, 40, 40), width=2)
    draw.text((left + 16, y + 12), "TOTAL", font=face, fill=(0, 0, 0))
    draw.text((right - 16, y + 12), f"{rng.uniform(20, 400):.2f}", font=face, fill=(0, 0, 0), anchor="ra")
    return image, some(
        rng,
        "a receipt from a store | a paper receipt with prices | a printed bill with prices",
        "a receipt with a list of prices",
    )


def music(rng: np.random.Generator) -> Drawn:
    """Sheet music."""
    image, draw = canvas(rng, light(rng), (0.75, 1.0, 4 / 3))
    w, h = image.size
    gap = rng.uniform(7, 14)
    y = gap * rng.uniform(4, 8)
    while y + gap * 5 < h:
        for i in range(5):
            draw.line((20, y + i * gap, w - 20, y + i * gap), fill=(20, 20, 20), width=1)
        x = 20 + gap * 3
        draw.arc((24, y - gap, 24 + gap * 2, y + gap * 5), 40, 340, fill=(20, 20, 20), width=3)
        while x < w - 30:
            v = y + gap * rng.integers(-1, 10) / 2
            hollow = rng.random() < 0.25
            draw.ellipse(
                (x - gap * 0.65, v - gap * 0.45, x + gap * 0.65, v + gap * 0.45),
                fill=None if hollow else (10, 10, 10),
                outline=(10, 10, 10),
                width=2,
            )
            draw.line((x + gap * 0.6, v, x + gap * 0.6, v - gap * 3.2), fill=(10, 10, 10), width=2)
            if rng.random() < 0.2:
                draw.line((x + gap * 1.6, y, x + gap * 1.6, y + 4 * gap), fill=(20, 20, 20), width=2)
            x += gap * rng.uniform(2, 4)
        y += gap * rng.uniform(8, 11)
    return image, some(
        rng,
        "a page of sheet music | a sheet of music with notes | musical notes on a white page",
        "a page of printed music",
    )


def title_card(rng: np.random.Generator) -> Drawn:
    """A film's title, or words between its scenes."""
    pale = rng.random() < 0.2
    if rng.random() < 0.6 or pale:
        ground, back = ("white", light(rng)) if pale else ("black", dark(rng))
    else:
        ground, back = colour(rng)
    ink = dark(rng) if pale else pick(rng, ((255, 255, 255), (255, 255, 255), (240, 225, 170)))
    image, draw = canvas(rng, back, (4 / 3, 16 / 9, 16 / 9, 1.0))
    w, h = image.size
    count = int(rng.integers(1, 6))
    face = font(rng, rng.uniform(34, 80) if count < 4 else rng.uniform(24, 40))
    y = h * rng.uniform(0.3, 0.5) - count * face.size * 0.35
    for _ in range(count):
        text = phrase(rng, int(rng.integers(1, 5)))
        if rng.random() < 0.3:
            text = text.upper()
        size = face
        while size.size > 12 and size.getlength(text) > w * 0.95:
            text = text.rsplit(" ", 1)[0] if " " in text else text[:-2]
        draw.text((w / 2, y), text, font=size, fill=ink, anchor="mm")
        y += face.size * 1.3
    words = "black" if pale else "white" if ink == (255, 255, 255) else "light"
    return image, some(
        rng,
        f"{words} text on {a(ground)} background | {a(ground)} screen with {words} words on it",
        f"a title with {words} letters on {a(ground)} background | {words} words on {a(ground)} screen",
        f"{words} letters on {a(ground)} background",
    )


def slide(rng: np.random.Generator) -> Drawn:
    """A slide of a talk: a heading and points."""
    night = rng.random() < 0.25
    name, shade = colour(rng)
    back = dark(rng) if night else light(rng)
    ink = (240, 240, 240) if night else dark(rng)
    image, draw = canvas(rng, back, (4 / 3, 16 / 9))
    w, h = image.size
    banner = rng.random() < 0.5
    if banner:
        draw.rectangle((0, 0, w, h * 0.2), fill=shade)
    draw.text(
        (w * 0.06, h * 0.1),
        phrase(rng, int(rng.integers(2, 5))),
        font=font(rng, 46),
        fill=(255, 255, 255) if banner else ink,
        anchor="lm",
    )
    y, face = h * 0.28, font(rng, rng.uniform(24, 34))
    bullet = pick(rng, ("\u2022", "-", "dot"))
    half = rng.random() < 0.3
    for _ in range(int(rng.integers(3, 7))):
        draw.text((w * 0.06, y), "\u2022" if bullet != "-" else "-", font=face, fill=ink)
        y = (
            paragraph(
                draw,
                (w * 0.1, y, w * (0.5 if half else 0.94), h * 0.95),
                phrase(rng, int(rng.integers(3, 10))),
                face,
                ink,
            )
            + face.size * 0.4
        )
        if y > h * 0.9:
            break
    if half:
        heights = rng.uniform(0.1, 0.55, 5)
        for i, value in enumerate(heights):
            draw.rectangle((w * (0.58 + 0.07 * i), h * (0.9 - value), w * (0.63 + 0.07 * i), h * 0.9), fill=shade)
    captions = (
        "a slide with a heading and a list of points | a slide of a presentation with text | "
        "a presentation slide with bullet points | a list of points under a heading | "
        "a slide with text on it"
    )
    if half:
        captions += " | a slide with text and a bar chart"
    elif banner:
        captions += f" | a slide with {a(name)} bar at the top and text"
    return image, some(rng, captions)


def formulas(rng: np.random.Generator) -> Drawn:
    """Formulas, printed or on a blackboard."""
    board = rng.random() < 0.4
    back, ink = ((35, 65, 50), (235, 235, 225)) if board else (light(rng), dark(rng))
    image, draw = canvas(rng, back)
    y = image.height * 0.08
    while y < image.height * 0.88:
        left = "".join(
            pick(rng, "xyzabfgn") + pick(rng, ("", "\u00b2", "(x)", "")) + pick(rng, (" + ", " - ", " / ", " "))
            for _ in range(int(rng.integers(2, 5)))
        )
        face = font(rng, rng.uniform(26, 46), "italic")
        draw.text(
            (image.width * rng.uniform(0.05, 0.2), y), f"{left}= {number(rng)} {pick(rng, 'xyzk')}", font=face, fill=ink
        )
        y += face.size * rng.uniform(1.4, 2.2)
    captions = (
        "a page of math formulas | formulas with letters and numbers | a page with equations on it | "
        "math equations in several lines"
    )
    return image, some(
        rng,
        ("a green board with formulas on it | math equations on a green board | formulas written on a green board")
        if board
        else captions,
    )


def bar_code(rng: np.random.Generator) -> Drawn:
    """A bar code with its number."""
    image, draw = canvas(rng, (255, 255, 255), (1.0, 4 / 3, 1.5))
    w, h = image.size
    x = w * 0.1
    while x < w * 0.9:
        thick = int(rng.integers(1, 5)) * w / 220
        draw.rectangle((x, h * 0.15, x + thick, h * 0.78), fill=(0, 0, 0))
        x += thick + int(rng.integers(1, 4)) * w / 220
    draw.text(
        (w / 2, h * 0.86),
        "".join(str(v) for v in rng.integers(0, 10, 12)),
        font=font(rng, 40, "mono"),
        fill=(0, 0, 0),
        anchor="mm",
    )
    return image, some(
        rng,
        "a black and white bar code | a bar code with numbers under it | a barcode on a white background",
        "black lines of a bar code",
    )


def square_code(rng: np.random.Generator) -> Drawn:
    """What looks like a QR code."""
    image, draw = canvas(rng, (255, 255, 255), (1.0, 1.0, 4 / 3))
    cells = int(pick(rng, (21, 25, 29, 33)))
    step = image.height * rng.uniform(0.7, 0.9) / cells
    left, top = (image.width - step * cells) / 2, (image.height - step * cells) / 2
    dots = rng.random((cells, cells)) < 0.5
    for r, c in ((0, 0), (0, cells - 7), (cells - 7, 0)):
        dots[max(0, r - 1) : r + 8, max(0, c - 1) : c + 8] = False
        dots[r : r + 7, c : c + 7] = True
        dots[r + 1 : r + 6, c + 1 : c + 6] = False
        dots[r + 2 : r + 5, c + 2 : c + 5] = True
    for r, c in np.argwhere(dots):
        draw.rectangle((left + c * step, top + r * step, left + (c + 1) * step, top + (r + 1) * step), fill=(0, 0, 0))
    return image, some(
        rng,
        "a black and white qr code | a qr code on a white background",
        "a square code made of black and white squares | a square black and white code",
    )


def signature_curve(rng: np.random.Generator) -> Drawn:
    """The paper strip of a recorder: one trembling line on a grid, as of a heart or an earthquake."""
    image, draw = canvas(rng, (255, 250, 246), (1.5, 16 / 9))
    w, h = image.size
    for i in range(0, max(w, h), 20):
        for box in ((i, 0, i, h), (0, i, w, i)):
            draw.line(box, fill=(245, 190, 190), width=2 if i % 100 == 0 else 1)
    rows = int(rng.integers(1, 4))
    for r in range(rows):
        line = h * (r + 0.5) / rows
        beats = np.linspace(0, rng.uniform(4, 12), w)
        pulse = np.exp(-(((beats % 1) - 0.5) ** 2) / 0.0008) - 0.3 * np.exp(-(((beats % 1) - 0.58) ** 2) / 0.002)
        heights = pulse * h / rows * 0.35 + curve(rng, w, 0.3) * 6
        draw.line([(x, line - v) for x, v in enumerate(heights)], fill=(20, 20, 30), width=2)
    return image, some(
        rng,
        "a black line on a red grid | a chart with a line that has peaks",
        "a chart of heart beats on a red grid | a paper chart with a jagged black line",
    )
