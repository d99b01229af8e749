"""What runs an encoder: Keras, on which it was trained, or OpenVINO, several times as fast on a CPU.

The OpenVINO runtime imports neither Keras nor TensorFlow.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from captioner.errors import CaptionerError, ModelLoadError, enough_memory, needs_extra
from captioner.models.encoder_config import EncoderConfig, EncoderOwner, encoder_shapes
from captioner.models.encoder_graph import Ranges, encoder_graph, knows_encoder
from captioner.models.graph_parts import PerThread, Weights, infer
from captioner.models.saving import CLASSES, check_shapes, load_weights, shapes_of, variable_shapes
from captioner.schema import Name, decode

if TYPE_CHECKING:
    from captioner.models.saving import SavedModel

RUNTIMES = ("auto", "keras", "openvino")
PRECISIONS = ("auto", "f32", "bf16", "int8")
_Bound = Annotated[float, Meta(ge=-1e6, le=1e6)]
_Ranges = Annotated[dict[Name, tuple[_Bound, _Bound]], Meta(max_length=1000)]
_KERAS_BATCH = 16
_EXACT_LAYERS = 3  # of the encoder, in float32 always: the stem and two blocks


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder sees in a batch of images.

    Attributes:
        grid: One vector for every position, row by row, float32 (images, positions, channels).
        pooled: Their mean, float32 (images, channels).
    """

    grid: np.ndarray
    pooled: np.ndarray

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index) -> Features:
        """Some of the images: a slice, or an array of numbers or booleans."""
        return Features(self.grid[index], self.pooled[index])

    @classmethod
    def concatenate(cls, batches: Sequence[Features]) -> Features:
        """Several batches as one."""
        return cls(*(np.concatenate([getattr(b, name) for b in batches]) for name in ("grid", "pooled")))


def open_encoder(
    saved: SavedModel, *, runtime: str = "auto", precision: str = "auto", threads: int | None = None
) -> KerasEncoder | OpenVinoEncoder:
    """Runs the encoder of a saved captioner; see `captioner.captions.runtime.open_runtime`."""
    config = saved.settings(EncoderOwner, more=True).encoder
    return make_encoder(
        config.to_dict(), saved_encoder_weights(saved, config), runtime=runtime, precision=precision, threads=threads,
        ranges=saved_ranges(saved), where=str(saved.folder),
    )  # fmt: skip


def make_encoder(
    config: Mapping,
    weights: Weights,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ranges: Ranges | None = None,
    where: str = "the model",
) -> KerasEncoder | OpenVinoEncoder:
    """Runs an encoder of which the parts are at hand.

    Args:
        config: `captioner.models.encoder.EncoderConfig` as a dict, with its image size.
        weights: ``layer/variable`` to array.
        runtime: See `captioner.captions.runtime.open_runtime`.
        precision: Likewise.
        threads: Likewise.
        ranges: For ``int8``: see `captioner.models.encoder_graph.input_ranges`.
        where: Where the weights come from, for error messages.

    Raises:
        CaptionerError: An argument makes no sense, or the runtime does not know the encoder (``kind="usage"``).
        ModelLoadError: The weights are not those that the settings ask for.
    """
    if chosen_runtime(config["name"], runtime, precision, threads, ranges, where) == "keras":
        return KerasEncoder(built_encoder(config, weights, threads, where))
    check_shapes(shapes_of(weights), encoder_shapes(config["name"]), where)
    with enough_memory(where):
        return OpenVinoEncoder(config, weights, precision=precision, threads=threads, ranges=ranges)


def saved_encoder_weights(saved: SavedModel, config: EncoderConfig) -> dict[str, np.ndarray]:
    """What of a saved encoder is run, ``layer/variable`` to float32: all but the ImageNet classes, which only training
    needs; the arrays of the folder are those that it consists of.

    Raises:
        CaptionerError: The encoder is one that only Keras knows, and Keras is not installed (``kind="missing"``).
        ModelLoadError: An array is missing, left over or of another shape.
    """
    classes = any(name.startswith(f"encoder/{CLASSES}") for name in saved.arrays.shapes)
    shapes = encoder_shapes(config.name, classes=classes)
    if shapes is None:
        with needs_extra(f"the encoder {config.name!r} needs Keras and TensorFlow", "train"):
            import keras  # noqa: F401
        from captioner.models.encoder import build_encoder

        shapes = variable_shapes(build_encoder(config, classes=classes))
    return {name: value for name, value in saved.part("encoder", shapes).items() if not name.startswith(CLASSES)}


def saved_ranges(saved: SavedModel) -> dict[str, tuple[float, float]] | None:
    """What ``ranges.json`` holds, where the model has one: convolution to lowest and highest input."""
    text = saved.texts.get("ranges.json")
    if text is None:
        return None
    ranges = decode(text, _Ranges, saved.path("ranges.json"))
    for layer, (low, high) in ranges.items():
        if not low < high:
            raise ModelLoadError(f"{saved.path('ranges.json')}: the range of {layer} is empty; get the folder again")
    return ranges


def chosen_runtime(
    encoder: str, runtime: str, precision: str, threads: int | None, ranges: Ranges | None, where: str
) -> str:
    """``keras`` or ``openvino``; arguments as in `make_encoder`.

    Raises:
        CaptionerError: An argument makes no sense, or the runtime does not know the encoder (``kind="usage"``).
    """
    if runtime not in RUNTIMES:
        raise _usage(f"unknown runtime {runtime!r}; known: {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise _usage(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise _usage(f"threads must be at least 1, not {threads}")
    if runtime == "auto":
        runtime = "openvino" if knows_encoder(encoder) else "keras"
    if runtime == "keras" and precision in ("bf16", "int8"):
        raise _usage(f"the keras runtime computes in f32; for {precision} use runtime='openvino'")
    if runtime == "openvino":
        if not knows_encoder(encoder):
            raise _usage(f"the openvino runtime does not know the encoder {encoder!r}; use runtime='keras'")
        if precision == "int8" and ranges is None:
            raise _usage(
                f"{where}: has no ranges of its activations, which int8 needs; "
                "captioner.training.captions.calibration.calibrate_model adds them"
            )
    return runtime


def _usage(message: str) -> CaptionerError:
    return CaptionerError(message, kind="usage")


def built_encoder(config: Mapping, weights: Weights, threads: int | None, where: str):
    """The encoder as a Keras model; arguments as in `make_encoder`."""
    with needs_extra("the keras runtime needs Keras and TensorFlow", "train"):
        import keras  # noqa: F401
    if threads is not None:
        _limit_keras_threads(threads)
    from captioner.models.encoder import build_encoder

    encoder = build_encoder(EncoderConfig(**config), classes=False)
    load_weights(encoder, weights, where)
    return encoder


def _limit_keras_threads(threads: int):
    """Only before TensorFlow has started to compute; afterwards it keeps the threads that it has."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            pass


class OneProcess:
    """What a fork would leave behind: the threads that compute, so that waiting for them would never end."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def check_process(self) -> None:
        """Called before computing.

        Raises:
            CaptionerError: The process was forked since (``kind="forked"``).
        """
        if os.getpid() != self._process:
            raise CaptionerError(
                "the model was loaded before this process was forked, and what computes stayed behind; load it in the "
                "child, or start processes by spawn (multiprocessing.get_context('spawn')), which can be sent models",
                kind="forked",
            )


class KerasEncoder(OneProcess):
    """Runs an encoder as it is trained: the reference for the other.

    Args:
        encoder: From `captioner.models.encoder.build_encoder`.

    Attributes:
        name: ``keras``.
        precision: What it multiplies in.
        image_size: Side of the images that `encode` takes.
        positions: Number of positions of the grid.
        channels: Length of the vector of each.
        encode_batch: Images that one call of `encode` should be given where many threads call it.
    """

    name = "keras"
    precision = "f32"
    encode_batch = _KERAS_BATCH

    def __init__(self, encoder):
        from captioner.models.compiling import compiled

        super().__init__()
        self.image_size = encoder.image_size
        self.positions = math.prod(encoder.output["grid"].shape[1:-1])
        self.channels = encoder.output["grid"].shape[-1]
        self._encode = compiled(lambda images: encoder(images, training=False))
        self._encoding = threading.Lock()  # one batch keeps all cores busy; several would only take more memory

    def encode(self, images: np.ndarray) -> Features:
        """Features of images (N, S, S, 3), uint8 RGB; N may be 0. The results do not depend on the batch."""
        self.check_process()
        # Always the same two shapes, one image or a whole batch, so that each is compiled once.
        size = _KERAS_BATCH if len(images) > 1 else 1
        batches = []
        for first in range(0, max(len(images), 1), size):
            batch = images[first : first + size]
            padding = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
            with self._encoding:
                output = self._encode(np.concatenate([batch, padding]))
            grid = np.asarray(output["grid"])
            grid = grid.reshape(len(grid), -1, grid.shape[-1])
            batches.append(Features(grid, np.asarray(output["pooled"]))[: len(batch)])
        return Features.concatenate(batches)


class OpenVinoCore(OneProcess):
    """OpenVINO with its settings.

    Args:
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
        threads: Cores to use; None for all that this process may use.

    Attributes:
        precision: What it multiplies in: ``f32``, ``bf16`` or ``int8``.
    """

    def __init__(self, precision: str, threads: int | None):
        import openvino as ov

        super().__init__()
        self._core = ov.Core()
        self._threads = threads or available_cores()
        fastest = "bf16" if "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self.precision = fastest if precision == "auto" else precision
        self._floats = fastest if self.precision == "int8" else self.precision
        self._settings = {"INFERENCE_NUM_THREADS": self._threads, "ENABLE_CPU_PINNING": False}

    def _together(self, graph) -> PerThread:
        """A graph that all cores compute together."""
        settings = {**self._settings, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._floats}
        return PerThread(self._core.compile_model(graph, "CPU", settings))


class OpenVinoEncoder(OpenVinoCore):
    """Runs a graph built from the weights; see `make_encoder` for the arguments, and `KerasEncoder` for the attributes.

    Images are encoded one at a time, each on one core: nothing waits for a batch to fill, an image's features do not
    depend on the others, and the activations of one image stay in a core's cache.

    In bfloat16 the first layers stay in float32: they hold edge detectors whose large weights cancel, so that rounding
    there does half of all the harm, while they are a small part of the work. With 8-bit integers (``int8``) they stay
    as well.
    """

    name = "openvino"
    encode_batch = 1

    def __init__(
        self, config: Mapping, weights: Weights, *, precision: str = "auto", threads: int | None = None,
        ranges: Ranges | None = None,
    ):  # fmt: skip
        super().__init__(precision, threads)
        ranges = ranges if self.precision == "int8" else None
        self.image_size = config["image_size"]
        streams = {**self._settings, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self._threads}
        exact = ranges is None and self._floats == "f32"
        layers = {(0, None): "f32"} if exact else {(0, _EXACT_LAYERS): "f32", (_EXACT_LAYERS, None): self._floats}
        self._encoder = [
            self._core.compile_model(
                encoder_graph(
                    config["name"],
                    self.image_size,
                    weights,
                    begin=begin,
                    end=end,
                    ranges=ranges if begin else None,
                ),
                "CPU",
                {**streams, "INFERENCE_PRECISION_HINT": kind},
            )
            for (begin, end), kind in layers.items()
        ]
        # One more than cores: none is idle while a thread hands over its image.
        self._workers = ThreadPoolExecutor(self._threads + 1, thread_name_prefix="captioner-encode")
        # A request runs once at a time; they go from hand to hand, since threads come and go.
        self._idle: deque[list] = deque()
        self._shapes = [tuple(output.shape)[1:] for output in self._encoder[-1].outputs]
        self.positions, self.channels = self._shapes[0]

    def encode(self, images: np.ndarray) -> Features:
        """See `KerasEncoder.encode`."""
        self.check_process()
        arrays = [np.empty((len(images), *shape), np.float32) for shape in self._shapes]

        def encode_one(i):
            try:
                requests = self._idle.pop()
            except IndexError:
                requests = [model.create_infer_request() for model in self._encoder]
            outputs = [images[i : i + 1]]
            for request in requests:
                outputs = infer(request, outputs)
            for array, output in zip(arrays, outputs, strict=True):
                array[i] = output[0]
            self._idle.append(requests)

        if len(images) == 1:
            encode_one(0)
        else:
            for done in [self._workers.submit(encode_one, i) for i in range(len(images))]:
                done.result()
        return Features(*arrays)


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
