"""Figures of photos: where the decoder looked, and several side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from captioner.names import printable
from captioner.outputs.plots.picture import TEXT_SIZE, Picture, heading, new_picture
from captioner.outputs.plots.settings import fixed_settings
from captioner.results import Caption


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

    if any(word.attention is None for word in caption.words):
        raise ValueError("the caption carries no attention; ask for it with attention=True")
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
    faded = (255 - (255 - shown.mean(axis=2, keepdims=True).repeat(3, axis=2)) * 0.6).astype(np.uint8)
    cells = caption.words[0].attention.size if caption.words else 1
    highest = max([float(np.max(word.attention)) for word in caption.words], default=0.0)
    highest = max(highest, 2 / cells)
    heat = None
    for panel, word in zip(panels[1:], caption.words, strict=False):
        panel.imshow(faded, extent=extent)
        grid = _smooth(np.asarray(word.attention, np.float32))
        strength = np.clip(grid / highest, 0, 1) ** 0.6 * 0.85
        heat = panel.imshow(grid, extent=extent, cmap="plasma", alpha=strength, vmin=0, vmax=highest)
        panel.set_title(f"{word.text}  {word.probability:.0%}", fontsize=TEXT_SIZE, parse_math=False)
    if heat is not None:
        from matplotlib.cm import ScalarMappable

        scale = picture.colorbar(
            ScalarMappable(heat.norm, heat.cmap), ax=list(panels), orientation="horizontal", aspect=45, shrink=0.7
        )
        scale.ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        scale.ax.tick_params(labelsize=TEXT_SIZE - 1)
        scale.set_label(f"share of attention in one of {cells} cells (percent)", fontsize=TEXT_SIZE)
    heading(picture, f"Where it looked: “{caption.text}”, each word with its probability")
    return picture


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


def _smooth(grid: np.ndarray, factor: int = 16) -> np.ndarray:
    """A coarse grid enlarged by linear interpolation between the centres of its cells."""
    for axis in (0, 1):
        size = grid.shape[axis]
        places = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.minimum(places.astype(int), max(size - 2, 0))
        high = np.minimum(low + 1, size - 1)
        weight = (places - low).reshape((-1, 1) if axis == 0 else (1, -1))
        grid = np.take(grid, low, axis) * (1 - weight) + np.take(grid, high, axis) * weight
    return grid
