"""The CNN encoder: images to grid features, a pooled vector and ImageNet class scores.

EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946, in the "Lite" form published for edge devices: no
squeeze-and-excitation, ReLU6, stem and head not scaled) written in Keras, and the ``keras.applications`` models as a
second family. The encoder owns its normalisation: it takes RGB in 0..255.
"""

from __future__ import annotations

import math
import sys

import keras
from keras import ops

from captioner.errors import ModelLoadError
from captioner.models.encoder_config import (
    LITE_CHANNELS,
    LITE_STEM,
    LITE_VARIANTS,
    NUM_CLASSES,
    EncoderConfig,
    LiteBlock,
    lite_blocks,
)


@keras.saving.register_keras_serializable("captioner")
class ConvNorm(keras.layers.Layer):
    """A convolution, its batch normalisation with fixed statistics, and optionally ReLU6.

    The statistics are those of ImageNet and never change, as is usual in fine-tuning on small data. The scale is
    multiplied into the kernel before the convolution, which is the same function as normalising its output and saves
    a pass over the activations, forwards and backwards.

    Args:
        filters: Output channels; for a depthwise convolution None.
        kernel_size: Side of the kernel.
        stride: Step in both directions.
        depthwise: Whether each channel is convolved by itself.
        activation: Whether ReLU6 follows.
        epsilon: Added to the variance.
    """

    def __init__(
        self, filters: int | None, kernel_size: int, stride: int = 1, *, depthwise=False, activation=True,
        epsilon=1e-3, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.depthwise = depthwise
        self.activation = activation
        self.epsilon = epsilon

    def build(self, input_shape):
        """Creates kernel (h, w, in, out) or (h, w, in, 1), scale, offset and the fixed statistics."""
        channels = input_shape[-1]
        side = self.kernel_size
        out = channels if self.depthwise else self.filters
        shape = (side, side, channels, 1 if self.depthwise else self.filters)
        fan_out = side * side * (1 if self.depthwise else self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=keras.initializers.RandomNormal(0.0, math.sqrt(2.0 / fan_out))
        )
        self.gamma = self.add_weight(name="gamma", shape=(out,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(out,), initializer="zeros")
        self.mean = self.add_weight(name="moving_mean", shape=(out,), initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="moving_variance", shape=(out,), initializer="ones", trainable=False)

    def call(self, x):
        """Images (N, h, w, in) to (N, h / stride, w / stride, out)."""
        scale = self.gamma * ops.rsqrt(self.variance + self.epsilon)
        offset = self.beta - self.mean * scale
        if self.depthwise:
            kernel = self.kernel * ops.reshape(scale, (1, 1, -1, 1))
            x = ops.depthwise_conv(x, kernel, strides=self.stride, padding="same")
        else:
            x = ops.conv(x, self.kernel * scale, strides=self.stride, padding="same")
        x = x + offset
        return ops.relu6(x) if self.activation else x

    def compute_output_shape(self, input_shape):
        """Shape after a SAME convolution."""
        batch, height, width, channels = input_shape
        smaller = [None if n is None else -(-n // self.stride) for n in (height, width)]
        return (batch, *smaller, channels if self.depthwise else self.filters)

    def get_config(self):
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "depthwise": self.depthwise,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }


def build_encoder(config: EncoderConfig, *, imagenet: bool = False, classes: bool = True) -> keras.Model:
    """Builds an encoder.

    Args:
        config: Name and image size.
        imagenet: Whether a ``keras.applications`` model gets its ImageNet weights (Keras downloads them once). The
            EfficientNet-Lite weights are loaded by `captioner.training.imagenet_weights` instead.
        classes: Whether it also gives ImageNet's classes, by which to see whether its weights are in place.

    Returns:
        A Keras model from RGB images (N, S, S, 3), 0..255, any numeric dtype, to a dict: ``grid`` (N, rows, columns,
        C), ``pooled`` (N, C), its mean, and perhaps ``class_scores`` (N, 1000), ImageNet logits. ``image_size``
        and ``config`` are attributes of the model.

    Raises:
        ModelLoadError: No encoder has that name, or its classifier is not a linear layer on the pooled grid.
    """
    if config.name in LITE_VARIANTS:
        return _build_lite(config, classes)
    return _build_application(config, imagenet, classes)


def freeze(encoder: keras.Model, blocks: int) -> None:
    """Lets only the deep half of an EfficientNet-Lite learn.

    The first blocks, which see edges and colours, and all depthwise kernels (0.2 of 6 million weights) stay as they
    are: their gradients take most of the time of a step and bring next to nothing.

    Args:
        encoder: From `build_encoder`.
        blocks: Number of blocks, from the input, that stay.
    """
    encoder.trainable = True
    for layer in encoder.layers:
        number = layer.name.split("_")[1] if layer.name.startswith("blocks_") else ""
        early = layer.name == "conv_stem" or (number.isdigit() and int(number) < blocks)
        layer.trainable = not early and not layer.name.endswith("depthwise_conv")


def _build_lite(config: EncoderConfig, classes: bool) -> keras.Model:
    size = config.image_size or LITE_VARIANTS[config.name][-1]
    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="normalise")(images)
    x = ConvNorm(LITE_STEM, 3, 2, name="conv_stem")(x)
    for number, block in enumerate(lite_blocks(config.name)):
        x = _block(x, f"blocks_{number}", block)
    grid = ConvNorm(LITE_CHANNELS, 1, name="conv_head")(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(grid)
    scores = {"class_scores": keras.layers.Dense(NUM_CLASSES, name="class_scores")(pooled)} if classes else {}
    return _finish(config, size, images, {"grid": grid, "pooled": pooled, **scores})


def _block(x, name: str, block: LiteBlock):
    """An inverted residual: expand, convolve each channel, project, add."""
    inputs = x
    if block.expanded != block.inputs:
        x = ConvNorm(block.expanded, 1, name=f"{name}_expand_conv")(x)
    x = ConvNorm(None, block.kernel, block.stride, depthwise=True, name=f"{name}_depthwise_conv")(x)
    x = ConvNorm(block.filters, 1, activation=False, name=f"{name}_project_conv")(x)
    if block.stride == 1 and block.inputs == block.filters:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _build_application(config: EncoderConfig, imagenet: bool, classes: bool) -> keras.Model:
    constructor = getattr(keras.applications, config.name, None)
    if constructor is None or not config.name[:1].isupper():
        known = sorted(name for name in dir(keras.applications) if name[:1].isupper())
        raise ModelLoadError(f"unknown encoder {config.name!r}; known: {', '.join([*LITE_VARIANTS, *known])}")
    size = config.image_size or 224
    images = keras.Input((size, size, 3), name="images")
    weights = "imagenet" if imagenet else None
    base = constructor(include_top=False, weights=weights, input_shape=(size, size, 3))
    # The module in which a constructor was written also holds its normalisation.
    normalise = sys.modules[constructor.__module__].preprocess_input
    grid = base(normalise(ops.cast(images, "float32")), training=False)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(grid)
    outputs = {"grid": grid, "pooled": pooled}
    if not classes:
        return _finish(config, size, images, outputs)
    classifier = keras.layers.Dense(NUM_CLASSES, name="class_scores")
    outputs["class_scores"] = classifier(pooled)
    if imagenet:
        top = constructor(include_top=True, weights=weights).layers[-1].get_weights()
        if [value.shape for value in top] != [tuple(variable.shape) for variable in classifier.weights]:
            raise ModelLoadError(
                f"{config.name}: its ImageNet classifier is more than a linear layer; choose another encoder"
            )
        classifier.set_weights(top)
    return _finish(config, size, images, outputs)


def _finish(config, size, images, outputs) -> keras.Model:
    model = keras.Model(images, outputs, name=config.name)
    model.image_size = size
    model.config = EncoderConfig(config.name, size)
    return model
