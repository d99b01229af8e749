"""How surely the novelty curve finds a segment that does not belong, beside the difference of neighbouring frames."""

from __future__ import annotations

import cv2
import numpy as np

import captioner
from benchmarks.measuring import Setup, Table
from captioner.media.videos import VideoReader
from captioner.models.saving import read_model
from captioner.videos.forecaster import Forecaster

_INTERVALS = (0.2, 0.6)  # seconds between frames


def measure(setup: Setup) -> list[Table]:
    """See the module; needs ``setup.clips``."""
    columns = ["seconds between frames", "segments", "AUC", "found, %", "AUC, difference", "found, %, difference"]
    title = "Foreign segments in videos"
    if setup.clips is None:
        return [Table(title, columns, [], ["Left out: `--clips` was not given."])]
    from captioner.training.clips.data import read_clips

    data = read_clips(setup.clips)
    clips = data.split("val")[: setup.size(1_000_000, 6)]
    model = captioner.load(setup.model)
    forecaster = Forecaster.from_saved(read_model("forecaster"))
    rows = []
    for interval in _INTERVALS:
        watched = [(clip.group, *_watch(clip.path, interval, model)) for clip in clips]
        measured = _segments(watched, forecaster, setup.size(400, 10))
        if measured:
            rows.append([interval, len(measured), *np.mean(measured, axis=0) * (1, 100, 1, 100)])
    notes = [
        f"2 to 5 frames of another recording put into val clips of {data.source.name}. AUC: area under the ROC curve "
        "of foreign against own frames within a video. Found: the largest value lies in the segment. Difference: mean "
        "absolute difference of the pixels of neighbouring frames at 64x48."
    ]
    return [Table(title, columns, rows, notes)]


def _watch(path, interval: float, model) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures (T, 48, 64, 3) and pooled embeddings (T, C) of a clip."""
    with VideoReader(path, every=interval) as reader:
        frames = [frame.image for frame in reader]
    size = (model.image_size, model.image_size)
    squares = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    small = np.stack([cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA) for frame in frames])
    return small.astype(np.float32), model.encode(squares).pooled


def _segments(watched, forecaster: Forecaster, count: int) -> list[tuple[float, bool, float, bool]]:
    """(AUC, found) by the forecaster and by the difference of frames, for segments drawn at random."""
    rng = np.random.default_rng(0)
    long_enough = [one for one in watched if len(one[1]) >= 5]
    measured: list[tuple[float, bool, float, bool]] = []
    while len(measured) < count and len({group for group, _, _ in long_enough}) > 1:
        own, other = (long_enough[i] for i in rng.choice(len(long_enough), 2, replace=False))
        if own[0] == other[0]:
            continue
        at, length = int(rng.integers(3, len(own[1]) - 1)), int(rng.integers(2, 6))
        pictures, embeddings = (
            np.concatenate([a[:at], b[:length], a[at:]]) for a, b in zip(own[1:], other[1:], strict=True)
        )
        foreign = np.zeros(len(embeddings), bool)
        foreign[at : at + min(length, len(other[1]))] = True
        difference = np.concatenate([[0.0], np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))])
        scores = []
        for values in (forecaster.values(embeddings), difference):
            scores += [_area_under_curve(values, foreign), bool(foreign[values.argmax()])]
        measured.append(tuple(scores))
    return measured


def _area_under_curve(values: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive frame has a larger value than another (ties count half)."""
    differences = values[positive][:, None] - values[~positive][None]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())
