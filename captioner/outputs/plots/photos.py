"""Figures of photos: where the decoder looked, and several side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import PercentFormatter

from captioner.names import printable
from captioner.outputs.plots.picture import TEXT_SIZE, Picture, heading, new_picture
from captioner.outputs.plots.settings import fixed_settings
from captioner.results import Caption

_COLOURS = "plasma"


@fixed_settings()
def attention_figure(image: Any, caption: Caption, *, columns: int = 5) -> Picture:
    """Where the decoder looked when it wrote each word, drawn over the photo.

    All words share one colour scale, so that a word with a sharp look stands out from one that looks everywhere. The
    encoder sees the photo squashed to a square; the maps are stretched back over the photo's own shape.

    Args:
        image: The photo; anything that `captioner.media.images.read_image` takes.
        caption: Its caption, whose words have ``attention`` (rows, columns).
        columns: Panels side by side.

    Raises:
        ImageReadError: The photo cannot be read.
        ValueError: The words carry no attention (the caption was asked for without it).
    """
    from captioner.media.images import read_image

    photo = read_image(image)
    height, width = photo.shape[:2]
    shape = min(max(height / width, 0.4), 2.5)
    columns = min(columns, 1 + len(caption.words))
    rows = -(-(1 + len(caption.words)) // columns)
    picture = new_picture(2.3 * columns, (2.3 * shape + 0.45) * rows + 1.3)
    picture.of_photos = True
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    shown = photo[:: max(1, height // 400), :: max(1, width // 400)]
    extent = (0, width, height, 0)
    panels[0].imshow(shown, extent=extent)
    panels[0].set_title("the photo", fontsize=TEXT_SIZE)
    overlays = attention_overlays(shown, caption)
    for panel, word, overlay in zip(panels[1:], caption.words, overlays, strict=False):
        panel.imshow(overlay, extent=extent)
        panel.set_title(f"{word.text}  {word.probability:.0%}", fontsize=TEXT_SIZE, parse_math=False)
    if overlays:
        scale = picture.colorbar(
            ScalarMappable(Normalize(0, _highest(caption)), _COLOURS),
            ax=list(panels), orientation="horizontal", aspect=45, shrink=0.7,
        )  # fmt: skip
        scale.ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        scale.ax.tick_params(labelsize=TEXT_SIZE - 1)
        cells = caption.words[0].attention.size
        scale.set_label(f"share of attention in one of {cells} cells (percent)", fontsize=TEXT_SIZE)
    heading(picture, f"Where it looked: “{caption.text}”, each word with its probability")
    return picture


def attention_overlays(photo: np.ndarray, caption: Caption) -> list[np.ndarray]:
    """The photo, faded, with where the decoder looked when it wrote each word; all words share one colour scale.

    Args:
        photo: uint8 RGB (H, W, 3).
        caption: See `attention_figure`.

    Returns:
        Pictures like the photo, one a word.

    Raises:
        ValueError: The words carry no attention (the caption was asked for without it).
    """
    import cv2

    if any(word.attention is None for word in caption.words):
        raise ValueError("the caption carries no attention; ask for it with attention=True")
    faded = 255 - (255 - photo.mean(axis=2, keepdims=True)) * 0.6
    overlays = []
    for word in caption.words:
        grid = np.asarray(word.attention, np.float32) / _highest(caption)
        grid = cv2.resize(grid, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
        strength = grid[..., None] ** 0.6 * 0.85
        colours = 255 * colormaps[_COLOURS](grid)[..., :3]
        overlays.append(np.rint(faded * (1 - strength) + colours * strength).astype(np.uint8))
    return overlays


def _highest(caption: Caption) -> float:
    """Where the colour scale ends: the sharpest look, but not below twice an even one."""
    grids = [word.attention for word in caption.words]
    return max(max(float(np.max(grid)) for grid in grids), 2 / grids[0].size)


@fixed_settings()
def photos_figure(images: Sequence[Any], texts: Sequence[str], *, title: str, columns: int = 3) -> Picture:
    """Photos side by side, each with a text below.

    Args:
        images: What `captioner.media.images.read_image` takes.
        texts: One for each.
        title: Heading.
        columns: Photos in a row.

    Raises:
        ImageReadError: A photo cannot be read.
    """
    from captioner.media.images import read_image

    photos = [read_image(image) for image in images]
    columns = max(1, min(columns, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    wrapped = [textwrap.wrap(printable(text), 34) for text in texts]
    lines = max((len(part) for part in wrapped), default=1)
    tallest = max((photo.shape[0] / photo.shape[1] for photo in photos), default=1.0)
    picture = new_picture(3.4 * columns, (3.3 * min(tallest, 0.8) + 0.1 + 0.22 * lines) * rows + 0.5)
    picture.of_photos = True
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, photo, text in zip(panels, photos, wrapped, strict=False):
        stride = max(1, max(photo.shape[:2]) // 400)
        panel.imshow(photo[::stride, ::stride])
        text = "\n".join(text)
        panel.text(
            0.5, -0.03, text, transform=panel.transAxes, ha="center", va="top", fontsize=TEXT_SIZE - 1, parse_math=False
        )
    heading(picture, title)
    return picture
