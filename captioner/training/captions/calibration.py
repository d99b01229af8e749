"""What a trained captioner has to know about itself: what its probabilities mean, which photos are unusual to it, and
which words photos call for whatever the decoder makes of them.

The last step of a training, some minutes long; encoder and decoder stay as they are. What is usual and the tags are
learnt on photos that the training used, what probabilities mean on those that it did not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from captioner.captions.captioner import ImageCaptioner
from captioner.captions.confidence import WordCalibration
from captioner.captions.config import CaptionerConfig
from captioner.captions.familiarity import Familiarity
from captioner.captions.tags import Tagger
from captioner.errors import CaptionerError, DatasetError
from captioner.evaluation.bootstrap import bootstrap_interval, ratio_of_sums
from captioner.evaluation.calibration import expected_calibration_error, reliability_bins, risk_coverage
from captioner.evaluation.ptb import tokenize
from captioner.loading import load
from captioner.media.ahead import run_ahead
from captioner.media.images import read_image
from captioner.models.encoder_graph import input_ranges, knows_encoder
from captioner.models.runtime import Features, saved_encoder_weights
from captioner.models.saving import read_model, save_model
from captioner.training.captions.data import FULL_REFERENCES
from captioner.training.captions.mixture import Mixture
from captioner.training.captions.tags import fit_tags, used_tags

_BATCH = 32
_READERS = 2
_RANGE_PHOTOS = 100
_COVERAGES = (0.1, 0.25, 0.5, 0.75, 1.0)
_PRECISION = 0.8
_INPUTS = [1, 2, 3, 5]  # columns of `word_table` from which confidence is computed
_LEAST_ODDS = -4.0
Progress = Callable[[str, int, int], None]


def calibrate_model(
    folder: str | os.PathLike,
    data: Mixture,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict:
    """Gives a captioner its familiarity, tags, ranges of activations and the calibration of its words.

    A word of a caption counts as right if it is among the tokens of what people wrote for the photo; see
    `captioner.captions.confidence`. Every data set's dev photos weigh the same, and are captioned in its style.

    Args:
        folder: The model; rewritten, with the same encoder and decoder. What of the encoder only training needs, its
            ImageNet classes, is left out from then on.
        data: What it was trained on.
        threads: Cores to use; None for all.
        progress: Called with (what, done, total).

    Returns:
        The record that is kept in ``metadata.json`` under ``calibration``.

    Raises:
        DatasetError: None of the photos can be read.
        ModelLoadError: The folder is no complete captioner.
    """
    folder = Path(folder)
    saved = read_model(folder)
    texts = {"tokenizer.json": saved.texts["tokenizer.json"]}
    model = load(folder, threads=threads)

    seen, pooled, examples = [], [], []
    for names, images, features in encoded_photos(model, data, data.train, "training photos", progress):
        seen += names
        pooled.append(features.pooled)
        examples += list(images[: _RANGE_PHOTOS - len(examples)])
    pooled = np.concatenate(pooled)
    model.familiarity = Familiarity.fit(pooled)
    tagger = fit_tags(pooled, [data.captions[file] for file in seen])
    encoder = saved.settings(CaptionerConfig).encoder
    encoder_weights = saved_encoder_weights(saved, encoder)
    if knows_encoder(encoder.name):
        ranges = input_ranges(encoder.name, encoder.image_size, encoder_weights, np.stack(examples))
        texts["ranges.json"] = json.dumps(ranges)

    dev = {name: _seen(model, data, name, files, progress) for name, files in data.dev.items()}
    parts, tag_record = [model.familiarity], {}
    model.tagger, model.calibration = None, WordCalibration()
    if tagger.words:  # a small data set may use none often enough
        captions = {name: [data.captions[file][:FULL_REFERENCES] for file in one.files] for name, one in dev.items()}
        judged = {name: (one.pooled, used_tags(tagger, captions[name])) for name, one in dev.items()}
        model.tagger, tag_record = calibrated_tags(tagger, judged)
        model.tagger.prior = model.tagger.probabilities(pooled).mean(axis=0)
        parts.append(model.tagger)
    tables = {name: word_table(model, data, name, one) for name, one in dev.items()}
    calibration = {name: round(value, 5) for name, value in asdict(fit_calibration(list(tables.values()))).items()}
    record = {
        "words": cross_validated(tables),
        "tags": tag_record,
        "photos": {name: len(one.files) for name, one in dev.items()},
        "familiarity_photos": len(pooled),
    }
    weights = {f"encoder/{name}": value for name, value in encoder_weights.items()}
    weights.update((f"decoder/{name}", value) for name, value in saved.part("decoder").items())
    for part in parts:
        arrays, files = part.saved()
        weights.update(arrays)
        texts.update(files)
    save_model(
        folder,
        kind=saved.kind,
        config={**saved.config, "calibration": calibration},
        weights=weights,
        texts=texts,
        metadata={**saved.metadata, "calibration": record},
        card=(folder / "README.md").read_text(encoding="utf-8"),
    )
    return record


def encoded_photos(
    model: ImageCaptioner, data: Mixture, files: Sequence[str], what: str, progress: Progress | None
) -> Iterator[tuple[list[str], np.ndarray, Features]]:
    """Photos through the encoder, in batches: names of those that can be read, images and features.

    Raises:
        DatasetError: None can be read.
    """
    read = 0
    starts = range(0, len(files), _BATCH)

    def reading(start: int) -> Callable[[], tuple[list[str], list[np.ndarray]]]:
        return lambda: _readable(data, files[start : start + _BATCH], model.image_size)

    batches = run_ahead((reading(start) for start in starts), threads=_READERS, ahead=_READERS + 1)
    for start, (names, images) in zip(starts, batches, strict=True):
        read += len(names)
        if names:
            stacked = np.stack(images)
            yield names, stacked, model.encode(stacked)
        if progress:
            progress(what, min(start + _BATCH, len(files)), len(files))
    if not read:
        where = ", ".join(str(source.data.folder) for source in data.sources.values())
        raise DatasetError(f"{where}: none of the {len(files)} photos can be read")


def _readable(data: Mixture, files: Sequence[str], size: int) -> tuple[list[str], list[np.ndarray]]:
    names, images = [], []
    for file in files:
        try:
            images.append(read_image(data.images[file], size=size))
        except CaptionerError:
            continue
        names.append(file)
    return names, images


@dataclass(frozen=True, eq=False)
class _Seen:
    """Dev photos of a data set through the encoder, their grids in half the memory."""

    files: list[str]
    pooled: np.ndarray
    grids: np.ndarray


def _seen(model: ImageCaptioner, data: Mixture, name: str, files: Sequence[str], progress: Progress | None) -> _Seen:
    read, pooled, grids = [], [], []
    for names, _, features in encoded_photos(model, data, files, f"{name} dev photos", progress):
        read += names
        pooled.append(features.pooled)
        grids.append(features.grid.astype(np.float16))
    return _Seen(read, np.concatenate(pooled), np.concatenate(grids))


def word_table(model: ImageCaptioner, data: Mixture, name: str, seen: _Seen) -> np.ndarray:
    """Every word that a model writes about the dev photos of a data set, in its style.

    Returns:
        float64 (words, 6): number of the photo, log-probability of the word, its rank, familiarity of the photo, 1
        where people used the word for the photo, else 0, and the probability of the tag that it is a form of, or nan.
    """
    rows: list[tuple] = []
    for start in range(0, len(seen.files), _BATCH):
        part = slice(start, start + _BATCH)
        features = Features(seen.grids[part].astype(np.float32), seen.pooled[part])
        tags = None if model.tagger is None else model.tagger.probabilities(features.pooled)

        def tags_of(caption, row, tags=tags):
            words = [word.text for word in caption.words]
            return [np.nan] * len(words) if tags is None else model.tagger.of_words(words, tags[row])

        written = model.caption_features(features, style=data.sources[name].style, plain=False, attention=False)
        for row, (file, caption) in enumerate(zip(seen.files[part], written, strict=True)):
            used = {token for text in data.captions[file] for token in tokenize(text)}
            rows += [
                (start + row, min(0.0, word.logprob), rank, caption.familiarity, word.text in used, seen_as)
                for word, seen_as in zip(caption.words, tags_of(caption, row), strict=True)
                if (rank := model.tokenizer.encode([word.text])[0] - model.tokenizer.unknown) > 0
            ]
    return np.array(rows, np.float64).reshape(-1, 6)


def calibrated_tags(
    tagger: Tagger, judged: Mapping[str, tuple[np.ndarray, np.ndarray]], *, seed: int = 0
) -> tuple[Tagger, dict]:
    """A tagger whose probabilities mean what they say, and that shows tags of which four in five are right.

    Args:
        tagger: From `captioner.training.captions.tags.fit_tags`.
        judged: Dev photos of each data set: pooled grids (photos, channels) and which tags people used (photos, tags).
        seed: Of the halves by which the result is judged.

    Returns:
        The tagger, and for every data set, each half of its photos judged by what was fitted on the other half:
        ``{"precision", "shown", "calibration_error", "reliability"}``; shown is tags a photo.
    """
    tables = {
        name: (np.arange(right.size) // right.shape[1], (pooled @ tagger.kernel + tagger.bias).ravel(), right.ravel())
        for name, (pooled, right) in judged.items()
    }
    generator = np.random.default_rng(seed)
    halves = {name: generator.permutation(len(right)) % 2 for name, (_, right) in judged.items()}
    sides = {name: halves[name][tables[name][0]] for name in tables}
    fits = [
        _fit_tags([(odds[sides[n] != half], right[sides[n] != half]) for n, (_, odds, right) in tables.items()])
        for half in (0, 1)
    ]
    report = {}
    for name, (_, odds, right) in tables.items():
        given = np.where(sides[name] == 0, *(_logistic(odds * slope + offset) for slope, offset, _ in fits))
        shown = given >= np.where(sides[name] == 0, *(threshold for _, _, threshold in fits))
        report[name] = {
            "precision": round(float(right[shown].mean()), 4) if shown.any() else None,
            "shown": round(float(shown.sum() / len(halves[name])), 2),
            "calibration_error": round(expected_calibration_error(given, right), 4),
            "reliability": _reliability(given, right),
        }
    slope, offset, threshold = _fit_tags([(odds, right) for _, odds, right in tables.values()])
    kernel, bias = tagger.kernel * slope, tagger.bias * slope + offset
    return Tagger(tagger.words, tagger.forms, tagger.things, kernel, bias, threshold, tagger.prior), report


def _fit_tags(tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """Slope and offset of log-odds, and the threshold of tags, from log-odds and what is right."""
    # What is nearly certainly not there says nothing of how to read the rest.
    likely = [(odds[odds > _LEAST_ODDS], right[odds > _LEAST_ODDS]) for odds, right in tables]
    if not any(len(odds) for odds, _ in likely):
        return 1.0, 0.0, 1.0
    inputs = [np.stack([odds, np.ones_like(odds)], axis=1) for odds, _ in likely]
    slope, offset = fit_logistic(inputs, [right for _, right in likely], np.array([1.0, 0.0])).tolist()
    return slope, offset, max(_threshold(_logistic(odds * slope + offset), right) for odds, right in likely)


def _threshold(given: np.ndarray, right: np.ndarray) -> float:
    """The least probability, in thousandths, from which `_PRECISION` of the tags are right; 1 where there is none."""
    order = np.argsort(-given, kind="stable")
    good = np.flatnonzero(np.cumsum(right[order]) >= _PRECISION * np.arange(1, len(order) + 1))
    return float(np.floor(1000 * given[order][good[-1]]) / 1000) if len(good) else 1.0


def _logistic(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _reliability(given: np.ndarray, right: np.ndarray) -> list[list[float]]:
    bins = [one for one in reliability_bins(given, right) if one.count]
    return [[round(one.probability, 3), round(one.accuracy, 3), one.count] for one in bins]


def fit_calibration(tables: Sequence[np.ndarray]) -> WordCalibration:
    """Logistic regression of being right; every table has the same weight.

    Args:
        tables: From `word_table`.
    """
    inputs = [WordCalibration.inputs(*table[:, _INPUTS].T) for table in tables]
    start = np.array(list(asdict(WordCalibration()).values()))
    return WordCalibration(*fit_logistic(inputs, [table[:, 4] for table in tables], start).tolist())


def fit_logistic(
    inputs: Sequence[np.ndarray], right: Sequence[np.ndarray], start: np.ndarray, steps: int = 50
) -> np.ndarray:
    """Weights of a logistic regression, by Newton's method; every table has the same weight.

    Args:
        inputs: Of every table (rows, inputs).
        right: Of every table what came true, 0 or 1 (rows,).
        start: The weights to begin with, and to stay near where the tables say nothing (inputs,).
        steps: Most steps.
    """
    weights = np.concatenate([np.full(len(table), 1 / len(table)) for table in inputs if len(table)])
    joined = np.concatenate(inputs)
    # A row in a thousand is taken back from each side, so that the result is finite whatever the rows are.
    targets = np.concatenate(right) * 0.998 + 0.001
    ridge = 1e-5 * np.eye(len(start))
    parameters = start.astype(np.float64)
    for _ in range(steps):
        given = _logistic(joined @ parameters)
        gradient = joined.T @ (weights * (given - targets)) + ridge @ (parameters - start)
        curvature = (joined * (weights * given * (1 - given))[:, None]).T @ joined + ridge
        step = np.linalg.solve(curvature, gradient)
        parameters = parameters - step * min(1.0, 2.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-9:
            break
    return parameters


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
        given = np.where(side[name] == 0, *(fit(*table[:, _INPUTS].T) for fit in fits))
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
            "reliability": _reliability(given, right),
            "right": {key: round(value, 4) for key, value in interval.to_dict().items()},
            "risk": [[round(float(coverage[row]), 3), round(float(risk[row]), 4)] for row in rows],
        }
    return report
