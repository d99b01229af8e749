"""Recurrent cells, one step each: simple RNN, GRU and LSTM.

Every cell is split in two. ``W_ih x_t`` does not depend on the state, so a caller who knows all inputs beforehand
(teacher forcing, a clip's frames) projects them in one matrix product; `RecurrentCell.advance` is what has to wait for
the previous step. Weights and gate order are those of ``keras.layers.SimpleRNN``, ``GRU(reset_after=True)`` and
``LSTM``.
"""

from __future__ import annotations

import keras
from keras import ops


class RecurrentCell(keras.layers.Layer):
    """A cell with ``gates * units`` projections of its input.

    Args:
        units: Size of the hidden state.

    Attributes:
        gates: Number of projections per unit.
        state_names: What the state consists of; each part is (rows, units).
    """

    gates = 1
    state_names = ("h",)

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_size: int):
        """Creates ``W_ih`` (inputs, gates * units), ``W_hh`` (units, gates * units) and the bias."""
        width = self.gates * self.units
        self.kernel = self.add_weight(name="kernel", shape=(input_size, width), initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer=self._initial_bias)
        self.built = True

    def _initial_bias(self, shape, dtype=None):
        return ops.zeros(shape, dtype=dtype)

    def project(self, x, first: int = 0):
        """``W_ih x`` for inputs (..., n), where x are the inputs number ``first`` to ``first + n``; without bias."""
        return ops.matmul(x, ops.cast(self.kernel, x.dtype)[first : first + x.shape[-1]])

    def advance(self, projected, state):
        """One step.

        Args:
            projected: ``W_ih x_t`` (rows, gates * units).
            state: Tuple of the parts in ``state_names``, each (rows, units).

        Returns:
            The next state; its first part is the output h_t.
        """
        raise NotImplementedError

    def get_config(self):
        """Arguments of the constructor."""
        return {**super().get_config(), "units": self.units}


class SimpleRNNCell(RecurrentCell):
    """``h_t = tanh(W_ih x_t + W_hh h_(t-1) + b)`` (Elman 1990)."""

    def advance(self, projected, state):
        """See `RecurrentCell.advance`."""
        (h,) = state
        return (ops.tanh(projected + ops.matmul(h, ops.cast(self.recurrent_kernel, h.dtype)) + self._bias(h)),)

    def _bias(self, like):
        return ops.cast(self.bias, like.dtype)


class LSTMCell(SimpleRNNCell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), forget bias 1 (Jozefowicz et al. 2015)."""

    gates = 4
    state_names = ("h", "c")

    def _initial_bias(self, shape, dtype=None):
        zeros = ops.zeros((self.units,), dtype=dtype)
        return ops.concatenate([zeros, zeros + 1, zeros, zeros])

    def gate_values(self, projected, state) -> dict:
        """Values of the gates for one step: ``input``, ``forget``, ``candidate``, ``output``, each (rows, units)."""
        h, _ = state
        total = projected + ops.matmul(h, ops.cast(self.recurrent_kernel, h.dtype)) + self._bias(h)
        i, f, g, o = ops.split(total, 4, axis=-1)
        return {"input": ops.sigmoid(i), "forget": ops.sigmoid(f), "candidate": ops.tanh(g), "output": ops.sigmoid(o)}

    def advance(self, projected, state):
        """See `RecurrentCell.advance`."""
        gates = self.gate_values(projected, state)
        c = gates["forget"] * state[1] + gates["input"] * gates["candidate"]
        return gates["output"] * ops.tanh(c), c


class GRUCell(SimpleRNNCell):
    """Gated recurrent unit (Cho et al. 2014), reset applied after the matrix product, as cuDNN and Keras do."""

    gates = 3

    def build(self, input_size: int):
        """Adds the recurrent bias."""
        super().build(input_size)
        self.recurrent_bias = self.add_weight(name="recurrent_bias", shape=(3 * self.units,), initializer="zeros")

    def gate_values(self, projected, state) -> dict:
        """Values of the gates for one step: ``update``, ``reset``, ``candidate``, each (rows, units)."""
        (h,) = state
        from_state = ops.matmul(h, ops.cast(self.recurrent_kernel, h.dtype)) + ops.cast(self.recurrent_bias, h.dtype)
        xz, xr, xn = ops.split(projected + self._bias(h), 3, axis=-1)
        hz, hr, hn = ops.split(from_state, 3, axis=-1)
        reset = ops.sigmoid(xr + hr)
        return {"update": ops.sigmoid(xz + hz), "reset": reset, "candidate": ops.tanh(xn + reset * hn)}

    def advance(self, projected, state):
        """See `RecurrentCell.advance`."""
        gates = self.gate_values(projected, state)
        return (gates["update"] * state[0] + (1 - gates["update"]) * gates["candidate"],)


def recur(cell: RecurrentCell, projected, state):
    """All steps of a cell.

    Args:
        cell: The cell.
        projected: ``W_ih x_t`` of all steps (rows, steps, gates * units).
        state: From which the first step starts.

    Returns:
        The output h_t of every step (rows, steps, units).
    """
    if projected.shape[1] is None:  # steps are known only when it runs

        def advance(state, x):
            state = cell.advance(x, state)
            return state, state

        _, states = ops.scan(advance, state, ops.transpose(projected, (1, 0, 2)))
        return ops.transpose(states[0], (1, 0, 2))
    outputs = []
    for step in range(projected.shape[1]):
        state = cell.advance(projected[:, step], state)
        outputs.append(state[0])
    return ops.stack(outputs, axis=1)


CELLS = {"lstm": LSTMCell, "gru": GRUCell, "simple_rnn": SimpleRNNCell}


def make_cell(cell: str, units: int, **kwargs) -> RecurrentCell:
    """The cell of that name: ``lstm``, ``gru`` or ``simple_rnn``.

    Raises:
        ValueError: No cell has that name.
    """
    if cell not in CELLS:
        raise ValueError(f"unknown cell {cell!r}; known: {', '.join(CELLS)}")
    return CELLS[cell](units, **kwargs)
