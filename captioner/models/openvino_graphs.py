"""The encoder and the decoder as OpenVINO graphs, built straight from the weights of a saved model.

Building a graph takes 20 ms and needs neither TensorFlow nor a converted copy of the model on disk that could go stale.
What Keras's own export would do in general is done here for EfficientNet-Lite and `captioner.captions.decoder` only,
with what is known about them: normalisations are folded into the convolutions, everything that depends on the previous
word alone becomes a table with a row for every word, products with the same vector are one. Tests hold the graphs equal
to the Keras models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

Weights = Mapping[str, np.ndarray]
Ranges = Mapping[str, tuple[float, float]]
"""Name of a convolution to the lowest and highest value of its input that are told apart."""

_EPSILON = 1e-3  # of the batch normalisation
# First blocks of the stages that halve the grid are the same in every variant but for the number of blocks before them:
# (repeats, stride) of each stage, the repeats scaled by the depth multiplier except in the first and the last.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_DEPTH = {"lite0": 1.0, "lite1": 1.1, "lite2": 1.2}


def knows_encoder(name: str) -> bool:
    """Whether `encoder_graph` can build that encoder."""
    return name in _DEPTH


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
        A model from ``images`` (1, size, size, 3) uint8 RGB to ``grid`` (1, positions, channels), ``pooled`` (1,
        channels) and ``class_scores`` (1, 1000). Where it does not begin with the stem, or stops before the head, it
        takes or gives ``activations`` (1, channels, rows, columns). All but the images are float32.
    """
    import openvino as ov
    from openvino import opset13 as ops

    strides = [2, *_strides(name)]
    if begin == 0:
        x = source = ops.parameter([1, image_size, image_size, 3], np.uint8, name="images")
        x = ops.convert(ops.transpose(x, [0, 3, 1, 2]), np.float32)
        x = ops.multiply(ops.subtract(x, _constant(127.0)), _constant(1 / 128))
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
        return _model(ov, {"activations": x}, [source], f"encoder_{name}_{begin}_{end}")
    x = _conv_norm(x, weights, "conv_head", ranges, observed)
    channels = weights["conv_head/kernel"].shape[-1]
    grid = ops.reshape(ops.transpose(x, [0, 2, 3, 1]), [0, -1, channels], special_zero=True)
    pooled = ops.reduce_mean(x, [2, 3], keep_dims=False)
    scores = ops.add(_product(pooled, weights["class_scores/kernel"]), _constant(weights["class_scores/bias"]))
    return _model(ov, {"grid": grid, "pooled": pooled, "class_scores": scores}, [source], f"encoder_{name}")


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


def start_graph(config: Mapping, weights: Weights) -> openvino.Model:
    """What a caption starts from, once for every image.

    Args:
        config: `captioner.captions.decoder.DecoderConfig` as a dict.
        weights: ``layer/variable`` to array.

    Returns:
        A model from ``grid`` (images, positions, channels) to the parts of the state, ``state_0`` and so on (images,
        units), and of the memory, ``memory_0`` and so on, as `captioner.captions.decoder.Decoder.initial_state` has
        them but for the scale of the keys.
    """
    import openvino as ov
    from openvino import opset13 as ops

    heads, size = config["heads"], config["memory_units"] // config["heads"]
    grid = ops.parameter([-1, -1, config["grid_channels"]], np.float32, name="grid")
    features = ops.relu(_dense(grid, weights, "memory_projection"))
    mean = ops.reduce_mean(features, [1], keep_dims=False)
    keys = ops.multiply(_dense(features, weights, "key_projection"), _constant(1 / math.sqrt(size)))
    split = [0, 0, heads, size]
    memory = [
        ops.transpose(ops.reshape(features, split, special_zero=True), [0, 2, 1, 3]),
        ops.transpose(ops.reshape(keys, split, special_zero=True), [0, 2, 3, 1]),
        _product(mean, weights["cell/kernel"][config["embedding_units"] :]),
    ]
    state = [ops.tanh(_dense(mean, weights, f"start_{part}")) for part in _state_names(config)]
    return _model(ov, {**_numbered("state", state), **_numbered("memory", memory)}, [grid], "decoder_start")


def step_graph(config: Mapping, weights: Weights) -> openvino.Model:
    """One step of the decoder for all captions of all images.

    Args:
        config: `captioner.captions.decoder.DecoderConfig` as a dict.
        weights: ``layer/variable`` to array.

    Returns:
        A model from ``tokens`` (rows,) int32, ``state_0``... (rows, units) and ``memory_0``... (images, ...) to
        ``logits`` (rows, vocabulary), the next ``state_0``... and ``attention`` (rows, positions). The rows of an image
        are neighbours.
    """
    import openvino as ov
    from openvino import opset13 as ops

    units, words, width, heads = (config[name] for name in ("units", "embedding_units", "memory_units", "heads"))
    size = width // heads
    recurrent = weights["cell/recurrent_kernel"]
    gates = recurrent.shape[1]
    tokens = ops.parameter([-1], np.int32, name="tokens")
    state = [ops.parameter([-1, units], np.float32, name=f"state_{i}") for i in range(len(_state_names(config)))]
    shapes = ([-1, heads, -1, size], [-1, heads, size, -1], [-1, gates])
    memory = [ops.parameter(shape, np.float32, name=f"memory_{i}") for i, shape in enumerate(shapes)]
    values, keys, from_image = memory

    # What depends on the previous word alone, for every word: its projections for the cell and for the output layer.
    embeddings = weights["embedding/embeddings"]
    scaled = embeddings * math.sqrt(words)
    output_kernel = weights["output_hidden/kernel"]
    cell_table = scaled @ weights["cell/kernel"][:words] + weights["cell/bias"]
    output_table = scaled @ output_kernel[units + width :] + weights["output_hidden/bias"]
    from_word = ops.gather(
        _constant(np.concatenate([cell_table, output_table], axis=1)), tokens, _constant(0, np.int32)
    )
    cell_input, output_input = _split(from_word, [gates, words])

    # Rows of one image stand beside each other: (images, rows of one, ...).
    images = ops.gather(ops.shape_of(values, output_type="i32"), _shape(0), _constant(0, np.int32))
    cell_input = ops.add(_by_image(cell_input, images, [-1, gates]), ops.unsqueeze(from_image, [1]))
    cell_input = ops.reshape(cell_input, [-1, gates], special_zero=False)
    recurrent_input = _product(state[0], recurrent)
    if config["cell"] == "gru":
        recurrent_input = ops.add(recurrent_input, _constant(weights["cell/recurrent_bias"]))
    next_state = _advance(config["cell"], cell_input, recurrent_input, state, units)

    both = ("query_projection", "context_gate")
    from_state = _product(next_state[0], np.concatenate([weights[f"{layer}/kernel"] for layer in both], axis=1))
    from_state = ops.add(from_state, _constant(np.concatenate([weights[f"{layer}/bias"] for layer in both])))
    query, gate = _split(from_state, [width, width])
    query = ops.transpose(_by_image(query, images, [-1, heads, size]), [0, 2, 1, 3])
    weighting = ops.softmax(ops.matmul(query, keys, False, False), -1)
    context = ops.transpose(ops.matmul(weighting, values, False, False), [0, 2, 1, 3])
    context = ops.multiply(ops.sigmoid(gate), ops.reshape(context, [-1, width], special_zero=False))
    weighting = ops.reduce_mean(weighting, [1], keep_dims=False)
    positions = ops.gather(ops.shape_of(weighting, output_type="i32"), _shape(-1), _constant(0, np.int32))
    attention = ops.reshape(weighting, ops.concat([_shape(-1), positions], 0), special_zero=False)

    output = _product(ops.concat([next_state[0], context], 1), output_kernel[: units + width])
    hidden = ops.tanh(ops.add(output, output_input))
    logits = ops.add(_product(hidden, embeddings.T), _constant(weights["output_bias"]))
    outputs = {"logits": logits, **_numbered("state", next_state), "attention": attention}
    return _model(ov, outputs, [tokens, *state, *memory], "decoder_step")


def _advance(cell: str, projected, recurrent, state, units: int) -> list:
    """The cells of `captioner.models.recurrent`: the next state from both projections (biases included)."""
    from openvino import opset13 as ops

    if cell == "gru":
        xz, xr, xn = _split(projected, [units] * 3)
        hz, hr, hn = _split(recurrent, [units] * 3)
        update = ops.sigmoid(ops.add(xz, hz))
        candidate = ops.tanh(ops.add(xn, ops.multiply(ops.sigmoid(ops.add(xr, hr)), hn)))
        kept = ops.multiply(update, ops.subtract(state[0], candidate))
        return [ops.add(candidate, kept)]
    total = ops.add(projected, recurrent)
    if cell == "simple_rnn":
        return [ops.tanh(total)]
    i, f, g, o = _split(total, [units] * 4)
    c = ops.add(ops.multiply(ops.sigmoid(f), state[1]), ops.multiply(ops.sigmoid(i), ops.tanh(g)))
    return [ops.multiply(ops.sigmoid(o), ops.tanh(c)), c]


def _state_names(config: Mapping) -> tuple[str, ...]:
    return ("h", "c") if config["cell"] == "lstm" else ("h",)


def _strides(name: str) -> list[int]:
    """Stride of every block."""
    strides = []
    for stage, (repeats, stride) in enumerate(_STAGES):
        scaled = repeats if stage in (0, len(_STAGES) - 1) else math.ceil(repeats * _DEPTH[name])
        strides += [stride, *[1] * (scaled - 1)]
    return strides


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
    filters = _constant(kernel)
    if ranges and layer in ranges:
        x = _rounded(x, *ranges[layer])
        # Filters are symmetric around 0, every output channel in steps of its own.
        largest = np.abs(kernel).max(axis=tuple(range(1, kernel.ndim)), keepdims=True) + 1e-12
        low, high = _constant(-largest), _constant(largest)
        filters = ops.fake_quantize(filters, low, high, low, high, 255)
    x = convolution(x, filters, [stride, stride], [0, 0], [0, 0], [1, 1], "same_upper")
    x = ops.add(x, _constant((beta - mean * scale).reshape(1, -1, 1, 1)))
    return ops.clamp(x, 0.0, 6.0) if activation else x


def _rounded(x, lowest: float, highest: float):
    """Values in 256 steps, which the CPU plugin turns into 8-bit integers."""
    from openvino import opset13 as ops

    if lowest < 0:
        bound = max(-lowest, highest)
        low, high = _constant(-bound), _constant(bound * 127 / 128)
    else:
        low, high = _constant(0.0), _constant(highest)
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
    model = ov.Core().compile_model(_model(ov, outputs, graph.get_parameters(), "ranges"), "CPU")
    request = model.create_infer_request()
    values = np.mean([list(request.infer([image[None]]).values()) for image in images], axis=0, dtype=np.float64)
    return {
        layer: (float(low), float(high)) for layer, (low, high) in zip(observed, values.reshape(-1, 2), strict=True)
    }


def _constant(value, dtype=np.float32):
    from openvino import opset13 as ops

    return ops.constant(np.ascontiguousarray(value, dtype))


def _product(x, kernel: np.ndarray):
    from openvino import opset13 as ops

    return ops.matmul(x, _constant(kernel.T), False, True)


def _dense(x, weights: Weights, layer: str):
    from openvino import opset13 as ops

    return ops.add(_product(x, weights[f"{layer}/kernel"]), _constant(weights[f"{layer}/bias"]))


def _split(x, lengths: list[int]) -> list:
    from openvino import opset13 as ops

    return ops.variadic_split(x, _constant(1, np.int64), _constant(lengths, np.int64)).outputs()


def _shape(*sizes: int):
    return _constant(sizes, np.int32)


def _by_image(x, images, rest: list[int]):
    """Reshapes (rows, n) to (images, *rest)."""
    from openvino import opset13 as ops

    return ops.reshape(x, ops.concat([images, _shape(*rest)], 0), special_zero=False)


def _numbered(name: str, parts: list) -> dict:
    return {f"{name}_{i}": part for i, part in enumerate(parts)}


def _model(ov, outputs: Mapping, parameters: list, name: str) -> openvino.Model:
    results = []
    for label, node in outputs.items():
        output = node if isinstance(node, ov.Output) else node.output(0)
        output.get_tensor().set_names({label})
        results.append(output)
    for parameter in parameters:
        parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    return ov.Model(results, parameters, name)
