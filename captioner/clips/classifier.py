"""Naming what happens in a clip: `ClipClassifier`, its sliding windows, and the stream that a video is fed into."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, overload

import numpy as np
from msgspec import Meta

from captioner.clips.frames import Encode
from captioner.clips.head import ClipConfig, ClipEnsemble, ClipHead, averaged_probabilities, weight_shapes
from captioner.clips.known import SCENE, KnownConfig, KnownHead, known_shapes, looks
from captioner.clips.local_motion import LOCAL_MOTION
from captioner.clips.ridge import RidgeConfig, RidgeHead
from captioner.clips.ridge import weight_shapes as ridge_shapes
from captioner.clips.windows import (
    Sample,
    Seconds,
    WindowCutter,
    WindowOptions,
    WindowSampler,
    measure_window,
    window_inputs,
)
from captioner.errors import CaptionerError, ModelLoadError, VideoReadError
from captioner.media.clock import FrameClock
from captioner.media.files import is_path
from captioner.models.encoder_config import EncoderReference
from captioner.models.runtime import KerasEncoder, OpenVinoEncoder, open_encoder
from captioner.models.saving import SavedModel, read_model
from captioner.names import printable
from captioner.results import ClipPrediction, Window
from captioner.schema import Name, Share, decode

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner
    from captioner.media.videos import VideoReader


MOST_FOREIGN = 0.1
"""Share of foreign clips that may get a label from a classifier that is open-set."""
LEAST_AUROC = 0.97
"""Area under the ROC curve of known against foreign that it has at least."""


def is_open_set(metadata: Mapping) -> bool:
    """Whether a classifier tells what it does not know, by what its training measured.

    Args:
        metadata: From its folder.
    """
    foreign = metadata.get("scores", {}).get("foreign")
    return foreign is not None and foreign["labelled"] <= MOST_FOREIGN and foreign["auroc"] >= LEAST_AUROC


_Labels = Annotated[tuple[Name, ...], Meta(min_length=2, max_length=1000)]


@dataclass(frozen=True)
class _File:
    """``config.json`` of a clip classifier: a recurrent network, of which there are several members, or a ridge."""

    members: Annotated[int, Meta(ge=1, le=100)]
    region: bool
    interval: Seconds
    window: Seconds
    stride: Seconds
    threshold: Share
    temperature: Annotated[float, Meta(ge=1e-3, le=1e3)]
    encoder: EncoderReference
    network: ClipConfig | None = None
    ridge: RidgeConfig | None = None
    known: KnownConfig | None = None

    def __post_init__(self):
        if (self.network is None) == (self.ridge is None):
            raise ValueError("either network or ridge must be there")
        if self.ridge and self.members > 1:
            raise ValueError("members must be 1 for ridge")
        if self.known and self.known.classes != self.head.classes:
            raise ValueError(f"known is of {self.known.classes} classes, the head of {self.head.classes}")
        self.windows  # noqa: B018 (its bounds hold here too)
        if self.network:
            values = self.network.projection * len(self.network.streams) + 4 * self.network.units
            frames = math.ceil(self.window / self.interval)
            if self.members * frames * values * _WINDOWS_AT_ONCE > MAX_VALUES:
                raise ValueError("members, window, projection and units are too large together")

    @property
    def head(self) -> Any:  # the one of the two that is there
        return self.ridge or self.network

    @property
    def windows(self) -> WindowOptions:
        return WindowOptions(self.interval, self.window, self.stride, self.threshold)


_WINDOWS_AT_ONCE = 16
"""More would take memory, and time to fetch it."""
MAX_VALUES = 2**27
"""Limit on the values that the networks of a classifier compute for as many windows: half a gigabyte."""


class ClipStream:
    """A video on its way through a classifier, frame by frame, in bounded memory.

    Args:
        classifier: The classifier.
        options: Windows.
    """

    def __init__(self, classifier: ClipClassifier, options: WindowOptions):
        self._classifier = classifier
        self._threshold = options.threshold
        self._clock = FrameClock(options.interval)
        self._sampler = WindowSampler(options, classifier.streams, classifier.region)
        self._windows: list[Window] = []

    def wants(self, time: float) -> bool:
        """Whether the classifier looks at a frame of that time; `push` ignores the others."""
        return self._clock.due(time)

    def push(
        self, time: float, image: np.ndarray, encoded: tuple[np.ndarray, np.ndarray] | None = None
    ) -> list[Window]:
        """Takes the next frame.

        Args:
            time: Seconds from the start of the video, rising.
            image: RGB uint8 (H, W, 3), the whole frame; a classifier with ``region`` wants it in its own resolution.
            encoded: Grid (positions, C) and pooled embedding (C,) of the frame, where they are known already; of no use
                to a classifier with ``region``.

        Returns:
            The windows that became complete, usually none.
        """
        return self._label(self._cut(time, image, encoded) if self._clock.take(time) else [])

    def watch(self, reader: VideoReader) -> ClipPrediction:
        """The whole of a video. The next window is read and its motion measured while one is encoded.

        Args:
            reader: An open video, read with the classifier's interval.

        Raises:
            VideoReadError: It cannot be read.
            CaptionerError: There was no frame.
        """
        from captioner.media.ahead import prefetch

        def windows():
            for frame in reader:
                yield from self._cut(frame.time, frame.image)
            yield from self._sampler.finish(reader.duration)

        with closing(prefetch(windows(), depth=1)) as ahead:
            for window in ahead:
                self._label([window])
        return self._classifier.summarise(self._windows, self._threshold)

    def finish(self, duration: float | None = None) -> ClipPrediction:
        """Ends the video.

        Args:
            duration: Its length in seconds; None is up to the last frame.

        Raises:
            CaptionerError: There was no frame.
        """
        self._label(self._sampler.finish(duration))
        return self._classifier.summarise(self._windows, self._threshold)

    def _cut(self, time: float, image: np.ndarray, encoded=None):
        if not self._classifier.region:
            image = _squashed(image, self._classifier.image_size)
        return self._sampler.push(time, image, encoded)

    def _label(self, cut) -> list[Window]:
        model = self._classifier
        measured = [
            measure_window(
                samples, model.encode, streams=model.streams, region=model.region, image_size=model.image_size
            )
            for _, _, samples in cut
        ]
        done = model.label_windows([(start, end) for start, end, _ in cut], measured, self._threshold)
        self._windows += done
        return done


class ClipClassifier:
    """Names what happens in a clip.

    Args:
        saved: A model folder of kind ``clip_classifier``.
        captioner: The `captioner.ImageCaptioner` whose encoder it shares; None opens that of the captioner which the
            folder names.
        runtime: See `captioner.load`; for an encoder that is opened here.
        precision: Likewise.
        threads: Likewise, and for decoding videos.

    Attributes:
        name: Name of the model folder.
        labels: Names of the classes.
        options: Windows, as the networks were trained, and the threshold.
        region: Whether it looks at the region where something moves instead of the whole frame.
        streams: What it looks at: those of `captioner.clips.ridge.RidgeConfig`, and `captioner.clips.known.SCENE`.
        heads: The networks whose probabilities are averaged, or one ridge regression.
        known: Tells how likely it is that one of the classes happens at all; None in a model that cannot tell.
        temperature: What logits are divided by, fitted on validation clips (Guo et al. 2017).
        encoder_sha256: SHA-256 of the weights of the captioner whose encoder it shares.
        image_size: Side in pixels of the square that the encoder sees.
        encode: The encoder: images uint8 (N, S, S, 3) to grids and pooled embeddings.

    Raises:
        ModelLoadError: The folder is inconsistent, or the captioner's encoder is not the one it was trained on.
    """

    kind = "clip_classifier"

    def __init__(
        self,
        saved: SavedModel,
        captioner: ImageCaptioner | None = None,
        *,
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ):
        if saved.kind != self.kind:
            raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, not a clip classifier")
        self.name = saved.name
        self._threads = threads
        self.metadata = saved.metadata
        file = saved.settings(_File)
        labels = decode(saved.texts["labels.json"], _Labels, saved.path("labels.json"))
        if len(set(labels)) < len(labels):
            raise ModelLoadError(f"{saved.path('labels.json')}: a name stands there twice; get the folder again")
        if len(labels) != file.head.classes:
            raise ModelLoadError(
                f"{saved.path('labels.json')}: {len(labels)} labels for {file.head.classes} classes; "
                "get the folder again"
            )
        self.labels = labels
        self.region, self.temperature, self.options = file.region, file.temperature, file.windows
        encoder_model, self.encoder_sha256 = file.encoder.model, file.encoder.sha256
        self.streams = (*file.head.streams, SCENE) if file.known else file.head.streams
        self.known = None
        if file.known:
            self.known = KnownHead(file.known, saved.part("known", known_shapes(file.known)), str(saved.folder))
        make, shapes = (RidgeHead, ridge_shapes) if file.ridge else (ClipHead, weight_shapes)
        self.heads: tuple[Any, ...] = tuple(
            make(file.head, saved.part(f"member{i}", shapes(file.head)), str(saved.folder)) for i in range(file.members)
        )
        self._head = self.heads[0] if file.ridge else ClipEnsemble(self.heads)
        held = [*self.heads, self.known] if self.known else self.heads
        if len(saved.arrays.shapes) != sum(len(head.weights) for head in held):
            raise ModelLoadError(
                f"{saved.path('weights.npz')}: holds other networks than config.json asks for; get the folder again"
            )
        encoder: ImageCaptioner | KerasEncoder | OpenVinoEncoder
        if captioner is not None and captioner.encoder_sha256 == self.encoder_sha256:
            encoder = captioner
            self._origin: tuple = (saved.reference, captioner, {})
        else:
            owner = read_model(encoder_model)
            if owner.encoder_sha256 != self.encoder_sha256:
                raise ModelLoadError(
                    f"{saved.folder}: was trained on the encoder of another version of {encoder_model!r}; train the "
                    "classifier again, or get the captioner that it belongs to"
                )
            encoder = opened = open_encoder(owner, runtime=runtime, precision=precision, threads=threads)
            settings = {"runtime": opened.name, "precision": opened.precision, "threads": threads}
            self._origin = (saved.reference, None, settings)
        if encoder.channels != file.head.channels:
            raise ModelLoadError(
                f"{saved.path('config.json')}: channels must be {encoder.channels} for this encoder, not "
                f"{file.head.channels}; get the folder again"
            )
        self.image_size = encoder.image_size
        self.encode = captioner_encode(encoder)

    def __reduce__(self):
        """Pickles name and settings, and the captioner if it shares one; whoever unpickles opens the folder again."""
        return _open_again, self._origin, {"options": self.options, "temperature": self.temperature}

    @property
    def interval(self) -> float:
        """Seconds between the frames that it looks at."""
        return self.options.interval

    @overload
    def classify(  # type: ignore[overload-overlap]  # text is made of text
        self, source: str | os.PathLike[str], *, window: float | None = ..., stride: float | None = ...,
        threshold: float | None = ..., still: bool = ...,
    ) -> ClipPrediction: ...  # fmt: skip

    @overload
    def classify(
        self, source: Iterable[str | os.PathLike[str]], *, window: float | None = ..., stride: float | None = ...,
        threshold: float | None = ..., still: bool = ...,
    ) -> list[ClipPrediction]: ...  # fmt: skip

    def classify(
        self,
        source: Any,
        *,
        window: float | None = None,
        stride: float | None = None,
        threshold: float | None = None,
        still: bool = False,
    ) -> ClipPrediction | list[ClipPrediction]:
        """Names what happens in a clip, or in each clip of a list.

        Args:
            source: Path of a video, or several paths.
            window: Length of a window in seconds; None is what the model was trained with.
            stride: Seconds from window to window; None is the model's, at most ``window``.
            threshold: Probability below which the label is None, with the possibility that nothing known happens; None
                is the model's.
            still: Whether still pictures are meant to be classified as well; otherwise they are refused, as nothing
                happens in them.

        Returns:
            One prediction for a path, a list in the same order for several. Each is classified by itself, so the result
            does not depend on its neighbours.

        Raises:
            VideoReadError: A video cannot be read, or it is a still picture.
            ImageReadError: A still picture that is meant cannot be read.
            CaptionerError: ``window``, ``stride`` or ``threshold`` is out of range, or the source is no path
                (``kind="usage"``).
        """
        options = self.window_options(window=window, stride=stride, threshold=threshold)
        if is_path(source) or not isinstance(source, Iterable):
            return self._classify_one(source, options, still)
        return [self._classify_one(one, options, still) for one in source]

    def window_options(
        self, *, window: float | None = None, stride: float | None = None, threshold: float | None = None
    ) -> WindowOptions:
        """The model's own windows, changed where something is given.

        Raises:
            CaptionerError: A value is out of range (``kind="usage"``).
        """
        length = self.options.window if window is None else window
        if stride is None:
            stride = length if window is None and self.options.stride > length else self.options.stride
            stride = min(stride, length) if isinstance(length, int | float) else stride
        return WindowOptions(
            self.options.interval, length, stride, self.options.threshold if threshold is None else threshold
        )

    def stream(self, **options) -> ClipStream:
        """A new video, to be fed frame by frame; options as in `window_options`."""
        return ClipStream(self, self.window_options(**options))

    def classify_frames(
        self,
        times: Sequence[float],
        pooled: np.ndarray,
        grids: np.ndarray | None = None,
        motion: np.ndarray | None = None,
        *,
        duration: float | None = None,
        window: float | None = None,
        stride: float | None = None,
        threshold: float | None = None,
    ) -> ClipPrediction:
        """Names what happens from frames that are encoded already.

        Args:
            times: Seconds of the frames, rising, (T,); best `interval` apart.
            pooled: Pooled embeddings (T, C).
            grids: Grids (T, positions, C), where the network looks at ``grid_change``.
            motion: From `captioner.clips.motion.MotionMeter`, (T, MOTION_SIZE), where the network looks at ``motion``.
            duration: Length of the video in seconds; None is up to the last frame.
            window: See `classify`.
            stride: See `classify`.
            threshold: See `classify`.

        Raises:
            CaptionerError: There is no frame, or the classifier looks at regions or local motion, which needs the
                images (`stream`).
            ValueError: The arrays do not belong together, or what the network looks at is missing.
        """
        if self.region or LOCAL_MOTION in self.streams:
            raise CaptionerError(f"{self.name} looks at how things move in the pictures; feed the frames to stream()")
        options = self.window_options(window=window, stride=stride, threshold=threshold)
        if len(times) != len(pooled) or any(len(part) != len(times) for part in (grids, motion) if part is not None):
            raise ValueError("times, pooled, grids and motion must be of the same length")
        cutter = WindowCutter(options)
        numbered = [Sample(float(time), number=number) for number, time in enumerate(times)]
        cut = [window for sample in numbered for window in cutter.push(sample)]
        cut += cutter.finish(duration if duration is not None else (float(times[-1]) if len(times) else 0.0))
        measured = []
        for _, _, samples in cut:
            rows = np.array([sample.number for sample in samples], np.intp)
            inside = [None if part is None else part[rows] for part in (motion, grids)]
            measured.append(window_inputs(self.streams, pooled[rows], *inside))
        windows = self.label_windows([(start, stop) for start, stop, _ in cut], measured, options.threshold)
        return self.summarise(windows, options.threshold)

    def probabilities(self, measured: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """Calibrated probabilities (windows, classes)."""
        parts = (measured[start : start + _WINDOWS_AT_ONCE] for start in range(0, len(measured), _WINDOWS_AT_ONCE))
        logits = [self._head.logits(part) for part in parts]
        return averaged_probabilities(np.concatenate(logits, axis=1), self.temperature)

    def label_windows(self, spans, measured, threshold: float) -> list[Window]:
        """Windows with their labels, from (start, end) and the measurements of each."""
        if not spans:
            return []
        known = self.known(looks(measured)).tolist() if self.known else [None] * len(spans)
        windows = []
        for (start, end), row, one in zip(spans, self.probabilities(measured), known, strict=True):
            label, probability = self._decide(row, one, threshold)
            named = {name: float(p) for name, p in zip(self.labels, row, strict=True)}
            windows.append(Window(start, end, label, probability, named, one))
        return windows

    def summarise(self, windows: Sequence[Window], threshold: float) -> ClipPrediction:
        """The prediction for the whole clip: the average over its windows, weighted by their length, and those of the
        classes also by how likely it is that any of them happens.

        Raises:
            CaptionerError: There is no window.
        """
        if not windows:
            raise CaptionerError("there is no frame to classify", kind="empty")
        rows = np.array([[window.probabilities[name] for name in self.labels] for window in windows])
        weights = np.array([window.end - window.start for window in windows])
        known = None
        if self.known:
            happens = np.array([window.known for window in windows])
            known = float(np.average(happens, weights=weights))
            weights = weights * np.maximum(happens, 1e-9)
        mean = np.average(rows, axis=0, weights=weights)
        mean /= mean.sum()
        label, probability = self._decide(mean, known, threshold)
        named = {name: float(p) for name, p in zip(self.labels, mean, strict=True)}
        return ClipPrediction(label, probability, named, tuple(windows), known)

    def _decide(self, row: np.ndarray, known: float | None, threshold: float) -> tuple[str | None, float]:
        best = int(row.argmax())
        certainty = row[best] * (1.0 if known is None else known)
        return (self.labels[best] if certainty >= threshold else None), float(row[best])

    def _classify_one(self, path: str | os.PathLike, options: WindowOptions, still: bool) -> ClipPrediction:
        from captioner.media.images import IMAGE_EXTENSIONS, read_image
        from captioner.media.videos import VideoReader

        stream = ClipStream(self, options)
        is_still = is_path(path) and os.path.splitext(os.fsdecode(path))[1].lower() in IMAGE_EXTENSIONS
        if is_still and still:
            stream.push(0.0, read_image(path))
            return stream.finish(0.0)
        size = None if self.region else self.image_size
        try:
            with VideoReader(path, every=options.interval, size=size, threads=self._threads) as reader:
                prediction = stream.watch(reader)
                return replace(prediction, truncated=reader.truncated, warnings=tuple(reader.warnings))
        except VideoReadError as error:
            if is_still and error.kind == "not_a_video":
                raise VideoReadError(
                    f"{printable(os.fsdecode(path))}: is a still picture, in which nothing happens; give --still "
                    "(in Python still=True) if it is meant, or use the image command",
                    kind=error.kind,
                ) from error
            raise


def _open_again(model: str, captioner: ImageCaptioner | None, settings: dict[str, Any]) -> ClipClassifier:
    return ClipClassifier(read_model(model), captioner, **settings)


def captioner_encode(captioner) -> Encode:
    """The encoder of a captioner as the function that measuring takes."""

    def encode(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = captioner.encode(images)
        return np.asarray(features.grid), np.asarray(features.pooled)

    return encode


def _squashed(image: np.ndarray, size: int) -> np.ndarray:
    from captioner.media.images import read_image

    return image if image.shape[:2] == (size, size) else read_image(image, size=size)
