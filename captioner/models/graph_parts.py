"""What OpenVINO graphs are built of, straight from the weights of a saved model; and how they are run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

Weights = Mapping[str, np.ndarray]
"""``layer/variable`` to array."""


def constant(value, dtype=np.float32):
    """A number or an array."""
    from openvino import opset13 as ops

    return ops.constant(np.ascontiguousarray(value, dtype))


def product(x, kernel: np.ndarray):
    """x @ kernel."""
    from openvino import opset13 as ops

    return ops.matmul(x, constant(kernel.T), False, True)


def dense(x, weights: Weights, layer: str):
    """A dense layer without an activation."""
    from openvino import opset13 as ops

    return ops.add(product(x, weights[f"{layer}/kernel"]), constant(weights[f"{layer}/bias"]))


def split(x, lengths: list[int]) -> list:
    """Parts of (rows, n) with these numbers of columns."""
    from openvino import opset13 as ops

    return ops.variadic_split(x, constant(1, np.int64), constant(lengths, np.int64)).outputs()


def sizes(*values: int):
    """A shape."""
    return constant(values, np.int32)


def by_image(x, images, rest: list[int]):
    """Reshapes (rows, n) to (images, *rest)."""
    from openvino import opset13 as ops

    return ops.reshape(x, ops.concat([images, sizes(*rest)], 0), special_zero=False)


def advance(cell: str, projected, recurrent, state, units: int) -> list:
    """The cells of `captioner.models.recurrent`: the next state from both projections (biases included)."""
    from openvino import opset13 as ops

    if cell == "gru":
        xz, xr, xn = split(projected, [units] * 3)
        hz, hr, hn = split(recurrent, [units] * 3)
        update = ops.sigmoid(ops.add(xz, hz))
        candidate = ops.tanh(ops.add(xn, ops.multiply(ops.sigmoid(ops.add(xr, hr)), hn)))
        kept = ops.multiply(update, ops.subtract(state[0], candidate))
        return [ops.add(candidate, kept)]
    total = ops.add(projected, recurrent)
    if cell == "simple_rnn":
        return [ops.tanh(total)]
    i, f, g, o = split(total, [units] * 4)
    c = ops.add(ops.multiply(ops.sigmoid(f), state[1]), ops.multiply(ops.sigmoid(i), ops.tanh(g)))
    return [ops.multiply(ops.sigmoid(o), ops.tanh(c)), c]


def numbered(name: str, parts: list) -> dict:
    """``name_0``, ``name_1`` and so on to the parts."""
    return {f"{name}_{i}": part for i, part in enumerate(parts)}


def named_graph(outputs: Mapping, parameters: list, name: str) -> openvino.Model:
    """A graph whose inputs and outputs have names."""
    import openvino as ov

    results = []
    for label, node in outputs.items():
        output = node if isinstance(node, ov.Output) else node.output(0)
        output.get_tensor().set_names({label})
        results.append(output)
    for parameter in parameters:
        parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    return ov.Model(results, parameters, name)


def infer(request, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Runs a request of OpenVINO; the arrays that it returns live until it runs again."""
    import openvino as ov

    # As `InferRequest.infer`, without what that spends on finding out what it was given: a step takes 1 ms.
    inputs = [np.require(array, requirements="CW") for array in inputs]
    for number, array in enumerate(inputs):
        request.set_input_tensor(number, ov.Tensor(array, shared_memory=True))
    request.start_async()
    request.wait()
    return [request.get_output_tensor(number).data for number in range(len(request.model_outputs))]


class PerThread:
    """A compiled graph with a request for every thread: what it returns lives until the next call of that thread.

    Args:
        model: From ``Core.compile_model``.
    """

    def __init__(self, model: openvino.CompiledModel):
        self._model = model
        self._own = threading.local()

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Outputs for the inputs, each in the order of the graph."""
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        return infer(self._own.request, inputs)
