"""Videos to timed captions, action labels and unusual moments, in one decoding pass and bounded memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import CaptionerError, ModelLoadError
from captioner.media.ahead import prefetch
from captioner.media.images import read_image
from captioner.media.shots import LONGEST_SEGMENT, SHORTEST_SHOT, ShotDetector, reduced_size
from captioner.media.videos import VideoReader
from captioner.models.runtime import Features
from captioner.outputs.thumbnails import thumbnail
from captioner.results import Caption, Segment, VideoAnalysis
from captioner.videos.forecaster import Forecaster, novelty_curve
from captioner.videos.segments import EncodedFrame, Piece, SegmentBuilder, labels_between, merged

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner
    from captioner.clips.classifier import ClipClassifier

INTERVAL = 1.0
"""Seconds between the frames that are captioned, by default."""

FRAMES_PER_SEGMENT = 8
"""Frames, at most, whose grids the decoder attends over for one caption, by default."""

DEFAULT_CLASSIFIER = "actions"
DEFAULT_FORECASTER = "forecaster"

_BATCH_SIZE = 16
# Cuts are looked for at this rate at most: more frames say nothing new about them.
_SHOT_RATE = 30.0


class VideoAnalyzer:
    """Says what happens when in a video.

    Args:
        captioner: An `ImageCaptioner`, the name or folder of one, or None for the default one.
        classifier: A `ClipClassifier`, the name or folder of one, ``"auto"`` for the shipped one if it is open-set (see
            `captioner.clips.classifier.is_open_set`), or None for no labels.
        forecaster: A `Forecaster`, the name or folder of one, ``"auto"`` for the shipped one where it knows the
            captioner's encoder, or None for no novelty curve.
        interval: Seconds between the frames that are captioned and forecast.
        longest_segment: Seconds that one caption covers at most, before neighbours that say the same are merged; at
            least twice ``interval``, so that every segment holds frames.
        shortest_shot: Seconds that a shot lasts at least.
        frames_per_segment: Frames of a segment, evenly spread, that a caption is made from at most.
        thumbnails: Whether segments carry a small picture.
        threads: Threads that decode; None is as many as there are cores.
        **options: Fields of `captioner.models.search.SearchOptions`, such as ``beam_size``.

    Raises:
        CaptionerError: An argument makes no sense (``kind="usage"``).
        ModelLoadError: A model cannot be loaded, or the forecaster belongs to another encoder.
    """

    def __init__(
        self,
        captioner: ImageCaptioner | str | os.PathLike | None = None,
        classifier: ClipClassifier | str | os.PathLike | None = "auto",
        *,
        forecaster: Forecaster | str | os.PathLike | None = "auto",
        interval: float = INTERVAL,
        longest_segment: float = LONGEST_SEGMENT,
        shortest_shot: float = SHORTEST_SHOT,
        frames_per_segment: int = FRAMES_PER_SEGMENT,
        thumbnails: bool = True,
        threads: int | None = None,
        **options: Any,
    ):
        for name, value in (("interval", interval), ("longest_segment", longest_segment)):
            if not (value > 0 and math.isfinite(value)):
                raise CaptionerError(f"{name} must be a positive number of seconds, not {value}", kind="usage")
        if not (shortest_shot >= 0 and math.isfinite(shortest_shot)):
            raise CaptionerError(f"shortest_shot must be 0 seconds or more, not {shortest_shot}", kind="usage")
        if frames_per_segment < 1:
            raise CaptionerError(f"frames_per_segment must be 1 or more, not {frames_per_segment}", kind="usage")
        self.captioner = _captioner(captioner)
        self.options = self.captioner.search_options(**options)
        self.classifier, self._shared = _classifier(classifier, self.captioner)
        self.forecaster = _forecaster(forecaster, self.captioner)
        self.interval = interval
        self.longest_segment = max(longest_segment, 2 * interval)
        self.shortest_shot = shortest_shot
        self.frames_per_segment = frames_per_segment
        self.thumbnails = thumbnails
        self._threads = threads

    def analyze(
        self,
        path: str | os.PathLike,
        progress: Callable[[float], None] | None = None,
        listener: Callable[[Segment], None] | None = None,
    ) -> VideoAnalysis:
        """Watches one video.

        Decoding, the search for cuts and resizing run in a thread of their own, ahead of encoding and captioning. Each
        frame is decoded once and encoded once, whatever uses it.

        Args:
            path: The file.
            progress: Called now and then with the share that is done, 0..1, by the length that the file states (0 where
                it states none); what it raises ends the work.
            listener: Called with each segment as soon as it is over, while the video goes on; labels come at the end.

        Raises:
            VideoReadError: The file cannot be read; the message names it and says why. A truncated or damaged video is
                no error: what there is is analysed, and the result says ``truncated`` or has ``warnings``.
        """
        rates = {"cuts": 1 / _SHOT_RATE, "captions": self.interval}
        if self.classifier is not None:
            rates["clips"] = self.classifier.interval
        with VideoReader(path, every=rates, threads=self._threads) as reader:
            expected = reader.stated_duration
            pass_ = _Pass(self, reader.first_time, listener)
            # The thread keeps raw frames only for a classifier that needs them: little else is in memory.
            for batch in _batches(prefetch(self._sampled(reader), depth=_BATCH_SIZE), _BATCH_SIZE):
                pass_.add(batch)
                if progress is not None:
                    progress(min(1.0, batch[-1].time / expected) if expected else 0.0)
            result = pass_.finish(reader.duration)
        if progress is not None:
            progress(1.0)
        return replace(
            result, width=reader.width, height=reader.height, fps=reader.fps, truncated=reader.truncated,
            warnings=tuple(reader.warnings),
        )  # fmt: skip

    def _sampled(self, reader: VideoReader) -> Iterator[_Sample]:
        """What the rest needs of a video: the frames that are due for anything, and the cuts between them."""
        size = self.captioner.image_size
        reduced = reduced_size(reader.width, reader.height)
        detector = ShotDetector(shortest=self.shortest_shot)
        last_cut, last_seen = 0.0, -1.0
        for frame in reader:
            cut = detector.push(frame.time, frame.resized(*reduced)) if "cuts" in frame.due else None
            last_cut = last_cut if cut is None else cut
            regular, clip = "captions" in frame.due, "clips" in frame.due
            # A shot that would be over before a frame of it is due gets one.
            visible = regular or last_seen < last_cut
            if visible:
                last_seen = frame.time
            if not (visible or clip or cut is not None):
                continue
            yield _Sample(
                time=frame.time,
                certain=detector.certain,
                cut=cut,
                regular=regular,
                square=read_image(frame.image, size=size) if visible or (clip and self._shared) else None,
                visible=visible,
                image=frame.image if clip and not self._shared else None,
                clip=clip,
                picture=thumbnail(frame.image) if visible and self.thumbnails else None,
            )
        for start, _ in detector.finish(reader.duration)[1:]:
            if start > last_cut:
                yield _Sample(time=reader.duration, certain=reader.duration, cut=start)

    def caption_pieces(self, pieces: Sequence[Piece]) -> list[Caption]:
        """A caption for each piece of a video: the decoder attends over the grids of all its frames at once.

        Its attention is a softmax over places, and what it starts from is their mean, so that places of several frames
        are to it what places of one are.

        Measured on 198 clips of UCF-101 (four frames a caption, four others held out): such captions name the action,
        by a word like "surfing" or "horse", in 27 %; those of the middle frame in 24 %; those chosen from the frames'
        candidates by mean length-normalised log-likelihood over all frames in 22 % (11 clips against 1 between the
        first and the last, sign test p = 0.006). To the held-out frames, that likelihood is -1.75, -1.78 and -1.69:
        choosing by it gives likely captions that say less, and takes three times as long.
        """
        captions: dict[int, Caption] = {}
        counts = [len(piece.frames) for piece in pieces]
        for count in sorted(set(counts)):  # one search for all pieces of as many frames
            rows = [row for row, of in enumerate(counts) if of == count]
            features = [_joined([frame.features for frame in pieces[row].frames]) for row in rows]
            found = self.captioner.caption_features(Features.concatenate(features), self.options, attention=False)
            captions.update(zip(rows, found, strict=True))
        return [captions[row] for row in range(len(pieces))]


@dataclass(frozen=True)
class _Sample:
    """A frame that is due for something, or a cut.

    Attributes:
        time: Seconds.
        certain: Seconds up to which all cuts are known.
        cut: A cut that has become certain.
        regular: Whether the frame is one of those that are ``interval`` apart.
        visible: Whether captions may be made from it.
        clip: Whether the classifier looks at it.
        square: uint8 (S, S, 3) for the encoder.
        image: The whole frame, for a classifier with an encoder or regions of its own.
        picture: JPEG.
    """

    time: float
    certain: float
    cut: float | None = None
    regular: bool = False
    visible: bool = False
    clip: bool = False
    square: np.ndarray | None = None
    image: np.ndarray | None = None
    picture: bytes | None = None


class _Pass:
    """What is known of one video so far."""

    def __init__(self, analyzer: VideoAnalyzer, start: float, listener: Callable[[Segment], None] | None):
        self._analyzer = analyzer
        self._listener = listener
        self._told = 0  # segments that it knows
        self._builder = SegmentBuilder(analyzer.longest_segment, analyzer.frames_per_segment, start)
        self._segments: list[Segment] = []
        self._clip = analyzer.classifier.stream() if analyzer.classifier is not None else None
        self._novelty = analyzer.forecaster.stream() if analyzer.forecaster is not None else None
        self._times: list[float] = []
        self._values: list[float] = []

    def add(self, batch: Sequence[_Sample]) -> None:
        """Takes the next samples."""
        squares = [sample.square for sample in batch if sample.square is not None]
        if squares:
            features = self._analyzer.captioner.encode(np.stack(squares))
        pieces: list[Piece] = []
        row = 0
        for sample in batch:
            if sample.cut is not None:
                pieces += self._builder.cut(sample.cut)
            own: Any = None  # the features of the frame; there, wherever something looks at them
            if sample.square is not None:
                own = features[row : row + 1]
                row += 1
            if sample.visible:
                self._builder.add(EncodedFrame(sample.time, own, sample.picture))
            pieces += self._builder.advance(sample.certain)
            if sample.regular and self._novelty is not None:
                self._times.append(sample.time)
                self._values.append(self._novelty.push(own.pooled[0]))
            if sample.clip and self._clip is not None:
                known = (own.grid[0], own.pooled[0]) if sample.image is None else None
                self._clip.push(sample.time, sample.square if sample.image is None else sample.image, known)
        self._caption(pieces)

    def finish(self, duration: float) -> VideoAnalysis:
        """Everything, but for what the reader knows."""
        analyzer = self._analyzer
        self._caption(self._builder.finish(duration))
        if self._segments and self._segments[-1].end < duration:  # by less than frames are apart
            self._segments[-1] = replace(self._segments[-1], end=duration)
        self._tell(len(self._segments))
        prediction = self._clip.finish(duration) if self._clip is not None else None
        windows = prediction.windows if prediction is not None else ()
        least = analyzer.forecaster.config.unusual_value if analyzer.forecaster is not None else 0.0
        return VideoAnalysis(
            duration=duration, width=0, height=0, fps=0.0,
            segments=tuple(
                replace(segment, labels=labels_between(windows, segment.start, segment.end, _threshold(analyzer)))
                for segment in self._segments
            ),
            label=prediction.label if prediction is not None else None,
            labels=windows,
            novelty=novelty_curve(self._times, self._values, least),
            model=analyzer.captioner.name,
            classifier=analyzer.classifier.name if analyzer.classifier is not None else None,
        )  # fmt: skip

    def _caption(self, pieces: Sequence[Piece]) -> None:
        for piece, caption in zip(pieces, self._analyzer.caption_pieces(pieces), strict=True):
            middle = min(piece.frames, key=lambda frame: abs(frame.time - (piece.start + piece.end) / 2))
            segment = Segment(piece.start, piece.end, caption, thumbnail=middle.picture)
            if self._segments and self._segments[-1].end < piece.start:  # its last frame stood there all the time
                self._segments[-1] = replace(self._segments[-1], end=piece.start)
            self._segments[-1:] = merged([*self._segments[-1:], segment])
            self._tell(len(self._segments) - 1)  # the last one may yet grow

    def _tell(self, count: int) -> None:
        if self._listener is not None:
            for segment in self._segments[self._told : count]:
                self._listener(segment)
        self._told = count


def _threshold(analyzer: VideoAnalyzer) -> float:
    """With many classes and no threshold, improbable ones would still stand there."""
    return max(analyzer.classifier.options.threshold, 0.1) if analyzer.classifier is not None else 1.0


def _joined(features: Sequence[Features]) -> Features:
    """Features of several frames as those of one picture, whose grid holds the places of all."""
    return Features(
        np.concatenate([one.grid.reshape(1, -1, one.grid.shape[-1]) for one in features], axis=1, dtype=np.float32),
        np.stack([one.pooled for one in features]).mean(axis=0, dtype=np.float32),
    )


def _batches(samples: Iterator[_Sample], size: int) -> Iterator[list[_Sample]]:
    batch: list[_Sample] = []
    for sample in samples:
        batch.append(sample)
        if sum(one.square is not None for one in batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def chosen_classifier(name: str | None) -> str | None:
    """The clip classifier that ``--classifier`` means: None is the one that labels by default, ``none`` is none."""
    if name is None:
        return labelling_classifier()
    return None if name == "none" else name


def labelling_classifier() -> str | None:
    """Name of the shipped classifier that labels videos by default: only one that tells what it does not know."""
    from captioner.clips.classifier import is_open_set
    from captioner.models.saving import find_model, model_names

    if DEFAULT_CLASSIFIER not in model_names():
        return None
    metadata = json.loads((find_model(DEFAULT_CLASSIFIER) / "metadata.json").read_text(encoding="utf-8"))
    return DEFAULT_CLASSIFIER if is_open_set(metadata) else None


def _captioner(captioner):
    if captioner is not None and not isinstance(captioner, (str, os.PathLike)):
        return captioner
    from captioner.loading import load

    loaded = load(captioner)
    if not hasattr(loaded, "caption"):
        raise ModelLoadError(f"{captioner}: is not a captioner")
    return loaded


def _classifier(classifier, captioner) -> tuple[Any, bool]:
    """The classifier, and whether it can take the captioner's embeddings."""
    from captioner.models.saving import read_model

    if isinstance(classifier, str) and classifier == "auto":
        classifier = labelling_classifier()
    if classifier is None:
        return None, False
    if isinstance(classifier, (str, os.PathLike)):
        from captioner.clips.classifier import ClipClassifier

        classifier = ClipClassifier(read_model(classifier), captioner)
    return classifier, not classifier.region and classifier.encoder_sha256 == captioner.encoder_sha256


def _forecaster(forecaster, captioner) -> Forecaster | None:
    from captioner.models.saving import model_names, read_model

    if isinstance(forecaster, str) and forecaster == "auto":
        if DEFAULT_FORECASTER not in model_names():
            return None
        shipped = Forecaster.from_saved(read_model(DEFAULT_FORECASTER))
        return shipped if shipped.encoder.get("sha256") == captioner.encoder_sha256 else None
    if isinstance(forecaster, (str, os.PathLike)):
        saved = read_model(forecaster)
        forecaster = Forecaster.from_saved(saved)
        if forecaster.config.channels != captioner.channels:
            raise ModelLoadError(
                f"{saved.path('config.json')}: channels must be {captioner.channels} for this captioner, not "
                f"{forecaster.config.channels}; get the folder again"
            )
    expected = captioner.encoder_sha256
    if forecaster is not None and forecaster.encoder.get("sha256", expected) != expected:
        raise ModelLoadError(
            "the forecaster was trained on the embeddings of another encoder than the captioner's; train it again "
            "(`captioner train forecaster`)"
        )
    return forecaster
