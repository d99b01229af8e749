"""A look inside recurrent networks: gradients on their way back through time, clipping, gates along a caption.

Gradients with respect to states, not only to weights, are what back-propagation through time is made of. They are found
by adding zeros to every state and asking for the gradient with respect to those zeros, which works for any cell, and on
any Keras backend.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from captioner.errors import ModelLoadError
from captioner.models.compiling import compiled
from captioner.models.recurrent import RecurrentCell


def value_and_gradients(function: Callable, arrays: Sequence) -> tuple:
    """Value of a function and its gradients, on the backend in use.

    Args:
        function: Takes as many tensors as there are ``arrays``; returns a scalar.
        arrays: Where the gradients are wanted.

    Returns:
        The value, and a list of gradients of the arrays' shapes; zeros where the function does not depend on an array.
    """
    backend = keras.backend.backend()
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return value, tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if backend == "jax":
        import jax

        value, gradients = jax.value_and_grad(lambda parts: function(*parts))(tensors)
        return value, list(gradients)
    import torch

    tensors = [tensor.detach().clone().requires_grad_(True) for tensor in tensors]
    value = function(*tensors)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    found = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True)]
    return value.detach(), found


def state_gradients(cell: RecurrentCell, inputs: np.ndarray, loss: Callable, state: Sequence | None = None) -> dict:
    """Gradients of a loss with respect to every state of a recurrent cell.

    Args:
        cell: A built cell.
        inputs: What it reads, float32 (rows, steps, inputs).
        loss: Takes the outputs h_1 ... h_T as one tensor (rows, steps, units); returns a scalar.
        state: State before the first step, its parts (rows, units); None for zeros.

    Returns:
        Part of the state (``h``, and ``c`` of an LSTM) to dL/d(part), float32 (rows, steps, units). For every step it
        counts all paths from there to the loss; those of h that go through c of the same step are not among them, as
        h comes after c.
    """
    rows, steps = np.shape(inputs)[:2]
    projected = cell.project(ops.convert_to_tensor(inputs))
    start = state if state is not None else [np.zeros((rows, cell.units), np.float32) for _ in cell.state_names]

    def total(*nudges):
        parts = tuple(ops.convert_to_tensor(part) for part in start)
        outputs = []
        for step in range(steps):
            parts = cell.advance(projected[:, step], parts)
            parts = tuple(part + nudge[:, step] for part, nudge in zip(parts, nudges, strict=True))
            outputs.append(parts[0])
        return loss(ops.stack(outputs, axis=1))

    return _at_zero(total, cell, rows, steps)


def caption_gradients(decoder, grid: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Gradients of the last word's loss with respect to every state of a caption decoder.

    Args:
        decoder: A `captioner.models.decoder.Decoder`.
        grid: Encoder grid (rows, positions, channels).
        tokens: A caption for each row, all of the same length, beginning with the start token, int32 (rows, steps + 1).

    Returns:
        Part of the state to the gradient of -log p(last token), summed over rows, as in `state_gradients`: float32
        (rows, steps, units). The last step is the one that gave the last token its probability: lag 0.
    """
    tokens = np.asarray(tokens, np.int32)
    rows, steps = tokens.shape[0], tokens.shape[1] - 1

    def total(*nudges):
        state, memory = decoder.initial_state(ops.convert_to_tensor(np.asarray(grid, np.float32)))
        words = None
        for step in range(steps):
            words = decoder.embed(ops.convert_to_tensor(tokens[:, step]))
            state = decoder.cell.advance(decoder.cell.project(words) + memory[2], state)
            state = tuple(part + nudge[:, step] for part, nudge in zip(state, nudges, strict=True))
        context, _ = decoder._attend(state[0], memory)
        logits = decoder._logits(state[0], context, words)
        return ops.sum(keras.losses.sparse_categorical_crossentropy(tokens[:, -1], logits, from_logits=True))

    return _at_zero(total, decoder.cell, rows, steps)


def gate_history(decoder, grid: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Gates of a caption decoder while it reads a caption.

    Args:
        decoder: A `captioner.models.decoder.Decoder` with an LSTM or GRU cell.
        grid: Encoder grid of one image (1, positions, channels).
        tokens: What it reads, beginning with the start token, int32 (steps,).

    Returns:
        Name of the gate to its values, float32 (steps, units); see `captioner.models.recurrent`.

    Raises:
        ValueError: The cell has no gates.
    """
    cell = decoder.cell
    if not hasattr(cell, "gate_values"):
        raise ValueError(f"a {type(cell).__name__} has no gates")
    state, memory = decoder.initial_state(ops.convert_to_tensor(np.asarray(grid, np.float32)))
    history: dict[str, list] = {}
    for token in np.asarray(tokens, np.int32):
        projected = cell.project(decoder.embed(ops.convert_to_tensor(token[None]))) + memory[2]
        for name, values in cell.gate_values(projected, state).items():
            history.setdefault(name, []).append(ops.convert_to_numpy(values)[0])
        state = cell.advance(projected, state)
    return {name: np.stack(values) for name, values in history.items()}


def saved_decoder(name_or_path: str | os.PathLike):
    """The decoder of a saved captioner as a Keras model, `captioner.models.decoder.Decoder`.

    Raises:
        ModelLoadError: There is no such captioner, or its folder is incomplete or altered.
    """
    from captioner.captions.config import CaptionerConfig
    from captioner.models.decoder import Decoder
    from captioner.models.decoder_config import decoder_shapes
    from captioner.models.saving import load_weights, read_model

    saved = read_model(name_or_path)
    if saved.kind != "captioner":
        raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, not a captioner")
    config = saved.settings(CaptionerConfig).decoder
    decoder = Decoder(config, name="decoder")
    load_weights(decoder, saved.part("decoder", decoder_shapes(config)), str(saved.folder))
    return decoder


def _at_zero(total: Callable, cell: RecurrentCell, rows: int, steps: int) -> dict[str, np.ndarray]:
    zeros = [np.zeros((rows, steps, cell.units), np.float32) for _ in cell.state_names]
    _, gradients = value_and_gradients(total, zeros)
    return {name: ops.convert_to_numpy(g) for name, g in zip(cell.state_names, gradients, strict=True)}


def norms_by_lag(gradients: np.ndarray) -> np.ndarray:
    """Mean norm of dL/dh_(T-k) for lag k = 0, 1, ..., T - 1.

    Args:
        gradients: From `state_gradients` or `caption_gradients`, (rows, steps, units).

    Returns:
        float64 (steps,): the mean over rows, the last step first.
    """
    return np.linalg.norm(np.asarray(gradients, np.float64), axis=-1).mean(axis=0)[::-1]


def recurrent_matrix(units: int, spectral_radius: float, seed: int = 0) -> np.ndarray:
    """A random W_hh (units, units) float32 whose largest eigenvalue has the absolute value ``spectral_radius``."""
    matrix = np.random.default_rng(seed).normal(size=(units, units)) / np.sqrt(units)
    return (matrix * (spectral_radius / np.abs(np.linalg.eigvals(matrix)).max())).astype(np.float32)


def adding_problem(rows: int, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The adding problem (Hochreiter & Schmidhuber 1997): remember two marked numbers and add them.

    Args:
        rows: Number of sequences.
        steps: Their length; the first mark is in the first half, the second in the other.
        seed: Of everything random.

    Returns:
        Inputs float32 (rows, steps, 2): a number of 0..1 and a mark of 0 or 1; sums float32 (rows,). Always answering 1
        has a mean squared error of 1/6.
    """
    rng = np.random.default_rng(seed)
    inputs = np.zeros((rows, steps, 2), np.float32)
    inputs[..., 0] = rng.random((rows, steps))
    for row in inputs:
        row[[rng.integers(steps // 2), rng.integers(steps // 2, steps)], 1] = 1
    return inputs, (inputs[..., 0] * inputs[..., 1]).sum(axis=1)


class Regressor(keras.Model):
    """A recurrent cell that reads a sequence and answers with one number.

    Args:
        cell: A cell of `captioner.models.recurrent`, not yet built.
        inputs: Length of the vector that it reads at each step.
    """

    def __init__(self, cell: RecurrentCell, inputs: int):
        super().__init__()
        self.cell = cell
        self.cell.build(inputs)
        self.answer = keras.layers.Dense(1, name="answer")
        self.answer.build((None, cell.units))
        self.built = True

    def call(self, x):
        """Answers (rows,) to sequences (rows, steps, inputs)."""
        projected = self.cell.project(x)
        state = tuple(ops.zeros((ops.shape(x)[0], self.cell.units)) for _ in self.cell.state_names)
        for step in range(x.shape[1]):
            state = self.cell.advance(projected[:, step], state)
        return self.answer(state[0])[:, 0]


def descend(
    model: keras.Model,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    learning_rate: float,
    clip_norm: float | None = None,
) -> list[Mapping[str, float]]:
    """Plain gradient descent on the mean squared error that notes how long the gradient is at every step.

    Args:
        model: Takes x, returns one number for each row; its weights are changed.
        batches: (x, y), all of the same shape.
        learning_rate: What the gradient is multiplied by.
        clip_norm: A gradient that is longer than this is shortened to it (Pascanu et al. 2013); None leaves it.

    Returns:
        For each step ``step``, ``loss`` and ``gradient_norm``, both before the step, the norm before clipping. It ends
        where the loss is no number any more.
    """
    variables = model.trainable_variables

    def measure(values, x, y):
        def loss(*parts):
            with keras.StatelessScope(state_mapping=list(zip(variables, parts, strict=True))):
                return ops.mean(ops.square(model(x) - y))

        return value_and_gradients(loss, values)

    run = compiled(measure)
    history = []
    for number, (x, y) in enumerate(batches):
        values = [ops.convert_to_tensor(variable) for variable in variables]
        value, gradients = run(values, ops.convert_to_tensor(x), ops.convert_to_tensor(y))
        gradients = [ops.convert_to_numpy(gradient).astype(np.float64) for gradient in gradients]
        norm = float(np.sqrt(sum(np.square(gradient).sum() for gradient in gradients)))
        history.append({"step": number, "loss": float(value), "gradient_norm": norm})
        if not np.isfinite([float(value), norm]).all():
            break
        share = 1.0 if clip_norm is None else min(1.0, clip_norm / max(norm, 1e-12))
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign(ops.convert_to_numpy(variable) - (learning_rate * share * gradient).astype(np.float32))
    return history
