"""Figures of results and of training, as objects that notebooks show and `Picture.save` writes.

They are made without ``pyplot``, so they share no state with the caller's own figures, need no display and can be drawn
in any thread. Every function returns a `Picture`; texts are large enough to be read at half size, and colours are the
eight of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from captioner.atomic import write_atomic
from captioner.errors import needs_extra
from captioner.names import printable
from captioner.outputs.records import Record
from captioner.outputs.writers import certainty, clock
from captioner.results import Caption, VideoAnalysis

with needs_extra("figures need matplotlib", "plots"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B5A800", "#000000")
_GREY = "#8a8a8a"
_TEXT, _TITLE = 12, 14
_CAPTIONED_SEGMENTS = 25


class Picture(Figure):
    """A matplotlib figure that notebooks show by itself and that saves itself.

    Attributes:
        of_photos: Whether it consists mostly of photos; notebooks then keep it as JPEG, a fifth of the size.
    """

    of_photos = False

    def to_png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_figure(buffer, format="png", dpi=self.get_dpi())
        return buffer.getvalue()

    def save(self, path: str | os.PathLike) -> None:
        """Writes the figure as a PNG file, whole or not at all.

        Raises:
            CaptionerError: The file cannot be written.
        """
        write_atomic(path, self.to_png())

    def _repr_png_(self) -> bytes | None:
        return None if self.of_photos else self.to_png()

    def _repr_jpeg_(self) -> bytes | None:
        if not self.of_photos:
            return None
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_jpg(buffer, pil_kwargs={"quality": 85})
        return buffer.getvalue()


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
    picture = _picture(2.3 * columns, (2.3 * shape + 0.45) * rows + 1.3)
    picture.of_photos = True
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    shown = photo[:: max(1, height // 400), :: max(1, width // 400)]
    extent = (0, width, height, 0)
    panels[0].imshow(shown, extent=extent)
    panels[0].set_title("the photo", fontsize=_TEXT)
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
        panel.set_title(f"{word.text}  {word.probability:.0%}", fontsize=_TEXT, parse_math=False)
    if heat is not None:
        from matplotlib.cm import ScalarMappable

        scale = picture.colorbar(
            ScalarMappable(heat.norm, heat.cmap), ax=list(panels), orientation="horizontal", aspect=45, shrink=0.7
        )
        scale.ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        scale.ax.tick_params(labelsize=_TEXT - 1)
        scale.set_label(f"share of attention in one of {cells} cells (percent)", fontsize=_TEXT)
    _heading(picture, f"Where it looked: “{caption.text}”, each word with its probability")
    return picture


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
    picture = _picture(3.4 * columns, (3.3 * min(tallest, 0.8) + 0.1 + 0.22 * lines) * rows + 0.5)
    picture.of_photos = True
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, photo, text in zip(panels, photos, wrapped, strict=False):
        stride = max(1, max(photo.shape[:2]) // 400)
        panel.imshow(photo[::stride, ::stride])
        text = "\n".join(text)
        panel.text(
            0.5, -0.03, text, transform=panel.transAxes, ha="center", va="top", fontsize=_TEXT - 1, parse_math=False
        )
    _heading(picture, title)
    return picture


def timeline_figure(video: VideoAnalysis | Record) -> Picture:
    """What happens when in a video: captions, action labels and novelty over one axis of time.

    Up to 25 segments are drawn one a row with their captions; more are drawn in one strip.

    Args:
        video: The analysis or its record; lanes without data are left out.
    """
    record = video.to_dict() if isinstance(video, VideoAnalysis) else video
    segments, windows, novelty = record["segments"], record.get("windows") or [], record.get("novelty") or []
    listed = 0 < len(segments) <= _CAPTIONED_SEGMENTS
    heights = [max(0.8, 0.42 * len(segments)) if listed else 0.8]
    heights += [0.9] * bool(windows) + [1.7] * bool(novelty)
    picture = _picture(11, sum(heights) + 1.5 + 0.4 * len(heights))
    lanes = list(picture.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    lane = lanes.pop(0)
    for row, segment in enumerate(segments):
        width = segment["end"] - segment["start"]
        colour = COLOURS[row % 2 * 5]
        lane.barh(row if listed else 0, width, left=segment["start"], height=0.8, color=colour)
    if listed:
        captions = [textwrap.shorten(printable(one["caption"]), 46, placeholder=" …") for one in segments]
        lane.set_yticks(range(len(segments)), captions, fontsize=_TEXT - 1, parse_math=False)
        lane.invert_yaxis()
    else:
        lane.set_yticks([])
    _axes(lane, y="segment")
    if windows:
        lane = lanes.pop(0)
        names = sorted({window["label"] for window in windows if window["label"] is not None})
        for window in windows:
            if window["label"] is None:  # empty where nothing known happens
                continue
            lane.bar(
                window["start"],
                certainty(window),
                width=window["end"] - window["start"],
                align="edge",
                color=COLOURS[names.index(window["label"]) % len(COLOURS)],
                edgecolor="white",
                label=printable(window["label"]),
            )
        lane.set_ylim(0, 1)
        lane.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _axes(lane, y="label\nprobability")
        handles = dict(zip(*reversed(lane.get_legend_handles_labels()), strict=True))
        if handles:
            lane.legend(
                handles.values(),
                handles,
                fontsize=_TEXT - 2,
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=6,
                frameon=False,
            )
    if novelty:
        lane = lanes.pop(0)
        times, values = [one["time"] for one in novelty], [one["value"] for one in novelty]
        lane.plot(times, values, color=COLOURS[0], linewidth=2)
        unusual = [one for one in novelty if one["unusual"]]
        if unusual:
            lane.plot(
                [one["time"] for one in unusual],
                [one["value"] for one in unusual],
                "o",
                color=COLOURS[3],
                label="unusual",
            )
            lane.legend(fontsize=_TEXT - 1, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))
        _axes(lane, y="novelty\n(forecast error)")
    last = picture.axes[-1]
    last.set_xlim(0, max(record["duration"], 1e-3))
    last.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    _axes(last, x=f"time ({'hours:' * (record['duration'] >= 3600)}minutes:seconds)")
    name = os.path.basename(record["file"]) if "file" in record else "The video"
    _heading(picture, f"{textwrap.shorten(printable(name), 60)}: what happens when")
    return picture


def confusion_figure(matrix: np.ndarray, labels: Sequence[str], *, title: str = "Confusion matrix") -> Picture:
    """A confusion matrix: counts as numbers, the share of each true class as colour.

    Args:
        matrix: Counts, (classes, classes); rows are true classes, columns predicted ones.
        labels: Class names, in the matrix's order.
        title: Heading.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = max(4.6, 0.62 * len(labels) + 2.2)
    picture = _picture(size + 1.2, size + 0.3)
    axes = picture.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=_TEXT, color=colour)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    _axes(axes, x="predicted class", y="true class", spines=True)
    scale = picture.colorbar(image, ax=axes, shrink=0.8)
    scale.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    scale.ax.tick_params(labelsize=_TEXT - 1)
    scale.set_label("share of the true class (percent)", fontsize=_TEXT)
    correct = np.trace(matrix) / max(matrix.sum(), 1)
    _heading(picture, f"{title}: {correct:.1%} of {matrix.sum()} correct")
    return picture


def reliability_figure(
    confidence: np.ndarray, correct: np.ndarray, *, bins: int = 10, title: str = "Reliability"
) -> Picture:
    """A reliability diagram: does what is said with probability p come true in p of the cases?

    Guo et al. 2017, On Calibration of Modern Neural Networks: equal-width bins, expected calibration error
    ``sum_b n_b / n * |accuracy_b - confidence_b|``.

    Args:
        confidence: Stated probabilities, (n,), 0..1.
        correct: What came true, (n,), 0 or 1 (or a share between).
        bins: Number of equal-width bins over 0..1.
        title: Heading.
    """
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    kept = counts > 0
    stated = np.bincount(which, confidence, bins)[kept] / counts[kept]
    came_true = np.bincount(which, correct, bins)[kept] / counts[kept]
    error = float(np.sum(counts[kept] * np.abs(stated - came_true)) / max(len(confidence), 1))
    picture = _picture(6, 6.6)
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], "--", color=_GREY, label="perfect")
    upper.plot(stated, came_true, "o-", color=COLOURS[0], linewidth=2, markersize=7, label="measured")
    upper.legend(fontsize=_TEXT, frameon=False, loc="upper left")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _axes(upper, y="came true (percent)")
    edges = np.linspace(0, 1, bins + 1)
    lower.bar(
        edges[:-1], counts / max(counts.sum(), 1), width=1 / bins, align="edge", color=COLOURS[5], edgecolor="white"
    )
    lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _axes(lower, x="stated probability (percent)", y="cases\n(percent)")
    _heading(picture, f"{title}: expected calibration error {error:.3f}")
    return picture


def risk_coverage_figure(
    confidence: np.ndarray,
    quality: np.ndarray,
    *,
    quality_label: str = "mean CIDEr-D",
    title: str = "Keeping only the surest captions",
) -> Picture:
    """Mean quality of the surest share of the results, over that share (El-Yaniv & Wiener 2010).

    Args:
        confidence: Confidence of each result, (n,).
        quality: Its quality, (n,), higher is better.
        quality_label: Name and unit of the quality.
        title: Heading.
    """
    confidence, quality = np.asarray(confidence, float), np.asarray(quality, float)
    number = np.arange(1, len(quality) + 1)
    surest = quality[np.argsort(-confidence, kind="stable")].cumsum() / number
    best = np.sort(quality)[::-1].cumsum() / number
    coverage = number / max(len(quality), 1)
    first = max(0, len(quality) // 50 - 1)  # the mean of a handful says nothing
    picture = _picture(7, 5)
    axes = picture.subplots()
    axes.plot(coverage[first:], best[first:], color=_GREY, linestyle=":", linewidth=2, label="best possible order")
    axes.plot(coverage[first:], surest[first:], color=COLOURS[0], linewidth=2.5, label="by confidence")
    if len(quality):
        axes.axhline(quality.mean(), color=COLOURS[3], linestyle="--", linewidth=2, label="at random")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(fontsize=_TEXT, frameon=False)
    axes.set_xlim(0, 1)
    _axes(axes, x="share of results kept, surest first (percent)", y=quality_label)
    _heading(picture, title)
    return picture


def training_figure(
    history: Sequence[Mapping[str, float]],
    panels: Mapping[str, Sequence[str]],
    *,
    x: str = "epoch",
    title: str = "Training",
) -> Picture:
    """Curves of a training run, one panel for each quantity.

    Args:
        history: One mapping per epoch (or step), as the training commands write it; a missing value leaves a gap.
        panels: Axis label with unit -> the keys of ``history`` drawn there, for example
            ``{"cross-entropy (nats per word)": ["loss", "val_loss"], "CIDEr-D (dev)": ["cider_d"]}``.
        x: Key of the horizontal axis.
        title: Heading.
    """
    picture = _picture(5.6 * len(panels), 4.4)
    steps = [row[x] for row in history]
    for axes, (label, keys) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for key, colour in zip(keys, COLOURS, strict=False):
            values = [np.nan if row.get(key) is None else row[key] for row in history]
            marker = "o" if len(steps) <= 30 else None
            axes.plot(steps, values, marker=marker, color=colour, linewidth=2, label=key.replace("_", " "))
        if len(keys) > 1:
            axes.legend(fontsize=_TEXT, frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=all(float(step).is_integer() for step in steps)))
        _axes(axes, x=x, y=label)
    _heading(picture, title)
    return picture


def bar_figure(
    values: Mapping[str, float | tuple[float, float, float]],
    *,
    value_label: str,
    title: str,
    digits: int = 1,
    highlight: str | None = None,
) -> Picture:
    """A comparison as horizontal bars, from top to bottom in the given order, each with its number.

    Args:
        values: Name -> value, or (value, low, high) where an interval is known.
        value_label: Name and unit of the values.
        title: Heading.
        digits: Decimals of the numbers.
        highlight: The name whose bar has the strong colour; every bar has it where None.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError(f"{title!r} has no values to draw")
    picture = _picture(8, 0.5 * len(values) + 1.6)
    axes = picture.subplots()
    ends = []
    for row, (name, value) in enumerate(values.items()):
        value, low, high = value if isinstance(value, tuple) else (value, None, None)
        strong = highlight is None or name == highlight
        axes.barh(row, value, height=0.72, color=COLOURS[0] if strong else "#a9c9de")
        end = value if high is None else high
        if low is not None:
            axes.plot([low, high], [row, row], color="black", linewidth=2)
        axes.annotate(
            f"{value:.{digits}f}", (max(end, 0), row), (5, 0), textcoords="offset points", va="center", fontsize=_TEXT
        )
        ends.append(end)
    axes.set_yticks(range(len(values)), list(values), parse_math=False)
    axes.invert_yaxis()
    if max(ends) > 0:
        axes.set_xlim(right=max(ends) * 1.14)
    _axes(axes, x=value_label, y="")
    _heading(picture, title)
    return picture


def line_figure(
    series: Mapping[str, tuple[Sequence[float], Any]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Picture:
    """Curves to compare; several runs of one curve become their mean with a band from lowest to highest.

    Args:
        series: Name -> (x of (n,), y of (n,) or (runs, n)).
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        title: Heading.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is logarithmic.
    """
    picture = _picture(8, 5)
    axes = picture.subplots()
    styles = ("-", "--", "-.", ":")
    for number, (name, (x, y)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        runs = np.atleast_2d(np.asarray(y, float))
        if len(runs) > 1:
            axes.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        style = styles[number // len(COLOURS) % len(styles)]
        axes.plot(x, runs.mean(axis=0), style, color=colour, linewidth=2.2, marker="o" * (len(x) <= 12), label=name)
    if log_x:
        axes.set_xscale("log")
    elif all(float(value).is_integer() for x, _ in series.values() for value in x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_y:
        axes.set_yscale("log")
    if len(series) > 1:
        axes.legend(fontsize=_TEXT, edgecolor="none", framealpha=0.85)
    _axes(axes, x=x_label, y=y_label)
    _heading(picture, title)
    return picture


def heat_figure(
    values: np.ndarray,
    *,
    columns: Sequence[str],
    y_label: str,
    value_label: str,
    title: str,
    x_label: str = "word",
    limits: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """A matrix over the words of a caption, for example a gate's openness: one row per unit, one column per word.

    Args:
        values: (rows, columns).
        columns: Name of each column.
        y_label: What a row is.
        value_label: Name and unit of the values.
        title: Heading.
        x_label: What a column is.
        limits: Ends of the colour scale.
    """
    values = np.asarray(values)
    picture = _picture(max(6.5, 0.62 * len(columns) + 2.5), 4.8)
    axes = picture.subplots()
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis", vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    _axes(axes, x=x_label, y=y_label, spines=True)
    scale = picture.colorbar(image, ax=axes)
    scale.ax.tick_params(labelsize=_TEXT - 1)
    scale.set_label(value_label, fontsize=_TEXT)
    _heading(picture, title)
    return picture


def scatter_figure(points: np.ndarray, classes: Sequence[str], *, x_label: str, y_label: str, title: str) -> Picture:
    """Points of the plane, coloured by class: embeddings after a projection.

    Args:
        points: (n, 2).
        classes: Class of each point, (n,).
        x_label: What the horizontal axis is, for example "first principal component".
        y_label: What the vertical axis is.
        title: Heading.
    """
    points = np.asarray(points, float)
    classes = np.asarray(classes)
    picture = _picture(8, 6)
    axes = picture.subplots()
    markers = "osD^v*PX"
    for number, name in enumerate(sorted(set(classes.tolist()))):
        chosen = points[classes == name]
        marker = markers[number // len(COLOURS) % len(markers)]
        axes.scatter(*chosen.T, s=34, marker=marker, color=COLOURS[number % len(COLOURS)], alpha=0.75, label=str(name))
    axes.legend(fontsize=_TEXT, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    _axes(axes, x=x_label, y=y_label)
    _heading(picture, title)
    return picture


def _picture(width: float, height: float) -> Picture:
    picture = Picture(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    return picture


def _heading(picture: Picture, title: str) -> None:
    characters = int(picture.get_figwidth() * 10)
    picture.suptitle("\n".join(textwrap.wrap(printable(title), characters)), fontsize=_TITLE, parse_math=False)


def _axes(axes: Axes, *, x: str | None = None, y: str | None = None, spines: bool = False) -> None:
    if x is not None:
        axes.set_xlabel(x, fontsize=_TEXT)
    if y is not None:
        axes.set_ylabel(y, fontsize=_TEXT)
    axes.tick_params(labelsize=_TEXT - 1)
    if not spines:
        axes.spines[["top", "right"]].set_visible(False)


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
