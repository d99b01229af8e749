"""Fitting the ridge regression of clips: principal components and centres of local motion, then a closed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from captioner.clips.local_motion import DESCRIPTORS, LOCAL_MOTION, local_descriptors, mirrored_cells
from captioner.clips.ridge import Codebook, RidgeConfig, RidgeHead, standardised, summary
from captioner.errors import DatasetError
from captioner.training.clips.data import Clip, ClipWindows
from captioner.training.clips.fitting import VIEWS, ClipOptions, TrainedHead, channels_of, clip_logits, held_out

_PER_CLIP = 400
"""Local descriptors of a clip at most from which components and centres are found: a busy clip is not to fill them."""
_FOR_WORDS = 20_000
"""Local descriptors at most from which centres are found; more would take time and change little."""


def fit_ridges(
    clips: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    labels: Sequence[str],
    options: ClipOptions,
    *,
    judges: bool = False,
    progress: Callable[..., None] | None = None,
) -> list[TrainedHead]:
    """Fits the regression that classifies, or those that judge it.

    Args:
        clips: Clips of the splits ``train`` and ``val``; others are not touched.
        measured: See `captioner.training.clips.fitting.fit_network`.
        labels: The classes.
        options: Settings.
        judges: Whether to fit, for every seed and each of the ``folds``, one on the other parts, which that part
            judges. Otherwise one is fitted on all clips where there are folds, and on ``train``, judged by ``val``,
            where there are none.
        progress: Called with (name, fit, fits, step, steps, loss).
    """
    clips = [clip for clip in clips if clip.split in ("train", "val")]
    if options.folds and not judges:
        jobs = [("ridge", options.seeds[0], set())]
    else:
        seeds = options.seeds if judges else options.seeds[:1]
        jobs = [
            (f"seed{seed}-fold{fold}", seed, held)
            for seed in seeds
            for fold, held in enumerate(held_out(clips, options.folds, seed))
        ]
    heads = []
    for number, (name, seed, held) in enumerate(jobs):
        train = [clip for clip in clips if clip.name not in held]
        head = fit_ridge(train, measured, labels, options, seed=seed)
        judged = [clip for clip in clips if clip.name in held]
        heads.append(TrainedHead(head.config, head.weights, clip_logits(head, judged, measured), []))
        if progress:
            progress(name, number + 1, len(jobs), 1, 1, 0.0)
    return heads


def fit_ridge(
    train: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    labels: Sequence[str],
    options: ClipOptions,
    *,
    seed: int,
) -> RidgeHead:
    """Fits one regression to the classes, +1 for the right one and -1 for the others.

    All views of all windows are fitted; together those of a clip weigh as much as those of any other of its class, and
    every class weighs the same.

    Args:
        train: Clips to fit.
        measured: Clip name to views; ``local_motion`` is needed of the first view alone.
        labels: The classes.
        options: ``streams``, ``region`` and ``penalty``.
        seed: Of the choice of descriptors and centres.

    Raises:
        DatasetError: Nothing moves in the clips, but ``local_motion`` is asked for.
    """
    config = options.head(len(labels), channels_of(measured, options.streams))
    counts = Counter(clip.label for clip in train)
    weights, targets = [], []
    for clip in train:
        rows = sum(len(view.inputs) for view in measured[clip.name])
        weights += [len(train) / (len(counts) * counts[clip.label] * rows)] * rows
        targets += [[1.0 if label == clip.label else -1.0 for label in labels]] * rows
    weights, targets = np.array(weights), np.array(targets)
    fitted: dict[str, np.ndarray] = {"output/bias": np.zeros(len(labels), np.float32)}
    if config.vectors:
        rows = np.stack(
            [
                summary(window, config.vectors)
                for clip in train
                for view in measured[clip.name]
                for window in view.inputs
            ]
        )
        mean, scale = _standard(rows, config)
        fitted |= {"summary/mean": mean, "summary/scale": scale}
        fitted["summary/kernel"], added = ridge(standardised(rows, mean, scale), targets, weights, options.penalty)
        fitted["output/bias"] += added
    if LOCAL_MOTION in config.streams:
        book = fit_codebook((cells for *_, cells in _local_motion(train, measured, options)), config, seed)
        fitted |= book
        codebook, known = Codebook(book), {}
        for name, window, flip, cells in _local_motion(train, measured, options):
            known[name, window, flip] = codebook.encode(cells)
        rows = np.stack(
            [
                known[clip.name, window, view.flip]
                for clip in train
                for view, seen in zip(VIEWS[options.region], measured[clip.name], strict=True)
                for window in range(len(seen.inputs))
            ]
        )
        fitted["vlad/kernel"], added = ridge(rows, targets, weights, options.penalty)
        fitted["output/bias"] += added
    return RidgeHead(config, fitted)


def ridge(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted ridge regression (Hoerl & Kennard 1970) with a free bias.

    Minimises ``sum_i weights_i * |rows_i @ kernel + bias - targets_i|^2 + penalty * |kernel|^2``.

    Args:
        rows: (N, D).
        targets: (N, K).
        weights: (N,), positive.
        penalty: Above 0.

    Returns:
        float32 kernel (D, K) and bias (K,).
    """
    centre, middle = _mean(rows, weights), _mean(targets, weights)
    root = np.sqrt(weights)[:, None]
    x, y = root * (rows - centre), root * (targets - middle)
    if len(x) < x.shape[1]:  # the smaller of the two equal systems
        kernel = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
    else:
        kernel = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return kernel.astype(np.float32), (middle - centre @ kernel).astype(np.float32)


def fit_codebook(windows: Iterator[np.ndarray], config: RidgeConfig, seed: int) -> dict[str, np.ndarray]:
    """Whitened principal components and k-means centres of the local descriptors of windows.

    Args:
        windows: Cells of each window, see `captioner.clips.local_motion.local_descriptors`.
        config: ``components`` and ``words``.
        seed: Of the choice of descriptors and of the first centres.

    Raises:
        DatasetError: There are fewer descriptors than words.
    """
    import cv2

    rng = np.random.default_rng(seed)
    gathered: dict[str, list[np.ndarray]] = {kind: [] for kind in DESCRIPTORS}
    for cells in windows:
        found = local_descriptors(cells)
        chosen = rng.permutation(len(next(iter(found.values()))))[:_PER_CLIP]
        for kind, values in found.items():
            gathered[kind].append(values[chosen])
    weights = {}
    for kind, parts in gathered.items():
        values = np.concatenate(parts)
        if len(values) < config.words:
            raise DatasetError(
                f"hardly anything moves in the clips: {len(values)} places where {config.words} are needed to learn "
                "how things move; take another cell, or more clips"
            )
        mean = values.mean(axis=0, dtype=np.float64)
        spreads, axes = np.linalg.eigh(np.cov(values.astype(np.float64) - mean, rowvar=False))
        spreads, axes = spreads[::-1][: config.components], axes[:, ::-1][:, : config.components]
        # Directions in which nothing varies would blow up.
        projection = axes / np.sqrt(np.maximum(spreads, 1e-6 * max(spreads[0], 1e-12)))
        weights |= {f"{kind}/mean": mean.astype(np.float32), f"{kind}/projection": projection.astype(np.float32)}
        points = Codebook(weights).project(kind, values[rng.permutation(len(values))[:_FOR_WORDS]])
        cv2.setRNGSeed(seed)
        stop = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 30, 1e-3)
        centres = cv2.kmeans(points, config.words, None, stop, 1, cv2.KMEANS_PP_CENTERS)[2]
        weights[f"{kind}/words"] = centres
    return weights


def _local_motion(clips, measured, options: ClipOptions):
    """Clip name, number of the window, whether it is mirrored, and its cells."""
    flips = sorted({view.flip for view in VIEWS[options.region]})
    for clip in clips:
        for number, window in enumerate(measured[clip.name][0].inputs):
            for flip in flips:
                cells = window[LOCAL_MOTION]
                yield clip.name, number, flip, mirrored_cells(cells) if flip else cells


def _standard(rows: np.ndarray, config: RidgeConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / spread of summaries; the spread no smaller than a tenth of the average in its stream."""
    spread, first = rows.std(axis=0, dtype=np.float64), 0
    for name in config.vectors:
        for _ in ("mean", "spread"):
            part = spread[first : first + config.width(name)]
            part[:] = np.maximum(part, max(0.1 * part.mean(), 1e-6))
            first += config.width(name)
    return rows.mean(axis=0, dtype=np.float64).astype(np.float32), (1 / spread).astype(np.float32)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum()
