"""How sure a score is: bootstrap intervals over photos or clips, alone or for the difference of two models.

A score of 1,000 photos moves by a few points when other photos are drawn. The bootstrap (Efron, 1979) draws photos
with replacement and looks at the spread; for two models it draws the same photos for both (Koehn, 2004), which leaves
only the difference that matters.

Every function takes one row of numbers a photo and scores the sums over photos, so that corpus scores such as BLEU
are recomputed for every draw and not averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

# From sums (draws, columns) to scores (draws,).
Score = Callable[[np.ndarray], np.ndarray]

_DRAWS_AT_ONCE = 100


@dataclass(frozen=True)
class Interval:
    """A score and the interval that holds its true value with the probability ``level``."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def scaled(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor, self.level)

    def moved(self, by: float) -> Interval:
        """The same somewhere else."""
        return Interval(self.estimate + by, self.low + by, self.high + by, self.level)

    def to_dict(self) -> dict:
        """``{"estimate", "low", "high", "level"}``."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "level": self.level}


def ratio_of_sums(sums: np.ndarray) -> np.ndarray:
    """Score of rows (value, weight): the weighted mean. Sums (draws, 2) to (draws,)."""
    return sums[:, 0] / np.maximum(sums[:, 1], 1e-12)


def bootstrap_interval(
    rows: np.ndarray,
    score: Score | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a score.

    Args:
        rows: (photos,) values whose mean is the score, or (photos, columns) for ``score``.
        score: From sums over photos (draws, columns) to scores (draws,); by default the mean.
        groups: The group of every row, for example the video that a clip was cut from. Groups are then drawn instead
            of rows, because rows of one group are alike.
        samples: How often to draw.
        level: Probability that the interval should cover, 0..1.
        seed: Of the draws.

    Raises:
        ValueError: There is no row, or the arguments do not fit together.
    """
    table, score = _table(rows, score, groups)
    return _interval(score(table.sum(axis=0, keepdims=True))[0], _drawn(table, score, samples, seed), level)


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    score: Score | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Interval of how much better the second of two models is on the same photos.

    Args:
        first: Rows of one model, as for `bootstrap_interval`.
        second: Rows of the other, for the same photos in the same order.
        score: As for `bootstrap_interval`.
        groups: As for `bootstrap_interval`.
        samples: How often to draw.
        level: Probability that the interval should cover, 0..1.
        seed: Of the draws.

    Returns:
        The difference, score of the second less that of the first, with its interval; and the share of draws in which
        the second is not better: small values speak for it.

    Raises:
        ValueError: The two have different shapes, or as for `bootstrap_interval`.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"the two models must have the same photos; shapes are {np.shape(first)}, {np.shape(second)}")
    (one, score_), (other, _) = _table(first, score, groups), _table(second, score, groups)
    # One seed gives both the same draws.
    drawn = _drawn(other, score_, samples, seed) - _drawn(one, score_, samples, seed)
    estimate = score_(other.sum(axis=0, keepdims=True))[0] - score_(one.sum(axis=0, keepdims=True))[0]
    return _interval(estimate, drawn, level), float(np.mean(drawn <= 0))


def _table(rows: np.ndarray, score: Score | None, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, Score]:
    """Rows (units, columns) to draw from, and the score of their sums."""
    table = np.asarray(rows, np.float64)
    if not len(table):
        raise ValueError("there is nothing to draw from")
    if score is None:
        if table.ndim != 1:
            raise ValueError("rows of several columns need a score")
        table, score = np.stack([table, np.ones_like(table)], axis=1), ratio_of_sums
    elif table.ndim == 1:
        table = table[:, None]
    if groups is not None:
        if len(groups) != len(table):
            raise ValueError(f"{len(groups)} groups for {len(table)} rows")
        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
        summed = np.zeros((len(number), table.shape[1]))
        np.add.at(summed, [number[group] for group in groups], table)
        table = summed
    return table, score


def _drawn(table: np.ndarray, score: Score, samples: int, seed: int) -> np.ndarray:
    """Scores of ``samples`` draws: float64 (samples,)."""
    generator = np.random.default_rng(seed)
    scores = []
    for start in range(0, samples, _DRAWS_AT_ONCE):
        draws = min(_DRAWS_AT_ONCE, samples - start)
        counts = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws)
        scores.append(score(counts @ table))
    return np.concatenate(scores)


def _interval(estimate: float, drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level)
