"""What ``config.json`` of a translator may say, and the arrays that its encoder consists of; needs no Keras."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from captioner.models.decoder_config import GATES, MAX_SCORES, DecoderConfig, Units
from captioner.models.search import SearchOptions
from captioner.schema import Share, check_fields


@dataclass(frozen=True)
class SentenceEncoderConfig:
    """Sizes of what reads a sentence in both directions.

    Attributes:
        cell: ``lstm``, ``gru`` or ``simple_rnn``.
        units: Size of the state of each direction.
        dropout: Share of the values of the words' embeddings dropped in training, 0..1.

    Raises:
        CaptionerError: A value is out of bounds (``kind="usage"``).
    """

    cell: Literal["lstm", "gru", "simple_rnn"] = "gru"
    units: Units = 192
    dropout: Share = 0.2

    def __post_init__(self):
        check_fields(self)

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class TranslatorConfig:
    """``config.json`` of a translator.

    Attributes:
        encoder: What reads.
        decoder: What writes.
        search: How translations are searched for where a call does not say.

    Raises:
        ValueError: The parts do not fit together.
    """

    encoder: SentenceEncoderConfig
    decoder: DecoderConfig
    search: SearchOptions = field(default_factory=lambda: SearchOptions(max_length=100, repeat_words=True))

    def __post_init__(self):
        if self.decoder.grid_channels != 2 * self.encoder.units:
            raise ValueError(f"grid_channels must be {2 * self.encoder.units}, twice the units of the encoder")
        if self.decoder.vocabulary_size * max(self.search.beam_size, self.search.n_best) > MAX_SCORES:
            raise ValueError(f"beam_size and n_best are too large for {self.decoder.vocabulary_size} tokens")


def sentence_encoder_shapes(config: SentenceEncoderConfig, embedding_units: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of the encoder, as ``layer/variable``."""
    width = GATES[config.cell] * config.units
    shapes: dict[str, tuple[int, ...]] = {}
    for direction in ("forward", "backward"):
        shapes[f"{direction}/kernel"] = (embedding_units, width)
        shapes[f"{direction}/recurrent_kernel"] = (config.units, width)
        shapes[f"{direction}/bias"] = (width,)
        if config.cell == "gru":
            shapes[f"{direction}/recurrent_bias"] = (width,)
    return shapes
