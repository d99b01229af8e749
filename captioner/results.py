"""What the models return: frozen dataclasses that turn into plain JSON types with ``to_dict()``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Word:
    """One word of a caption.

    Attributes:
        text: The word in lower case.
        logprob: Natural logarithm of its probability given the image and the words before it.
        attention: Where the decoder looked when it wrote the word: float32 (rows, columns) over the
            encoder grid, non-negative, sum 1; None where the search was told not to keep it.
        confidence: Calibrated probability, 0..1, that one of five people uses the word for the photo; None where the
            model is not calibrated.
    """

    text: str
    logprob: float
    attention: np.ndarray | None = field(default=None, repr=False, compare=False)
    confidence: float | None = None

    @property
    def probability(self) -> float:
        """Probability of the word, 0..1."""
        return math.exp(self.logprob)

    def to_dict(self) -> dict:
        """``{"word", "logprob"}``."""
        return {"word": self.text, "logprob": round(self.logprob, 6)}


UNFAMILIAR = 0.1
"""Familiarity below which a caption is taken for a guess: one in ten photos like those of the training is below it."""


@dataclass(frozen=True)
class Caption:
    """A caption of one image or of one video segment.

    Attributes:
        text: Words in lower case, joined by spaces, without an end mark.
        words: One `Word` per word of ``text``.
        score: Length-normalised log-probability by which the search ranked it (higher is better).
        confidence: Geometric mean of its words' confidence, 0..1.
        finished: Whether the model ended the caption itself; False if the length limit cut it.
        alternatives: The next best captions, best first (``n_best - 1`` at most).
        model: Name of the model that wrote it.
        familiarity: How much the photo resembles those that the model was trained on: the share of them, 0..1, that are
            at least as unusual. Below `UNFAMILIAR` the model is far from what it knows. None where it cannot tell.
    """

    text: str
    words: tuple[Word, ...]
    score: float
    confidence: float
    finished: bool
    alternatives: tuple[Caption, ...] = ()
    model: str | None = None
    familiarity: float | None = None

    def __str__(self) -> str:
        return self.text[:1].upper() + self.text[1:] + "." if self.text else ""

    def to_dict(self) -> dict:
        """The JSONL record of the design, without ``file``, plus ``familiarity``."""
        return {
            "caption": self.text,
            "score": round(self.score, 6),
            "confidence": round(self.confidence, 6),
            "familiarity": None if self.familiarity is None else round(self.familiarity, 4),
            "finished": self.finished,
            "words": [word.to_dict() for word in self.words],
            "alternatives": [
                {"caption": other.text, "score": round(other.score, 6), "confidence": round(other.confidence, 6)}
                for other in self.alternatives
            ],
            "model": self.model,
        }


@dataclass(frozen=True)
class Window:
    """A stretch of a clip with the label that the classifier gives it.

    Attributes:
        start: Seconds from the start of the video.
        end: Seconds from the start of the video.
        label: The label, or None when no class is likely enough.
        probability: Calibrated probability of the most likely class, 0..1.
        probabilities: Calibrated probability of every class.
    """

    start: float
    end: float
    label: str | None
    probability: float
    probabilities: dict[str, float] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict:
        """``{"start", "end", "label", "probability"}``."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probability": round(self.probability, 6),
        }


@dataclass(frozen=True)
class ClipPrediction:
    """What happens in a clip.

    Attributes:
        label: The most likely class over the whole clip, or None when no class is likely enough.
        probability: Its calibrated probability, 0..1 (of the most likely class where label is None).
        probabilities: Calibrated probability of every class; they sum to 1.
        windows: Predictions of the sliding windows, in order of time.
    """

    label: str | None
    probability: float
    probabilities: dict[str, float]
    windows: tuple[Window, ...] = ()

    def to_dict(self) -> dict:
        """The JSONL record of the design, without ``file``."""
        return {
            "label": self.label,
            "probability": round(self.probability, 6),
            "probabilities": {name: round(p, 6) for name, p in self.probabilities.items()},
            "windows": [window.to_dict() for window in self.windows],
        }


@dataclass(frozen=True)
class Segment:
    """A stretch of a video under one caption.

    Attributes:
        start: Seconds from the start of the video.
        end: Seconds from the start of the video; always above ``start``.
        caption: What the stretch shows.
        labels: Action labels of the stretch, most likely first, as (label, probability).
        thumbnail: A representative frame as JPEG bytes (at most 320 px wide), or None.
    """

    start: float
    end: float
    caption: Caption
    labels: tuple[tuple[str, float], ...] = ()
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict:
        """``{"start", "end", "caption", "confidence", "labels"}``."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "caption": self.caption.text,
            "confidence": round(self.caption.confidence, 6),
            "labels": [{"label": label, "probability": round(p, 6)} for label, p in self.labels],
        }


@dataclass(frozen=True)
class NoveltyPoint:
    """How much a frame differs from what the forecaster expected.

    Attributes:
        time: Seconds from the start of the video.
        value: Forecast error (0 is exactly as forecast; the scale is the forecaster's own).
        unusual: Whether the error stands out from the rest of this video.
    """

    time: float
    value: float
    unusual: bool = False

    def to_dict(self) -> dict:
        """``{"time", "value", "unusual"}``."""
        return {"time": round(self.time, 3), "value": round(self.value, 6), "unusual": self.unusual}


@dataclass(frozen=True)
class VideoAnalysis:
    """Everything that one decoding pass over a video found.

    Attributes:
        duration: Seconds up to the end of the last frame that was read.
        width: Width in pixels after rotation.
        height: Height in pixels after rotation.
        fps: Frames per second that the container states (0 where it states none).
        segments: Captions with times, in order, not overlapping.
        label: Label of the whole video, or None (no classifier, or nothing likely enough).
        labels: Sliding windows of the clip classifier, in order of time.
        novelty: Forecast error over time.
        truncated: Whether the file ended before the container said it would.
        model: Name of the captioner.
        classifier: Name of the clip classifier, or None.
    """

    duration: float
    width: int
    height: int
    fps: float
    segments: tuple[Segment, ...]
    label: str | None = None
    labels: tuple[Window, ...] = ()
    novelty: tuple[NoveltyPoint, ...] = ()
    truncated: bool = False
    model: str | None = None
    classifier: str | None = None

    def to_dict(self) -> dict:
        """The ``results.jsonl`` record of the design, without ``file``, plus ``windows`` and ``novelty``."""
        return {
            "duration": round(self.duration, 3),
            "width": self.width,
            "height": self.height,
            "fps": round(self.fps, 3),
            "segments": [segment.to_dict() for segment in self.segments],
            "label": self.label,
            "truncated": self.truncated,
            "model": self.model,
            "classifier": self.classifier,
            "windows": [window.to_dict() for window in self.labels],
            "novelty": [point.to_dict() for point in self.novelty],
        }
