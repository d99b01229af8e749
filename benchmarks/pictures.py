"""Whether captions say what charts, pages, screens, textures and drawings are, instead of a scene that is not there.

The pictures come from other generators than those of `captioner.training.captions.pictures`: Matplotlib's charts and
glyphs, OpenCV's lettering and codes, pygments' code, the textures and pages of scikit-image, Pillow's effects.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFilter, ImageOps

import captioner
from benchmarks.measuring import Setup, Table
from captioner.evaluation.ptb import tokenize

Named = tuple[str, str, Image.Image]  # name, words of which a right caption holds one, picture

_TEXT = "text words page document letters writing print printed book paragraph newspaper"
_CHART = "chart graph plot diagram"
_SCREEN = "screen screenshot program window terminal"
# Who names one of them where it is not asked for has made up a scene, whatever else the caption says.
_PEOPLE = "man men woman women person people boy boys girl girls child children kid baby player"
_LIVING = frozenset(f"{_PEOPLE} dog dogs cat bird birds horse".split())
_TEXTURES = {
    "brick": "brick bricks",
    "grass": "grass texture grassy surface",
    "gravel": "gravel rocks stones stone rough texture surface",
    "checkerboard": "checkerboard checkered checker squares pattern chess board",
    "page": _TEXT,
    "text": f"{_TEXT} handwriting handwritten note formulas equations",
    "horse": "silhouette shape outline drawing horse",
    "logo": "logo drawing icon symbol",
    "colorwheel": "colors colored color rainbow circle",
}


def other_pictures() -> list[Named]:
    """About 80 pictures that are no photos of a scene; the same on every call."""
    kinds = (_from_scikit_image, _charts, _glyphs, _matplotlib_pages, _lettering, _codes, _code, _effects, _outlines)
    return [named for kind in kinds for named in kind()]


def _from_scikit_image() -> Iterator[Named]:
    from skimage import data

    for name, words in _TEXTURES.items():
        yield name, words, Image.fromarray(getattr(data, name)()).convert("RGB")
    for share in (0.2, 0.5):
        blobs = data.binary_blobs(256, volume_fraction=share, rng=1)
        words = "pattern spots shapes blobs abstract dots silhouette"
        yield f"blobs {share}", words, Image.fromarray(blobs).convert("RGB")
    horse = ImageOps.invert(Image.fromarray(data.horse()).convert("L")).convert("RGB")
    yield "white horse", _TEXTURES["horse"], ImageOps.mirror(horse)


def _figure(draw: Callable, style: str = "default", size: tuple[float, float] = (5, 4), **subplot) -> Image.Image:
    """What Matplotlib draws: ``draw(axes)``, with its state left as it was."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(style):
        figure = Figure(size, dpi=80)
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(**subplot))
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return Image.open(stream).convert("RGB")


def _charts() -> Iterator[Named]:
    rng = np.random.default_rng(7)
    x = np.linspace(0, 10, 60)
    walk, values, spread = rng.normal(0, 1, (3, 60)).cumsum(1), rng.uniform(2, 9, 6), rng.normal(0, 1, (2, 90))
    names = ["North", "South", "East", "West", "Centre", "Coast"]
    bars, line, dots, pie = (
        f"bar bars {_CHART}",
        f"line lines {_CHART}",
        f"scatter dots points {_CHART}",
        f"pie slices {_CHART}",
    )
    cells = [[f"{value:.2f}" for value in row] for row in rng.uniform(0, 99, (9, 4))]

    def titled(draw: Callable) -> Callable:
        def both(axes):
            draw(axes)
            axes.set_title("Results of the year")
            axes.set_xlabel("month")

        return both

    def table(axes):
        axes.axis("off")
        axes.table(cells, colLabels=names[:4], loc="center").scale(1, 1.6)

    def radar(axes):
        axes.fill(np.linspace(0, 2 * np.pi, 6), values, alpha=0.4)

    for style in ("default", "ggplot", "dark_background", "fivethirtyeight", "grayscale"):
        yield f"bars {style}", bars, _figure(titled(lambda a: a.bar(names, values)), style)
        yield f"line {style}", line, _figure(titled(lambda a: a.plot(x, walk.T)), style)
        yield f"dots {style}", dots, _figure(titled(lambda a: a.scatter(*spread, s=18)), style)
    for style in ("default", "Solarize_Light2", "seaborn-v0_8-pastel"):
        yield f"pie {style}", pie, _figure(lambda a: a.pie(values, labels=names, autopct="%d%%"), style)
    yield "lying bars", bars, _figure(titled(lambda a: a.barh(names, values, color="teal")))
    yield "histogram", f"{bars} histogram", _figure(titled(lambda a: a.hist(spread.ravel(), 20)))
    yield "boxes", f"box boxes {_CHART}", _figure(titled(lambda a: a.boxplot(spread.reshape(6, -1).T)))
    yield "steps", line, _figure(titled(lambda a: a.step(x, walk[0])), size=(6, 3))
    yield "wave", line, _figure(lambda a: a.plot(x, np.sin(x), "r--"), size=(6, 3))
    yield "area", f"{_CHART} area", _figure(titled(lambda a: a.stackplot(x, np.abs(walk))))
    yield (
        "heat map",
        f"{_CHART} squares heat grid map colored",
        _figure(lambda a: a.imshow(rng.random((9, 9)), cmap="viridis")),
    )
    yield (
        "contours",
        f"{_CHART} map lines contour",
        _figure(lambda a: a.contour(np.hypot(*np.mgrid[-3:3:40j, -2:2:40j]), 9)),
    )
    yield "table", "table numbers spreadsheet rows columns page", _figure(table)
    yield "radar", f"{_CHART} circle lines shape", _figure(radar, projection="polar")


def _glyphs() -> Iterator[Named]:
    words = {
        "\u2665": "heart", "\u2605": "star", "\u2708": "plane airplane", "\u2192": "arrow",
        "\u2714": "check mark tick", "\u265e": "horse knight chess", "\u2602": "umbrella", "\u25b2": "triangle",
        "\u260e": "phone telephone", "\u263a": "face smiling smile smiley",
    }  # fmt: skip
    for number, (glyph, names) in enumerate(words.items()):

        def draw(axes, glyph=glyph, number=number):
            axes.axis("off")
            axes.text(0.5, 0.5, glyph, size=190, ha="center", va="center", color=f"C{number}")

        yield (
            f"glyph {names.split()[0]}",
            f"{names} shape silhouette icon symbol logo drawing",
            _figure(draw, size=(4, 4)),
        )


def _matplotlib_pages() -> Iterator[Named]:

    with contextlib.redirect_stdout(None):
        import this  # a page of prose that every Python has
    prose = codecs.decode(this.s, "rot13")

    def page(size, family, colour, lines, ground=None):
        def draw(axes):
            axes.axis("off")
            axes.figure.set_facecolor(ground or "white")
            axes.text(0, 1, lines, size=size, family=family, color=colour, va="top")

        return draw

    yield "page serif", _TEXT, _figure(page(9, "serif", "black", textwrap.fill(prose, 62)))
    yield "page sans", _TEXT, _figure(page(11, "sans-serif", "#333333", textwrap.fill(prose, 46)), size=(4, 5.5))
    yield (
        "title",
        "text title words letters screen",
        _figure(page(34, "serif", "white", "\n  The long way\n      home", "black")),
    )
    yield (
        "end title",
        "text title words letters screen",
        _figure(page(44, "sans-serif", "white", "\n   THE END", "#101020")),
    )
    points = "Plan for spring\n\n\u2022 buy seeds\n\u2022 mend the fence\n\u2022 paint the door\n\u2022 ask for help"
    yield (
        "slide",
        f"{_TEXT} slide list points presentation heading",
        _figure(page(24, "sans-serif", "navy", points), size=(6, 4)),
    )
    formulas = "$E = mc^2$\n\n$\\int_0^1 x^2 dx = 1/3$\n\n$\\sum_{k=1}^n k = n(n+1)/2$"
    yield "formulas", f"{_TEXT} math formulas equations formula equation", _figure(page(26, "serif", "black", formulas))


def _lettering() -> Iterator[Named]:
    """Handwriting, a terminal and a window by OpenCV's strokes."""
    lines = (
        "Dear Anna,",
        "thank you for the letter",
        "and for the photographs.",
        "The garden is white now,",
        "we wait for the spring.",
        "Yours, Tom",
    )
    for name, ink, paper in (("blue", (150, 40, 20), 255), ("black", (20, 20, 20), 240)):
        image = np.full((320, 420, 3), paper, np.uint8)
        for row, line in enumerate(lines):
            cv2.putText(image, line, (20, 45 + 48 * row), cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 0.95, ink, 1, cv2.LINE_AA)
        yield (
            f"letter in {name}",
            f"{_TEXT} handwriting handwritten letter note paper",
            Image.fromarray(image[..., ::-1]),
        )
    for name, ink in (("green", (90, 230, 90)), ("white", (230, 230, 230))):
        image = np.zeros((300, 480, 3), np.uint8)
        for row in range(12):
            cv2.putText(
                image,
                f"> job {row * 37 % 23} of host-{row % 4} done in {row * 7 % 13} s",
                (8, 24 + 23 * row),
                cv2.FONT_HERSHEY_PLAIN,
                1.2,
                ink,
                1,
                cv2.LINE_AA,
            )
        yield f"terminal {name}", f"{_TEXT} terminal code {_SCREEN}", Image.fromarray(image[..., ::-1])
    image = np.full((300, 460, 3), 235, np.uint8)
    cv2.rectangle(image, (0, 0), (460, 28), (140, 90, 40), -1)
    cv2.putText(image, "Settings", (10, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    for row, label in enumerate(("Name", "Street", "Town", "Country")):
        cv2.putText(image, label, (20, 72 + 42 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
        cv2.rectangle(image, (120, 54 + 42 * row), (430, 80 + 42 * row), (255, 255, 255), -1)
        cv2.rectangle(image, (120, 54 + 42 * row), (430, 80 + 42 * row), (120, 120, 120), 1)
    for x, label in ((250, "Cancel"), (350, "OK")):
        cv2.rectangle(image, (x, 250), (x + 80, 280), (205, 205, 205), -1)
        cv2.putText(image, label, (x + 12, 270), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
    yield "window", f"form boxes menu message buttons {_SCREEN}", Image.fromarray(image[..., ::-1])


def _codes() -> Iterator[Named]:
    words = "code qr squares pattern"
    for text in ("captioner", "https://example.org/a/longer/address"):
        code = cv2.QRCodeEncoder.create().encode(text)
        yield (
            f"code of {len(text)}",
            words,
            Image.fromarray(cv2.resize(code, (300, 300), interpolation=cv2.INTER_NEAREST)).convert("RGB"),
        )
    board = cv2.aruco.GridBoard((4, 3), 1.0, 0.3, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    yield "markers", words, Image.fromarray(board.generateImage((400, 300), marginSize=10)).convert("RGB")


def _code() -> Iterator[Named]:
    from pygments import highlight
    from pygments.formatters import ImageFormatter
    from pygments.lexers import PythonLexer

    import captioner.errors

    text = Path(captioner.errors.__file__).read_text(encoding="utf-8")
    for style in ("default", "monokai"):
        drawn = highlight("\n".join(text.splitlines()[:28]), PythonLexer(), ImageFormatter(style=style, font_size=13))
        yield f"code {style}", f"code {_SCREEN} {_TEXT}", Image.open(io.BytesIO(drawn)).convert("RGB")


def _effects() -> Iterator[Named]:
    from skimage import data

    size = (320, 240)
    empty = "blank empty plain nothing background solid picture image page screen"
    for name in ("white", "black", "navy", "darkred", "#7fa37f"):
        yield f"plain {name}", empty, Image.new("RGB", size, name)
    dark = f"{empty} dark"
    yield "dark astronaut", dark, Image.fromarray((data.astronaut() * 0.05).astype(np.uint8))
    yield "dark coffee", dark, Image.fromarray((data.coffee() * 0.03).astype(np.uint8))
    for name in ("astronaut", "coffee", "rocket"):
        yield (
            f"blurred {name}",
            "blurry blurred blur focus",
            Image.fromarray(getattr(data, name)()).filter(ImageFilter.GaussianBlur(45)),
        )
    yield "noise", "noise static dots", Image.effect_noise(size, 90).convert("RGB")
    gradient = "background gradient fades smooth nothing"
    yield "gradient", gradient, Image.linear_gradient("L").convert("RGB")
    yield "round gradient", gradient, ImageOps.colorize(Image.radial_gradient("L"), "white", "blue")


def _outlines() -> Iterator[Named]:
    """Line drawings by OpenCV."""
    house = np.full((300, 400, 3), 255, np.uint8)
    for points in (
        [(120, 140), (280, 140), (280, 260), (120, 260)],
        [(105, 140), (200, 60), (295, 140)],
        [(180, 260), (180, 200), (220, 200), (220, 260)],
    ):
        cv2.polylines(house, [np.array(points, np.int32)], True, (0, 0, 0), 3, cv2.LINE_AA)
    yield "house", "house drawing drawn", Image.fromarray(house)
    people = np.full((300, 400, 3), 255, np.uint8)
    for x in (130, 270):
        cv2.circle(people, (x, 80), 28, (0, 0, 0), 3, cv2.LINE_AA)
        for start, end in (
            ((x, 108), (x, 190)),
            ((x, 190), (x - 35, 265)),
            ((x, 190), (x + 35, 265)),
            ((x - 45, 150), (x + 45, 120)),
        ):
            cv2.line(people, start, end, (0, 0, 0), 3, cv2.LINE_AA)
    yield "stick people", "drawing drawn stick figures figure people man men person", Image.fromarray(people)
    shapes = np.full((300, 400, 3), 250, np.uint8)
    cv2.circle(shapes, (100, 100), 60, (200, 60, 40), -1, cv2.LINE_AA)
    cv2.rectangle(shapes, (220, 60), (330, 170), (40, 90, 200), -1)
    cv2.fillPoly(shapes, [np.array([(120, 270), (190, 180), (260, 270)], np.int32)], (60, 160, 80), cv2.LINE_AA)
    yield "shapes", "shapes circle circles square squares triangle triangles drawing", Image.fromarray(shapes)
    boxes = np.full((260, 460, 3), 255, np.uint8)
    for number, x in enumerate((20, 180, 340)):
        cv2.rectangle(boxes, (x, 90), (x + 100, 160), (40, 40, 40), 2)
        cv2.putText(
            boxes, f"step {number + 1}", (x + 14, 132), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA
        )
        if number:
            cv2.arrowedLine(boxes, (x - 58, 125), (x - 4, 125), (0, 0, 0), 2, cv2.LINE_AA, tipLength=0.25)
    yield "flow chart", f"boxes arrows flow drawing {_CHART}", Image.fromarray(boxes)


def is_right(words: str, caption: str) -> bool:
    """Whether a caption holds one of the words, and nobody who is not there."""
    expected, said = set(words.split()), set(tokenize(caption))
    return not expected.isdisjoint(said) and said.isdisjoint(_LIVING - expected)


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    pictures = other_pictures()
    pictures = pictures[:: setup.size(1, 10)]
    model = captioner.load(setup.model)
    captions = [
        caption.text for caption in captioner.caption_many(model, [image for _, _, image in pictures], attention=False)
    ]
    right = [is_right(words, text) for (_, words, _), text in zip(pictures, captions, strict=True)]
    rows = [
        [name, text, "yes" if good else "no"]
        for (name, _, _), text, good in zip(pictures, captions, right, strict=True)
    ]
    share = sum(right) / len(right)
    notes = [
        f"{model.name}: {sum(right)} of {len(right)} captions ({share:.0%}) say what it is, and nobody who is not."
    ]
    return [Table("What is no photo of a scene", ["picture", "caption", "right"], rows, notes)]
