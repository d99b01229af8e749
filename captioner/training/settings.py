"""Settings of trainings that make no sense are refused, in one way for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.errors import CaptionerError

PRECISIONS = ("bf16", "f32")


@dataclass(frozen=True)
class FitOptions:
    """Settings of the way through the epochs of a training.

    Attributes:
        epochs: Passes over the training data.
        learning_rate: Highest rate.
        warmup: Share of all steps over which the rate rises; it falls as a cosine afterwards.
        final_rate: Share of ``learning_rate`` at the end.
        weight_decay: Decoupled (AdamW), per unit of rate; not on biases.
        clip_norm: Limit of the global gradient norm.
        label_smoothing: Share of the target probability spread over all words.
        average: Momentum of the moving average of the weights that is evaluated and saved.
        patience: Epochs without a better score after which the training ends.
        seed: Of everything random.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    epochs: int
    learning_rate: float = 1e-3
    warmup: float = 0.05
    final_rate: float = 0.02
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    average: float = 0.995
    patience: int = 4
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "patience"):
            check_setting(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "seed"):
            check_setting(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate", "clip_norm"):
            check_setting(self, name, getattr(self, name) > 0, "above 0")
        for name in ("warmup", "label_smoothing", "average"):
            check_setting(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        check_setting(self, "final_rate", 0 <= self.final_rate <= 1, "0..1")


def check_setting(options, name: str, holds: bool, wanted: str) -> None:
    """Refuses a setting that makes no sense.

    Args:
        options: What has the setting.
        name: Name of the setting.
        holds: Whether it makes sense.
        wanted: What it must be, for the message.

    Raises:
        CaptionerError: It makes no sense (``kind="usage"``).
    """
    if not holds:
        raise CaptionerError(f"{name} must be {wanted}, not {getattr(options, name)!r}", kind="usage")
