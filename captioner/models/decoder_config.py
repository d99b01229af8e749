"""Sizes of a decoder, and the arrays that it consists of; needs no Keras."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from msgspec import Meta

from captioner.errors import CaptionerError
from captioner.models.encoder_config import Channels
from captioner.schema import Share, check_fields

MAX_SCORES = 2**20
"""Limit on words times captions, or translations, that are followed for one photo, or sentence."""
MAX_TABLE = 2**27
"""Limit on words times values for each: the table that a step looks up, in float32 half a gigabyte."""

Units = Annotated[int, Meta(ge=1, le=4096)]
VocabularySize = Annotated[int, Meta(ge=5, le=2**15)]

GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        vocabulary_size: Number of tokens, special ones included.
        grid_channels: Channels of the encoder grid.
        cell: ``lstm``, ``gru`` or ``simple_rnn``.
        units: Size of the recurrent state.
        embedding_units: Size of a word embedding.
        memory_units: Channels to which the grid is projected.
        heads: Number of attention heads.
        dropout: Share of embeddings and outputs dropped in training, 0..1.
        memory_dropout: Share of the projected grid's values dropped in training, each by itself, 0..1.
        channel_dropout: Share of its channels dropped in training, each at all positions at once (Tompson et al. 2015),
            so that the mean over the positions loses them as well, 0..1.

    Raises:
        CaptionerError: A value is out of bounds, or they do not fit together (``kind="usage"``).
    """

    vocabulary_size: VocabularySize
    grid_channels: Channels = 1280
    cell: Literal["lstm", "gru", "simple_rnn"] = "lstm"
    units: Units = 512
    embedding_units: Units = 300
    memory_units: Units = 512
    heads: Annotated[int, Meta(ge=1, le=128)] = 8
    dropout: Share = 0.5
    memory_dropout: Share = 0.3
    channel_dropout: Share = 0.0

    def __post_init__(self):
        check_fields(self)
        if self.memory_units % self.heads:
            raise CaptionerError(
                f"memory_units ({self.memory_units}) must be a multiple of heads ({self.heads})", kind="usage"
            )
        if self.vocabulary_size * (GATES[self.cell] * self.units + self.embedding_units) > MAX_TABLE:
            raise CaptionerError("vocabulary_size, units and embedding_units are too large together", kind="usage")

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


def decoder_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a decoder, as ``layer/variable``."""
    units, words, memory = config.units, config.embedding_units, config.memory_units
    gates = GATES[config.cell] * units
    dense = {
        "memory_projection": (config.grid_channels, memory),
        "key_projection": (memory, memory),
        "query_projection": (units, memory),
        "context_gate": (units, memory),
        "output_hidden": (units + memory + words, words),
        **{f"start_{part}": (memory, units) for part in ("h", "c")[: 2 if config.cell == "lstm" else 1]},
    }
    shapes: dict[str, tuple[int, ...]] = {f"{layer}/kernel": shape for layer, shape in dense.items()}
    shapes |= {f"{layer}/bias": shape[1:] for layer, shape in dense.items()}
    shapes |= {"cell/kernel": (words + memory, gates), "cell/recurrent_kernel": (units, gates), "cell/bias": (gates,)}
    if config.cell == "gru":
        shapes["cell/recurrent_bias"] = (gates,)
    return shapes | {"embedding/embeddings": (config.vocabulary_size, words), "output_bias": (config.vocabulary_size,)}
