"""What the models return: frozen dataclasses that turn into plain JSON types with ``to_dict()``.

Their ``repr`` is one short line; notebooks show captions with the photo and videos as a timeline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from captioner.errors import CaptionerError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Word:
    """One word of a caption or of a translation.

    Attributes:
        text: The word in lower case; of a translation, as people write it, with the punctuation at it.
        logprob: Natural logarithm of its probability given the image, or sentence, and the words before it.
        attention: Where the decoder looked when it wrote the word, float32, non-negative, sum 1: (rows, columns) over
            the encoder grid, or (words,) over the words of the sentence; None where the search was told not to keep it.
        confidence: Calibrated probability, 0..1, that one of five people uses the word for the photo; None where the
            model is not calibrated.
    """

    text: str
    logprob: float
    attention: np.ndarray | None = field(default=None, compare=False)
    confidence: float | None = None

    def __repr__(self) -> str:
        return f"Word({self.text!r}, {self.probability:.2f})"

    @property
    def probability(self) -> float:
        """Probability of the word, 0..1."""
        return math.exp(self.logprob)

    def to_dict(self) -> dict:
        """``{"word", "logprob"}``."""
        return {"word": self.text, "logprob": round(self.logprob, 6)}


UNFAMILIAR = 0.1
"""Familiarity below which a caption is unsure: one in ten photos like those of the training is below it."""

LOW_CONFIDENCE = 0.6
"""Confidence below which a caption is unsure: two in five of its words, or more, are none that people would use."""


def why_unsure(confidence: float, familiarity: float | None = None) -> str | None:
    """The one definition of an unsure caption; see ``docs/unsure.md``.

    Args:
        confidence: Of the caption, 0..1.
        familiarity: Of what it is about, 0..1; None where it is not known.

    Returns:
        ``"unfamiliar"`` where familiarity is below `UNFAMILIAR`, else ``"low confidence"`` where confidence is below
        `LOW_CONFIDENCE`, else None: the caption is as sure as captions of this model are.
    """
    if familiarity is not None and familiarity < UNFAMILIAR:
        return "unfamiliar"
    return "low confidence" if confidence < LOW_CONFIDENCE else None


@dataclass(frozen=True)
class Caption:
    """A caption of one image or of one video segment.

    Attributes:
        text: Words in lower case, joined by spaces, without an end mark; in another language as people write it.
        words: One `Word` per word of ``text``.
        score: Length-normalised log-probability by which the search ranked it (higher is better).
        confidence: Mean of its words' confidence, 0..1: the share of the words that people can be expected to use.
        finished: Whether the model ended the caption itself; False if the length limit cut it.
        alternatives: The next best captions, best first (``n_best - 1`` at most).
        model: Name of the model that wrote it.
        familiarity: How much the photo resembles those that the model was trained on: the share of them, 0..1, that are
            at least as unusual. None where it cannot tell.
        tags: Words that people would use for the photo, most likely first, each with the calibrated probability, 0..1,
            that one of five does; those alone that are likely enough. They do not depend on the caption.
        picture: Makes a small JPEG of the photo when a notebook shows the caption; None where there is nothing to show.
        translation: Where ``text`` and ``words`` are in another language, how they were translated; else None.
    """

    text: str
    words: tuple[Word, ...]
    score: float
    confidence: float
    finished: bool
    alternatives: tuple[Caption, ...] = ()
    model: str | None = None
    familiarity: float | None = None
    tags: tuple[tuple[str, float], ...] = ()
    picture: Callable[[], bytes] | None = field(default=None, compare=False)
    translation: Translation | None = field(default=None, compare=False)

    @property
    def language(self) -> str:
        """Code of the language of ``text``: ``en``, or what it was translated to."""
        return self.translation.language if self.translation else "en"

    @property
    def english(self) -> str:
        """What the captioner wrote, in English, whatever the language of ``text``."""
        return self.translation.source if self.translation else self.text

    @property
    def unsure(self) -> str | None:
        """Why not to trust the caption: ``"unfamiliar"`` or ``"low confidence"``; None where it is sure.

        See `why_unsure`.
        """
        return why_unsure(self.confidence, self.familiarity)

    def __str__(self) -> str:
        if self.translation:
            return self.text
        return self.text[:1].upper() + self.text[1:] + "." if self.text else ""

    def __repr__(self) -> str:
        return f"Caption({self.text!r}, {self._sureness('.2f')})"

    def _sureness(self, form: str) -> str:
        return f"confidence {self.confidence:{form}}" + (f", unsure: {self.unsure}" if self.unsure else "")

    def _repr_html_(self) -> str:
        rows = [f"<b>{_escaped(str(self))}</b>", self._sureness(".0%")]
        rows += [_escaped(", ".join(f"{tag} {p:.0%}" for tag, p in self.tags))] if self.tags else []
        rows += [_escaped(str(other)) for other in self.alternatives]
        return f"<div>{_picture(self.picture)}<div>{'<br>'.join(rows)}</div></div>"

    def to_dict(self) -> dict:
        """The JSONL record of the design, without ``file``, plus ``familiarity``, ``unsure`` and ``tags``; of a caption
        in another language also ``language`` and ``english``."""
        return {
            "caption": self.text,
            **({"language": self.language, "english": self.english} if self.translation else {}),
            "score": round(self.score, 6),
            "confidence": round(self.confidence, 6),
            "familiarity": None if self.familiarity is None else round(self.familiarity, 4),
            "unsure": self.unsure,
            "finished": self.finished,
            "words": [word.to_dict() for word in self.words],
            "tags": _tag_records(self.tags),
            "alternatives": [
                {"caption": other.text, "score": round(other.score, 6), "confidence": round(other.confidence, 6)}
                for other in self.alternatives
            ],
            "model": self.model,
        }


@dataclass(frozen=True)
class Translation:
    """A text in another language.

    Attributes:
        text: As people write it, with its punctuation; empty for an empty text.
        language: Code of its language, such as ``de``.
        source: The text that was translated.
        words: One `Word` per word of ``text``, with its attention over ``source_words``.
        source_words: The words that were read; neighbours that the translator does not know are one.
        score: Length-normalised log-probability by which the search ranked it (higher is better); of several sentences
            the mean.
    """

    text: str
    language: str
    source: str
    words: tuple[Word, ...]
    source_words: tuple[str, ...]
    score: float

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Translation({self.text!r}, {self.language})"


def _tag_records(tags: tuple[tuple[str, float], ...]) -> list[dict]:
    return [{"tag": tag, "probability": round(p, 4)} for tag, p in tags]


NOTHING_KNOWN = "nothing known"
"""What outputs say where a classifier gives no label."""


@dataclass(frozen=True)
class Window:
    """A stretch of a clip with the label that the classifier gives it.

    Attributes:
        start: Seconds from the start of the video.
        end: Seconds from the start of the video.
        label: The label, or None when nothing known is likely enough to happen.
        probability: Calibrated probability of the most likely class, 0..1, if one of them happens.
        probabilities: The same of every class.
        known: Calibrated probability that one of the classes happens at all; None where the classifier cannot tell.
    """

    start: float
    end: float
    label: str | None
    probability: float
    probabilities: dict[str, float] = field(default_factory=dict)
    known: float | None = None

    def __repr__(self) -> str:
        said = f"{_said(self.label)}, {self.probability:.2f}{_known(self.known)}"
        return f"Window({self.start:.1f}-{self.end:.1f} s, {said})"

    def to_dict(self) -> dict:
        """``{"start", "end", "label", "probability", "known"}``."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probability": round(self.probability, 6),
            "known": None if self.known is None else round(self.known, 6),
        }


@dataclass(frozen=True)
class ClipPrediction:
    """What happens in a clip.

    Attributes:
        label: The most likely class over the whole clip, or None when nothing known is likely enough to happen.
        probability: Its calibrated probability, 0..1, if one of the classes happens (of the most likely class where
            label is None).
        probabilities: The same of every class; they sum to 1.
        windows: Predictions of the sliding windows, in order of time.
        known: Calibrated probability, 0..1, that one of the classes happens at all; ``known * probability`` is compared
            with the threshold. None where the classifier cannot tell.
        truncated: Whether the file ended before the container said it would.
        warnings: What of the file is damaged and was left out or put right; a sentence each.
    """

    label: str | None
    probability: float
    probabilities: dict[str, float]
    windows: tuple[Window, ...] = ()
    known: float | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def certainty(self) -> float:
        """Probability of the likeliest class with the possibility that none of them happens: ``known * probability``.

        The label is None where it is below the threshold.
        """
        return self.probability * (1.0 if self.known is None else self.known)

    def __repr__(self) -> str:
        said = f"{_said(self.label)}, {self.probability:.2f}{_known(self.known)}"
        cut = ", truncated" if self.truncated else ""
        return f"ClipPrediction({said}, {_counted(self.windows, 'window')}{cut})"

    def to_dict(self) -> dict:
        """The JSONL record of the design, without ``file``."""
        return {
            "label": self.label,
            "probability": round(self.probability, 6),
            "probabilities": {name: round(p, 6) for name, p in self.probabilities.items()},
            "known": None if self.known is None else round(self.known, 6),
            "truncated": self.truncated,
            "warnings": list(self.warnings),
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
    thumbnail: bytes | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Segment({self.start:.1f}-{self.end:.1f} s, {self.caption.text!r})"

    def _repr_row(self) -> str:
        labels, unsure = ", ".join(f"{label} {p:.0%}" for label, p in self.labels), self.caption.unsure
        picture = _picture(None if self.thumbnail is None else lambda: self.thumbnail, 120)
        caption = _escaped(str(self.caption)) + (f"<br><small>unsure: {unsure}</small>" if unsure else "")
        cells = (f"{self.start:.1f}-{self.end:.1f} s", picture, caption, _escaped(labels))
        return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"

    def to_dict(self) -> dict:
        """``{"start", "end", "caption", "confidence", "familiarity", "unsure", "tags", "labels"}``."""
        familiarity = self.caption.familiarity
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "caption": self.caption.text,
            "confidence": round(self.caption.confidence, 6),
            "familiarity": None if familiarity is None else round(familiarity, 4),
            "unsure": self.caption.unsure,
            "tags": _tag_records(self.caption.tags),
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

    def __repr__(self) -> str:
        return f"NoveltyPoint({self.time:.1f} s, {self.value:.2f}{', unusual' if self.unusual else ''})"

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
        label: Label of the whole video, or None (no classifier, or nothing known is likely enough to happen).
        labels: Sliding windows of the clip classifier, in order of time.
        novelty: Forecast error over time.
        truncated: Whether the file ended before the container said it would.
        model: Name of the captioner.
        classifier: Name of the clip classifier, or None.
        warnings: What of the file is damaged and was left out or put right; a sentence each.
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
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        cut = ", truncated" if self.truncated else ""
        label = f", {_said(self.label)}" if self.label or self.classifier else ""
        return f"VideoAnalysis({self.duration:.1f} s, {_counted(self.segments, 'segment')}{label}{cut})"

    def _repr_html_(self) -> str:
        """A strip with a stretch for each segment and a mark where something is unusual, and the segments below."""
        length = self.duration or 1.0
        strip = "".join(
            _bar(segment.start / length, segment.end / length, _STRIPES[i % 2], segment.caption.text)
            for i, segment in enumerate(self.segments)
        )
        strip += "".join(
            _bar(point.time / length, point.time / length, _UNUSUAL, f"unusual at {point.time:.1f} s")
            for point in self.novelty
            if point.unusual
        )
        rows = "".join(segment._repr_row() for segment in self.segments)
        heading = _escaped(
            f"{self.duration:.1f} s" + (f", {self.label or NOTHING_KNOWN}" if self.label or self.classifier else "")
        )
        cut = ", the file is truncated" if self.truncated else ""
        cut += "".join(f", {_escaped(warning)}" for warning in self.warnings)
        return (
            f'<div><b>{heading}</b>{cut}<div style="position:relative;height:16px;margin:4px 0">{strip}</div>'
            f"<table>{rows}</table></div>"
        )

    def to_dict(self) -> dict:
        """The ``results.jsonl`` record of the design without ``file``, and ``windows``, ``novelty``, ``warnings``."""
        return {
            "duration": round(self.duration, 3),
            "width": self.width,
            "height": self.height,
            "fps": round(self.fps, 3),
            "segments": [segment.to_dict() for segment in self.segments],
            "label": self.label,
            "truncated": self.truncated,
            "warnings": list(self.warnings),
            "model": self.model,
            "classifier": self.classifier,
            "windows": [window.to_dict() for window in self.labels],
            "novelty": [point.to_dict() for point in self.novelty],
        }


_STRIPES = ("#0072B2", "#56B4E9")
_UNUSUAL = "#D55E00"


def _said(label: str | None) -> str:
    return NOTHING_KNOWN if label is None else f"label {label!r}"


def _known(known: float | None) -> str:
    return "" if known is None else f", known {known:.2f}"


def _counted(things: tuple, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _escaped(text: str) -> str:
    import html

    return html.escape(text)


def _picture(make: Callable[[], bytes | None] | None, width: int = 320) -> str:
    """An image element that carries its JPEG; nothing where the file is gone since."""
    import base64

    try:
        jpeg = make() if make is not None else None
    except CaptionerError:
        jpeg = None
    if not jpeg:
        return ""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" style="max-width:{width}px">'


def _bar(start: float, end: float, colour: str, title: str) -> str:
    """A stretch of the timeline; ``start`` and ``end`` are shares of its length."""
    place = f"left:{start:.2%};width:{end - start:.2%};min-width:2px;height:100%"
    return f'<div title="{_escaped(title)}" style="position:absolute;{place};background:{colour}"></div>'
