"""What ``config.json`` of a captioner may say; needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.captions.confidence import WordCalibration
from captioner.models.decoder_config import MAX_SCORES, DecoderConfig
from captioner.models.encoder_config import LITE_CHANNELS, LITE_VARIANTS, EncoderOwner
from captioner.models.search import SearchOptions


@dataclass(frozen=True)
class CaptionerConfig(EncoderOwner):
    """``config.json`` of a captioner.

    Attributes:
        encoder: The encoder, with its image size.
        decoder: The decoder.
        search: How captions are searched for where a call does not say.
        calibration: From the decoder's probabilities to confidence.

    Raises:
        ValueError: The parts do not fit together.
    """

    decoder: DecoderConfig
    search: SearchOptions = field(default_factory=SearchOptions)
    calibration: WordCalibration = field(default_factory=WordCalibration)

    def __post_init__(self):
        super().__post_init__()
        channels = self.decoder.grid_channels
        if self.encoder.name in LITE_VARIANTS and channels != LITE_CHANNELS:
            raise ValueError(f"grid_channels must be {LITE_CHANNELS} for this encoder, not {channels}")
        widest = max(self.search.beam_size, self.search.n_best)
        if self.decoder.vocabulary_size * widest > MAX_SCORES:
            raise ValueError(f"beam_size and n_best are too large for {self.decoder.vocabulary_size} words")
