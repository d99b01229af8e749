"""The encoder of sentences as an OpenVINO graph, built straight from the weights of a saved model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from captioner.models.graph_parts import Weights, constant, named_graph, sizes

if TYPE_CHECKING:
    import openvino

# Our order of the gates to that of OpenVINO's layers.
_ORDER = {"lstm": (1, 0, 2, 3), "gru": (0, 1, 2), "simple_rnn": (0,)}


def read_graph(config: Mapping, weights: Weights, embeddings: np.ndarray) -> openvino.Model:
    """What was read around every word of sentences of the same length.

    Args:
        config: `captioner.translation.config.SentenceEncoderConfig` as a dict.
        weights: Of the encoder, ``layer/variable`` to array.
        embeddings: Of the decoder's words (tokens, embedding_units).

    Returns:
        A model from ``source`` (sentences, tokens) int32 to ``grid`` (sentences, tokens, 2 * units), as
        `captioner.translation.network.SentenceEncoder` has it.
    """
    from openvino import opset13 as ops

    cell, units, width = config["cell"], config["units"], embeddings.shape[1]
    source = ops.parameter([-1, -1], np.int32, name="source")
    words = ops.gather(constant(embeddings * math.sqrt(width)), source, constant(0, np.int32))
    sentences, tokens = (
        ops.gather(ops.shape_of(source, output_type="i32"), sizes(axis), constant(0, np.int32)) for axis in (0, 1)
    )
    zeros = ops.broadcast(constant(0.0), ops.concat([sentences, sizes(2, units)], 0))
    lengths = ops.broadcast(tokens, sentences)

    def both(variable: str) -> np.ndarray:
        """Of both directions, the gates first and in OpenVINO's order (2, gates * units, ...)."""
        arrays = [weights[f"{direction}/{variable}"].T for direction in ("forward", "backward")]
        return np.stack([np.concatenate([np.split(a, len(_ORDER[cell]))[i] for i in _ORDER[cell]]) for a in arrays])

    kernels, bias = [constant(both("kernel")), constant(both("recurrent_kernel"))], both("bias")
    if cell == "lstm":
        read = ops.lstm_sequence(words, zeros, zeros, lengths, *kernels, constant(bias), units, "bidirectional")
    elif cell == "gru":
        # After the reset the candidate has a bias of its own; those of the other gates are summed.
        other = both("recurrent_bias")
        summed, two = bias + other, 2 * units
        bias = np.concatenate([summed[:, :two], bias[:, two:], other[:, two:]], axis=1)
        read = ops.gru_sequence(
            words, zeros, lengths, *kernels, constant(bias), units, "bidirectional", linear_before_reset=True
        )
    else:
        read = ops.rnn_sequence(words, zeros, lengths, *kernels, constant(bias), units, "bidirectional")
    grid = ops.reshape(ops.transpose(read.output(0), [0, 2, 1, 3]), [0, 0, 2 * units], special_zero=True)
    return named_graph({"grid": grid}, [source], "sentence_encoder")
