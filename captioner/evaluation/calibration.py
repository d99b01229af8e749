"""Whether probabilities mean what they say: reliability bins, expected calibration error, temperature, risk-coverage.

Among all words (or clips) to which a model gives 0.8, 80 % should be right (Guo et al., 2017). A confidence is useful
if leaving out the least confident captions leaves out the worst ones: the risk-coverage curve (El-Yaniv and Wiener,
2010; Geifman and El-Yaniv, 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions whose probability lies in (``low``, ``high``]; the first bin includes 0.

    Attributes:
        low: Lower edge.
        high: Upper edge.
        count: How many predictions.
        probability: Their mean probability (nan for an empty bin).
        accuracy: Share of them that are right (nan for an empty bin).
    """

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


def reliability_bins(probabilities: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> list[ReliabilityBin]:
    """Sorts predictions into bins of equal width by their probability.

    Args:
        probabilities: (predictions,) float, 0..1: of what the model chose.
        correct: (predictions,) bool: whether it was right; or float, how far it was, 0..1.
        bins: How many.

    Raises:
        ValueError: The lengths differ, or a probability is outside 0..1.
    """
    probabilities, correct = _checked(probabilities, correct)
    number = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(number, probabilities, bins) / count
        accuracy = np.bincount(number, correct, bins) / count
    return [
        ReliabilityBin(i / bins, (i + 1) / bins, int(count[i]), float(probability[i]), float(accuracy[i]))
        for i in range(bins)
    ]


def expected_calibration_error(probabilities: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Mean distance between probability and accuracy over bins of equal width, weighted by their counts; 0..1.

    Args:
        probabilities: (predictions,) float, 0..1: of what the model chose.
        correct: (predictions,) bool: whether it was right; or float, how far it was, 0..1.
        bins: How many.

    Raises:
        ValueError: There is no prediction, the lengths differ, or a probability is outside 0..1.
    """
    filled = [b for b in reliability_bins(probabilities, correct, bins=bins) if b.count]
    if not filled:
        raise ValueError("there is no prediction to judge")
    return sum(b.count * abs(b.probability - b.accuracy) for b in filled) / sum(b.count for b in filled)


def risk_coverage(confidence: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the mean loss is when only the most confident predictions are kept.

    Args:
        confidence: (predictions,) float; only its order matters. Equal ones are kept or left out together.
        loss: (predictions,) float, for example 0 for right and 1 for wrong, or what a caption lacks to the best score.

    Returns:
        Coverage, the share that is kept, rising to 1, and the risk, the mean loss of those: float64, as many as there
        are different confidences.

    Raises:
        ValueError: There is no prediction, or the lengths differ.
    """
    confidence, loss = np.asarray(confidence, np.float64), np.asarray(loss, np.float64)
    if confidence.ndim != 1 or confidence.shape != loss.shape or not len(loss):
        raise ValueError(f"need one loss a confidence and at least one; shapes {confidence.shape}, {loss.shape}")
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)
    kept = np.arange(1, len(loss) + 1)[last]
    return kept / len(loss), np.cumsum(loss[order])[last] / kept


def area_under_risk_coverage(confidence: np.ndarray, loss: np.ndarray) -> float:
    """Mean risk over all coverages; the lower the better. A useless confidence gives about the mean loss.

    Args:
        confidence: (predictions,) float; only its order matters.
        loss: (predictions,) float.

    Raises:
        ValueError: As for `risk_coverage`.
    """
    coverage, risk = risk_coverage(confidence, loss)
    return float(np.sum(np.diff(coverage, prepend=0.0) * risk))


def fit_temperature(logits: np.ndarray, labels: np.ndarray, *, lowest: float = 0.05, highest: float = 20.0) -> float:
    """The temperature that makes probabilities calibrated: softmax(logits / temperature) has the least cross-entropy.

    Divides overconfidence away without changing which class is the most likely one (Guo et al., 2017). The
    cross-entropy is convex in 1 / temperature, so bisection on its derivative finds the one minimum.

    Args:
        logits: (predictions, classes) float, of data the model was not trained on.
        labels: (predictions,) int: the right classes.
        lowest: The smallest temperature to return.
        highest: The largest temperature to return.

    Raises:
        ValueError: There is no prediction, or the shapes do not fit.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"need logits (predictions, classes) and labels (predictions,), got {logits.shape}, {labels.shape}"
        )
    logits = logits - logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """Derivative of the cross-entropy by 1 / temperature."""
        weights = np.exp(logits * inverse)
        return float(np.mean((weights * logits).sum(axis=1) / weights.sum(axis=1)) - right)

    low, high = 1 / highest, 1 / lowest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / ((low + high) / 2)


def fit_platt(logprobs: np.ndarray, correct: np.ndarray, *, steps: int = 100) -> tuple[float, float]:
    """Slope and offset that turn log-odds into calibrated ones (Platt, 1999): logistic regression on one variable.

    For probabilities that are to mean something else than what the model was trained on, such as "people use this
    word for the photo" instead of "this is the next word". `captioner.captions.confidence` applies them.

    Args:
        logprobs: (predictions,) float: natural logarithms of the probabilities, of data the model was not trained on.
        correct: (predictions,) bool or 0..1: what came true.
        steps: Most steps of Newton's method.

    Returns:
        ``(slope, offset)``: the calibrated log-odds are slope x log-odds + offset. Outcomes count as in Platt's paper,
        a little short of 0 and 1, so that both stay finite when the classes can be separated.

    Raises:
        ValueError: There is no prediction, or the lengths differ.
    """
    probabilities, correct = _checked(np.exp(np.minimum(np.asarray(logprobs, np.float64), 0.0)), correct)
    if not len(correct):
        raise ValueError("there is no prediction to learn from")
    probabilities = np.clip(probabilities, 1e-6, 1 - 1e-6)
    inputs = np.stack([np.log(probabilities) - np.log1p(-probabilities), np.ones(len(correct))], axis=1)
    positive = correct.sum()
    high, low = (positive + 1) / (positive + 2), 1 / (len(correct) - positive + 2)
    targets = low + correct * (high - low)

    def loss(parameters: np.ndarray) -> float:
        odds = inputs @ parameters
        return float(np.mean(np.logaddexp(0, odds) - targets * odds))

    parameters, current = np.array([1.0, 0.0]), loss(np.array([1.0, 0.0]))
    for _ in range(steps):
        given = 1 / (1 + np.exp(-(inputs @ parameters)))
        gradient = inputs.T @ (given - targets) / len(targets)
        curvature = (inputs * (given * (1 - given))[:, None]).T @ inputs / len(targets) + 1e-9 * np.eye(2)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while (new := loss(parameters - size * step)) > current and size > 1e-6:
            size /= 2
        if current - new < 1e-12:
            break
        parameters, current = parameters - size * step, new
    return float(parameters[0]), float(parameters[1])


def _checked(probabilities: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, correct = np.asarray(probabilities, np.float64), np.asarray(correct, np.float64)
    if probabilities.ndim != 1 or probabilities.shape != correct.shape:
        raise ValueError(f"need one verdict a probability, got shapes {probabilities.shape}, {correct.shape}")
    if not all(np.all((values >= 0) & (values <= 1)) for values in (probabilities, correct)):
        raise ValueError("probabilities and verdicts must lie in 0..1")
    return probabilities, correct
