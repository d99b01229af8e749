"""The clip network: NumPy equals Keras equals a slow reference, lengths do not matter, every weight learns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clip_makers import network_weights

from captioner.clips.head import (
    BASELINES,
    CELLS,
    STREAMS,
    ClipConfig,
    ClipEnsemble,
    ClipHead,
    averaged_probabilities,
    frame_inputs,
    grid_change,
    pad,
)
from captioner.clips.motion import MOTION_SIZE
from captioner.errors import CaptionerError, ModelLoadError
from captioner.schema import decode

SMALL = {"channels": 5, "projection": 4, "units": 3}


def random_clip(config: ClipConfig, frames: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 2, (frames, config.width(name))).astype(np.float32) for name in config.streams}


def slow_logits(config: ClipConfig, w: dict[str, np.ndarray], clip: dict[str, np.ndarray]) -> np.ndarray:
    """One clip, one frame and one number at a time, in float64, from the equations."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    w = {name: value.astype(np.float64) for name, value in w.items()}
    frames = []
    for t in range(len(clip[config.streams[0]])):
        row = []
        for name in config.streams:
            x = np.minimum(np.maximum((clip[name][t] - w[f"{name}/mean"]) * w[f"{name}/scale"], -5), 5)
            row += [max(0.0, v) for v in x @ w[f"{name}/kernel"] + w[f"{name}/bias"]]
        frames.append(np.array(row))
    if config.cell == "mean":
        summary = sum(frames) / len(frames)
    elif config.cell == "single_frame":
        summary = frames[(len(frames) - 1) // 2]
    else:
        h = c = np.zeros(config.units)
        states = []
        n = config.units
        for x in frames:
            a = x @ w["cell/kernel"] + w["cell/bias"]
            b = h @ w["cell/recurrent_kernel"]
            if config.cell == "simple_rnn":
                h = np.tanh(a + b)
            elif config.cell == "gru":
                b = b + w["cell/recurrent_bias"]
                z, r = sigmoid(a[:n] + b[:n]), sigmoid(a[n : 2 * n] + b[n : 2 * n])
                h = z * h + (1 - z) * np.tanh(a[2 * n :] + r * b[2 * n :])
            else:
                i, f, g, o = (a + b)[:n], (a + b)[n : 2 * n], (a + b)[2 * n : 3 * n], (a + b)[3 * n :]
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            states.append(h)
        scores = np.array(
            [np.tanh(h @ w["attention/kernel"] + w["attention/bias"]) @ w["attention/query"] for h in states]
        )
        weights = np.exp(scores) / np.exp(scores).sum()
        summary = sum(a * h for a, h in zip(weights, states, strict=True))
    return summary @ w["output/kernel"] + w["output/bias"]


@pytest.mark.parametrize("cell", [*CELLS, *BASELINES])
@pytest.mark.parametrize("streams", [STREAMS, ("appearance",)])
def test_numpy_head_equals_the_equations(cell, streams):
    config = ClipConfig(3, cell, streams, **SMALL)
    weights = network_weights(config)
    clips = [random_clip(config, frames, seed) for seed, frames in enumerate((6, 1, 3))]
    logits, attention = ClipHead(config, weights)(*pad(clips))
    for row, clip in zip(logits, clips, strict=True):
        np.testing.assert_allclose(row, slow_logits(config, weights, clip), atol=1e-5)
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-6)
    assert (attention[1, 1:] == 0).all() and (attention[2, 3:] == 0).all()


@pytest.mark.parametrize("cell", [*CELLS, *BASELINES])
def test_numpy_head_equals_keras(cell):
    from captioner.clips.network import ClipNetwork

    config = ClipConfig(4, cell, **SMALL)
    network = ClipNetwork(config)
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.normal(0.1, 0.6, variable.shape))
    inputs, mask = pad([random_clip(config, frames, seed) for seed, frames in enumerate((5, 2, 4))])
    head = ClipHead(config, network.numpy_weights())
    logits, attention = head(inputs, mask)
    outputs = network({**inputs, "mask": mask})
    np.testing.assert_allclose(np.asarray(outputs["logits"]), logits, atol=2e-5)
    np.testing.assert_allclose(np.asarray(outputs["attention"]), attention, atol=1e-5)


@pytest.mark.parametrize("cell", [*CELLS, *BASELINES])
def test_length_of_the_batch_does_not_matter(cell):
    config = ClipConfig(3, cell, **SMALL)
    head = ClipHead(config, network_weights(config))
    clips = [random_clip(config, frames, seed) for seed, frames in enumerate((7, 1, 4))]
    together = head(*pad(clips, 12))[0]
    alone = np.concatenate([head(*pad([clip]))[0] for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_order_matters_to_recurrent_cells(cell):
    config = ClipConfig(3, cell, **SMALL)
    head = ClipHead(config, network_weights(config))
    clip = random_clip(config, 6, 0)
    backwards = {name: value[::-1] for name, value in clip.items()}
    forward, reverse = head(*pad([clip, backwards]))[0]
    assert np.abs(forward - reverse).max() > 1e-2


def test_order_does_not_matter_to_the_mean():
    config = ClipConfig(3, "mean", **SMALL)
    head = ClipHead(config, network_weights(config))
    clip = random_clip(config, 6, 0)
    forward, reverse = head(*pad([clip, {name: value[::-1] for name, value in clip.items()}]))[0]
    np.testing.assert_allclose(forward, reverse, atol=1e-5)


def test_every_weight_gets_a_gradient():
    import tensorflow as tf

    from captioner.clips.network import ClipNetwork

    config = ClipConfig(3, "gru", **SMALL)
    network = ClipNetwork(config)
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(0.1, 0.5, variable.shape))
    inputs, mask = pad([random_clip(config, 4, 0), random_clip(config, 2, 1)])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network({**inputs, "mask": mask})["logits"]))
    for variable, gradient in zip(
        network.trainable_variables, tape.gradient(loss, [v.value for v in network.trainable_variables]), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.path


def test_standardise_uses_real_frames_only():
    from captioner.clips.network import ClipNetwork

    config = ClipConfig(2, "mean", ("appearance",), **SMALL)
    network = ClipNetwork(config)
    clips = [random_clip(config, 3, 0), random_clip(config, 8, 1)]
    clips[0]["appearance"][:, 2] = clips[1]["appearance"][:, 2] = 7.0  # never moves
    network.standardise(*pad(clips))
    rows = np.concatenate([clip["appearance"] for clip in clips])
    weights = network.numpy_weights()
    np.testing.assert_allclose(weights["appearance/mean"], rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(weights["appearance/scale"][[0, 1, 3, 4]], 1 / rows.std(axis=0)[[0, 1, 3, 4]], rtol=1e-4)
    assert weights["appearance/scale"][2] < 20


def test_frame_inputs():
    pooled = np.array([[1, 5], [4, 5], [2, 9]], np.float16)
    motion = np.ones((3, MOTION_SIZE))
    inputs = frame_inputs(("appearance", "change", "motion"), pooled, motion)
    np.testing.assert_array_equal(inputs["change"], [[0, 0], [3, 0], [2, 4]])
    assert all(value.dtype == np.float32 for value in inputs.values())
    with pytest.raises(ValueError, match="grid_change"):
        frame_inputs(("grid_change",), pooled)


def test_grid_change_is_the_largest_over_the_places():
    before = np.array([[[1, 1], [5, 5]]], np.float16)
    after = np.array([[[2, 1], [2, 9]]], np.float16)
    np.testing.assert_array_equal(grid_change(before, after), [[3, 4]])


def test_averaged_probabilities_average_members_and_survive_large_logits():
    logits = np.array([[[1000.0, 0.0]], [[0.0, 1000.0]]])
    np.testing.assert_allclose(averaged_probabilities(logits, 1.0), [[0.5, 0.5]])
    warm = averaged_probabilities(np.array([[[2.0, 0.0]]]), 2.0)
    np.testing.assert_allclose(warm[0, 0], 1 / (1 + np.exp(-1.0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cell": "transformer"},
        {"streams": ()},
        {"streams": ("sound",)},
        {"streams": ("motion", "motion")},
        {"classes": 1},
        {"units": 10**6},
        {"channels": 0},
        {"projection": "64"},
    ],
)
def test_wrong_settings(wrong):
    (name,) = wrong
    with pytest.raises(CaptionerError, match=name):
        ClipConfig(**{"classes": 2, **wrong})


def test_settings_survive_json():

    config = ClipConfig(3, "lstm", ("appearance", "motion"), 10, 4, 6)
    assert decode(json.dumps(config.to_dict()), ClipConfig, "x") == config
    with pytest.raises(ModelLoadError, match="x: cell must be text"):
        decode(json.dumps({**config.to_dict(), "cell": 7}), ClipConfig, "x")


@pytest.mark.parametrize("change", ["lacks", "other", "shape"])
def test_weights_are_accounted_for(change):
    config = ClipConfig(3, **SMALL)
    weights = network_weights(config)
    if change == "lacks":
        del weights["output/bias"]
    elif change == "other":
        weights["output/other"] = np.zeros(3)
    else:
        weights["output/bias"] = np.zeros(4)
    with pytest.raises(ModelLoadError, match=r"somewhere: .*output/"):
        ClipHead(config, weights, "somewhere")


@pytest.mark.parametrize("cell", [*CELLS, *BASELINES])
def test_networks_computed_together_give_what_each_gives(cell):
    config = ClipConfig(3, cell, ("appearance", "motion"), **SMALL)
    heads = [ClipHead(config, network_weights(config, seed)) for seed in range(4)]
    inputs, mask = pad([random_clip(config, frames, frames) for frames in (7, 1, 4)])
    together = ClipEnsemble(heads)(inputs, mask)
    assert together.shape == (4, 3, 3)
    for one, head in zip(together, heads, strict=True):
        np.testing.assert_allclose(one, head(inputs, mask)[0], rtol=1e-5, atol=1e-5)
