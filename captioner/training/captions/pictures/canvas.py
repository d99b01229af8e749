"""What all made pictures are drawn with: colours with names, fonts, lines of words, smooth noise, wear and tear."""

from __future__ import annotations

import functools
import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Drawn = tuple[Image.Image, list[str]]

DRAWN = 512  # pixels of the shorter side while drawing; twice what is kept, so that lines come out smooth
KEPT = 256

COLOURS: dict[str, Colour] = {
    "red": (205, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (245, 215, 50),
    "green": (50, 155, 70),
    "blue": (45, 95, 195),
    "light blue": (140, 190, 235),
    "purple": (125, 65, 160),
    "pink": (240, 140, 180),
    "brown": (125, 80, 45),
    "gray": (130, 130, 130),
}
_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem "
    "hand part place case week company system program question work government number night point home water room "
    "mother area money story fact month lot right study book eye job word business issue side kind head house "
    "service friend father power hour game line end member law car city community name president team minute idea "
    "body information back parent face others level office door health person art war history party result change "
    "morning reason research moment air teacher force order price report market value total the of and to in is "
    "that it was for on are with they be at this have from or by"
)
WORDS = tuple(_WORDS.split())


def pick(rng: np.random.Generator, choices):
    """One of a sequence's items."""
    return choices[int(rng.integers(len(choices)))]


def some(rng: np.random.Generator, *captions: str) -> list[str]:
    """Two or three different captions of those that fit, which `` | `` separates."""
    fitting = list(dict.fromkeys(" | ".join(captions).split(" | ")))
    count = int(rng.integers(2, 4))
    return [fitting[i] for i in rng.permutation(len(fitting))[:count]]


def a(noun: str) -> str:
    """The noun with its article."""
    return f"an {noun}" if noun[0] in "aeio" else f"a {noun}"


def paint(rng: np.random.Generator, name: str) -> Colour:
    """A shade of a named colour."""
    return tuple(
        int(v) for v in np.clip(np.array(COLOURS[name]) * rng.uniform(0.85, 1.1) + rng.normal(0, 6, 3), 0, 255)
    )


def colour(rng: np.random.Generator) -> tuple[str, Colour]:
    """A colour's name and a shade of it."""
    name = pick(rng, list(COLOURS))
    return name, paint(rng, name)


def colours(rng: np.random.Generator, count: int) -> list[tuple[str, Colour]]:
    """That many colours, different while there are any."""
    names = [list(COLOURS)[i] for i in rng.permutation(len(COLOURS))]
    return [(names[i % len(names)], paint(rng, names[i % len(names)])) for i in range(count)]


def light(rng: np.random.Generator) -> Colour:
    """White, or nearly."""
    return (
        (255, 255, 255)
        if rng.random() < 0.5
        else tuple(int(v) for v in rng.integers(234, 250) + rng.integers(-6, 7, 3))
    )


def dark(rng: np.random.Generator) -> Colour:
    """Black, or nearly."""
    return (0, 0, 0) if rng.random() < 0.4 else tuple(int(v) for v in rng.integers(0, 60, 3))


def canvas(
    rng: np.random.Generator, background: Colour, aspects: tuple[float, ...] = (0.75, 1.0, 4 / 3, 4 / 3, 1.5, 16 / 9)
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture of one of these aspects (width over height), and what draws on it."""
    aspect = pick(rng, aspects)
    size = (round(DRAWN * aspect), DRAWN) if aspect >= 1 else (DRAWN, round(DRAWN / aspect))
    image = Image.new("RGB", size, background)
    return image, ImageDraw.Draw(image)


@functools.cache
def _families() -> dict[str, list[Path]]:
    """Font files by family: those that Matplotlib brings, if it is installed; without it Pillow's own serves all."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        return {}
    folder = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    names = {
        "sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
        "serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol"),
        "mono": ("DejaVuSansMono", "DejaVuSansMono-Bold"),
        "italic": ("STIXGeneralItalic", "DejaVuSerif-Italic", "DejaVuSans-Oblique"),
    }
    paths = {family: [folder / f"{name}.ttf" for name in files] for family, files in names.items()}
    return {family: [path for path in files if path.is_file()] for family, files in paths.items()}


@functools.cache
def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def font(rng: np.random.Generator, size: float, family: str | None = None) -> ImageFont.FreeTypeFont:
    """A font of that many pixels; any family unless one is named."""
    family = family or pick(rng, ("plain", "sans", "serif"))
    return _font(pick(rng, _families().get(family) or [None]), max(8, round(size)))


def phrase(rng: np.random.Generator, count: int) -> str:
    """That many words with a capital in front."""
    return " ".join(pick(rng, WORDS) for _ in range(count)).capitalize()


def prose(rng: np.random.Generator, count: int) -> str:
    """Sentences of about that many words in all."""
    sentences, left = [], count
    while left > 0:
        length = int(rng.integers(5, 16))
        sentences.append(phrase(rng, length) + ".")
        left -= length
    return " ".join(sentences)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines that are not wider than `width` pixels."""
    lines, line = [], ""
    for word in text.split():
        if line and face.getlength(f"{line} {word}") > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def paragraph(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, face, fill, spacing=1.35
) -> float:
    """Writes text into a box (left, top, right, bottom) as far as it goes; returns where it ends."""
    left, top, right, bottom = box
    for line in wrap(text, face, right - left):
        if top + face.size > bottom:
            break
        draw.text((left, top), line, font=face, fill=fill)
        top += face.size * spacing
    return top


def number(rng: np.random.Generator) -> str:
    """A number as tables and receipts hold them."""
    return pick(
        rng,
        (
            f"{rng.integers(1, 1000)}",
            f"{rng.uniform(0, 100):.2f}",
            f"{rng.uniform(1, 1000):.1f}",
            f"{rng.integers(1, 100)}%",
        ),
    )


def smooth(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Noise in 0..1 that changes slowly, (height, width) float32.

    Args:
        rng: The source of randomness.
        size: Width and height in pixels.
        cells: How many independent values across and down.
    """
    grid = Image.fromarray(rng.random((cells[1] + 1, cells[0] + 1)).astype(np.float32))
    return np.clip(np.asarray(grid.resize(size, Image.Resampling.BICUBIC)), 0, 1)


def picture(values: np.ndarray) -> Image.Image:
    """An image of values in 0..255, (height, width, 3)."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def curve(rng: np.random.Generator, points: int, roughness: float) -> np.ndarray:
    """A random line's heights in 0..1, (points,)."""
    steps = np.cumsum(rng.normal(rng.normal(0, 0.3), 1, points) * roughness)
    return (steps - steps.min()) / max(1e-6, np.ptp(steps))


def worn(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """The picture as such pictures come: smaller, maybe with a border, turned a little, faded, blurred or noisy."""
    if rng.random() < 0.12:
        image = image.rotate(
            float(rng.normal(0, 2)), Image.Resampling.BICUBIC, expand=True, fillcolor=image.getpixel((1, 1))
        )
    scale = KEPT / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    if rng.random() < 0.1:
        edge = int(rng.integers(3, 24))
        bordered = Image.new(
            "RGB",
            (image.width + 2 * edge, image.height + 2 * edge),
            pick(rng, ((0, 0, 0), (255, 255, 255), (40, 40, 40))),
        )
        bordered.paste(image, (edge, edge))
        image = bordered
    if rng.random() < 0.12:  # half-way through a fade
        image = Image.blend(
            image, Image.new("RGB", image.size, pick(rng, ((0, 0, 0), (255, 255, 255)))), float(rng.uniform(0.1, 0.4))
        )
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 9), (image.height, image.width, 1))
        lit = 1 - rng.uniform(0, 0.2) * smooth(rng, image.size, (1, 1))[..., None]
        image = picture(np.asarray(image) * lit + noise)
    return image


def compressed(rng: np.random.Generator, image: Image.Image) -> bytes:
    """The picture as the bytes of a JPEG file, well or badly compressed."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(35, 96)))
    return stream.getvalue()
