"""The encoder as an OpenVINO graph, built straight from the weights of a saved model.

Building it takes 10 ms and needs neither TensorFlow nor a converted copy of the model on disk that could go stale. What
Keras's own export would do in general is done here for EfficientNet-Lite only, whose normalisations are folded into the
convolutions. Tests hold the graph equal to the Keras model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from captioner.models.encoder_config import LITE_VARIANTS, lite_blocks
from captioner.models.graph_parts import Weights, constant, named_graph

if TYPE_CHECKING:
    import openvino

Ranges = Mapping[str, tuple[float, float]]
"""Name of a convolution to the lowest and highest value of its input that are told apart."""

_EPSILON = 1e-3  # of the batch normalisation


def knows_encoder(name: str) -> bool:
    """Whether `encoder_graph` can build that encoder."""
    return name in LITE_VARIANTS


def encoder_graph(
    name: str,
    image_size: int,
    weights: Weights,
    *,
    begin: int = 0,
    end: int | None = None,
    ranges: Ranges | None = None,
    observed: dict | None = None,
) -> openvino.Model:
    """An EfficientNet-Lite for one image, or some of its layers: 0 is the stem, then come the blocks and the head.

    Args:
        name: ``lite0``, ``lite1`` or ``lite2``.
        image_size: Side of the square input.
        weights: ``layer/variable`` to array.
        begin: First layer.
        end: Layer before which it stops; None for no stop.
        ranges: Of the inputs of those convolutions that are to be computed with 8-bit integers.
        observed: A dict that is given the inputs of all convolutions, from which to find their ranges.

    Returns:
        A model from ``images`` (1, size, size, 3) uint8 RGB to ``grid`` (1, positions, channels) and ``pooled`` (1,
        channels). Where it does not begin with the stem, or stops before the head, it takes or gives ``activations``
        (1, channels, rows, columns). All but the images are float32.
    """
    from openvino import opset13 as ops

    strides = [2, *(block.stride for block in lite_blocks(name))]
    if begin == 0:
        x = source = ops.parameter([1, image_size, image_size, 3], np.uint8, name="images")
        x = ops.convert(ops.transpose(x, [0, 3, 1, 2]), np.float32)
        x = ops.multiply(ops.subtract(x, constant(127.0)), constant(1 / 128))
        x = _conv_norm(x, weights, "conv_stem", ranges, observed, stride=strides[0])
    else:
        side = image_size
        for stride in strides[:begin]:
            side = -(-side // stride)
        channels = weights[f"{_last_convolution(begin)}/kernel"].shape[-1]
        x = source = ops.parameter([1, channels, side, side], np.float32, name="activations")
    for number in range(max(begin, 1), len(strides) if end is None else end):
        x = _block(x, weights, f"blocks_{number - 1}", strides[number], ranges, observed)
    if end is not None:
        return named_graph({"activations": x}, [source], f"encoder_{name}_{begin}_{end}")
    x = _conv_norm(x, weights, "conv_head", ranges, observed)
    channels = weights["conv_head/kernel"].shape[-1]
    grid = ops.reshape(ops.transpose(x, [0, 2, 3, 1]), [0, -1, channels], special_zero=True)
    pooled = ops.reduce_mean(x, [2, 3], keep_dims=False)
    return named_graph({"grid": grid, "pooled": pooled}, [source], f"encoder_{name}")


def _last_convolution(begin: int) -> str:
    return "conv_stem" if begin == 1 else f"blocks_{begin - 2}_project_conv"


def _block(x, weights: Weights, block: str, stride: int, ranges, observed):
    """An inverted residual."""
    from openvino import opset13 as ops

    inputs = x
    if f"{block}_expand_conv/kernel" in weights:
        x = _conv_norm(x, weights, f"{block}_expand_conv", ranges, observed)
    x = _conv_norm(x, weights, f"{block}_depthwise_conv", ranges, observed, stride=stride, depthwise=True)
    x = _conv_norm(x, weights, f"{block}_project_conv", ranges, observed, activation=False)
    return ops.add(x, inputs) if x.get_output_partial_shape(0) == inputs.get_output_partial_shape(0) else x


def _conv_norm(
    x, weights: Weights, layer: str, ranges: Ranges | None, observed: dict | None, *, stride: int = 1, depthwise=False,
    activation=True,
):  # fmt: skip
    """A convolution with its fixed normalisation folded in, and ReLU6."""
    from openvino import opset13 as ops

    if observed is not None:
        observed[layer] = x

    kernel, gamma, beta, mean, variance = (
        weights[f"{layer}/{name}"].astype(np.float64)
        for name in ("kernel", "gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    if depthwise:  # (h, w, channels, 1) to (groups, out, in, h, w)
        kernel = (kernel[..., 0] * scale).transpose(2, 0, 1)[:, None, None]
        convolution = ops.group_convolution
    else:  # (h, w, in, out) to (out, in, h, w)
        kernel = (kernel * scale).transpose(3, 2, 0, 1)
        convolution = ops.convolution
    filters = constant(kernel)
    if ranges and layer in ranges:
        x = _rounded(x, *ranges[layer])
        # Filters are symmetric around 0, every output channel in steps of its own.
        largest = np.abs(kernel).max(axis=tuple(range(1, kernel.ndim)), keepdims=True) + 1e-12
        low, high = constant(-largest), constant(largest)
        filters = ops.fake_quantize(filters, low, high, low, high, 255)
    x = convolution(x, filters, [stride, stride], [0, 0], [0, 0], [1, 1], "same_upper")
    x = ops.add(x, constant((beta - mean * scale).reshape(1, -1, 1, 1)))
    return ops.clamp(x, 0.0, 6.0) if activation else x


def _rounded(x, lowest: float, highest: float):
    """Values in 256 steps, which the CPU plugin turns into 8-bit integers."""
    from openvino import opset13 as ops

    if lowest < 0:
        bound = max(-lowest, highest)
        low, high = constant(-bound), constant(bound * 127 / 128)
    else:
        low, high = constant(0.0), constant(highest)
    return ops.fake_quantize(x, low, high, low, high, 256)


def input_ranges(name: str, image_size: int, weights: Weights, images: np.ndarray) -> dict[str, tuple[float, float]]:
    """Ranges of the inputs of an encoder's convolutions: means over images of the lowest and the highest value.

    Args:
        name: See `encoder_graph`.
        image_size: See `encoder_graph`.
        weights: See `encoder_graph`.
        images: Photos of the kind that the encoder will see, uint8 (N, S, S, 3).
    """
    import openvino as ov
    from openvino import opset13 as ops

    observed: dict = {}
    graph = encoder_graph(name, image_size, weights, observed=observed)
    axes = [0, 1, 2, 3]
    outputs = {}
    for layer, node in observed.items():
        outputs[f"{layer} low"] = ops.reduce_min(node, axes, keep_dims=False)
        outputs[f"{layer} high"] = ops.reduce_max(node, axes, keep_dims=False)
    model = ov.Core().compile_model(named_graph(outputs, graph.get_parameters(), "ranges"), "CPU")
    request = model.create_infer_request()
    values = np.mean([list(request.infer([image[None]]).values()) for image in images], axis=0, dtype=np.float64)
    return {
        layer: (float(low), float(high)) for layer, (low, high) in zip(observed, values.reshape(-1, 2), strict=True)
    }
