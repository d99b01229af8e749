"""What is done to each file: caption a photo, watch a video, name the action in a clip. Each job can go to a worker."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from captioner.atomic import check_writable, write_atomic
from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.runs.inputs import STANDARD_INPUT, Input
from captioner.runs.workers import Process, Task

if TYPE_CHECKING:
    import numpy as np

    from captioner.captions.captioner import ImageCaptioner
    from captioner.results import Caption, Segment


@dataclass(frozen=True)
class Computing:
    """What a model is run on.

    Attributes:
        runtime: ``auto``, ``openvino`` or ``keras``.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
        threads: Cores to use; None for all that the process may use.
    """

    runtime: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def load(self, name: str | None, wanted: str | None = None) -> Any:
        """`captioner.load` of a model.

        Args:
            name: Its name or folder; None is the default captioner.
            wanted: ``captioner``, ``clip classifier`` or ``translator``; None is any.

        Raises:
            CaptionerError: It cannot be loaded, or it is a model of another kind (``kind="usage"``).
        """
        from captioner.loading import load

        model = load(name, runtime=self.runtime, precision=self.precision, threads=self.threads)
        does = {"captioner": "caption", "clip classifier": "classify", "translator": "translate"}
        if wanted and not hasattr(model, does[wanted]):
            raise CaptionerError(f"{name}: is not a {wanted}; `captioner models` lists the models", kind="usage")
        return model


@dataclass(frozen=True)
class CaptionImages:
    """Captions photos, several at once.

    Attributes:
        model: Name or folder of a captioner; None is the default one.
        search: Fields of `captioner.models.search.SearchOptions` that differ from the model's own.
        prefix: First words that every caption must have.
        must_include: Words that every caption must contain.
        style: Manner of writing; "" is the general one.
        batch_size: Photos computed together; results do not depend on it.
        pictures: Whether records carry a small picture of the photo.
        attention_dir: Folder for a picture of each photo that shows where the model looked for each word, or None.
        attention_names: What the pictures are called there; see `picture_names`.
        computing: What the model is run on.
    """

    model: str | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    must_include: tuple[str, ...] = ()
    style: str = ""
    batch_size: int = 16
    pictures: bool = False
    attention_dir: str | None = None
    attention_names: Mapping[str, str] = field(default_factory=dict)
    computing: Computing = Computing()

    @property
    def _words(self) -> dict[str, Any]:
        return {"prefix": self.prefix, "must_include": self.must_include, "style": self.style}

    @property
    def ahead(self) -> int:
        """So many that no stage of the pipeline waits for the next photo."""
        return max(64, 8 * self.batch_size)

    def check(self) -> None:
        """Finds senseless settings before anything is loaded.

        Raises:
            CaptionerError: A setting makes no sense (``kind="usage"``), or what draws attention is not installed.
        """
        from captioner.models.search import SearchOptions

        SearchOptions(**self.search)
        if self.attention_dir is not None:
            import captioner.outputs.plots  # noqa: F401 (needs an extra)
        if self.batch_size < 1:
            raise CaptionerError(f"batch_size must be 1 or more, not {self.batch_size}", kind="usage")

    def settings(self) -> dict:
        """What the results depend on."""
        return {
            "captioner": model_identity(self.model),
            "search": dict(self.search),
            "prefix": self.prefix,
            "must_include": list(self.must_include),
            "style": self.style,
            "pictures": self.pictures,
            "precision": self.computing.precision,
        }

    def start(self) -> Process:
        """Loads the captioner.

        Raises:
            CaptionerError: It cannot be loaded, it does not know the style or a word that captions must contain, or
                ``attention_dir`` cannot be written.
        """
        import numpy as np

        if self.attention_dir is not None:
            check_writable(self.attention_dir)

        model = self.computing.load(self.model, "captioner")
        model.search_options(**self.search)
        if self.prefix or self.must_include or self.style:  # what the model does not know shows at once
            blank = np.zeros((1, model.image_size, model.image_size, 3), np.uint8)
            model.caption_features(model.encode(blank), model.search_options(**self.search), **self._words)
        return partial(self.captions, model)

    def captions(self, model: ImageCaptioner, paths: Iterator[str], report: Callable[[float], None]) -> Iterator[dict]:
        """The records of photos, by a captioner that is loaded."""
        waiting: deque[str] = deque()

        def noted() -> Iterator[str]:
            for path in paths:
                waiting.append(path)
                yield sys.stdin.buffer if path == STANDARD_INPUT else path

        attention, threads = self.attention_dir is not None, self.computing.threads
        settings = {
            **self.search,
            **self._words,
            "attention": attention,
            "batch_size": self.batch_size,
            "threads": threads,
        }
        for outcome in model.caption_many(noted(), **settings):
            path = waiting.popleft()
            if isinstance(outcome, CaptionerError):
                yield {"error": outcome.to_dict()}
            else:
                yield self._pictured(path, outcome)

    def _pictured(self, path: str, caption: Caption) -> dict:
        """The record of a photo, after the pictures that were asked for."""
        record = caption.to_dict()
        if self.attention_dir is None and not self.pictures:
            return record
        from captioner.media.images import read_image
        from captioner.outputs.records import with_thumbnail
        from captioner.outputs.thumbnails import thumbnail

        try:
            image = read_image(path)
        except CaptionerError as error:  # it has gone, or changed, since it was captioned
            return {"error": error.to_dict()}
        if self.attention_dir is not None:
            try:
                self._draw_attention(image, caption, path)
            except CaptionerError as error:
                if error.kind == "disk_full":  # no photo's fault: the next ones would fail as well
                    raise
                return {"error": error.to_dict()}
        return with_thumbnail(record, thumbnail(image)) if self.pictures else record

    def _draw_attention(self, image: np.ndarray, caption: Caption, path: str) -> None:
        from captioner.outputs.marks import is_ours
        from captioner.outputs.plots import attention_figure

        name = os.path.join(self.attention_dir, self.attention_names[path])
        names = itertools.chain([name], (f"{name}~{number}" for number in itertools.count(2)))
        files = (f"{one}.png" for one in names)
        # A picture of somebody else's keeps its name.
        file = next(file for file in files if not os.path.lexists(file) or is_ours(file))
        write_atomic(file, attention_figure(image, caption).to_png(), within=self.attention_dir)


@dataclass(frozen=True)
class WatchVideos:
    """Says what happens when in a video.

    Attributes:
        model: Name or folder of a captioner; None is the default one.
        classifier: Name or folder of a clip classifier; None is none.
        interval: Seconds between the frames that are looked at.
        longest_segment: Seconds that one caption covers at most.
        search: As in `CaptionImages`.
        computing: What the models are run on.
        listener: Is told the path of a video and a segment of it that is over.
    """

    ahead = 1

    model: str | None = None
    classifier: str | None = None
    interval: float = 1.0
    longest_segment: float = 10.0
    search: Mapping[str, Any] = field(default_factory=dict)
    computing: Computing = Computing()
    listener: Callable[[str, Segment], None] | None = None

    def check(self) -> None:
        """Finds senseless settings before anything is loaded.

        Raises:
            CaptionerError: A setting makes no sense (``kind="usage"``).
        """
        from captioner.models.search import SearchOptions

        SearchOptions(**self.search)
        for name in ("interval", "longest_segment"):
            if not 0 < getattr(self, name) < float("inf"):
                raise CaptionerError(f"{name} must be above 0 seconds, not {getattr(self, name)}", kind="usage")

    def settings(self) -> dict:
        """What the results depend on."""
        from captioner.models.saving import model_names
        from captioner.videos.analyzer import DEFAULT_FORECASTER

        return {
            "captioner": model_identity(self.model),
            "classifier": self.classifier and model_identity(self.classifier),
            "forecaster": DEFAULT_FORECASTER in model_names() and model_identity(DEFAULT_FORECASTER),
            "interval": self.interval,
            "longest_segment": self.longest_segment,
            "search": dict(self.search),
            "precision": self.computing.precision,
        }

    def start(self) -> Process:
        """Loads the models.

        Raises:
            CaptionerError: One cannot be loaded.
        """
        return _one_by_one(self.watcher(self.computing.load(self.model, "captioner")))

    def watcher(self, model: ImageCaptioner) -> Callable[[str, Callable[[float], None]], dict]:
        """What makes the record of a video, with a captioner that is loaded."""
        from captioner.outputs.records import with_thumbnails
        from captioner.videos.analyzer import VideoAnalyzer

        analyzer = VideoAnalyzer(
            model, self.classifier, interval=self.interval, longest_segment=self.longest_segment,
            threads=self.computing.threads, **self.search,
        )  # fmt: skip

        def watch(path: str, report: Callable[[float], None]) -> dict:
            analysis = analyzer.analyze(path, report, self.listener and partial(self.listener, path))
            return with_thumbnails(analysis.to_dict(), analysis.segments)

        return watch


@dataclass(frozen=True)
class DescribeFiles:
    """Says what is in photos and videos, each by its kind.

    Attributes:
        model: Name or folder of a captioner; None is the default one.
        classifier: Name or folder of a clip classifier for videos; None is none.
        computing: What the models are run on.
        listener: As in `WatchVideos`.
    """

    ahead = 1

    model: str | None = None
    classifier: str | None = None
    computing: Computing = Computing()
    listener: Callable[[str, Segment], None] | None = None

    def start(self) -> Process:
        """Loads the captioner; what only videos need is loaded with the first one.

        Raises:
            CaptionerError: It cannot be loaded.
        """
        model = self.computing.load(self.model, "captioner")
        photos = CaptionImages(self.model, computing=self.computing)
        videos = WatchVideos(self.model, self.classifier, computing=self.computing, listener=self.listener)

        @cache
        def watch() -> Process:
            return _one_by_one(videos.watcher(model))

        def process(paths: Iterator[str], report: Callable[[float], None]) -> Iterator[dict]:
            for film, group in itertools.groupby(paths, is_film):
                work = watch() if film else partial(photos.captions, model)
                yield from work(group, report)

        return process


def is_film(path: str) -> bool:
    """Whether a file is taken for a video: by its extension, or else by its content."""
    from captioner.media.images import IMAGE_EXTENSIONS, read_image
    from captioner.media.videos import VIDEO_EXTENSIONS

    extension = os.path.splitext(path)[1].lower()
    if path == STANDARD_INPUT or extension in IMAGE_EXTENSIONS | VIDEO_EXTENSIONS:
        return extension in VIDEO_EXTENSIONS
    try:
        read_image(path)
    except CaptionerError as error:
        return error.kind == "not_an_image"
    return False


@dataclass(frozen=True)
class ClassifyClips:
    """Names the action in a clip.

    Attributes:
        model: Name or folder of a clip classifier.
        window: Length of a window in seconds; None is the model's own, as for the two below.
        stride: Seconds from window to window.
        threshold: Probability below which a clip gets no label.
        still: Whether still pictures are meant to be classified as well.
        computing: What the model is run on.
    """

    ahead = 1

    model: str
    window: float | None = None
    stride: float | None = None
    threshold: float | None = None
    still: bool = False
    computing: Computing = Computing()

    def start(self) -> Process:
        """Loads the classifier.

        Raises:
            CaptionerError: It cannot be loaded, it is a model of another kind, or the windows make no sense for it.
        """
        model = self.computing.load(self.model, "clip classifier")
        chosen = {"window": self.window, "stride": self.stride, "threshold": self.threshold}
        model.window_options(**chosen)  # what is out of range shows before any clip is read
        return _one_by_one(lambda path, report: model.classify(path, still=self.still, **chosen).to_dict())


def _one_by_one(work: Callable[[str, Callable[[float], None]], dict]) -> Process:
    """A process that does one file after the other; whatever a file raises becomes its record."""

    def process(paths: Iterator[str], report: Callable[[float], None]) -> Iterator[dict]:
        for path in paths:
            try:
                yield work(path, report)
            except CaptionerError as error:
                yield {"error": error.to_dict()}
            except Exception as error:
                message = f"{printable(path)}: {printable(str(error)) or 'no message'}"
                yield {"error": {"type": type(error).__name__, "kind": "unexpected", "message": message}}

    return process


def answers(task: Task, inputs: Iterable[Input]) -> Iterator[dict]:
    """Records of inputs, in their order, made in this process as they are asked for.

    Raises:
        CaptionerError: The task cannot start.
    """
    inputs = list(inputs)
    process = task.start()
    done = process((one.file for one in inputs if not one.error), lambda fraction: None)
    for one in inputs:
        yield {"file": one.file, **({"error": one.error.to_dict()} if one.error else next(done))}


def picture_names(inputs: Sequence[Input]) -> dict[str, str]:
    """What the pictures of photos are called, without ``.png``: their places under the lowest folder they all lie in.

    The extension of the photo is left out, but for photos that differ in nothing else.
    """
    root = os.path.commonpath([os.path.dirname(one.absolute) for one in inputs]) if inputs else ""
    whole = {one.file: os.path.relpath(one.absolute, root) for one in inputs}
    taken = Counter(os.path.splitext(name)[0].casefold() for name in dict.fromkeys(whole.values()))
    return {file: _fitting(name, taken) for file, name in whole.items()}


def _fitting(name: str, taken: Mapping[str, int]) -> str:
    stem = os.path.splitext(name)[0]
    folder, name = os.path.split(stem if taken[stem.casefold()] == 1 else name)
    return os.path.join(folder, hashlib.sha256(os.fsencode(name)).hexdigest() if len(os.fsencode(name)) > 240 else name)


def model_identity(name: str | None) -> dict[str, str]:
    """Name of a model and a checksum of what its captions or labels depend on, without loading it.

    Raises:
        ModelLoadError: There is no such model.
    """
    from captioner.errors import ModelLoadError
    from captioner.loading import DEFAULT_MODEL
    from captioner.models.saving import find_model

    folder = find_model(DEFAULT_MODEL if name is None else name)
    digest = hashlib.sha256()
    for file in ("config.json", "metadata.json"):  # the second holds the checksum of the weights
        try:
            digest.update((folder / file).read_bytes())
        except OSError as error:
            raise ModelLoadError(f"{folder / file}: missing or unreadable; get the model folder again") from error
    return {"name": folder.resolve().name, "sha256": digest.hexdigest()}
