"""The decoder: its step against NumPy, teacher forcing against stepping, rows of one image, gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.recurrent import CELLS
from captioner.models.saving import named_weights

IMAGES, POSITIONS, CHANNELS, VOCABULARY = 2, 6, 7, 11
SIZES = {"units": 6, "embedding_units": 5, "memory_units": 8, "heads": 2}


@pytest.fixture(scope="module", params=CELLS)
def decoder(request):
    """With random weights, biases too."""
    made = Decoder(DecoderConfig(VOCABULARY, CHANNELS, cell=request.param, **SIZES), name="decoder")
    rng = np.random.default_rng(0)
    for variable in made.trainable_variables:
        variable.assign(rng.normal(0, 0.6, variable.shape))
    return made


def grids(seed=1, images=IMAGES):
    return np.random.default_rng(seed).normal(size=(images, POSITIONS, CHANNELS)).astype(np.float32)


def words(*shape, seed=2):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape).astype(np.int32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class SlowDecoder:
    """The same in NumPy: one image, one caption, one head at a time."""

    def __init__(self, decoder, grid):
        self.config = decoder.config
        self.w = {name.split("/", 1)[1]: np.asarray(v, np.float64) for name, v in named_weights(decoder, "d").items()}
        self.features = np.maximum(self.dense("memory_projection", grid), 0)
        self.keys = self.dense("key_projection", self.features)
        self.mean = self.features.mean(axis=0)
        self.state = [np.tanh(self.dense(f"start_{part}", self.mean)) for part in decoder.cell.state_names]

    def dense(self, name, x):
        return x @ self.w[f"{name}/kernel"] + self.w[f"{name}/bias"]

    def recur(self, x):
        n, w = self.config.units, self.w
        a, b = x @ w["cell/kernel"] + w["cell/bias"], self.state[0] @ w["cell/recurrent_kernel"]
        if self.config.cell == "simple_rnn":
            return [np.tanh(a + b)]
        if self.config.cell == "gru":
            b = b + w["cell/recurrent_bias"]
            z, r = sigmoid(a[:n] + b[:n]), sigmoid(a[n : 2 * n] + b[n : 2 * n])
            return [z * self.state[0] + (1 - z) * np.tanh(a[2 * n :] + r * b[2 * n :])]
        i, f, g, o = (a + b).reshape(4, n)
        c = sigmoid(f) * self.state[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]

    def step(self, token):
        embedding = self.w["embedding/embeddings"]
        word = embedding[token] * np.sqrt(self.config.embedding_units)
        self.state = self.recur(np.concatenate([word, self.mean]))
        h = self.state[0]
        query, size = self.dense("query_projection", h), self.config.memory_units // self.config.heads
        context, attention = [], np.zeros(len(self.keys))
        for head in range(self.config.heads):
            part = slice(head * size, (head + 1) * size)
            energy = np.exp(self.keys[:, part] @ query[part] / np.sqrt(size))
            weights = energy / energy.sum()
            context.append(weights @ self.features[:, part])
            attention += weights / self.config.heads
        context = np.concatenate(context) * sigmoid(self.dense("context_gate", h))
        hidden = np.tanh(self.dense("output_hidden", np.concatenate([h, context, word])))
        return hidden @ embedding.T + self.w["output_bias"], attention


def test_steps_against_numpy(decoder):
    grid, tokens = grids(), words(4, IMAGES)
    slow = [SlowDecoder(decoder, one.astype(np.float64)) for one in grid]
    state, memory = decoder.initial_state(grid)
    for before in tokens:
        logits, state, attention = decoder.step(before, state, memory)
        assert len(state) == len(decoder.cell.state_names)
        for i, one in enumerate(slow):
            expected_logits, expected_attention = one.step(before[i])
            np.testing.assert_allclose(np.asarray(logits)[i], expected_logits, atol=2e-5)
            np.testing.assert_allclose(np.asarray(attention)[i], expected_attention, atol=1e-5)
            for part, expected in zip(state, one.state, strict=True):
                np.testing.assert_allclose(np.asarray(part)[i], expected, atol=1e-5)


def test_teacher_forcing_equals_stepping(decoder):
    captions, steps = 3, 5
    grid, tokens = grids(), words(IMAGES, captions, steps)
    logits, attention = decoder(grid, tokens)
    assert logits.shape == (IMAGES, captions, steps, VOCABULARY)
    assert attention.shape == (IMAGES * captions, steps, POSITIONS)
    state, memory = decoder.initial_state(grid)
    state = tuple(ops.repeat(part, captions, axis=0) for part in state)
    for t in range(steps):
        at_once = np.asarray(logits)[:, :, t].reshape(-1, VOCABULARY)
        stepped, state, looked = decoder.step(tokens[:, :, t].reshape(-1), state, memory)
        assert np.abs(np.asarray(stepped) - at_once).max() < 1e-4
        np.testing.assert_allclose(np.asarray(looked), np.asarray(attention)[:, t], atol=1e-5)
    assert np.std(np.asarray(logits)) > 0.1


def test_rows_of_an_image_are_neighbours(decoder):
    """Two images with three beams each give what every beam gives alone with its image."""
    beams = 3
    grid, tokens = grids(), words(IMAGES * beams)
    state, memory = decoder.initial_state(grid)
    rng = np.random.default_rng(5)
    state = tuple(rng.normal(size=(IMAGES * beams, SIZES["units"])).astype(np.float32) for _ in state)
    logits, new_state, attention = decoder.step(tokens, state, memory)
    for row in range(IMAGES * beams):
        _, alone = decoder.initial_state(grid[row // beams : row // beams + 1])
        one, one_state, looked = decoder.step(tokens[row : row + 1], tuple(p[row : row + 1] for p in state), alone)
        np.testing.assert_allclose(np.asarray(logits)[row], np.asarray(one)[0], atol=1e-5)
        np.testing.assert_allclose(np.asarray(attention)[row], np.asarray(looked)[0], atol=1e-6)
        for part, expected in zip(new_state, one_state, strict=True):
            np.testing.assert_allclose(np.asarray(part)[row], np.asarray(expected)[0], atol=1e-6)


def test_attention_is_a_distribution_over_the_grid(decoder):
    _, attention = decoder(grids(), words(IMAGES, 2, 4))
    attention = np.asarray(attention)
    assert attention.dtype == np.float32 and attention.min() > 0
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-6)
    assert np.ptp(attention, axis=-1).min() > 1e-3


def test_what_is_seen_and_said_matters(decoder):
    tokens = words(IMAGES, 1, 4)
    logits = np.asarray(decoder(grids(), tokens)[0])
    assert np.abs(logits - np.asarray(decoder(grids(seed=9), tokens)[0])).max() > 1e-2
    # permuting the grid permutes the attention and changes nothing else
    permuted, attention = decoder(grids()[:, ::-1], tokens)
    np.testing.assert_allclose(np.asarray(permuted), logits, atol=1e-5)
    np.testing.assert_allclose(np.asarray(attention)[..., ::-1], np.asarray(decoder(grids(), tokens)[1]), atol=1e-5)
    # a later word changes nothing before it
    changed = tokens.copy()
    changed[:, :, 2] = (changed[:, :, 2] + 1) % VOCABULARY
    later = np.asarray(decoder(grids(), changed)[0])
    np.testing.assert_array_equal(later[:, :, :2], logits[:, :, :2])
    assert (np.abs(later[:, :, 2:] - logits[:, :, 2:]).max(axis=(1, 3)) > 1e-3).all()


def test_a_grid_may_have_rows_and_columns(decoder):
    tokens = words(IMAGES, 1, 2)
    square = grids().reshape(IMAGES, 2, 3, CHANNELS)
    np.testing.assert_array_equal(np.asarray(decoder(square, tokens)[0]), np.asarray(decoder(grids(), tokens)[0]))


def test_dropout_in_training_only(decoder):
    tokens = words(IMAGES, 1, 3)
    plain = [np.asarray(decoder(grids(), tokens)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*plain)
    dropped = [np.asarray(decoder(grids(), tokens, training=True)[0]) for _ in range(2)]
    assert np.abs(dropped[0] - dropped[1]).max() > 1e-3


def test_dropped_channels_are_missing_everywhere():
    sizes = {**SIZES, "memory_units": 40}
    made = Decoder(DecoderConfig(VOCABULARY, CHANNELS, memory_dropout=0, channel_dropout=0.5, **sizes))
    made.memory_projection.bias.assign(np.ones(40))  # few values are 0 by themselves
    (values, *_), (kept, *_) = (made.initial_state(grids(), training=training)[1] for training in (True, False))
    values, kept = np.asarray(values), np.asarray(kept)
    absent = (values == 0).all(axis=2)
    assert 0.2 < absent.mean() < 0.8
    assert not (absent[0] == absent[1]).all()
    present = np.broadcast_to(~absent[:, :, None], values.shape)
    np.testing.assert_allclose(values[present], 2 * kept[present], rtol=1e-5)


def test_gradients_reach_every_weight(decoder):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes the gradient with TensorFlow")
    import tensorflow as tf

    with tf.GradientTape() as tape:
        logits, _ = decoder(grids(), words(IMAGES, 2, 4))
        loss = ops.mean(ops.square(logits))
    variables = decoder.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    # every query meets the same offset of the keys, and a softmax does not feel that
    unfelt = {"decoder/key_projection/bias", "key_projection/bias"}
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        if variable.path not in unfelt:
            assert np.abs(np.asarray(tf.convert_to_tensor(gradient))).max() > 1e-7, variable.path


def test_configuration():
    config = DecoderConfig(VOCABULARY, cell="gru")
    assert DecoderConfig(**config.to_dict()) == config
    with pytest.raises(CaptionerError, match=r"memory_units \(9\) must be a multiple of heads \(2\)"):
        DecoderConfig(VOCABULARY, memory_units=9, heads=2)
    with pytest.raises(CaptionerError, match="cell has the unknown value"):
        DecoderConfig(VOCABULARY, cell="transformer")
