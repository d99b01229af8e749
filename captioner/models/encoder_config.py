"""Which encoder, at which size, and the arrays that it consists of; needs neither Keras nor OpenVINO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

from msgspec import Meta

from captioner.schema import Name, check_fields

# (kernel, repeats, output filters, expansion, stride) of each stage of EfficientNet-B0, from which Lite is scaled.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
# variant: (width multiplier, depth multiplier, image size it was trained at)
LITE_VARIANTS = {"lite0": (1.0, 1.0, 224), "lite1": (1.0, 1.1, 240), "lite2": (1.1, 1.2, 260)}
LITE_STEM, LITE_CHANNELS = 32, 1280
"""Filters of the first and of the last convolution, which are not scaled."""
NUM_CLASSES = 1000

Channels = Annotated[int, Meta(ge=1, le=8192)]
"""Length of an embedding."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and at which size.

    Attributes:
        name: ``lite0``, ``lite1``, ``lite2``, or the name of a ``keras.applications`` model, such as ``MobileNetV2``.
        image_size: Side of the square input in pixels, 32 to 1024; None is the size that the model was trained at.

    Raises:
        CaptionerError: A value is out of bounds (``kind="usage"``).
    """

    name: Name = "lite2"
    image_size: Annotated[int, Meta(ge=32, le=1024)] | None = None

    def __post_init__(self):
        check_fields(self)

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class EncoderOwner:
    """What ``config.json`` of a model that has an encoder says of it.

    Attributes:
        encoder: The encoder, with its image size.
    """

    encoder: EncoderConfig

    def __post_init__(self):
        if self.encoder.image_size is None:
            raise ValueError("image_size of the encoder must be a whole number")


@dataclass(frozen=True)
class EncoderReference:
    """The encoder whose embeddings a model was trained on.

    Attributes:
        model: The captioner that has it: a name, or a folder.
        sha256: Hash of its weights, see `captioner.models.saving.weights_hash`.
    """

    model: Annotated[str, Meta(min_length=1, max_length=4096)]
    sha256: Name


@dataclass(frozen=True)
class LiteBlock:
    """An inverted residual of an EfficientNet-Lite.

    Attributes:
        kernel: Side of the kernel of the depthwise convolution.
        inputs: Channels that come in.
        expanded: Channels between.
        filters: Channels that go out.
        stride: Of the depthwise convolution.
    """

    kernel: int
    inputs: int
    expanded: int
    filters: int
    stride: int


def lite_blocks(name: str) -> Iterator[LiteBlock]:
    """The blocks of ``lite0``, ``lite1`` or ``lite2``, from the input on."""
    width, depth, _ = LITE_VARIANTS[name]
    channels = LITE_STEM
    for stage, (kernel, repeats, filters, expansion, stride) in enumerate(_STAGES):
        deepen = stage not in (0, len(_STAGES) - 1)
        for repeat in range(math.ceil(repeats * depth) if deepen else repeats):
            rounded = _round_filters(filters * width)
            yield LiteBlock(kernel, channels, channels * expansion, rounded, stride if repeat == 0 else 1)
            channels = rounded


def _round_filters(filters: float) -> int:
    """To a multiple of 8, never more than 10 % down."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def encoder_shapes(name: str, *, classes: bool = False) -> dict[str, tuple[int, ...]] | None:
    """Name and shape of every array of an encoder, as ``layer/variable``; None for one that only Keras knows.

    Args:
        name: Of the encoder.
        classes: Whether it has its ImageNet classes.
    """
    if name not in LITE_VARIANTS:
        return None
    shapes = _convolution("conv_stem", 3, 3, LITE_STEM)
    channels = LITE_STEM
    for number, block in enumerate(lite_blocks(name)):
        if block.expanded != block.inputs:
            shapes |= _convolution(f"blocks_{number}_expand_conv", 1, block.inputs, block.expanded)
        shapes |= _convolution(f"blocks_{number}_depthwise_conv", block.kernel, block.expanded, None)
        shapes |= _convolution(f"blocks_{number}_project_conv", 1, block.expanded, block.filters)
        channels = block.filters
    shapes |= _convolution("conv_head", 1, channels, LITE_CHANNELS)
    if classes:
        shapes |= {"class_scores/kernel": (LITE_CHANNELS, NUM_CLASSES), "class_scores/bias": (NUM_CLASSES,)}
    return shapes


def _convolution(layer: str, side: int, inputs: int, filters: int | None) -> dict[str, tuple[int, ...]]:
    """A convolution with its normalisation; ``filters`` is None where each channel is convolved by itself."""
    shapes: dict[str, tuple[int, ...]] = {f"{layer}/kernel": (side, side, inputs, filters or 1)}
    statistics = ("gamma", "beta", "moving_mean", "moving_variance")
    return shapes | {f"{layer}/{name}": (filters or inputs,) for name in statistics}
