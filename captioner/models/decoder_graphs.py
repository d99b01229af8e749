"""The decoder as OpenVINO graphs, built straight from the weights of a saved model.

What Keras's own export would do in general is done here for `captioner.models.decoder` only, with what is known about
it: everything that depends on the previous word alone becomes a table with a row for every word, products with the same
vector are one. Tests hold the graphs equal to the Keras model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from captioner.models.graph_parts import (
    Weights,
    advance,
    by_image,
    constant,
    dense,
    named_graph,
    numbered,
    product,
    sizes,
    split,
)

if TYPE_CHECKING:
    import openvino


def start_graph(config: Mapping, weights: Weights) -> openvino.Model:
    """What a caption starts from, once for every image.

    Args:
        config: `captioner.models.decoder.DecoderConfig` as a dict.
        weights: ``layer/variable`` to array.

    Returns:
        A model from ``grid`` (images, positions, channels) to the parts of the state, ``state_0`` and so on (images,
        units), and of the memory, ``memory_0`` and so on, as `captioner.models.decoder.Decoder.initial_state` has
        them but for the scale of the keys.
    """
    from openvino import opset13 as ops

    heads, size = config["heads"], config["memory_units"] // config["heads"]
    grid = ops.parameter([-1, -1, config["grid_channels"]], np.float32, name="grid")
    features = ops.relu(dense(grid, weights, "memory_projection"))
    mean = ops.reduce_mean(features, [1], keep_dims=False)
    keys = ops.multiply(dense(features, weights, "key_projection"), constant(1 / math.sqrt(size)))
    by_head = [0, 0, heads, size]
    memory = [
        ops.transpose(ops.reshape(features, by_head, special_zero=True), [0, 2, 1, 3]),
        ops.transpose(ops.reshape(keys, by_head, special_zero=True), [0, 2, 3, 1]),
        product(mean, weights["cell/kernel"][config["embedding_units"] :]),
    ]
    state = [ops.tanh(dense(mean, weights, f"start_{part}")) for part in _state_names(config)]
    return named_graph({**numbered("state", state), **numbered("memory", memory)}, [grid], "decoder_start")


def step_graph(config: Mapping, weights: Weights) -> openvino.Model:
    """One step of the decoder for all captions of all images.

    Args:
        config: `captioner.models.decoder.DecoderConfig` as a dict.
        weights: ``layer/variable`` to array.

    Returns:
        A model from ``tokens`` (rows,) int32, ``state_0``... (rows, units) and ``memory_0``... (images, ...) to
        ``logits`` (rows, vocabulary), the next ``state_0``... and ``attention`` (rows, positions). The rows of an image
        are neighbours.
    """
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
    from_word = ops.gather(constant(np.concatenate([cell_table, output_table], axis=1)), tokens, constant(0, np.int32))
    cell_input, output_input = split(from_word, [gates, words])

    # Rows of one image stand beside each other: (images, rows of one, ...).
    images = ops.gather(ops.shape_of(values, output_type="i32"), sizes(0), constant(0, np.int32))
    cell_input = ops.add(by_image(cell_input, images, [-1, gates]), ops.unsqueeze(from_image, [1]))
    cell_input = ops.reshape(cell_input, [-1, gates], special_zero=False)
    recurrent_input = product(state[0], recurrent)
    if config["cell"] == "gru":
        recurrent_input = ops.add(recurrent_input, constant(weights["cell/recurrent_bias"]))
    next_state = advance(config["cell"], cell_input, recurrent_input, state, units)

    both = ("query_projection", "context_gate")
    from_state = product(next_state[0], np.concatenate([weights[f"{layer}/kernel"] for layer in both], axis=1))
    from_state = ops.add(from_state, constant(np.concatenate([weights[f"{layer}/bias"] for layer in both])))
    query, gate = split(from_state, [width, width])
    query = ops.transpose(by_image(query, images, [-1, heads, size]), [0, 2, 1, 3])
    weighting = ops.softmax(ops.matmul(query, keys, False, False), -1)
    context = ops.transpose(ops.matmul(weighting, values, False, False), [0, 2, 1, 3])
    context = ops.multiply(ops.sigmoid(gate), ops.reshape(context, [-1, width], special_zero=False))
    weighting = ops.reduce_mean(weighting, [1], keep_dims=False)
    positions = ops.gather(ops.shape_of(weighting, output_type="i32"), sizes(-1), constant(0, np.int32))
    attention = ops.reshape(weighting, ops.concat([sizes(-1), positions], 0), special_zero=False)

    output = product(ops.concat([next_state[0], context], 1), output_kernel[: units + width])
    hidden = ops.tanh(ops.add(output, output_input))
    logits = ops.add(product(hidden, embeddings.T), constant(weights["output_bias"]))
    outputs = {"logits": logits, **numbered("state", next_state), "attention": attention}
    return named_graph(outputs, [tokens, *state, *memory], "decoder_step")


def _state_names(config: Mapping) -> tuple[str, ...]:
    return ("h", "c") if config["cell"] == "lstm" else ("h",)
