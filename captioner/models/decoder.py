"""The decoder: a recurrent network with attention over what an encoder saw or read, which writes word by word.

It captions photos, where the encoder gives a grid of positions, and translates, where it gives a position for every
word that was read.

One step serves training, search, scoring and export. The recurrent state of a step asks the grid where to look (Luong
et al. 2015; for captions Lu et al. 2017), with several heads (Vaswani et al. 2017); a gate on what was seen lets words
such as "of" come from language alone (Xu et al. 2015). The word embedding is also the output matrix (Press & Wolf
2017).

As the state does not depend on where the decoder looked before, teacher forcing computes the attention of all steps at
once; only the recurrence itself goes word by word.
"""

from __future__ import annotations

import math

import keras
from keras import ops

from captioner.models.decoder_config import DecoderConfig
from captioner.models.recurrent import make_cell, recur


class Decoder(keras.Model):
    """The attention decoder; see `step` for one step and `call` for teacher forcing."""

    def __init__(self, config: DecoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        c = config
        dense = keras.layers.Dense
        self.memory_projection = dense(c.memory_units, activation="relu", name="memory_projection")
        self.channel_drop = keras.layers.SpatialDropout1D(c.channel_dropout, name="channel_dropout")
        self.memory_drop = keras.layers.Dropout(c.memory_dropout, name="memory_dropout")
        self.key_projection = dense(c.memory_units, name="key_projection")
        self.query_projection = dense(c.memory_units, name="query_projection")
        self.context_gate = dense(c.memory_units, activation="sigmoid", name="context_gate")
        self.cell = make_cell(c.cell, c.units, name="cell")
        self.start_state = [dense(c.units, activation="tanh", name=f"start_{part}") for part in self.cell.state_names]
        self.embedding = keras.layers.Embedding(
            c.vocabulary_size, c.embedding_units, embeddings_initializer=keras.initializers.RandomNormal(0.0, 0.05),
            name="embedding",
        )  # fmt: skip
        self.embedding_drop = keras.layers.Dropout(c.dropout, name="embedding_dropout")
        self.output_hidden = dense(c.embedding_units, activation="tanh", name="output_hidden")
        self.output_drop = keras.layers.Dropout(c.dropout, name="output_dropout")
        self.output_bias = self.add_weight(name="output_bias", shape=(c.vocabulary_size,), initializer="zeros")
        self._build_layers()

    def _build_layers(self):
        c = self.config
        self.memory_projection.build((None, None, c.grid_channels))
        self.key_projection.build((None, None, c.memory_units))
        self.query_projection.build((None, None, c.units))
        self.context_gate.build((None, None, c.units))
        self.cell.build(c.embedding_units + c.memory_units)
        for layer in self.start_state:
            layer.build((None, c.memory_units))
        self.embedding.build((None,))
        self.output_hidden.build((None, None, c.units + c.memory_units + c.embedding_units))
        self.built = True

    def initial_state(self, grid, training: bool = False):
        """What a caption starts from.

        Args:
            grid: Encoder grid (images, positions, channels) or (images, rows, columns, channels).
            training: Whether dropout applies.

        Returns:
            ``(state, memory)``: state is a tuple of (images, units); memory is what does not change from step to step:
            values (images, heads, positions, size), keys (images, heads, size, positions) and the share of the
            recurrent input that comes from the whole image (images, gates * units).
        """
        if len(grid.shape) == 4:
            grid = ops.reshape(grid, (-1, grid.shape[1] * grid.shape[2], grid.shape[3]))
        features = self.channel_drop(self.memory_projection(grid), training=training)
        features = self.memory_drop(features, training=training)
        mean = ops.mean(features, axis=1)
        state = tuple(layer(mean) for layer in self.start_state)
        values = ops.transpose(self._split_heads(features), (0, 2, 1, 3))
        keys = ops.transpose(self._split_heads(self.key_projection(features)), (0, 2, 3, 1))
        return state, (values, keys, self.cell.project(mean, first=self.config.embedding_units))

    def step(self, tokens, state, memory):
        """One step of decoding.

        Args:
            tokens: The previous word of every caption (rows,), int32. Rows of one image are neighbours: rows is a
                multiple of the number of images in ``memory``.
            state: From `initial_state` (repeated for several rows per image) or the step before.
            memory: From `initial_state`.

        Returns:
            ``(logits, state, attention)``: (rows, vocabulary) float32, the next state, (rows, positions) float32 with
            rows summing to 1.
        """
        words = self.embed(tokens)
        from_image = ops.repeat(memory[2], ops.shape(words)[0] // ops.shape(memory[2])[0], axis=0)
        state = self.cell.advance(self.cell.project(words) + from_image, state)
        context, attention = self._attend(state[0], memory)
        return self._logits(state[0], context, words), state, ops.cast(attention, "float32")

    def call(self, grid, tokens, among=None, training: bool = False):
        """Teacher forcing: logits for every word of given captions.

        Args:
            grid: Encoder grid (images, rows, columns, channels) or (images, positions, channels).
            tokens: Input tokens (images, captions, steps), int32, beginning with the start token.
            among: Tokens (n,) int32 that the next word can be, whose logits are wanted; None for all.
            training: Whether dropout applies.

        Returns:
            ``(logits, attention)``: (images, captions, steps, vocabulary) float32 and (images * captions, steps,
            positions) float32.
        """
        captions, steps = ops.shape(tokens)[1:]
        state, memory = self.initial_state(grid, training=training)
        state = tuple(ops.repeat(part, captions, axis=0) for part in state)
        words = self.embedding_drop(self.embed(ops.reshape(tokens, (-1, steps))), training=training)
        projected = self.cell.project(words) + ops.repeat(memory[2], captions, axis=0)[:, None]
        h = recur(self.cell, projected, state)
        context, attention = self._attend(ops.reshape(h, (-1, self.config.units)), memory)
        context = ops.reshape(context, (-1, steps, self.config.memory_units))
        logits = self._logits(h, context, words, among, training)
        logits = ops.reshape(logits, (-1, captions, steps, logits.shape[-1] or ops.shape(among)[0]))
        return logits, ops.cast(ops.reshape(attention, (-1, steps, ops.shape(attention)[-1])), "float32")

    def embed(self, tokens):
        """Embeddings (..., embedding_units) of tokens (...), as the cell reads them."""
        # As the output matrix the embedding is small; as an input it gets unit variance (Vaswani et al. 2017).
        return self.embedding(tokens) * math.sqrt(self.config.embedding_units)

    def _attend(self, h, memory):
        """Context (rows, memory_units) and attention (rows, positions) for states h (rows, units), image by image."""
        values, keys, _ = memory
        size, positions = keys.shape[2], ops.shape(keys)[3]
        query = ops.reshape(self.query_projection(h), (ops.shape(values)[0], -1, self.config.heads, size))
        query = ops.transpose(query, (0, 2, 1, 3))
        weights = ops.softmax(ops.matmul(query, keys) / math.sqrt(size), axis=-1)
        context = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        attention = ops.reshape(ops.mean(weights, axis=1), (-1, positions))
        return self.context_gate(h) * ops.reshape(context, (-1, self.config.memory_units)), attention

    def _split_heads(self, x):
        """(images, positions, memory_units) to (images, positions, heads, size)."""
        return ops.reshape(x, (-1, ops.shape(x)[1], self.config.heads, self.config.memory_units // self.config.heads))

    def _logits(self, h, context, words, among=None, training: bool = False):
        hidden = self.output_hidden(ops.concatenate([h, context, words], axis=-1))
        hidden = self.output_drop(hidden, training=training)
        matrix, bias = self.embedding.embeddings, ops.cast(self.output_bias, "float32")
        if among is not None:
            matrix, bias = ops.take(matrix, among, axis=0), ops.take(bias, among, axis=0)
        return ops.cast(ops.matmul(hidden, ops.transpose(ops.cast(matrix, hidden.dtype))), "float32") + bias
