"""How well labels are recognised: accuracy, macro F1, recall of every class, confusions, calibration, intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from captioner.errors import DatasetError
from captioner.evaluation.bootstrap import bootstrap_interval
from captioner.evaluation.calibration import expected_calibration_error
from captioner.results import ClipPrediction


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> np.ndarray:
    """Counts of what was taken for what.

    Args:
        truth: The right label of every clip.
        predicted: The predicted one, or None where the classifier did not commit itself.
        labels: The classes, in the order of rows and columns.

    Returns:
        int64 (labels, labels + 1): rows are right labels, columns predicted ones; the last column counts None.

    Raises:
        ValueError: The lengths differ, or a label is not among ``labels``.
    """
    number = {label: index for index, label in enumerate(labels)} | {None: len(labels)}
    if unknown := [label for label in (*truth, *predicted) if label not in number] + [None] * (None in truth):
        raise ValueError(f"label {unknown[0]!r} is not one of the classes: {', '.join(labels)}")
    matrix = np.zeros((len(labels), len(labels) + 1), np.int64)
    for right, given in zip(truth, predicted, strict=True):
        matrix[number[right], number[given]] += 1
    return matrix


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive has a higher score than a negative, a tie counting half.

    Args:
        positive: Scores (N,), at least one.
        negative: Scores (M,), at least one.
    """
    ranked = np.sort(negative)
    below, upto = (np.searchsorted(ranked, positive, side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(ranked)))


def evaluate_clips(
    truth: Mapping[Hashable, str],
    predictions: Mapping[Hashable, ClipPrediction],
    *,
    groups: Mapping[Hashable, Hashable] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Scores the predictions of a clip classifier.

    A clip that the classifier gives no label counts as wrong. Macro F1 is the mean over the classes that occur in
    ``truth``.

    Args:
        truth: The right label of every clip.
        predictions: What the classifier says of every clip.
        groups: The group of every clip, for example the recording it was cut from: clips of one group are alike, so
            intervals are over groups.
        samples: Draws of the bootstrap.
        seed: Of the draws.

    Returns:
        ``{"clips", "unlabelled", "accuracy", "macro_f1", "expected_calibration_error", "classes", "confusion"}``.
        Accuracy and macro F1 are ``{"estimate", "low", "high", "level"}`` in 0..1; ``classes`` gives ``{"clips",
        "precision", "recall", "f1"}`` by label (precision is None for a class that was never predicted);
        ``confusion`` is ``{"labels", "counts"}`` with one more column for clips without a label. The calibration
        error is that of the most likely class, whether or not it was likely enough to be the label.

    Raises:
        DatasetError: There is no clip, or truth and predictions are not of the same clips.
    """
    if not truth:
        raise DatasetError("there is no clip to score; give a folder with labelled clips", kind="empty")
    if odd := truth.keys() ^ predictions.keys():
        raise DatasetError(
            f"labels and predictions differ in {len(odd)} clips, for example {next(iter(odd))}", kind="mismatch"
        )
    files = list(truth)
    right = [truth[file] for file in files]
    given = [predictions[file].label for file in files]
    likeliest = [max(predictions[file].probabilities.items(), key=lambda item: item[1]) for file in files]
    labels = sorted({*right, *(label for label in given if label is not None)})
    matrix = confusion_matrix(right, given, labels)

    rows = np.zeros((len(files), 3, len(labels)))
    for row, one, other in zip(rows, right, given, strict=True):
        row[0, labels.index(one)] = one == other
        row[2, labels.index(one)] = 1
        if other is not None:
            row[1, labels.index(other)] = 1
    rows = rows.reshape(len(files), -1)
    drawn = {
        "groups": None if groups is None else [groups[file] for file in files],
        "samples": samples,
        "seed": seed,
    }
    hits, predicted, occurring = rows.sum(axis=0).reshape(3, -1)
    return {
        "clips": len(files),
        "unlabelled": int(matrix[:, -1].sum()),
        "accuracy": bootstrap_interval(rows, _accuracy, **drawn).to_dict(),
        "macro_f1": bootstrap_interval(rows, _macro_f1, **drawn).to_dict(),
        "expected_calibration_error": expected_calibration_error(
            np.array([min(1.0, probability) for _, probability in likeliest]),
            np.array([label == one for (label, _), one in zip(likeliest, right, strict=True)]),
        ),
        "classes": {
            label: {
                "clips": int(occurring[i]),
                "precision": float(hits[i] / predicted[i]) if predicted[i] else None,
                "recall": float(hits[i] / occurring[i]) if occurring[i] else None,
                "f1": float(2 * hits[i] / (predicted[i] + occurring[i])),
            }
            for i, label in enumerate(labels)
        },
        "confusion": {"labels": labels, "counts": matrix.tolist()},
    }


def _accuracy(sums: np.ndarray) -> np.ndarray:
    hits, _, occurring = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    return hits.sum(axis=1) / occurring.sum(axis=1)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    hits, predicted, occurring = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    f1 = 2 * hits / np.maximum(predicted + occurring, 1)
    return (f1 * (occurring > 0)).sum(axis=1) / (occurring > 0).sum(axis=1)
