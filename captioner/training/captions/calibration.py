"""What a trained captioner has to know about itself: which photos are unusual to it, and what its probabilities mean.

Run after the last training stage, in a minute or two; the weights stay as they are. Everything is learned on photos
that the training did not use, but for what is usual, which is learned on those that it did.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from captioner.captions.captioner import ImageCaptioner
from captioner.captions.concepts import Concepts, GroundingOptions
from captioner.captions.confidence import WordCalibration
from captioner.captions.config import CaptionerConfig
from captioner.captions.familiarity import Familiarity
from captioner.errors import CaptionerError, DatasetError
from captioner.evaluation.bootstrap import bootstrap_interval, ratio_of_sums
from captioner.evaluation.calibration import expected_calibration_error, reliability_bins, risk_coverage
from captioner.evaluation.ptb import tokenize
from captioner.loading import load
from captioner.media.images import read_image
from captioner.models.encoder_graph import Ranges, input_ranges, knows_encoder
from captioner.models.runtime import Features, saved_encoder_weights
from captioner.models.saving import SHIPPED, SavedModel, read_model, save_model
from captioner.training.captions.data import CaptionDataset, read_captions

_BATCH = 16
_RANGE_PHOTOS = 100
_COVERAGES = (0.1, 0.25, 0.5, 0.75, 1.0)
Progress = Callable[[str, int, int], None]


def calibrate_model(
    folder: str | os.PathLike,
    data: CaptionDataset | str | os.PathLike,
    *,
    other: CaptionDataset | str | os.PathLike | None = None,
    concepts: str | os.PathLike | None = None,
    split: str = "dev",
    train_photos: int = 3000,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict:
    """Gives a captioner its familiarity, table of concepts, ranges of activations and the calibration of its words.

    A word of a caption counts as right if it is among the tokens of what people wrote for the photo; see
    `captioner.captions.confidence`.

    Args:
        folder: The model; rewritten, with the same weights.
        data: The photos that it was trained on.
        other: Photos of other kinds, with captions: the calibration then holds for both. All of its photos are used.
        concepts: Table of concepts to give to the model; by default its own, or else that of the default model.
        split: The photos of ``data`` to calibrate on; not those of the training.
        train_photos: How many training photos say what is usual, equally spaced.
        threads: Cores to use; None for all.
        progress: Called with (what, done, total).

    Returns:
        The record that is kept in ``metadata.json`` under ``calibration``.

    Raises:
        DatasetError: A split is missing.
        ModelLoadError: The folder is no complete captioner.
    """
    folder = Path(folder)
    data = data if isinstance(data, CaptionDataset) else read_captions(data)
    saved = read_model(folder)
    texts = dict(saved.texts)
    if concepts is not None or "concepts.json" not in texts:
        table = Path(concepts or SHIPPED / "flickr8k" / "concepts.json").read_text(encoding="utf-8")
        Concepts.from_json(table)
        texts["concepts.json"] = table
    card = (folder / "README.md").read_text(encoding="utf-8")

    def save(calibration: dict, metadata: dict) -> None:
        config = {**saved.config, "calibration": calibration, "grounding": asdict(GroundingOptions())}
        save_model(
            folder, kind=saved.kind, config=config, weights=saved.weights, texts=texts, metadata=metadata, card=card
        )

    train = data.split("train")
    train = train[:: max(1, len(train) // train_photos)]
    encoded = encoded_photos(load(folder, threads=threads), data, train, "training photos", progress)
    texts["familiarity.json"] = Familiarity.fit(np.concatenate([part.class_scores for _, part in encoded])).to_json()
    if knows_encoder(saved.settings(CaptionerConfig).encoder.name):
        texts["ranges.json"] = json.dumps(_ranges(saved, data, train))
    save({}, saved.metadata)

    model = load(folder, threads=threads)
    home = word_table(model, data, data.split(split), f"{split} photos", progress)
    tables = {split: home}
    if other is not None:
        other = other if isinstance(other, CaptionDataset) else read_captions(other)
        tables["other"] = word_table(model, other, other.split("all"), "other photos", progress)
    calibration = {name: round(value, 5) for name, value in asdict(fit_calibration(list(tables.values()))).items()}
    record = {
        "words": cross_validated(tables),
        "photos": {name: len(np.unique(table[:, 0])) for name, table in tables.items()},
        "familiarity_photos": len(train),
    }
    save(calibration, {**saved.metadata, "calibration": record})
    return record


def _ranges(saved: SavedModel, data: CaptionDataset, files: Sequence[str]) -> Ranges:
    """Ranges of the encoder's activations on the first readable photos, for computing with 8-bit integers."""
    encoder = saved.settings(CaptionerConfig).encoder
    images = []
    for file in files:
        with suppress(CaptionerError):
            images.append(read_image(data.images[file], size=encoder.image_size))
        if len(images) == _RANGE_PHOTOS:
            break
    weights = saved_encoder_weights(saved, encoder)
    return input_ranges(encoder.name, encoder.image_size, weights, np.stack(images))


def encoded_photos(
    model: ImageCaptioner, data: CaptionDataset, files: Sequence[str], what: str, progress: Progress
) -> Iterator[tuple[list[str], Features]]:
    """Photos through the encoder, in batches with the names of those that can be read.

    Raises:
        DatasetError: None can be read.
    """
    read = 0
    for start in range(0, len(files), _BATCH):
        names, images = [], []
        for file in files[start : start + _BATCH]:
            try:
                images.append(read_image(data.images[file], size=model.image_size))
            except CaptionerError:
                continue
            names.append(file)
        read += len(names)
        if names:
            yield names, model.encode(np.stack(images))
        progress(what, min(start + _BATCH, len(files)), len(files))
    if not read:
        raise DatasetError(f"{data.folder}: none of the {len(files)} photos can be read")


def word_table(
    model: ImageCaptioner, data: CaptionDataset, files: Sequence[str], what: str, progress: Progress
) -> np.ndarray:
    """Every word that a model writes about some photos.

    Words that stand in for others are left out: their probabilities are those of other words.

    Returns:
        float64 (words, 5): number of the photo, log-probability of the word, its rank, familiarity of the photo, and 1
        where people used the word for the photo, else 0.
    """
    rows = []
    number = 0
    for names, features in encoded_photos(model, data, files, what, progress):
        for name, caption in zip(names, model.caption_features(features, attention=False), strict=True):
            used = {token for text in data.captions[name] for token in tokenize(text)}
            rows += [
                (number, min(0.0, word.logprob), rank, caption.familiarity, word.text in used)
                for word in caption.words
                if (rank := model.tokenizer.encode([word.text])[0] - model.tokenizer.unknown) > 0
            ]
            number += 1
    return np.array(rows, np.float64).reshape(-1, 5)


def fit_calibration(tables: Sequence[np.ndarray], steps: int = 50) -> WordCalibration:
    """Logistic regression of being right, by Newton's method; every table has the same weight.

    Args:
        tables: From `word_table`.
        steps: Most steps.
    """
    words = np.concatenate(tables)
    weights = np.concatenate([np.full(len(table), 1 / len(table)) for table in tables if len(table)])
    inputs = WordCalibration.inputs(*words[:, 1:4].T)
    # A word in a thousand is taken back from each side, so that the result is finite whatever the words are.
    targets = 0.001 + 0.998 * words[:, 4]
    start = np.array(list(asdict(WordCalibration()).values()))
    ridge = 1e-5 * np.eye(len(start))
    parameters = start.copy()
    for _ in range(steps):
        given = 1 / (1 + np.exp(-np.clip(inputs @ parameters, -30, 30)))
        gradient = inputs.T @ (weights * (given - targets)) + ridge @ (parameters - start)
        curvature = (inputs * (weights * given * (1 - given))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(curvature, gradient)
        parameters = parameters - step * min(1.0, 2.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-9:
            break
    return WordCalibration(*parameters.tolist())


def cross_validated(tables: dict[str, np.ndarray], *, seed: int = 0) -> dict:
    """How good the calibration is on photos that it was not fitted on: two halves of the photos, each fitted for the
    other.

    A word is right if people use it for the photo. A caption is right as far as its words are: its confidence, their
    mean, foretells the share of them that people use. Whether every word is right would be a poor question: 7 % of the
    captions that people wrote for Flickr8k pass, judged by the other four, because people name the same differently.

    Returns:
        For every table ``{"calibration_error", "uncalibrated_error", "caption_calibration_error", "reliability",
        "right", "risk"}``: expected calibration error of the words' probabilities, 0..1, calibrated and as the decoder
        gave them; that of the captions' confidence; the reliability bins of the words as ``[[mean probability, share
        of right words, words]]``; the share of right words with its 95 % interval over photos; and ``[[coverage, share
        of wrong words]]`` of the captions that the model is surest of.
    """
    generator = np.random.default_rng(seed)
    halves = {name: generator.permutation(int(table[-1, 0]) + 1) % 2 for name, table in tables.items()}
    side = {name: halves[name][table[:, 0].astype(int)] for name, table in tables.items()}
    fits = [fit_calibration([table[side[name] != half] for name, table in tables.items()]) for half in (0, 1)]
    report = {}
    for name, table in tables.items():
        given = np.where(side[name] == 0, *(fit(*table[:, 1:4].T) for fit in fits))
        right = table[:, 4]
        _, photos = np.unique(table[:, 0], return_inverse=True)
        words = np.bincount(photos)
        share = np.bincount(photos, right) / words
        interval = bootstrap_interval(np.stack([share * words, words], axis=1), ratio_of_sums)
        confidence = np.bincount(photos, given) / words
        coverage, risk = risk_coverage(confidence, 1 - share)
        rows = [min(int(np.searchsorted(coverage, kept - 1e-9)), len(coverage) - 1) for kept in _COVERAGES]
        report[name] = {
            "calibration_error": round(expected_calibration_error(given, right), 4),
            "uncalibrated_error": round(expected_calibration_error(np.exp(table[:, 1]), right), 4),
            "caption_calibration_error": round(expected_calibration_error(confidence, share), 4),
            "reliability": [
                [round(one.probability, 3), round(one.accuracy, 3), one.count]
                for one in reliability_bins(given, right)
                if one.count
            ],
            "right": {key: round(value, 4) for key, value in interval.to_dict().items()},
            "risk": [[round(float(coverage[row]), 3), round(float(risk[row]), 4)] for row in rows],
        }
    return report
