"""What is done to each file: caption a photo, watch a video, name the action in a clip. Each job can go to a worker."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.atomic import check_writable, write_atomic
from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.runs.inputs import Input
from captioner.runs.workers import Process, Task

if TYPE_CHECKING:
    import numpy as np

    from captioner.results import Caption


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
            wanted: ``captioner`` or ``clip classifier``; None is either.

        Raises:
            CaptionerError: It cannot be loaded, or it is a model of the other kind (``kind="usage"``).
        """
        from captioner.loading import load

        model = load(name, runtime=self.runtime, precision=self.precision, threads=self.threads)
        if wanted and not hasattr(model, {"captioner": "caption", "clip classifier": "classify"}[wanted]):
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
        attention_root: Folder whose tree is mirrored there; see `common_folder`.
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
    attention_root: str = ""
    computing: Computing = Computing()

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
        words = {"prefix": self.prefix, "must_include": self.must_include, "style": self.style}
        if self.prefix or self.must_include or self.style:  # what the model does not know shows at once
            blank = np.zeros((1, model.image_size, model.image_size, 3), np.uint8)
            model.caption_features(model.encode(blank), model.search_options(**self.search), **words)
        return lambda paths, report: self._caption(model, words, paths)

    def _caption(self, model, words, paths: Iterator[str]) -> Iterator[dict]:
        waiting: deque[str] = deque()

        def noted() -> Iterator[str]:
            for path in paths:
                waiting.append(path)
                yield path

        attention, threads = self.attention_dir is not None, self.computing.threads
        settings = {**self.search, **words, "attention": attention, "batch_size": self.batch_size, "threads": threads}
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

        folder, name = os.path.split(os.path.relpath(path, self.attention_root or os.curdir))
        if len(os.fsencode(name)) > 240:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()
        place = os.path.join(self.attention_dir, folder)
        names = itertools.chain([name], (f"{name}~{number}" for number in itertools.count(2)))
        files = (os.path.join(place, f"{one}.png") for one in names)
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
    """

    ahead = 1

    model: str | None = None
    classifier: str | None = None
    interval: float = 1.0
    longest_segment: float = 10.0
    search: Mapping[str, Any] = field(default_factory=dict)
    computing: Computing = Computing()

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
        from captioner.outputs.records import with_thumbnails
        from captioner.videos.analyzer import VideoAnalyzer

        model = self.computing.load(self.model, "captioner")
        analyzer = VideoAnalyzer(
            model, self.classifier, interval=self.interval, longest_segment=self.longest_segment,
            threads=self.computing.threads, **self.search,
        )  # fmt: skip

        def watch(path: str, report: Callable[[float], None]) -> dict:
            analysis = analyzer.analyze(path, report)
            return with_thumbnails(analysis.to_dict(), analysis.segments)

        return _one_by_one(watch)


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


def common_folder(inputs: Iterable[Input]) -> str:
    """The lowest folder that all inputs lie in."""
    return os.path.commonpath([os.path.dirname(one.absolute) for one in inputs])


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
