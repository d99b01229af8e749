"""Bootstrap intervals, calibration and clip scores, on examples whose answer is known."""

import numpy as np
import pytest

from captioner.errors import DatasetError
from captioner.evaluation.bootstrap import bootstrap_interval, paired_bootstrap, ratio_of_sums
from captioner.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    fit_platt,
    fit_temperature,
    reliability_bins,
    risk_coverage,
)
from captioner.evaluation.classification import confusion_matrix, evaluate_clips
from captioner.results import ClipPrediction


class TestBootstrap:
    def test_interval_of_a_mean_is_that_of_the_normal_distribution(self):
        values = np.random.default_rng(0).normal(3.0, 2.0, 400)
        interval = bootstrap_interval(values, samples=4000)
        half = 1.96 * values.std() / 20
        assert interval.estimate == pytest.approx(values.mean())
        assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
        assert interval.high == pytest.approx(values.mean() + half, abs=0.02)

    def test_covers_the_true_mean_about_as_often_as_it_says(self):
        generator = np.random.default_rng(1)
        intervals = [bootstrap_interval(generator.normal(size=40), level=0.8, samples=200) for _ in range(200)]
        covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
        assert 0.68 < covered < 0.9

    def test_same_seed_same_interval(self):
        values = np.arange(20.0)
        assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
        assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)

    def test_number_of_draws_need_not_fill_the_last_batch(self):
        assert bootstrap_interval(np.ones(5), samples=7).low == 1

    def test_scores_are_recomputed_from_sums(self):
        # Ratio of sums, not mean of ratios: 3 / 101, although the ratios' mean is 0.51.
        rows = np.array([[1.0, 1.0], [2.0, 100.0]])
        assert bootstrap_interval(rows, ratio_of_sums).estimate == pytest.approx(3 / 101)

    def test_groups_are_drawn_whole(self):
        generator = np.random.default_rng(2)
        groups = np.repeat(np.arange(20), 10)
        values = np.repeat(generator.normal(size=20), 10)  # ten copies tell no more than one
        alone = bootstrap_interval(values, samples=2000)
        grouped = bootstrap_interval(values, groups=groups.tolist(), samples=2000)
        assert grouped.estimate == pytest.approx(alone.estimate)
        assert grouped.high - grouped.low == pytest.approx(np.sqrt(10) * (alone.high - alone.low), rel=0.15)

    def test_pairing_sees_a_small_difference_that_two_intervals_hide(self):
        generator = np.random.default_rng(3)
        difficulty = generator.normal(0, 10, 300)
        first = difficulty + generator.normal(0, 0.5, 300)
        second = difficulty + 0.5 + generator.normal(0, 0.5, 300)
        one, other = bootstrap_interval(first), bootstrap_interval(second)
        assert one.high > other.low
        difference, doubt = paired_bootstrap(first, second)
        assert difference.estimate == pytest.approx(second.mean() - first.mean())
        assert 0.3 < difference.low < difference.high < 0.7
        assert doubt == 0
        assert paired_bootstrap(second, first)[1] == 1

    def test_a_model_does_not_beat_itself(self):
        difference, doubt = paired_bootstrap(np.arange(9.0), np.arange(9.0))
        assert (difference.estimate, difference.low, difference.high, doubt) == (0, 0, 0, 1)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="nothing to draw from"):
            bootstrap_interval(np.array([]))
        with pytest.raises(ValueError, match="need a score"):
            bootstrap_interval(np.ones((3, 2)))
        with pytest.raises(ValueError, match="2 groups for 3 rows"):
            bootstrap_interval(np.ones(3), groups=["a", "b"])
        with pytest.raises(ValueError, match="same photos"):
            paired_bootstrap(np.ones(3), np.ones(4))


class TestCalibration:
    def test_error_by_hand(self):
        # Bins of width 0.5: (0.2, 0.4) are right half the time, (0.9,) never.
        probabilities, correct = np.array([0.2, 0.4, 0.9]), np.array([True, False, False])
        assert expected_calibration_error(probabilities, correct, bins=2) == pytest.approx((2 * 0.2 + 0.9) / 3)

    def test_honest_probabilities_have_nearly_no_error_and_boastful_ones_much(self):
        generator = np.random.default_rng(0)
        probabilities = generator.uniform(0.3, 0.9, 50_000)
        correct = generator.random(50_000) < probabilities
        assert expected_calibration_error(probabilities, correct) < 0.01
        assert expected_calibration_error(probabilities**0.2, correct) > 0.2

    def test_edges_belong_to_the_bin_below(self):
        bins = reliability_bins(np.array([0.0, 0.5, 0.51, 1.0]), np.array([0, 1, 1, 1]), bins=2)
        assert [b.count for b in bins] == [2, 2]
        assert (bins[0].low, bins[0].high, bins[0].accuracy) == (0, 0.5, 0.5)
        assert bins[1].probability == pytest.approx(0.755)

    def test_empty_bins_are_marked(self):
        bins = reliability_bins(np.array([0.9]), np.array([True]), bins=4)
        assert [b.count for b in bins] == [0, 0, 0, 1] and np.isnan(bins[0].accuracy)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="no prediction"):
            expected_calibration_error(np.array([]), np.array([]))
        with pytest.raises(ValueError, match=r"0\.\.1"):
            expected_calibration_error(np.array([1.2]), np.array([True]))
        with pytest.raises(ValueError, match="shapes"):
            expected_calibration_error(np.array([0.2, 0.3]), np.array([True]))
        with pytest.raises(ValueError, match="shapes"):
            risk_coverage(np.array([]), np.array([]))
        with pytest.raises(ValueError, match="need logits"):
            fit_temperature(np.zeros((2, 3)), np.array([0]))

    def test_risk_coverage_by_hand(self):
        coverage, risk = risk_coverage(np.array([0.1, 0.9, 0.5, 0.9]), np.array([1.0, 0.0, 1.0, 1.0]))
        np.testing.assert_allclose(coverage, [0.5, 0.75, 1.0])  # the two at 0.9 come together
        np.testing.assert_allclose(risk, [0.5, 2 / 3, 0.75])

    def test_area_tells_a_useful_confidence_from_a_useless_one(self):
        loss = np.random.default_rng(0).random(2000)
        useless = np.random.default_rng(1).random(2000)
        assert area_under_risk_coverage(useless, loss) == pytest.approx(0.5, abs=0.03)
        assert area_under_risk_coverage(-loss, loss) == pytest.approx(0.25, abs=0.02)
        assert area_under_risk_coverage(np.ones(2000), loss) == pytest.approx(loss.mean())

    @pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
    def test_temperature_is_found_again(self, temperature):
        generator = np.random.default_rng(0)
        true_logits = generator.normal(0, 2, (20_000, 5))
        weights = np.exp(true_logits)
        drawn = generator.random((20_000, 1)) * weights.sum(axis=1, keepdims=True)
        labels = (weights.cumsum(axis=1) < drawn).sum(axis=1)
        assert fit_temperature(true_logits * temperature, labels) == pytest.approx(temperature, rel=0.05)

    def test_temperature_stays_within_its_limits(self):
        assert fit_temperature(np.array([[1.0, 0.0]]), np.array([0])) == pytest.approx(0.05)
        assert fit_temperature(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(20)

    def test_platt_scaling_is_found_again(self):
        generator = np.random.default_rng(0)
        odds = generator.normal(0, 2, 50_000)
        correct = generator.random(50_000) < 1 / (1 + np.exp(-(0.6 * odds + 0.8)))
        slope, offset = fit_platt(-np.logaddexp(0, -odds), correct)
        assert slope == pytest.approx(0.6, abs=0.03)
        assert offset == pytest.approx(0.8, abs=0.03)

    def test_platt_scaling_of_outcomes_that_can_be_separated_is_finite(self):
        slope, offset = fit_platt(np.log([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
        assert 0 < slope < 100 and abs(offset) < 100
        assert np.isfinite(fit_platt(np.log([0.3, 0.9]), np.array([1, 1]))).all()


def prediction(label, **probabilities):
    return ClipPrediction(label, max(probabilities.values()), probabilities)


class TestClips:
    truth = {"1": "run", "2": "run", "3": "jump", "4": "swim"}  # noqa: RUF012
    predictions = {  # noqa: RUF012
        "1": prediction("run", run=0.8, jump=0.1, swim=0.1),
        "2": prediction("jump", run=0.3, jump=0.6, swim=0.1),
        "3": prediction("jump", run=0.0, jump=1.0, swim=0.0),
        "4": prediction(None, run=0.3, jump=0.3, swim=0.4),
    }

    def test_by_hand(self):
        report = evaluate_clips(self.truth, self.predictions, samples=50)
        assert (report["clips"], report["unlabelled"]) == (4, 1)
        assert report["accuracy"]["estimate"] == pytest.approx(0.5)
        # F1: run 2/3, jump 2/3, swim 0.
        assert report["macro_f1"]["estimate"] == pytest.approx(4 / 9)
        assert report["classes"]["run"] == {"clips": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
        assert report["classes"]["swim"] == {"clips": 1, "precision": None, "recall": 0.0, "f1": 0.0}
        assert report["confusion"]["labels"] == ["jump", "run", "swim"]
        assert report["confusion"]["counts"] == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
        # Most likely classes: right at 0.8, wrong at 0.6, right at 1.0 and 0.4, each in a bin of its own.
        assert report["expected_calibration_error"] == pytest.approx((0.2 + 0.6 + 0.0 + 0.6) / 4)

    def test_agrees_with_a_slow_macro_f1(self):
        generator = np.random.default_rng(0)
        truth = {n: str(generator.integers(4)) for n in range(80)}
        given = {n: truth[n] if generator.random() < 0.6 else str(generator.integers(4)) for n in truth}
        report = evaluate_clips(truth, {n: prediction(label, **{label: 1.0}) for n, label in given.items()}, samples=20)
        scores = []
        for label in "0123":
            both = sum(truth[n] == given[n] == label for n in truth)
            scores.append(2 * both / (list(truth.values()).count(label) + list(given.values()).count(label)))
        assert report["macro_f1"]["estimate"] == pytest.approx(np.mean(scores))
        assert report["macro_f1"]["low"] < np.mean(scores) < report["macro_f1"]["high"]

    def test_intervals_over_groups_are_wider(self):
        truth = {n: "a" for n in range(60)}
        wrong = {n: (n // 10) % 3 == 0 for n in truth}
        predictions = {n: prediction("b" if wrong[n] else "a", a=0.5, b=0.5) for n in truth}
        alone = evaluate_clips(truth, predictions)["accuracy"]
        grouped = evaluate_clips(truth, predictions, groups={n: n // 10 for n in truth})["accuracy"]
        assert grouped["high"] - grouped["low"] > 1.5 * (alone["high"] - alone["low"])

    def test_bad_input(self):
        with pytest.raises(DatasetError, match="no clip"):
            evaluate_clips({}, {})
        with pytest.raises(DatasetError, match="1 clips, for example 4"):
            evaluate_clips({"4": "run"}, {})
        with pytest.raises(ValueError, match="'fly' is not one of the classes"):
            confusion_matrix(["run"], ["fly"], ["run"])
        with pytest.raises(ValueError, match="None is not one"):
            confusion_matrix([None], ["run"], ["run"])
