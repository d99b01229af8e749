"""What runs a model: Keras, on which it was trained, or OpenVINO, several times as fast on a CPU.

Captioning and search know a model only by `Runtime`: `encode`, `initial_state` and `step`. The OpenVINO runtime imports
neither Keras nor TensorFlow.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from captioner.errors import CaptionerError, ModelLoadError, needs_extra
from captioner.models.openvino_graphs import Ranges, encoder_graph, knows_encoder, start_graph, step_graph

if TYPE_CHECKING:
    from captioner.models.saving import SavedModel

RUNTIMES = ("auto", "keras", "openvino")
PRECISIONS = ("auto", "f32", "bf16", "int8")
_KERAS_BATCH = 16
_MEMORY_PARTS = 3
_EXACT_LAYERS = 3  # of the encoder, in float32 always: the stem and two blocks


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder sees in a batch of images.

    Attributes:
        grid: One vector for every position, row by row, float32 (images, positions, channels).
        pooled: Their mean, float32 (images, channels).
        class_scores: ImageNet logits, float32 (images, 1000).
    """

    grid: np.ndarray
    pooled: np.ndarray
    class_scores: np.ndarray

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index) -> Features:
        """Some of the images: a slice, or an array of numbers or booleans."""
        return Features(self.grid[index], self.pooled[index], self.class_scores[index])

    @classmethod
    def concatenate(cls, batches: Sequence[Features]) -> Features:
        """Several batches as one."""
        return cls(
            *(np.concatenate([getattr(b, name) for b in batches]) for name in ("grid", "pooled", "class_scores"))
        )


class Runtime(Protocol):
    """A model that can be run.

    Attributes:
        name: ``keras`` or ``openvino``.
        precision: What it multiplies in: ``f32`` or ``bf16``.
        image_size: Side of the images that `encode` takes.
        positions: Number of positions of the grid.
        vocabulary_size: Number of tokens that the decoder knows; 0 without a decoder.
        encode_batch: Images that one call of `encode` should be given where many threads call it.
    """

    name: str
    precision: str
    image_size: int
    positions: int
    vocabulary_size: int
    encode_batch: int

    def encode(self, images: np.ndarray) -> Features:
        """Features of images (N, S, S, 3), uint8 RGB; N may be 0. The results do not depend on the batch."""

    def initial_state(self, features: Features) -> tuple[tuple, tuple]:
        """``(state, memory)`` from which `captioner.models.search.search` starts."""

    def step(self, tokens: np.ndarray, state: tuple, memory: tuple) -> tuple:
        """One step as `captioner.models.search.search` wants it; its arrays live until this thread's next call."""


def open_runtime(
    saved: SavedModel, *, runtime: str = "auto", precision: str = "auto", threads: int | None = None
) -> Runtime:
    """Runs a saved captioner.

    Args:
        saved: From `captioner.models.saving.read_model`.
        runtime: ``keras``, ``openvino``, or ``auto``: OpenVINO where it knows the encoder.
        precision: ``f32``, ``bf16``, or ``auto``: bfloat16 where the CPU computes in it. In float32 nearly all captions
            are those of Keras; in bfloat16 about one in twenty is worded differently, neither better nor worse.
            ``int8`` encodes with 8-bit integers, for models that know the ranges of their activations.
        threads: Cores to use; None for all that this process may use.

    Raises:
        CaptionerError: An argument makes no sense, or the runtime does not know the encoder (``kind="usage"``).
        ModelLoadError: The weights are not those that config.json asks for.
    """
    try:
        encoder, decoder = dict(saved.config["encoder"]), dict(saved.config["decoder"])
        missing = [name for name in ("name", "image_size") if name not in encoder]
        missing += [name for name in ("vocabulary_size",) if name not in decoder]
    except (KeyError, TypeError, ValueError) as error:
        missing = [str(error)]
    if missing:
        raise ModelLoadError(f"{saved.folder / 'config.json'}: lacks {', '.join(missing)}; get the folder again")
    return make_runtime(
        encoder,
        saved.part("encoder"),
        decoder,
        saved.part("decoder"),
        runtime=runtime,
        precision=precision,
        threads=threads,
        ranges=_ranges(saved),
        where=str(saved.folder),
    )


def _ranges(saved: SavedModel) -> dict[str, tuple[float, float]] | None:
    """What ``ranges.json`` holds, where the model has one: convolution to lowest and highest input."""
    text = saved.texts.get("ranges.json")
    if text is None:
        return None
    try:
        ranges = {str(layer): (float(low), float(high)) for layer, (low, high) in json.loads(text).items()}
        if not all(math.isfinite(low) and low < high < math.inf for low, high in ranges.values()):
            raise ValueError("a range is empty")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelLoadError(f"{saved.folder / 'ranges.json'}: not a table of ranges ({error})") from error
    return ranges


def make_runtime(
    encoder_config: Mapping,
    encoder_weights: Mapping[str, np.ndarray],
    decoder_config: Mapping | None = None,
    decoder_weights: Mapping[str, np.ndarray] | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ranges: Ranges | None = None,
    where: str = "the model",
) -> Runtime:
    """Runs an encoder, or an encoder and a decoder, of which the parts are at hand; see `open_runtime`.

    Args:
        encoder_config: `captioner.models.encoder.EncoderConfig` as a dict, with its image size.
        encoder_weights: ``layer/variable`` to array.
        decoder_config: `captioner.captions.decoder.DecoderConfig` as a dict; None for an encoder alone.
        decoder_weights: ``layer/variable`` to array.
        runtime: See `open_runtime`.
        precision: See `open_runtime`.
        threads: See `open_runtime`.
        ranges: For ``int8``: see `captioner.models.openvino_graphs.input_ranges`.
        where: Where the weights come from, for error messages.
    """
    if runtime not in RUNTIMES:
        raise _usage(f"unknown runtime {runtime!r}; known: {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise _usage(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise _usage(f"threads must be at least 1, not {threads}")
    name = encoder_config["name"]
    if runtime == "auto":
        runtime = "openvino" if knows_encoder(name) else "keras"
    if runtime == "openvino":
        if not knows_encoder(name):
            raise _usage(f"the openvino runtime does not know the encoder {name!r}; use runtime='keras'")
        if precision == "int8" and ranges is None:
            raise _usage(
                f"{where}: has no ranges of its activations, which int8 needs; "
                "captioner.training.captions.calibration.calibrate_model adds them"
            )
        parts = [encoder_config, _Accounted(encoder_weights, where)]
        if decoder_config is not None:
            parts += [decoder_config, _Accounted(decoder_weights, where)]
        try:
            opened = OpenVinoRuntime(*parts, precision=precision, threads=threads, ranges=ranges)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ModelLoadError(
                f"{where}: weights.npz does not fit config.json ({str(error).strip().splitlines()[-1]}); "
                "get the folder again"
            ) from error
        for weights in parts[1::2]:
            weights.check_all_used()
        return opened
    if precision in ("bf16", "int8"):
        raise _usage(f"the keras runtime computes in f32; for {precision} use runtime='openvino'")
    return KerasRuntime.from_weights(
        encoder_config, encoder_weights, decoder_config, decoder_weights, threads=threads, where=where
    )


class _Accounted(Mapping):
    """Weights that know which of them were used: none may be missing, none left over."""

    def __init__(self, weights: Mapping[str, np.ndarray], where: str):
        self._weights = weights
        self._where = where
        self._used: set[str] = set()

    def __getitem__(self, name):
        if name not in self._weights:
            raise ModelLoadError(f"{self._where}: weights.npz lacks {name}; the folder is incomplete, get it again")
        self._used.add(name)
        return self._weights[name]

    def __contains__(self, name):
        return name in self._weights

    def __iter__(self):
        return iter(self._weights)

    def __len__(self):
        return len(self._weights)

    def check_all_used(self):
        left = sorted(set(self._weights) - self._used)
        if left:
            raise ModelLoadError(f"{self._where}: weights.npz holds arrays that the model does not know: {left[:5]}")


def _usage(message: str) -> CaptionerError:
    return CaptionerError(message, kind="usage")


class KerasRuntime:
    """Runs Keras models as they are trained: the reference for the other.

    Args:
        encoder: From `captioner.models.encoder.build_encoder`.
        decoder: A `captioner.captions.decoder.Decoder`, or None.
    """

    name = "keras"
    precision = "f32"
    encode_batch = _KERAS_BATCH

    def __init__(self, encoder, decoder=None):
        from captioner.models.compiling import compiled

        self.image_size = encoder.image_size
        self.positions = math.prod(encoder.output["grid"].shape[1:-1])
        self.vocabulary_size = 0 if decoder is None else decoder.config.vocabulary_size
        self._encode = compiled(lambda images: encoder(images, training=False))
        self._encoding = threading.Lock()  # one batch keeps all cores busy; several would only take more memory
        if decoder is not None:
            self._initial_state = compiled(decoder.initial_state)
            self._step = compiled(decoder.step)

    @classmethod
    def from_weights(
        cls, encoder_config, encoder_weights, decoder_config=None, decoder_weights=None, *, threads=None,
        where="the model",
    ):  # fmt: skip
        """Builds the models; arguments as in `make_runtime`."""
        with needs_extra("the keras runtime needs Keras and TensorFlow", "train"):
            import keras  # noqa: F401
        if threads is not None:
            _limit_keras_threads(threads)
        from captioner.captions.decoder import Decoder, DecoderConfig
        from captioner.models.encoder import EncoderConfig, build_encoder
        from captioner.models.saving import load_weights

        encoder = build_encoder(EncoderConfig(**encoder_config))
        load_weights(encoder, encoder_weights, where)
        decoder = None
        if decoder_config is not None:
            decoder = Decoder(DecoderConfig(**decoder_config))
            load_weights(decoder, decoder_weights, where)
        return cls(encoder, decoder)

    def encode(self, images: np.ndarray) -> Features:
        """See `Runtime.encode`."""
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
            arrays = (grid, np.asarray(output["pooled"]), np.asarray(output["class_scores"]))
            batches.append(Features(*(array[: len(batch)] for array in arrays)))
        return Features.concatenate(batches)

    def initial_state(self, features: Features):
        """See `Runtime.initial_state`."""
        state, memory = self._initial_state(features.grid)
        return tuple(np.asarray(part) for part in state), memory

    def step(self, tokens, state, memory):
        """See `Runtime.step`."""
        logits, state, attention = self._step(tokens, state, memory)
        return np.asarray(logits), tuple(np.asarray(part) for part in state), np.asarray(attention)


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


class OpenVinoRuntime:
    """Runs graphs built from the weights; see `make_runtime` for the arguments.

    Images are encoded one at a time, each on one core: nothing waits for a batch to fill, an image's features do not
    depend on the others, and the activations of one image stay in a core's cache.

    In bfloat16 the first layers of the encoder stay in float32: they hold edge detectors whose large weights cancel, so
    that rounding there does half of all the harm, while they are a small part of the work. With 8-bit integers
    (``int8``) they stay as well, and so does the decoder, which is computed in what ``auto`` means.
    """

    name = "openvino"
    encode_batch = 1

    def __init__(
        self, encoder_config, encoder_weights, decoder_config=None, decoder_weights=None, *, precision="auto",
        threads=None, ranges=None,
    ):  # fmt: skip
        import openvino as ov

        core = ov.Core()
        threads = threads or available_cores()
        fastest = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self.precision = fastest if precision == "auto" else precision
        floats = fastest if self.precision == "int8" else self.precision
        ranges = ranges if self.precision == "int8" else None
        self.image_size = encoder_config["image_size"]
        settings = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        streams = {**settings, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": threads}
        exact = ranges is None and floats == "f32"
        layers = {(0, None): "f32"} if exact else {(0, _EXACT_LAYERS): "f32", (_EXACT_LAYERS, None): floats}
        self._encoder = [
            core.compile_model(
                encoder_graph(
                    encoder_config["name"],
                    self.image_size,
                    encoder_weights,
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
        self._workers = ThreadPoolExecutor(threads + 1, thread_name_prefix="captioner-encode")
        # A request runs once at a time. Those of the encoder go from hand to hand, since threads come and go; of the
        # decoder every thread has its own, as what a step returns must live until the next.
        self._idle: deque[list] = deque()
        self._requests = threading.local()
        self._shapes = [tuple(output.shape)[1:] for output in self._encoder[-1].outputs]
        self.positions = self._shapes[0][0]
        self.vocabulary_size = 0
        if decoder_config is not None:
            self.vocabulary_size = decoder_config["vocabulary_size"]
            if decoder_weights["output_bias"].shape != (self.vocabulary_size,):
                raise ValueError(f"output_bias is not of size {self.vocabulary_size}")
            together = {**settings, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": floats}
            self._start = core.compile_model(start_graph(decoder_config, decoder_weights), "CPU", together)
            self._next = core.compile_model(step_graph(decoder_config, decoder_weights), "CPU", together)

    def encode(self, images: np.ndarray) -> Features:
        """See `Runtime.encode`."""
        arrays = [np.empty((len(images), *shape), np.float32) for shape in self._shapes]

        def encode_one(i):
            try:
                requests = self._idle.pop()
            except IndexError:
                requests = [model.create_infer_request() for model in self._encoder]
            outputs = [images[i : i + 1]]
            for request in requests:
                outputs = _infer(request, outputs)
            for array, output in zip(arrays, outputs, strict=True):
                array[i] = output[0]
            self._idle.append(requests)

        if len(images) == 1:
            encode_one(0)
        else:
            for done in [self._workers.submit(encode_one, i) for i in range(len(images))]:
                done.result()
        return Features(*arrays)

    def initial_state(self, features: Features):
        """See `Runtime.initial_state`."""
        outputs = [output.copy() for output in _infer(self._request("start", self._start), [features.grid])]
        return tuple(outputs[:-_MEMORY_PARTS]), tuple(outputs[-_MEMORY_PARTS:])

    def step(self, tokens, state, memory):
        """See `Runtime.step`."""
        logits, *state, attention = _infer(self._request("next", self._next), [tokens, *state, *memory])
        return logits, tuple(state), attention

    def _request(self, name: str, model):
        """This thread's own request for a model."""
        request = getattr(self._requests, name, None)
        if request is None:
            request = model.create_infer_request()
            setattr(self._requests, name, request)
        return request


def _infer(request, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Runs a request of OpenVINO; the arrays that it returns live until it runs again."""
    import openvino as ov

    # As `InferRequest.infer`, without what that spends on finding out what it was given: a step takes 1 ms.
    inputs = [np.require(array, requirements="CW") for array in inputs]
    for number, array in enumerate(inputs):
        request.set_input_tensor(number, ov.Tensor(array, shared_memory=True))
    request.start_async()
    request.wait()
    return [request.get_output_tensor(number).data for number in range(len(request.model_outputs))]


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
