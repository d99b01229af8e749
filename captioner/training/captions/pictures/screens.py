"""Screens: programs, web pages, phones, terminals, code, desktops, test cards, icons."""

from __future__ import annotations

import numpy as np

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
    paragraph,
    phrase,
    pick,
    prose,
    some,
)

_WIDE = (4 / 3, 1.5, 16 / 9, 16 / 9)


def _window(rng, draw, box, title: str, shade) -> float:
    """A window's frame with a title bar; returns where its inside begins."""
    left, top, right, _ = box
    bar = rng.uniform(24, 36)
    draw.rectangle(box, fill=(246, 246, 246), outline=(110, 110, 110), width=2)
    draw.rectangle((left, top, right, top + bar), fill=shade)
    draw.text(
        (left + 40, top + bar / 2),
        title,
        font=font(rng, bar * 0.55, "sans"),
        fill=(255, 255, 255) if sum(shade) < 420 else (20, 20, 20),
        anchor="lm",
    )
    for i, dot in enumerate(((235, 90, 80), (240, 185, 60), (95, 195, 80))):
        x = right - 22 * (i + 1)
        draw.ellipse((x, top + bar / 2 - 6, x + 12, top + bar / 2 + 6), fill=dot)
    return top + bar


def program(rng: np.random.Generator) -> Drawn:
    """A program's window with a menu, tools, a list and fields."""
    image, draw = canvas(rng, colour(rng)[1], _WIDE)
    w, h = image.size
    inset = rng.uniform(0, 30)
    box = (inset, inset, w - inset, h - inset)
    y = _window(rng, draw, box, phrase(rng, 3), colour(rng)[1])
    x = inset + 12
    face = font(rng, 17, "sans")
    for item in ("File", "Edit", "View", "Tools", "Help"):
        draw.text((x, y + 5), item, font=face, fill=(20, 20, 20))
        x += face.getlength(item) + 22
    y += 32
    for i in range(int(rng.integers(5, 14))):
        draw.rounded_rectangle(
            (inset + 10 + i * 38, y, inset + 40 + i * 38, y + 30),
            5,
            fill=colour(rng)[1] if rng.random() < 0.6 else (220, 220, 220),
            outline=(150, 150, 150),
        )
    y += 42
    side = w * rng.uniform(0.2, 0.32)
    draw.rectangle((inset + 2, y, side, h - inset - 2), fill=(232, 234, 238))
    row = y + 10
    while row < h - inset - 30:
        draw.text((inset + 16, row), phrase(rng, int(rng.integers(1, 3)))[:16], font=face, fill=(40, 40, 40))
        row += 30
    if rng.random() < 0.5:
        draw.rectangle(
            (side + 12, y + 8, w - inset - 14, h - inset - 14), fill=(255, 255, 255), outline=(190, 190, 190)
        )
        paragraph(draw, (side + 24, y + 18, w - inset - 26, h - inset - 24), prose(rng, 150), face, (30, 30, 30))
    else:
        row = y + 14
        while row < h - inset - 60:
            draw.text((side + 18, row + 4), phrase(rng, 1), font=face, fill=(30, 30, 30))
            draw.rectangle((side + 140, row, w - inset - 30, row + 28), fill=(255, 255, 255), outline=(150, 150, 150))
            row += 44
        draw.rounded_rectangle(
            (w - inset - 150, h - inset - 48, w - inset - 24, h - inset - 14), 6, fill=colour(rng)[1]
        )
        draw.text((w - inset - 87, h - inset - 31), "OK", font=face, fill=(255, 255, 255), anchor="mm")
    return image, some(
        rng,
        "a screenshot of a computer program with a menu | a window of a computer program",
        "a computer screen with a program open | a screenshot of a program with buttons and a list",
        "a screenshot of a computer screen | a program window with a menu bar",
    )


def dialog(rng: np.random.Generator) -> Drawn:
    """A small window that asks something."""
    image, draw = canvas(rng, colour(rng)[1], _WIDE)
    w, h = image.size
    box = (w * 0.2, h * 0.25, w * 0.8, h * 0.75)
    y = _window(rng, draw, box, phrase(rng, 2), colour(rng)[1])
    paragraph(
        draw, (box[0] + 30, y + 24, box[2] - 30, box[3] - 70), prose(rng, 10), font(rng, 22, "sans"), (20, 20, 20)
    )
    for i, word in enumerate(("OK", "Cancel")):
        x = box[2] - 130 * (i + 1)
        draw.rounded_rectangle((x, box[3] - 56, x + 110, box[3] - 18), 6, fill=(225, 225, 225), outline=(120, 120, 120))
        draw.text((x + 55, box[3] - 37), word, font=font(rng, 20, "sans"), fill=(20, 20, 20), anchor="mm")
    return image, some(
        rng,
        "a message window with two buttons | a small window on a computer screen",
        "a screenshot of a message on a screen | a window with a message and buttons",
    )


def web_page(rng: np.random.Generator) -> Drawn:
    """A web site with a banner, links, cards."""
    image, draw = canvas(rng, (255, 255, 255), (0.75, 1.0, *_WIDE))
    w, h = image.size
    name, shade = colour(rng)
    top = 0.0
    if rng.random() < 0.5:
        draw.rectangle((0, 0, w, 40), fill=(225, 227, 231))
        draw.rounded_rectangle((90, 7, w - 60, 33), 12, fill=(255, 255, 255))
        draw.text(
            (108, 20), f"www.{phrase(rng, 1).lower()}.com", font=font(rng, 16, "sans"), fill=(80, 80, 80), anchor="lm"
        )
        top = 40
    draw.rectangle((0, top, w, top + h * 0.1), fill=shade)
    draw.text((24, top + h * 0.05), phrase(rng, 1), font=font(rng, 30, "sans"), fill=(255, 255, 255), anchor="lm")
    for i in range(4):
        draw.text(
            (w * (0.45 + 0.13 * i), top + h * 0.05),
            phrase(rng, 1)[:7],
            font=font(rng, 17, "sans"),
            fill=(255, 255, 255),
            anchor="lm",
        )
    y = top + h * 0.14
    draw.text((24, y), phrase(rng, 4), font=font(rng, 34, "sans"), fill=(25, 25, 25))
    y += 58
    columns = int(rng.integers(2, 5))
    step = (w - 24) / columns
    while y < h - 60:
        for c in range(columns):
            x = 24 + c * step
            draw.rectangle((x, y, x + step - 24, y + 84), fill=tuple(int(0.4 * v + 140) for v in colour(rng)[1]))
            paragraph(
                draw, (x, y + 92, x + step - 24, min(h, y + 156)), phrase(rng, 9), font(rng, 16, "sans"), (60, 60, 60)
            )
        y += 176
    return image, some(
        rng,
        f"a screenshot of a web page | a web page with {a(name)} bar at the top",
        "a web site with boxes and text | a web page with a heading and columns",
        "a screenshot of a website in a browser",
    )


def phone(rng: np.random.Generator) -> Drawn:
    """A phone's screen: messages, a list or rows of icons."""
    image, draw = canvas(rng, light(rng), (0.5, 0.56, 0.6, 0.75))
    w, h = image.size
    kind = pick(rng, ("messages", "list", "icons"))
    if kind == "icons":
        draw.rectangle((0, 0, w, h), fill=colour(rng)[1])
    draw.text((16, 14), f"{rng.integers(0, 24)}:{rng.integers(10, 60)}", font=font(rng, 22, "sans"), fill=(30, 30, 30))
    draw.rectangle((w - 56, 17, w - 20, 33), outline=(30, 30, 30), width=2)
    name, shade = colour(rng)
    face = font(rng, 24, "sans")
    if kind == "icons":
        step = w / 4
        for r in range(int(rng.integers(3, int(h / step)))):
            for c in range(4):
                x, y = c * step + step * 0.18, 80 + r * step * 1.15
                draw.rounded_rectangle((x, y, x + step * 0.64, y + step * 0.64), 18, fill=colour(rng)[1])
                draw.text(
                    (x + step * 0.32, y + step * 0.78),
                    phrase(rng, 1)[:7],
                    font=font(rng, 16, "sans"),
                    fill=(255, 255, 255),
                    anchor="mm",
                )
        return image, some(
            rng,
            "a phone screen with rows of icons | the screen of a phone with colored icons",
            "a screenshot of a phone with apps | rows of app icons on a screen",
        )
    draw.rectangle((0, 50, w, 116), fill=shade)
    draw.text((24, 83), phrase(rng, 2), font=font(rng, 30, "sans"), fill=(255, 255, 255), anchor="lm")
    y = 136.0
    while y < h - 90:
        if kind == "list":
            draw.ellipse((20, y, 76, y + 56), fill=colour(rng)[1])
            draw.text((96, y + 2), phrase(rng, 2), font=face, fill=(20, 20, 20))
            draw.text((96, y + 32), phrase(rng, 4)[:28], font=font(rng, 18, "sans"), fill=(120, 120, 120))
            draw.line((20, y + 72, w - 20, y + 72), fill=(215, 215, 215), width=2)
            y += 84
        else:
            mine, tall = rng.random() < 0.5, int(rng.integers(1, 4)) * 32 + 20
            x = w * 0.28 if mine else 20
            draw.rounded_rectangle((x, y, x + w * 0.66, y + tall), 20, fill=shade if mine else (225, 226, 230))
            paragraph(
                draw,
                (x + 16, y + 10, x + w * 0.63, y + tall),
                phrase(rng, 14),
                font(rng, 22, "sans"),
                (255, 255, 255) if mine else (20, 20, 20),
            )
            y += tall + 18
    if kind == "list":
        return image, some(
            rng,
            "a screenshot of a phone with a list | a phone screen with a list of items",
            f"a phone screen with {a(name)} bar and a list | an app on a phone with a list",
        )
    return image, some(
        rng,
        "a screenshot of messages on a phone | a phone screen with text messages",
        "a chat on the screen of a phone | text messages in colored bubbles",
    )


def terminal(rng: np.random.Generator) -> Drawn:
    """A terminal with lines of output."""
    back = dark(rng)
    name, ink = pick(
        rng,
        (("green", (70, 220, 90)), ("white", (230, 230, 230)), ("white", (200, 205, 210)), ("orange", (255, 175, 60))),
    )
    image, draw = canvas(rng, back, _WIDE)
    face = font(rng, rng.uniform(16, 26), "mono")
    y = 10.0
    if rng.random() < 0.4:
        draw.rectangle((0, 0, image.width, 30), fill=(70, 72, 76))
        y = 40
    end = image.height * rng.uniform(0.5, 1)
    while y < end:
        command = rng.random() < 0.25
        text = (
            f"$ {pick(rng, ('ls -l', 'cd src', 'make all', 'python run.py', 'git log', 'cat notes.txt'))}"
            if command
            else phrase(rng, int(rng.integers(1, 9))).lower() + pick(rng, ("", " 0x3f", " [ok]", f" {number(rng)}"))
        )
        draw.text((12, y), text, font=face, fill=(255, 255, 255) if command else ink)
        y += face.size * 1.3
    return image, some(
        rng,
        f"a black screen with {name} text | a computer terminal with {name} text",
        f"lines of {name} text on a black screen | a screenshot of a terminal window",
        f"{name} computer text on a dark background",
    )


_KEYWORDS = ("def", "return", "for", "if", "class", "import", "while", "else", "from", "with")


def code(rng: np.random.Generator) -> Drawn:
    """A program's source in colours, with numbered lines."""
    night = rng.random() < 0.65
    back, ink = ((30, 32, 40), (210, 212, 215)) if night else ((253, 253, 250), (30, 30, 30))
    image, draw = canvas(rng, back, (1.0, *_WIDE))
    face = font(rng, rng.uniform(14, 23), "mono")
    key, text, comment = (
        (198, 120, 221) if night else (150, 30, 140),
        (152, 195, 121) if night else (25, 120, 50),
        (125, 135, 150),
    )
    y, row, indent, step = 10.0, 1, 0, face.getlength("m")
    numbered = rng.random() < 0.8
    while y < image.height - face.size:
        x = step * (5 if numbered else 1)
        if numbered:
            draw.text((step * 3.5, y), f"{row}", font=face, fill=comment, anchor="ra")
        row += 1
        if rng.random() > 0.12:
            x += indent * step * 4
            parts = (
                [(f"# {phrase(rng, 4).lower()}", comment)]
                if rng.random() < 0.12
                else [
                    (pick(rng, _KEYWORDS), key),
                    (pick(rng, WORDS_OF_CODE) + "(", ink),
                    (pick(rng, WORDS_OF_CODE), ink),
                    ("):", ink),
                ]
            )
            if rng.random() < 0.4:
                parts = [
                    (pick(rng, WORDS_OF_CODE), ink),
                    (" = ", ink),
                    (pick(rng, (f'"{phrase(rng, 2).lower()}"', number(rng))), text),
                ]
            for part, shade in parts:
                draw.text((x, y), part, font=face, fill=shade)
                x += face.getlength(part + " ")
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 4))
        y += face.size * 1.4
    ground = "dark" if night else "white"
    return image, some(
        rng,
        f"a screenshot of computer code | lines of code on a {ground} background",
        f"colored computer code on a {ground} screen | a screen full of program code",
        "computer code in a text editor",
    )


WORDS_OF_CODE = (
    "value",
    "items",
    "count",
    "self",
    "name",
    "path",
    "index",
    "result",
    "data",
    "size",
    "self.run",
    "print",
    "range",
    "open",
)


def spreadsheet(rng: np.random.Generator) -> Drawn:
    """A spreadsheet on a screen."""
    image, draw = canvas(rng, (255, 255, 255), _WIDE)
    w, h = image.size
    name, shade = pick(rng, (("green", (35, 115, 70)), ("blue", (45, 90, 160)), ("gray", (200, 202, 205))))
    draw.rectangle((0, 0, w, 44), fill=shade)
    draw.text((16, 22), phrase(rng, 2), font=font(rng, 20, "sans"), fill=(255, 255, 255), anchor="lm")
    width, step = rng.uniform(75, 120), rng.uniform(22, 32)
    face = font(rng, step * 0.58, "sans")
    draw.rectangle((0, 44, w, 44 + step), fill=(232, 232, 232))
    draw.rectangle((0, 44, 40, h), fill=(232, 232, 232))
    filled_columns, filled_rows = rng.integers(2, 8), rng.integers(5, 22)
    for r in range(int(h / step) + 1):
        y = 44 + r * step
        draw.line((0, y, w, y), fill=(205, 205, 205))
        draw.text((20, y + step * 1.5), f"{r + 1}", font=face, fill=(90, 90, 90), anchor="mm")
        for c in range(int(w / width) + 1):
            x = 40 + c * width
            if r == 0:
                draw.line((x, 44, x, h), fill=(205, 205, 205))
                draw.text((x + width / 2, y + step / 2), chr(65 + c), font=face, fill=(90, 90, 90), anchor="mm")
            elif c < filled_columns and r < filled_rows:
                draw.text(
                    (x + 6, y + step / 2),
                    phrase(rng, 1)[:8] if c == 0 or r == 1 else number(rng),
                    font=face,
                    fill=(20, 20, 20),
                    anchor="lm",
                )
    return image, some(
        rng,
        "a spreadsheet with rows and columns of numbers | a screenshot of a spreadsheet",
        "a computer screen with a spreadsheet | a spreadsheet full of numbers",
        f"a spreadsheet with {a(name)} bar at the top",
    )


def desktop(rng: np.random.Generator) -> Drawn:
    """A desktop with icons and windows."""
    name, shade = colour(rng)
    image, draw = canvas(rng, shade, _WIDE)
    w, h = image.size
    for c in range(int(rng.integers(1, 3))):
        for r in range(int(rng.integers(3, 6))):
            x, y = 20 + c * 84, 20 + r * 88
            draw.rounded_rectangle((x + 8, y, x + 56, y + 48), 8, fill=colour(rng)[1], outline=(240, 240, 240))
            draw.text(
                (x + 32, y + 60), phrase(rng, 1)[:7], font=font(rng, 15, "sans"), fill=(255, 255, 255), anchor="mm"
            )
    windows = int(rng.integers(0, 4))
    for _ in range(windows):
        x, y = rng.uniform(w * 0.2, w * 0.5), rng.uniform(10, h * 0.4)
        box = (x, y, x + rng.uniform(200, 380), y + rng.uniform(140, 260))
        top = _window(rng, draw, box, phrase(rng, 2), colour(rng)[1])
        paragraph(
            draw, (box[0] + 12, top + 10, box[2] - 12, box[3] - 10), prose(rng, 60), font(rng, 15, "sans"), (40, 40, 40)
        )
    draw.rectangle((0, h - 36, w, h), fill=(40, 42, 48))
    for i in range(6):
        draw.rounded_rectangle((14 + i * 44, h - 31, 42 + i * 44, h - 5), 5, fill=colour(rng)[1])
    captions = (
        f"a computer desktop with icons | a {name} computer screen with icons | "
        "a screenshot of a computer desktop | the desktop of a computer with a bar at the bottom"
    )
    return image, some(
        rng,
        captions
        + " | a computer desktop with an open window" * (windows == 1)
        + " | a computer desktop with several open windows" * (windows > 1),
    )


def player(rng: np.random.Generator) -> Drawn:
    """A film player that shows nothing yet, or a meeting's empty tiles."""
    image, draw = canvas(rng, dark(rng), _WIDE)
    w, h = image.size
    if rng.random() < 0.5:
        radius = h * rng.uniform(0.08, 0.2)
        draw.ellipse((w / 2 - radius, h / 2 - radius, w / 2 + radius, h / 2 + radius), fill=colour(rng)[1])
        draw.polygon(
            [
                (w / 2 - radius * 0.35, h / 2 - radius * 0.5),
                (w / 2 - radius * 0.35, h / 2 + radius * 0.5),
                (w / 2 + radius * 0.55, h / 2),
            ],
            fill=(255, 255, 255),
        )
        draw.line((30, h - 36, w - 30, h - 36), fill=(120, 120, 120), width=6)
        draw.line((30, h - 36, 30 + (w - 60) * rng.uniform(0, 1), h - 36), fill=(220, 40, 40), width=6)
        return image, some(
            rng,
            "a play button on a black screen | a video player with a play button",
            "a black screen with a play button in the middle | a dark screen with a round play button",
        )
    columns, rows = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    for r in range(rows):
        for c in range(columns):
            box = (c * w / columns + 8, r * h / rows + 8, (c + 1) * w / columns - 8, (r + 1) * h / rows - 8)
            draw.rectangle(box, fill=(60, 62, 66))
            x, y, radius = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, min(box[2] - box[0], box[3] - box[1]) * 0.2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour(rng)[1])
            draw.text((x, y), phrase(rng, 1)[0], font=font(rng, radius, "sans"), fill=(255, 255, 255), anchor="mm")
    return image, some(
        rng,
        "a screen with letters in colored circles | colored circles with letters on a dark screen",
        "a dark screen with gray boxes and letters | gray boxes with letters in colored circles",
    )


def test_card(rng: np.random.Generator) -> Drawn:
    """Colour bars, or a card with circles and grids."""
    image, draw = canvas(rng, (128, 128, 128), (4 / 3, 16 / 9))
    w, h = image.size
    shades = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0), (0, 0, 192))
    if rng.random() < 0.6:
        tall = h * pick(rng, (1.0, 0.67, 0.8))
        for i, shade in enumerate(shades):
            draw.rectangle((i * w / 7, 0, (i + 1) * w / 7, tall), fill=shade)
        if tall < h:
            for i in range(5):
                draw.rectangle((i * w / 5, tall, (i + 1) * w / 5, h), fill=(i * 55,) * 3)
        return image, some(
            rng,
            "the color bars of a television test card | vertical bars in many colors",
            "a television test pattern with color bars | a row of vertical color bars",
        )
    for i in range(0, w, 40):
        draw.line((i, 0, i, h), fill=(255, 255, 255), width=2)
    for i in range(0, h, 40):
        draw.line((0, i, w, i), fill=(255, 255, 255), width=2)
    radius = h * 0.42
    draw.ellipse((w / 2 - radius, h / 2 - radius, w / 2 + radius, h / 2 + radius), outline=(255, 255, 255), width=6)
    for i, shade in enumerate(shades):
        draw.rectangle(
            (
                w / 2 - radius * 0.7 + i * radius * 0.2,
                h / 2 - 60,
                w / 2 - radius * 0.7 + (i + 1) * radius * 0.2,
                h / 2 + 60,
            ),
            fill=shade,
        )
    return image, some(
        rng,
        "a television test card with a circle and a grid | a test pattern with a circle and color bars",
        "a gray test card with a white circle",
    )


def game(rng: np.random.Generator) -> Drawn:
    """A simple game of blocks."""
    image, draw = canvas(rng, dark(rng), (1.0, 4 / 3, 0.75))
    cell = 32
    floor = 3 + curve(rng, image.width // cell, 1.0) * rng.uniform(2, 8)
    for c in range(image.width // cell):
        for r in range(int(floor[c])):
            x, y = c * cell, image.height - (r + 1) * cell
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour(rng)[1], outline=(230, 230, 230))
    draw.text((16, 12), f"SCORE {rng.integers(100, 9999)}", font=font(rng, 26, "mono"), fill=(255, 255, 255))
    return image, some(
        rng,
        "a video game with colored blocks | colored blocks on a dark screen",
        "a screenshot of a game with colored blocks | a computer game with blocks and a score",
    )


def icon(rng: np.random.Generator) -> Drawn:
    """One sign: an arrow, a tick, a cross, an envelope, a heart, a star, a magnifier, a house, a bell of sorts."""
    (name, shade), (other, back) = colours(rng, 2)
    if rng.random() < 0.6:
        other, back = "white", light(rng)
    image, draw = canvas(rng, back, (1.0, 1.0, 4 / 3))
    s, cx, cy = DRAWN_HALF * rng.uniform(0.5, 0.9), image.width / 2, image.height / 2

    def at(*points):
        return [(cx + x * s, cy + y * s) for x, y in points]

    thick = int(s * rng.uniform(0.14, 0.26))
    what = pick(
        rng,
        (
            "arrow",
            "check mark",
            "cross",
            "envelope",
            "heart",
            "star",
            "magnifying glass",
            "house",
            "circle",
            "triangle",
            "square",
            "plus sign",
        ),
    )
    if what == "arrow":
        points = [(-0.9, -0.25), (0.1, -0.25), (0.1, -0.65), (0.9, 0), (0.1, 0.65), (0.1, 0.25), (-0.9, 0.25)]
        turn = int(rng.integers(4))
        for _ in range(turn):
            points = [(-y, x) for x, y in points]
        draw.polygon(at(*points), fill=shade)
    elif what == "check mark":
        draw.line(at((-0.7, 0), (-0.2, 0.55), (0.8, -0.6)), fill=shade, width=thick, joint="curve")
    elif what == "cross":
        draw.line(at((-0.7, -0.7), (0.7, 0.7)), fill=shade, width=thick)
        draw.line(at((-0.7, 0.7), (0.7, -0.7)), fill=shade, width=thick)
    elif what == "plus sign":
        draw.line(at((-0.8, 0), (0.8, 0)), fill=shade, width=thick)
        draw.line(at((0, -0.8), (0, 0.8)), fill=shade, width=thick)
    elif what == "envelope":
        draw.rectangle(at((-0.9, -0.6), (0.9, 0.6)), outline=shade, width=thick // 2)
        draw.line(at((-0.9, -0.6), (0, 0.15), (0.9, -0.6)), fill=shade, width=thick // 2)
    elif what == "heart":
        t = np.linspace(0, 2 * np.pi, 80)
        draw.polygon(
            at(
                *zip(
                    np.sin(t) ** 3 * 0.9,
                    -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17,
                    strict=True,
                )
            ),
            fill=shade,
        )
    elif what == "star":
        draw.polygon(
            at(
                *[
                    (
                        (0.9 if i % 2 == 0 else 0.38) * np.sin(i * np.pi / 5),
                        -(0.9 if i % 2 == 0 else 0.38) * np.cos(i * np.pi / 5),
                    )
                    for i in range(10)
                ]
            ),
            fill=shade,
        )
    elif what == "magnifying glass":
        draw.ellipse(at((-0.8, -0.8), (0.3, 0.3)), outline=shade, width=thick // 2)
        draw.line(at((0.15, 0.15), (0.8, 0.8)), fill=shade, width=thick)
    elif what == "house":
        draw.polygon(at((-0.9, 0), (0, -0.8), (0.9, 0)), fill=shade)
        draw.rectangle(at((-0.6, 0), (0.6, 0.8)), fill=shade)
        draw.rectangle(at((-0.15, 0.3), (0.15, 0.8)), fill=back)
    elif what == "circle":
        draw.ellipse(at((-0.8, -0.8), (0.8, 0.8)), fill=shade)
    elif what == "triangle":
        draw.polygon(at((0, -0.8), (0.85, 0.7), (-0.85, 0.7)), fill=shade)
    else:
        draw.rectangle(at((-0.75, -0.75), (0.75, 0.75)), fill=shade)
    return image, some(
        rng,
        f"{a(name)} {what} on {a(other)} background | a picture of {a(name)} {what}",
        f"{a(name)} {what} in the middle of {a(other)} background | an icon of {a(name)} {what}",
        f"a simple drawing of {a(name)} {what}",
    )


DRAWN_HALF = 256
