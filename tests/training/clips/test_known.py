"""Fitting what tells known from foreign: covariance, logistic regression, threshold, and that nothing judges itself."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.evaluation.classification import auroc
from captioner.training.clips import known as module
from captioner.training.clips.known import (
    Examples,
    best_threshold,
    calibrated,
    fit_known,
    judged_scores,
    kind_weights,
    logistic_regression,
    within_spread,
)

LABELS = ("a", "b")


def examples(centre: float, kinds: str, parts: int = 3, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    names = tuple(f"{kind}{number}" for number, kind in enumerate(kinds))
    shift = np.array([{"a": 2.0, "b": -2.0}.get(kind, 0.0) for kind in kinds])
    rows = rng.normal(size=(len(kinds), 6)) + centre * np.eye(6)[0]
    rows[:, 1] += shift
    return Examples(rows.astype(np.float32), tuple(kinds), np.arange(len(kinds)) % parts, names)


def test_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 40) + 1.0, rng.integers(0, 6, 30)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs))
    assert auroc(np.array([1.0]), np.array([0.0])) == 1.0


def test_the_spread_is_that_of_the_covariance():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 6)) * [4, 3, 2, 1, 1, 1]
    rows -= rows.mean(axis=0)
    variances, axes, residual = within_spread(rows, 2)
    values = np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True))[::-1]
    np.testing.assert_allclose(variances, values[:2], rtol=1e-4)
    assert residual == pytest.approx(values[2:].mean(), rel=1e-4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-5)


def test_the_logistic_regression_has_no_slope_left():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 2)) * [1, 20]
    truth = rng.uniform(size=400) < 1 / (1 + np.exp(-(1.5 * scores[:, 0] - 0.05 * scores[:, 1] + 0.4)))
    weights = rng.uniform(0.5, 1.5, 400) / 400
    found = logistic_regression(scores, truth, weights)
    assert found == pytest.approx([1.5, -0.05, 0.4], abs=0.35)

    def loss(values):
        logits = scores @ values[:2] + values[2]
        return (weights * (np.logaddexp(0, logits) - truth * logits)).sum()

    for step in np.eye(3) * 0.05:
        assert loss(found) < min(loss(found + step), loss(found - step)) + 1e-5


def test_known_and_foreign_are_told_apart():
    known, foreign = examples(0.0, "ab" * 60), examples(5.0, "xyz" * 40, seed=1)
    own, away = judged_scores(known, foreign, LABELS)
    head = calibrated(fit_known(known, foreign, LABELS), own, away, kind_weights(foreign.kinds))
    assert head.config.background and min(head.config.slopes) >= 0
    assert auroc(head.probability(own), head.probability(away)) > 0.97
    assert head(known.rows).mean() > 0.9 > 0.1 > head(foreign.rows).mean()


def test_without_anything_foreign_the_distance_decides():
    known = examples(0.0, "ab" * 60)
    own, away = judged_scores(known, None, LABELS)
    head = calibrated(fit_known(known, None, LABELS), own, None, None)
    assert away is None and not head.config.background
    assert np.mean(head.probability(own) >= 0.5) == pytest.approx(0.98, abs=0.01)
    assert np.median(head.probability(own)) == pytest.approx(0.95, abs=0.005)
    assert head(examples(30.0, "xx").rows).max() < 0.25  # as far as rows are not cut off


def test_nothing_is_judged_by_what_was_fitted_to_it(monkeypatch):
    known, foreign = examples(0.0, "ab" * 9), examples(5.0, "xyz" * 3)
    fitted = []

    class Head:
        def __init__(self, clips):
            self.clips = clips

        def scores(self, rows):
            return np.full((len(rows), 3), float(len(fitted) - 1))

    def fit(one, other, labels):
        fitted.append({*one.clips, *other.clips})
        return Head(fitted[-1])

    monkeypatch.setattr(module, "fit_known", fit)
    for one, scores in zip((known, foreign), judged_scores(known, foreign, LABELS), strict=True):
        for name, score in zip(one.clips, scores[:, 0], strict=True):
            assert name not in fitted[int(score)]
    assert len(fitted) == 3


def test_a_score_that_counts_the_wrong_way_round_is_left_out():
    known, foreign = examples(0.0, "ab" * 60), examples(5.0, "xyz" * 40, seed=1)
    head = fit_known(known, foreign, LABELS)
    rng = np.random.default_rng(0)
    centre = np.array([-0.5, 1, 1])
    own, away = rng.normal(size=(120, 3)) + centre, rng.normal(size=(120, 3)) - centre
    share = kind_weights(foreign.kinds)
    assert min(calibrated(head, own * [-1, 1, 1], away * [-1, 1, 1], share).config.slopes) > 0
    slopes = calibrated(head, own, away, share).config.slopes
    assert slopes[0] == 0 and min(slopes[1:]) > 0


def test_the_threshold_costs_least():
    rng = np.random.default_rng(0)
    kept, foreign, share = rng.beta(6, 1, 80), rng.beta(1, 3, 60), rng.uniform(1, 2, 60)
    found = best_threshold(kept, foreign, share, 0.5)

    def cost(level):
        return np.mean(kept < level) + module.FOREIGN_COST * share[foreign >= level].sum() / share.sum()

    assert 0 < found <= 0.5
    assert cost(found) <= min(cost(level) for level in np.linspace(0.001, 0.5, 500)) + 0.5 / 60
    assert best_threshold(np.array([0.9, 0.8]), np.array([0.1]), np.ones(1), 0.5) == 0.5


def test_a_large_kind_is_not_all():
    weights = kind_weights(["x"] * 9 + ["y"])
    assert weights[:9].sum() == pytest.approx(3 * weights[9])
