"""Fitting and judging how likely it is that anything known happens; see `captioner.clips.known`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from captioner.clips.known import KnownConfig, KnownHead, standardised_looks
from captioner.training.clips.ridge import ridge

COMPONENTS = 32
"""Directions of the spread within the classes; from 32 to all, the figures are the same."""
PENALTY = 2.5e-4
"""On the squared weights of the regression, beside a squared error of 1 at most in all."""
KEPT = 0.98
"""Share of the known clips that is kept where nothing foreign tells what it would cost to keep more."""
FOREIGN_COST = 0.4
"""What a label on a foreign clip costs, in labels lost on known ones."""


@dataclass(frozen=True)
class Examples:
    """What some windows look like, and what they are.

    Attributes:
        rows: From `captioner.clips.known.looks`, (N, C).
        kinds: Of each: its label, or what kind of foreign thing it is.
        parts: Number of the part in which each is judged, by a head that was fitted to the other parts.
        clips: Name of the clip of each window.
    """

    rows: np.ndarray = field(repr=False)
    kinds: tuple[str, ...]
    parts: np.ndarray
    clips: tuple[str, ...]

    def where(self, chosen: np.ndarray) -> Examples:
        """Some of them, by a mask (N,)."""
        numbers = np.flatnonzero(chosen)
        kinds, clips = (tuple(of[i] for i in numbers) for of in (self.kinds, self.clips))
        return Examples(self.rows[chosen], kinds, self.parts[chosen], clips)


def fit_known(known: Examples, foreign: Examples | None, labels: Sequence[str]) -> KnownHead:
    """Fits the distance and, where there is anything foreign, the regression; the logistic function is not fitted yet.

    Every class weighs the same, and all of them together as much as everything foreign. Of the foreign kinds each
    weighs the square root of its size: a large one is not to be all, nor a single clip as much as a thousand photos.

    Args:
        known: Windows of the classes.
        foreign: Windows in which none of them happens, or None.
        labels: The classes.
    """
    rows = known.rows if foreign is None else np.concatenate([known.rows, foreign.rows])
    mean, spread = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    mean = mean.astype(np.float32)
    scale = (1 / np.maximum(spread, max(0.1 * spread.mean(), 1e-6))).astype(np.float32)
    rows = standardised_looks(rows, mean, scale)
    own = rows[: len(known.rows)]
    number = np.array([labels.index(kind) for kind in known.kinds])
    centres = np.stack([own[number == label].mean(axis=0) for label in range(len(labels))])
    variances, axes, residual = within_spread(own - centres[number], COMPONENTS)
    weights = {"mean": mean, "scale": scale, "centres": centres, "axes": axes, "variances": variances}
    if foreign is not None:
        share = np.concatenate([_shares(known.kinds, 1.0), _shares(foreign.kinds, 0.5)])
        truth = np.concatenate([number, np.full(len(foreign.rows), len(labels))])
        targets = np.where(truth[:, None] == np.arange(len(labels) + 1), 1.0, -1.0)
        root = math.sqrt(rows.shape[1])
        kernel, bias = ridge(rows / root, targets, share, PENALTY)
        weights |= {"kernel": (kernel / root).astype(np.float32), "bias": bias}
    background = foreign is not None
    slopes = (1.0,) * (3 if background else 1)
    config = KnownConfig(len(labels), rows.shape[1], axes.shape[1], background, residual, slopes, 0.0)
    return KnownHead(config, weights)


def within_spread(away: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The covariance of rows (N, C) whose mean is 0 as its largest variances, their directions, and one value besides.

    Returns:
        Variances (components,), none below the value besides; axes (C, components); the mean variance in all other
        directions.
    """
    spreads, axes = np.linalg.eigh(away.T.astype(np.float64) @ away / len(away))
    spreads, axes = spreads[::-1], axes[:, ::-1]
    kept = min(components, len(spreads) - 1) or 1
    residual = max(float(spreads[kept:].mean()) if len(spreads) > kept else 0.0, 1e-6)
    return np.maximum(spreads[:kept], residual).astype(np.float32), axes[:, :kept].astype(np.float32), residual


def judged_scores(
    known: Examples, foreign: Examples | None, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores (see `KnownHead.scores`) of every window by a head that was fitted to the other parts."""
    count = 1 if foreign is None else 3
    found = [np.zeros((0 if one is None else len(one.rows), count)) for one in (known, foreign)]
    for part in sorted(set(known.parts.tolist())):
        rest = None if foreign is None else foreign.where(foreign.parts != part)
        head = fit_known(known.where(known.parts != part), rest, labels)
        for one, scores in zip((known, foreign), found, strict=True):
            if one is not None and (held := one.parts == part).any():
                scores[held] = head.scores(one.rows[held])
    return found[0], (None if foreign is None else found[1])


def calibrated(head: KnownHead, known: np.ndarray, foreign: np.ndarray | None, share: np.ndarray | None) -> KnownHead:
    """The head with its logistic function, from scores of windows to which it was not fitted.

    With a background it has the lowest loss on them, both sides weighing the same. Without, it is 0.5 at the distance
    within which `KEPT` of the known windows lie, and 0.95 at that of the one in the middle.

    Args:
        head: From `fit_known`.
        known: Scores of known windows.
        foreign: Scores of foreign ones, or None.
        share: Weights of the foreign windows.
    """
    if foreign is None:
        far, middle = np.quantile(known[:, 0], [1 - KEPT, 0.5])
        slope = math.log(19) / max(middle - far, 1e-3)
        return KnownHead(replace(head.config, slopes=(float(slope),), offset=-float(slope * far)), head.weights)
    scores = np.concatenate([known, foreign])
    weights = np.concatenate([np.full(len(known), 0.5 / len(known)), 0.5 * share / share.sum()])
    truth = np.arange(len(scores)) < len(known)
    slopes, used = np.zeros(scores.shape[1]), np.arange(scores.shape[1])
    while True:  # a score that would count the wrong way round is left out
        *found, offset = logistic_regression(scores[:, used], truth, weights)
        slopes[:] = 0.0
        slopes[used] = found
        if (slopes >= 0).all() or len(used) == 1:
            break
        used = used[slopes[used] > 0] if (slopes[used] > 0).any() else used[-1:]
    return KnownHead(replace(head.config, slopes=tuple(slopes.tolist()), offset=float(offset)), head.weights)


def logistic_regression(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray, *, steps: int = 50) -> np.ndarray:
    """Slopes and offset (D + 1,) with the lowest weighted loss, by Newton's method with a faint penalty on the slopes.

    Args:
        scores: (N, D).
        truth: (N,), whether each is what the probability is of.
        weights: (N,), positive.
        steps: At most so many.
    """
    spread = np.maximum(scores.std(axis=0), 1e-9)
    rows = np.column_stack([scores / spread, np.ones(len(scores))])
    penalty = np.diag([1e-4] * scores.shape[1] + [1e-9])
    found = np.zeros(rows.shape[1])
    for _ in range(steps):
        chance = 0.5 * (1 + np.tanh(0.5 * rows @ found))
        slope = rows.T @ (weights * (chance - truth)) + penalty @ found
        curve = (rows * (weights * np.maximum(chance * (1 - chance), 1e-6))[:, None]).T @ rows + penalty
        step = np.linalg.solve(curve, slope)
        found = found - step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return np.append(found[:-1] / spread, found[-1])


def best_threshold(kept: np.ndarray, foreign: np.ndarray, share: np.ndarray, highest: float) -> float:
    """The probability that a label needs, where right ones lost and labels on foreign clips cost the least together.

    Args:
        kept: Probability of the right label of each known clip, 0 where another one is likelier.
        foreign: Probability that anything known happens in each foreign clip.
        share: Weights of the foreign clips.
        highest: The threshold is at most so high.
    """
    levels = [level for level in np.unique(np.concatenate([kept, [highest]])) if 0 < level <= highest]
    share = share / share.sum()
    costs = [np.mean(kept < level) + FOREIGN_COST * share[foreign >= level].sum() for level in levels]
    best = max(level for level, cost in zip(levels, costs, strict=True) if cost <= min(costs) + 1e-12)
    return math.floor(1000 * best) / 1000  # rounded down, so that who has reached it stays above


def _shares(kinds: Sequence[str], power: float) -> np.ndarray:
    """Weights (N,) that sum up to a half: ``size ** (1 - power)`` for each kind altogether."""
    return 0.5 * kind_weights(kinds, power) / kind_weights(kinds, power).sum()


def kind_weights(kinds: Sequence[str], power: float = 0.5) -> np.ndarray:
    """Weight of each example where every kind weighs ``size ** (1 - power)`` in all."""
    sizes = Counter(kinds)
    return np.array([sizes[kind] ** -power for kind in kinds])
