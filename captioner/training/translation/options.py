"""Settings of translation training; the defaults are those of the shipped model."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.models.search import SearchOptions
from captioner.training.settings import PRECISIONS, FitOptions, check_setting


@dataclass(frozen=True)
class TranslationTrainingOptions(FitOptions):
    """Everything that decides the result of a training, besides the data and those of every training.

    Attributes:
        vocabulary_size: Tokens of all languages together, special ones included.
        cell: Recurrent cell of the decoder: ``lstm``, ``gru`` or ``simple_rnn``.
        encoder_cell: That of the encoder.
        units: Size of the decoder's state.
        encoder_units: Size of the encoder's state in each direction.
        embedding_units: See `captioner.models.decoder_config.DecoderConfig`, as for the three below.
        memory_units: See there.
        heads: See there.
        dropout: See there; the encoder drops as much.
        memory_dropout: See there.
        batch_tokens: Tokens of a batch, those that are read or those that are written, whichever are more.
        longest: Sentences of more tokens are left out.
        bare: Share of the sentences that are read as a captioner writes: in lower case, without punctuation.
        kept: Share of the sentences with a word that both languages have, in which it is put aside, as a word is that
            was never read.
        precision: ``bf16`` (where the CPU has it) or ``f32``.
        search: How the sentences for choosing epochs are translated.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    epochs: int = 14
    learning_rate: float = 3e-3
    warmup: float = 0.08
    final_rate: float = 0.01
    average: float = 0.998
    patience: int = 14
    vocabulary_size: int = 8000
    cell: str = "lstm"
    encoder_cell: str = "gru"
    units: int = 384
    encoder_units: int = 192
    embedding_units: int = 256
    memory_units: int = 384
    heads: int = 4
    dropout: float = 0.3
    memory_dropout: float = 0.1
    batch_tokens: int = 2000
    longest: int = 60
    bare: float = 0.3
    kept: float = 0.1
    precision: str = "bf16"
    search: SearchOptions = field(default_factory=lambda: SearchOptions(strategy="greedy", max_length=100))

    def __post_init__(self):
        super().__post_init__()
        for name in ("vocabulary_size", "units", "encoder_units", "batch_tokens", "longest"):
            check_setting(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("bare", "kept"):
            check_setting(self, name, 0 <= getattr(self, name) <= 1, "0..1")
        check_setting(self, "precision", self.precision in PRECISIONS, " or ".join(PRECISIONS))
