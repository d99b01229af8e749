"""Settings of caption training; the defaults are those of the shipped model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from captioner.models.search import SearchOptions
from captioner.training.settings import PRECISIONS, FitOptions, check_setting

STAGES = ("decoder", "finetune", "self_critical", "self_critical_finetune")
CELLS = ("lstm", "gru", "simple_rnn")
_ADDED_LATER = ("units", "embedding_units", "memory_units", "heads", "memory_dropout", "channel_dropout", "start_from")


@dataclass(frozen=True)
class StageOptions(FitOptions):
    """Settings of one stage, besides those of every training.

    Attributes:
        batch_size: Photos a step.
        captions: Captions a photo in a step.
        encoder_rate: Share of the rate that the encoder gets where it is trained.
        attention_weight: Weight of the penalty on looking at some places much more than at others over a caption.
        tag_weight: Weight of the loss of the tags where the encoder is trained: it is to know what is there, whatever
            the decoder makes of it.
        common_weight: Self-critical stages: how much of what a caption would earn on a photo drawn at random is taken
            off its reward.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    batch_size: int = 48
    captions: int = 5
    encoder_rate: float = 0.0
    attention_weight: float = 0.0
    tag_weight: float = 0.0
    common_weight: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("batch_size", "captions"):
            check_setting(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("encoder_rate", "attention_weight", "tag_weight", "common_weight"):
            check_setting(self, name, getattr(self, name) >= 0, "at least 0")


@dataclass(frozen=True)
class CaptionTrainingOptions:
    """Everything that decides the result of a training, besides the data.

    Attributes:
        encoder: Name of the encoder.
        start_from: Name or folder of a captioner whose encoder the training starts from; "" is ImageNet's.
        image_size: Side of its input; None is its own.
        cell: Recurrent cell of the decoder: ``lstm``, ``gru`` or ``simple_rnn``.
        units: See `captioner.models.decoder.DecoderConfig`, as for the five below.
        embedding_units: See there.
        memory_units: See there.
        heads: See there.
        memory_dropout: See there.
        channel_dropout: See there. Where the encoder is never trained, 0.3 with a ``memory_dropout`` of 0.1 gave more
            than the defaults; where it is, nothing (figures in the card of ``flickr8k``).
        min_count: How often a word must occur in the training captions to enter the vocabulary.
        max_length: Most words of a caption in training.
        frozen_blocks: Blocks of EfficientNet-Lite, from the input, that stay as they are; depthwise kernels always do.
        samples: Captions sampled a photo in self-critical training.
        mix: Weight of the self-critical loss; cross-entropy has the rest.
        precision: ``bf16`` (where the CPU has it, about twice as fast) or ``f32``.
        decoder: Settings of the first stage.
        finetune: Settings of the second.
        self_critical: Settings of the third.
        self_critical_finetune: Settings of the fourth.
        search: How dev captions are searched.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    encoder: str = "lite2"
    start_from: str = ""
    image_size: int | None = None
    cell: str = "lstm"
    units: int = 512
    embedding_units: int = 300
    memory_units: int = 512
    heads: int = 8
    memory_dropout: float = 0.3
    channel_dropout: float = 0.0
    min_count: int = 5
    max_length: int = 18
    frozen_blocks: int = 4
    samples: int = 5
    mix: float = 0.9
    precision: str = "bf16"
    decoder: StageOptions = field(
        default_factory=lambda: StageOptions(epochs=6, batch_size=48, learning_rate=3e-3, average=0.99)
    )
    # Few captions a photo, many epochs, the decoder not trained to its best before: 56.6 on dev instead of 53.7,
    # together with a higher rate of the encoder and stronger changes of the photos. Which matters was not taken apart.
    finetune: StageOptions = field(
        default_factory=lambda: StageOptions(
            epochs=16,
            batch_size=24,
            captions=2,
            learning_rate=4e-4,
            encoder_rate=0.375,
            tag_weight=0.1,
            average=0.998,
            patience=16,
        )
    )
    self_critical: StageOptions = field(
        default_factory=lambda: StageOptions(
            epochs=12,
            batch_size=48,
            captions=2,
            learning_rate=3e-4,
            label_smoothing=0.0,
            patience=12,
            common_weight=1.0,
        )
    )
    self_critical_finetune: StageOptions = field(
        default_factory=lambda: StageOptions(
            epochs=18,
            batch_size=24,
            captions=1,
            learning_rate=1.5e-4,
            encoder_rate=0.5,
            label_smoothing=0.0,
            tag_weight=0.1,
            average=0.999,
            patience=18,
            common_weight=1.5,
        )
    )
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self):
        for name in ("units", "embedding_units", "memory_units", "heads", "min_count", "max_length"):
            check_setting(self, name, getattr(self, name) >= 1, "at least 1")
        check_setting(self, "image_size", self.image_size is None or self.image_size >= 1, "at least 1")
        check_setting(self, "frozen_blocks", self.frozen_blocks >= 0, "at least 0")
        check_setting(
            self, "samples", self.samples >= 2, "at least 2: a sample is compared with the others of its photo"
        )
        check_setting(self, "mix", 0 <= self.mix <= 1, "0..1")
        for name in ("memory_dropout", "channel_dropout"):
            check_setting(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        check_setting(self, "precision", self.precision in PRECISIONS, " or ".join(PRECISIONS))
        check_setting(self, "cell", self.cell in CELLS, ", ".join(CELLS))

    def settings(self, stage: str) -> dict:
        """What a checkpoint of a stage depends on, as JSON types: everything but the settings of the other stages."""
        record = {name: None if name in STAGES and name != stage else value for name, value in asdict(self).items()}
        # Checkpoints from before these could be chosen do not have them.
        defaults = {entry.name: entry.default for entry in fields(self) if entry.name in _ADDED_LATER}
        return {name: value for name, value in record.items() if name not in defaults or value != defaults[name]}
