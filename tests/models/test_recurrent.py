"""The recurrent cells: one step against NumPy, whole sequences against the layers of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from captioner.models.recurrent import CELLS, make_cell

INPUTS, UNITS, ROWS, STEPS = 5, 4, 3, 6
LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple_rnn": keras.layers.SimpleRNN}


def built(name, seed=0):
    """A cell with random weights, biases too."""
    cell = make_cell(name, UNITS)
    cell.build(INPUTS)
    rng = np.random.default_rng(seed)
    for variable in cell.weights:
        variable.assign(rng.normal(0, 0.7, variable.shape))
    return cell, {variable.name: np.asarray(variable, np.float64) for variable in cell.weights}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, state, w):
    h, c = state
    gates = x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]
    i, f, g, o = (gates[:, n * UNITS : (n + 1) * UNITS] for n in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x, state, w):
    (h,) = state
    z, r, n = (slice(k * UNITS, (k + 1) * UNITS) for k in range(3))
    a, b = x @ w["kernel"] + w["bias"], h @ w["recurrent_kernel"] + w["recurrent_bias"]
    update, reset = sigmoid(a[:, z] + b[:, z]), sigmoid(a[:, r] + b[:, r])
    return (update * h + (1 - update) * np.tanh(a[:, n] + reset * b[:, n]),)


def simple_rnn(x, state, w):
    (h,) = state
    return (np.tanh(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]),)


STEPS_IN_NUMPY = {"lstm": lstm, "gru": gru, "simple_rnn": simple_rnn}


def test_every_cell_is_tested():
    assert set(CELLS) == set(STEPS_IN_NUMPY) == set(LAYERS)


@pytest.mark.parametrize("name", CELLS)
def test_one_step_against_numpy(name):
    cell, weights = built(name)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, INPUTS)).astype(np.float32)
    state = tuple(rng.normal(size=(ROWS, UNITS)).astype(np.float32) for _ in cell.state_names)
    expected = STEPS_IN_NUMPY[name](x, state, weights)
    found = cell.advance(cell.project(ops.convert_to_tensor(x)), tuple(ops.convert_to_tensor(part) for part in state))
    assert len(found) == len(expected) == len(cell.state_names)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_sequences_against_the_layer_of_keras(name):
    cell, weights = built(name)
    layer = LAYERS[name](UNITS, return_sequences=True)
    layer.build((None, STEPS, INPUTS))
    bias = weights["bias"]
    if name == "gru":
        bias = np.stack([bias, weights["recurrent_bias"]])
    layer.set_weights([weights["kernel"], weights["recurrent_kernel"], bias])
    x = np.random.default_rng(2).normal(size=(ROWS, STEPS, INPUTS)).astype(np.float32)
    projected = cell.project(ops.convert_to_tensor(x))
    state = tuple(ops.zeros((ROWS, UNITS)) for _ in cell.state_names)
    outputs = []
    for t in range(STEPS):
        state = cell.advance(projected[:, t], state)
        outputs.append(np.asarray(state[0]))
    np.testing.assert_allclose(np.stack(outputs, axis=1), np.asarray(layer(x)), atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_inputs_may_be_projected_in_parts(name):
    cell, _ = built(name)
    x = ops.convert_to_tensor(np.random.default_rng(3).normal(size=(ROWS, INPUTS)).astype(np.float32))
    parts = cell.project(x[:, :2]) + cell.project(x[:, 2:], first=2)
    np.testing.assert_allclose(np.asarray(parts), np.asarray(cell.project(x)), atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gates_open_and_close(name):
    cell, _ = built(name)
    rng = np.random.default_rng(4)
    projected, *state = (
        ops.convert_to_tensor(rng.normal(size=(ROWS, n)).astype(np.float32))
        for n in (cell.gates * UNITS, *[UNITS] * len(cell.state_names))
    )
    gates = {name: np.asarray(value) for name, value in cell.gate_values(projected, tuple(state)).items()}
    for gate, values in gates.items():
        low = -1 if gate == "candidate" else 0
        assert values.shape == (ROWS, UNITS) and low < values.min() < values.max() < 1
    after = [np.asarray(part) for part in cell.advance(projected, tuple(state))]
    if name == "lstm":
        c = gates["forget"] * np.asarray(state[1]) + gates["input"] * gates["candidate"]
        np.testing.assert_allclose(after[1], c, atol=1e-6)
        np.testing.assert_allclose(after[0], gates["output"] * np.tanh(c), atol=1e-6)
    else:
        h = gates["update"] * np.asarray(state[0]) + (1 - gates["update"]) * gates["candidate"]
        np.testing.assert_allclose(after[0], h, atol=1e-6)


def test_a_new_lstm_remembers():
    cell = make_cell("lstm", UNITS)
    cell.build(INPUTS)
    bias = np.asarray(cell.bias).reshape(4, UNITS)
    np.testing.assert_array_equal(bias, [[0] * UNITS, [1] * UNITS, [0] * UNITS, [0] * UNITS])
    kernel = np.asarray(cell.recurrent_kernel)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(UNITS), atol=1e-5)


def test_unknown_cells_list_the_known_ones():
    with pytest.raises(ValueError, match="unknown cell 'transformer'; known: lstm, gru, simple_rnn"):
        make_cell("transformer", UNITS)


def test_config_round_trip():
    cell = make_cell("gru", UNITS, name="cell")
    assert type(cell).from_config(cell.get_config()).units == UNITS
