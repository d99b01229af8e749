"""The clip classifier for training: projected frames, a recurrent cell, attention pooling, a softmax."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from captioner.clips.head import BASELINES, CLIP, ClipConfig, weight_shapes
from captioner.models.recurrent import make_cell


class _Stream(keras.layers.Layer):
    """Standardises the vectors of one stream with fixed statistics and projects them."""

    def __init__(self, width: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.mean = self.add_weight(name="mean", shape=(width,), initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(width,), initializer="ones", trainable=False)
        self.kernel = self.add_weight(name="kernel", shape=(width, units), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.built = True

    def call(self, x):
        x = ops.clip((x - self.mean) * self.scale, -CLIP, CLIP)
        return ops.relu(ops.matmul(x, self.kernel) + self.bias)


class _Attention(keras.layers.Layer):
    """Additive attention over time (Bahdanau et al. 2015) with one learned query."""

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.kernel = self.add_weight(name="kernel", shape=(units, units), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        # Zeros: training starts from the mean over time.
        self.query = self.add_weight(name="query", shape=(units,), initializer="zeros")
        self.built = True

    def call(self, hidden, mask):
        scores = ops.tanh(ops.matmul(hidden, self.kernel) + self.bias)
        scores = ops.sum(scores * self.query, axis=-1)
        return ops.softmax(ops.where(mask, scores, -1e9), axis=-1)


class ClipNetwork(keras.Model):
    """Names what happens in a clip, from measurements on its frames.

    Args:
        config: Cell, streams and sizes.
        dropout: Share of the projected values, and of the pooled state, that is dropped in training.
    """

    def __init__(self, config: ClipConfig, dropout: float = 0.0):
        super().__init__(name="clip_network")
        self.config = config
        self.streams = [_Stream(config.width(name), config.projection, name=name) for name in config.streams]
        hidden = config.projection * len(config.streams)
        self.cell = self.attention = None
        if config.cell not in BASELINES:
            self.cell = make_cell(config.cell, config.units, name="cell")
            self.cell.build(hidden)
            self.attention = _Attention(config.units, name="attention")
            hidden = config.units
        self.dropout = keras.layers.SpatialDropout1D(dropout)
        self.output_dropout = keras.layers.Dropout(dropout)
        self.output_layer = keras.layers.Dense(config.classes, name="output")
        self.output_layer.build((None, hidden))
        self.built = True

    def call(self, inputs, training=False):
        """The classes of clips of different lengths; what follows the end of a clip has no influence.

        Args:
            inputs: ``mask`` (N, T), True where a frame is, and each stream (N, T, width).
            training: Whether to drop.

        Returns:
            ``logits`` (N, classes) and ``attention`` over the frames (N, T), which sums to 1.
        """
        mask = ops.cast(inputs["mask"], "bool")
        parts = [stream(inputs[name]) for name, stream in zip(self.config.streams, self.streams, strict=True)]
        hidden = self.dropout(ops.concatenate(parts, axis=-1), training=training)
        if self.cell is None:
            attention = self._baseline_attention(mask)
        else:
            hidden = self._recur(hidden, mask)
            attention = self.attention(hidden, mask)
        summary = ops.sum(attention[..., None] * hidden, axis=1)
        return {"logits": self.output_layer(self.output_dropout(summary, training=training)), "attention": attention}

    def _recur(self, x, mask):
        projected = self.cell.project(x)
        state = tuple(ops.zeros((ops.shape(x)[0], self.config.units)) for _ in self.cell.state_names)
        states = []
        for step in range(x.shape[1]):
            here = mask[:, step, None]
            new = self.cell.advance(projected[:, step], state)
            state = tuple(ops.where(here, after, before) for after, before in zip(new, state, strict=True))
            states.append(state[0])
        return ops.stack(states, axis=1)

    def _baseline_attention(self, mask):
        present = ops.cast(mask, "float32")
        lengths = ops.sum(present, axis=1, keepdims=True)
        if self.config.cell == "mean":
            return present / lengths
        middle = ops.floor((lengths - 1) / 2)
        return ops.cast(ops.equal(ops.cast(ops.arange(mask.shape[1]), "float32")[None], middle), "float32")

    def standardise(self, inputs: Mapping[str, np.ndarray], mask: np.ndarray) -> None:
        """Takes mean and spread of each stream from training clips (N, T, width) with their mask (N, T)."""
        for stream in self.streams:
            values = inputs[stream.name][mask].astype(np.float64)
            stream.mean.assign(values.mean(axis=0))
            # A channel that never moves would blow up when it does at last.
            spread = values.std(axis=0)
            stream.scale.assign(1 / np.maximum(spread, max(0.1 * float(spread.mean()), 1e-6)))

    def numpy_weights(self) -> dict[str, np.ndarray]:
        """``layer/variable`` to array, as `captioner.clips.head.ClipHead` takes them."""
        layers = {layer.name: layer for layer in [*self.streams, self.cell, self.attention, self.output_layer] if layer}
        weights = {
            f"{name}/{v.name}": np.array(ops.convert_to_numpy(v))
            for name, layer in layers.items()
            for v in layer.weights
        }
        return {name: weights[name] for name in weight_shapes(self.config)}
