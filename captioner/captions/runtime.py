"""What runs a captioner: Keras, on which it was trained, or OpenVINO, several times as fast on a CPU.

Captioning and search know a model only by `Runtime`: `encode`, `initial_state` and `step`. The OpenVINO runtime imports
neither Keras nor TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from captioner.captions.config import CaptionerConfig
from captioner.errors import ModelLoadError, enough_memory
from captioner.models.decoder_config import DecoderConfig, decoder_shapes
from captioner.models.decoder_graphs import start_graph, step_graph
from captioner.models.encoder_config import encoder_shapes
from captioner.models.encoder_graph import Ranges
from captioner.models.graph_parts import Weights
from captioner.models.runtime import (
    Features,
    KerasEncoder,
    OpenVinoEncoder,
    built_encoder,
    chosen_runtime,
    saved_encoder_weights,
    saved_ranges,
)
from captioner.models.saving import check_shapes, load_weights, shapes_of

if TYPE_CHECKING:
    from captioner.models.saving import SavedModel

_MEMORY_PARTS = 3


class Runtime(Protocol):
    """A model that can be run.

    Attributes:
        name: ``keras`` or ``openvino``.
        precision: What it multiplies in: ``f32`` or ``bf16``.
        image_size: Side of the images that `encode` takes.
        positions: Number of positions of the grid.
        channels: Length of the vector of each.
        vocabulary_size: Number of tokens that the decoder knows; 0 without a decoder.
        encode_batch: Images that one call of `encode` should be given where many threads call it.
    """

    name: str
    precision: str
    image_size: int
    positions: int
    channels: int
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
    config = saved.settings(CaptionerConfig)
    return make_runtime(
        config.encoder.to_dict(),
        saved_encoder_weights(saved, config.encoder),
        config.decoder.to_dict(),
        saved.part("decoder", decoder_shapes(config.decoder)),
        runtime=runtime,
        precision=precision,
        threads=threads,
        ranges=saved_ranges(saved),
        where=str(saved.folder),
    )


def make_runtime(
    encoder_config: Mapping,
    encoder_weights: Weights,
    decoder_config: Mapping,
    decoder_weights: Weights,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ranges: Ranges | None = None,
    where: str = "the model",
) -> Runtime:
    """Runs an encoder and a decoder of which the parts are at hand; see `open_runtime`.

    Args:
        encoder_config: `captioner.models.encoder.EncoderConfig` as a dict, with its image size.
        encoder_weights: ``layer/variable`` to array.
        decoder_config: `captioner.models.decoder.DecoderConfig` as a dict.
        decoder_weights: ``layer/variable`` to array.
        runtime: See `open_runtime`.
        precision: See `open_runtime`.
        threads: See `open_runtime`.
        ranges: For ``int8``: see `captioner.models.encoder_graph.input_ranges`.
        where: Where the weights come from, for error messages.
    """
    if chosen_runtime(encoder_config["name"], runtime, precision, threads, ranges, where) == "keras":
        encoder = built_encoder(encoder_config, encoder_weights, threads, where)
        from captioner.models.decoder import Decoder

        decoder = Decoder(DecoderConfig(**decoder_config))
        load_weights(decoder, decoder_weights, where)
        opened = KerasRuntime(encoder, decoder)
        if opened.channels != decoder.config.grid_channels:
            raise ModelLoadError(
                f"{where}: grid_channels must be {opened.channels} for this encoder, not "
                f"{decoder.config.grid_channels}; get the folder again"
            )
        return opened
    check_shapes(shapes_of(encoder_weights), encoder_shapes(encoder_config["name"]), where)
    check_shapes(shapes_of(decoder_weights), decoder_shapes(DecoderConfig(**decoder_config)), where)
    with enough_memory(where):
        return OpenVinoRuntime(
            encoder_config, encoder_weights, decoder_config, decoder_weights, precision=precision, threads=threads,
            ranges=ranges,
        )  # fmt: skip


class KerasRuntime(KerasEncoder):
    """Runs Keras models as they are trained: the reference for the other.

    Args:
        encoder: From `captioner.models.encoder.build_encoder`.
        decoder: A `captioner.models.decoder.Decoder`.
    """

    def __init__(self, encoder, decoder):
        from captioner.models.compiling import compiled

        super().__init__(encoder)
        self.vocabulary_size = decoder.config.vocabulary_size
        self._initial_state = compiled(decoder.initial_state)
        self._step = compiled(decoder.step)

    def initial_state(self, features: Features):
        """See `Runtime.initial_state`."""
        self.check_process()
        state, memory = self._initial_state(features.grid)
        return tuple(np.asarray(part) for part in state), memory

    def step(self, tokens, state, memory):
        """See `Runtime.step`."""
        logits, state, attention = self._step(tokens, state, memory)
        return np.asarray(logits), tuple(np.asarray(part) for part in state), np.asarray(attention)


class OpenVinoRuntime(OpenVinoEncoder):
    """Runs graphs built from the weights; see `make_runtime` for the arguments.

    The decoder is computed in float32 or bfloat16; with 8-bit integers (``int8``) in what ``auto`` means.
    """

    def __init__(
        self, encoder_config, encoder_weights, decoder_config, decoder_weights, *, precision="auto", threads=None,
        ranges=None,
    ):  # fmt: skip
        super().__init__(encoder_config, encoder_weights, precision=precision, threads=threads, ranges=ranges)
        self.vocabulary_size = decoder_config["vocabulary_size"]
        self._start = self._together(start_graph(decoder_config, decoder_weights))
        self._next = self._together(step_graph(decoder_config, decoder_weights))

    def initial_state(self, features: Features):
        """See `Runtime.initial_state`."""
        self.check_process()
        outputs = [output.copy() for output in self._start(features.grid)]
        return tuple(outputs[:-_MEMORY_PARTS]), tuple(outputs[-_MEMORY_PARTS:])

    def step(self, tokens, state, memory):
        """See `Runtime.step`."""
        logits, *state, attention = self._next(tokens, *state, *memory)
        return logits, tuple(state), attention
