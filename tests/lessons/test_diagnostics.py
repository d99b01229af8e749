"""Gradients through time: equal to finite differences and to the equations; clipping keeps a training together."""

import keras
import numpy as np
import pytest
from keras import ops

from captioner.errors import ModelLoadError
from captioner.lessons.diagnostics import (
    Regressor,
    adding_problem,
    caption_gradients,
    descend,
    gate_history,
    norms_by_lag,
    recurrent_matrix,
    saved_decoder,
    state_gradients,
    value_and_gradients,
)
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.recurrent import CELLS, make_cell

ROWS, STEPS, INPUTS, UNITS = 2, 5, 3, 4


def made(name, seed=0):
    keras.utils.set_random_seed(seed)
    cell = make_cell(name, UNITS)
    cell.build(INPUTS)
    return cell


def run(cell, inputs, nudge=None):
    """Outputs, one step after the other; ``nudge`` is (part, step, row, unit, size)."""
    state = tuple(np.zeros((len(inputs), UNITS), np.float32) for _ in cell.state_names)
    outputs = []
    for step in range(inputs.shape[1]):
        state = [np.array(part) for part in cell.advance(cell.project(inputs[:, step]), state)]
        if nudge and nudge[1] == step:
            part, _, row, unit, size = nudge
            state[part][row, unit] += size
        outputs.append(state[0])
        state = tuple(state)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("name", CELLS)
def test_state_gradients_are_those_of_finite_differences(name):
    cell = made(name)
    inputs = np.random.default_rng(1).normal(size=(ROWS, STEPS, INPUTS)).astype(np.float32)
    wanted = np.random.default_rng(2).normal(size=(ROWS, STEPS, UNITS)).astype(np.float32)
    found = state_gradients(cell, inputs, lambda outputs: ops.sum(outputs * wanted))
    assert set(found) == set(cell.state_names)
    size = 1e-2
    for part, name_of_part in enumerate(cell.state_names):
        for place in [(0, 0, 0), (1, 2, 3), (0, 4, 1)]:
            row, step, unit = place
            ends = [(run(cell, inputs, (part, step, row, unit, sign * size)) * wanted).sum() for sign in (1, -1)]
            assert found[name_of_part][place] == pytest.approx((ends[0] - ends[1]) / (2 * size), abs=2e-3)


def test_lag_zero_is_the_last_step():
    gradients = np.zeros((2, 3, 4))
    gradients[0, 2] = [3, 4, 0, 0]
    gradients[1, 0] = [0, 0, 0, 2]
    np.testing.assert_allclose(norms_by_lag(gradients), [2.5, 0, 1])


@pytest.mark.parametrize("radius", [0.5, 1.3])
def test_recurrent_matrix_has_its_spectral_radius_and_sets_the_decay(radius):
    matrix = recurrent_matrix(24, radius, seed=3)
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(radius, rel=1e-4)
    cell = make_cell("simple_rnn", 24)
    cell.build(1)
    cell.recurrent_kernel.assign(matrix)
    gradients = state_gradients(cell, np.zeros((1, 60, 1), np.float32), lambda outputs: ops.sum(outputs[:, -1]))
    norms = norms_by_lag(gradients["h"])
    assert (norms[59] / norms[29]) ** (1 / 30) == pytest.approx(radius, rel=0.05)


def test_gradients_of_what_does_not_matter_are_zero():
    value, (first, second) = value_and_gradients(lambda a, b: ops.sum(a * a), [np.float32([1, 2]), np.float32([5])])
    assert float(value) == 5
    np.testing.assert_allclose(np.asarray(first), [2, 4])
    np.testing.assert_allclose(np.asarray(second), [0])


@pytest.fixture(scope="module", params=["lstm", "gru", "simple_rnn"])
def decoder(request):
    keras.utils.set_random_seed(0)
    config = DecoderConfig(12, 6, cell=request.param, units=8, embedding_units=5, memory_units=8, heads=2)
    return Decoder(config, name="decoder")


def test_caption_gradients_are_those_of_the_loss(decoder):
    rng = np.random.default_rng(0)
    grid, tokens = rng.normal(size=(1, 4, 6)).astype(np.float32), np.array([[1, 5, 6, 7, 2]], np.int32)
    found = caption_gradients(decoder, grid, tokens)
    assert {part: values.shape for part, values in found.items()} == dict.fromkeys(decoder.cell.state_names, (1, 4, 8))

    def loss(step, part, unit, size):
        state, memory = decoder.initial_state(grid)
        for t in range(4):
            logits, state, _ = decoder.step(tokens[:, t], state, memory)
            if t == step:
                state = [np.array(one) for one in state]
                state[part][0, unit] += size
        return float(-ops.log_softmax(logits)[0, 2])

    # The last state gives the logits within its step, where it cannot be reached from outside; the others can.
    for part in range(len(decoder.cell.state_names)):
        for step, unit in [(0, 1), (2, 6)]:
            slope = (loss(step, part, unit, 0.02) - loss(step, part, unit, -0.02)) / 0.04
            assert found[decoder.cell.state_names[part]][0, step, unit] == pytest.approx(slope, abs=2e-3)
    assert np.abs(found["h"][0, -1]).max() > 0.01
    if "c" in found:
        assert not found["c"][0, -1].any()


def test_gates_are_those_that_make_the_next_state(decoder):
    grid, read = np.random.default_rng(0).normal(size=(1, 4, 6)).astype(np.float32), np.array([1, 5, 6], np.int32)
    if decoder.config.cell == "simple_rnn":
        with pytest.raises(ValueError, match="no gates"):
            gate_history(decoder, grid, read)
        return
    gates = gate_history(decoder, grid, read)
    state, memory = decoder.initial_state(grid)
    for step, token in enumerate(read):
        before = [np.asarray(part)[0] for part in state]
        _, state, _ = decoder.step(np.array([token], np.int32), state, memory)
        now = {name: values[step] for name, values in gates.items()}
        if decoder.config.cell == "lstm":
            c = now["forget"] * before[1] + now["input"] * now["candidate"]
            np.testing.assert_allclose(np.asarray(state[1])[0], c, atol=1e-5)
            expected = now["output"] * np.tanh(c)
        else:
            expected = now["update"] * before[0] + (1 - now["update"]) * now["candidate"]
        np.testing.assert_allclose(np.asarray(state[0])[0], expected, atol=1e-5)


def test_the_decoder_of_a_saved_captioner(tiny_captioner, tmp_path):
    from captioner.models.saving import named_weights, read_model

    decoder = saved_decoder(tiny_captioner)
    for name, value in read_model(tiny_captioner).part("decoder").items():
        np.testing.assert_array_equal(named_weights(decoder, "decoder")[f"decoder/{name}"], value)
    with pytest.raises(ModelLoadError):
        saved_decoder(tmp_path / "absent")


def test_adding_problem_marks_two_numbers_and_adds_them():
    inputs, sums = adding_problem(50, 10, seed=4)
    for row, total in zip(inputs, sums, strict=True):
        first, second = np.flatnonzero(row[:, 1])
        assert first < 5 <= second
        assert row[first, 0] + row[second, 0] == pytest.approx(total)
    assert np.mean((sums - 1) ** 2) == pytest.approx(1 / 6, abs=0.08)


def descended(rate, limit, steps=8):
    keras.utils.set_random_seed(0)
    model = Regressor(make_cell("simple_rnn", 6), inputs=2)
    before = [np.array(variable) for variable in model.trainable_variables]
    batch = adding_problem(16, 6, seed=0)
    history = descend(model, [batch] * steps, learning_rate=rate, clip_norm=limit)
    return history, before, model, batch


def test_descent_goes_down_and_a_step_is_rate_times_gradient():
    history, *_ = descended(0.05, None, steps=40)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    history, before, model, _ = descended(0.01, None, steps=1)
    moved = [np.array(after) - start for after, start in zip(model.trainable_variables, before, strict=True)]
    length = np.sqrt(sum((part**2).sum() for part in moved))
    assert length == pytest.approx(0.01 * history[0]["gradient_norm"], rel=1e-4)


def test_a_clipped_step_is_as_long_as_the_limit():
    history, before, model, _ = descended(0.5, 0.1, steps=1)
    moved = [np.array(after) - start for after, start in zip(model.trainable_variables, before, strict=True)]
    assert history[0]["gradient_norm"] > 0.1
    assert np.sqrt(sum((part**2).sum() for part in moved)) == pytest.approx(0.05, rel=1e-4)


def test_descent_stops_where_the_loss_is_no_number():
    history, *_ = descended(1e30, None)
    assert len(history) < 8 and not np.isfinite(history[-1]["gradient_norm"] + history[-1]["loss"])
