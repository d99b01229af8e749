"""Figures of numbers: confusion, calibration, training, and the charts that notebooks and benchmarks draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from captioner.outputs.plots.picture import COLOURS, GREY, TEXT_SIZE, Picture, heading, new_picture, style_axes
from captioner.outputs.plots.settings import fixed_settings


@fixed_settings()
def confusion_figure(matrix: np.ndarray, labels: Sequence[str], *, title: str = "Confusion matrix") -> Picture:
    """A confusion matrix: counts as numbers, the share of each true class as colour.

    Args:
        matrix: Counts, (true classes, classes); rows are true classes, columns predicted ones.
        labels: Class names, in the matrix's order; those beyond its rows can be predicted, but are never true.
        title: Heading.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = max(4.6, 0.62 * len(labels) + 2.2)
    picture = new_picture(size + 1.2, size + 0.3)
    axes = picture.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=TEXT_SIZE, color=colour)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(matrix)), labels[: len(matrix)], parse_math=False)
    style_axes(axes, x="predicted class", y="true class", spines=True)
    scale = picture.colorbar(image, ax=axes, shrink=0.8)
    scale.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    scale.ax.tick_params(labelsize=TEXT_SIZE - 1)
    scale.set_label("share of the true class (percent)", fontsize=TEXT_SIZE)
    correct = np.trace(matrix) / max(matrix.sum(), 1)
    heading(picture, f"{title}: {correct:.1%} of {matrix.sum()} correct")
    return picture


@fixed_settings()
def roc_figure(positive: np.ndarray, negative: np.ndarray, threshold: float, *, title: str = "ROC") -> Picture:
    """The receiver operating characteristic: what is kept of the known against what is taken for known of the foreign.

    Args:
        positive: Probabilities of the known (N,), 0..1.
        negative: Of the foreign (M,).
        threshold: Marked on the curve.
        title: Heading.
    """
    levels = np.unique(np.concatenate([positive, negative, [0.0, 1.0 + 1e-9]]))[::-1]
    kept, taken = ((one[None] >= levels[:, None]).mean(axis=1) for one in (positive, negative))
    picture = new_picture(6.4, 5.6)
    axes = picture.subplots()
    axes.plot(taken, kept, color=COLOURS[0], linewidth=2.5)
    chosen = [float(np.mean(one >= threshold)) for one in (negative, positive)]
    axes.plot(*chosen, "o", color=COLOURS[3], markersize=9, label=f"the threshold: {chosen[1]:.1%}, {chosen[0]:.1%}")
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="at random")
    axes.legend(fontsize=TEXT_SIZE, frameon=False, loc="lower right")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    style_axes(axes, x="foreign, taken for known (percent)", y="known, kept (percent)")
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(6, 6.6)
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect")
    upper.plot(stated, came_true, "o-", color=COLOURS[0], linewidth=2, markersize=7, label="measured")
    upper.legend(fontsize=TEXT_SIZE, frameon=False, loc="upper left")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    style_axes(upper, y="came true (percent)")
    edges = np.linspace(0, 1, bins + 1)
    lower.bar(
        edges[:-1], counts / max(counts.sum(), 1), width=1 / bins, align="edge", color=COLOURS[5], edgecolor="white"
    )
    lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    style_axes(lower, x="stated probability (percent)", y="cases\n(percent)")
    heading(picture, f"{title}: expected calibration error {error:.3f}")
    return picture


@fixed_settings()
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
    picture = new_picture(7, 5)
    axes = picture.subplots()
    axes.plot(coverage[first:], best[first:], color=GREY, linestyle=":", linewidth=2, label="best possible order")
    axes.plot(coverage[first:], surest[first:], color=COLOURS[0], linewidth=2.5, label="by confidence")
    if len(quality):
        axes.axhline(quality.mean(), color=COLOURS[3], linestyle="--", linewidth=2, label="at random")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(fontsize=TEXT_SIZE, frameon=False)
    axes.set_xlim(0, 1)
    style_axes(axes, x="share of results kept, surest first (percent)", y=quality_label)
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(5.6 * len(panels), 4.4)
    steps = [row[x] for row in history]
    for axes, (label, keys) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for key, colour in zip(keys, COLOURS, strict=False):
            values = [np.nan if row.get(key) is None else row[key] for row in history]
            marker = "o" if len(steps) <= 30 else None
            axes.plot(steps, values, marker=marker, color=colour, linewidth=2, label=key.replace("_", " "))
        if len(keys) > 1:
            axes.legend(fontsize=TEXT_SIZE, frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=all(float(step).is_integer() for step in steps)))
        style_axes(axes, x=x, y=label)
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(8, 0.5 * len(values) + 1.6)
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
            f"{value:.{digits}f}",
            (max(end, 0), row),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=TEXT_SIZE,
        )
        ends.append(end)
    axes.set_yticks(range(len(values)), list(values), parse_math=False)
    axes.invert_yaxis()
    if max(ends) > 0:
        axes.set_xlim(right=max(ends) * 1.14)
    style_axes(axes, x=value_label, y="")
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(8, 5)
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
        axes.legend(fontsize=TEXT_SIZE, edgecolor="none", framealpha=0.85)
    style_axes(axes, x=x_label, y=y_label)
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(max(6.5, 0.62 * len(columns) + 2.5), 4.8)
    axes = picture.subplots()
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis", vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    style_axes(axes, x=x_label, y=y_label, spines=True)
    scale = picture.colorbar(image, ax=axes)
    scale.ax.tick_params(labelsize=TEXT_SIZE - 1)
    scale.set_label(value_label, fontsize=TEXT_SIZE)
    heading(picture, title)
    return picture


@fixed_settings()
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
    picture = new_picture(8, 6)
    axes = picture.subplots()
    markers = "osD^v*PX"
    for number, name in enumerate(sorted(set(classes.tolist()))):
        chosen = points[classes == name]
        marker = markers[number // len(COLOURS) % len(markers)]
        axes.scatter(*chosen.T, s=34, marker=marker, color=COLOURS[number % len(COLOURS)], alpha=0.75, label=str(name))
    axes.legend(fontsize=TEXT_SIZE, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    style_axes(axes, x=x_label, y=y_label)
    heading(picture, title)
    return picture
