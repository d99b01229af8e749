"""A figure as an object that shows and saves itself, and the style that all figures share."""

from __future__ import annotations

import io
import os
import textwrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captioner.atomic import write_atomic
from captioner.names import printable
from captioner.outputs.marks import PNG_SOFTWARE
from captioner.outputs.plots.settings import fixed_settings

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B5A800", "#000000")
"""Of Okabe and Ito, which colour-blind people can tell apart."""
GREY = "#8a8a8a"
TEXT_SIZE = 12
_TITLE_SIZE = 14


class Picture(Figure):
    """A matplotlib figure that notebooks show by itself and that saves itself.

    Attributes:
        of_photos: Whether it consists mostly of photos; notebooks then keep it as JPEG, a fifth of the size.
    """

    of_photos = False

    @fixed_settings()
    def to_png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_figure(
            buffer, format="png", dpi=self.get_dpi(), metadata={"Software": PNG_SOFTWARE}
        )
        return buffer.getvalue()

    def save(self, path: str | os.PathLike) -> None:
        """Writes the figure as a PNG file, whole or not at all.

        Raises:
            CaptionerError: The file cannot be written.
        """
        write_atomic(path, self.to_png())

    def _repr_png_(self) -> bytes | None:
        return None if self.of_photos else self.to_png()

    @fixed_settings()
    def _repr_jpeg_(self) -> bytes | None:
        if not self.of_photos:
            return None
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_jpg(buffer, pil_kwargs={"quality": 85})
        return buffer.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """An empty picture of that size in inches."""
    picture = Picture(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    return picture


def heading(picture: Picture, title: str) -> None:
    """Writes the title over a picture."""
    characters = int(picture.get_figwidth() * 10)
    picture.suptitle("\n".join(textwrap.wrap(printable(title), characters)), fontsize=_TITLE_SIZE, parse_math=False)


def style_axes(axes: Axes, *, x: str | None = None, y: str | None = None, spines: bool = False) -> None:
    """Labels axes and gives them the common style; ``spines`` draws all four sides."""
    if x is not None:
        axes.set_xlabel(x, fontsize=TEXT_SIZE)
    if y is not None:
        axes.set_ylabel(y, fontsize=TEXT_SIZE)
    axes.tick_params(labelsize=TEXT_SIZE - 1)
    if not spines:
        axes.spines[["top", "right"]].set_visible(False)
