"""The decoder: a recurrent network with attention over the encoder grid that writes a caption word by word.

One step serves training, search, scoring and export. Attention is multi-head (Vaswani et al. 2017) or additive (Bahdanau
et al. 2015; Xu et al. 2015, with their sigmoid gate on the context); the word embedding is also the output matrix
(Press & Wolf 2017).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import keras
from keras import ops

from captioner.models.recurrent import make_cell

ATTENTIONS = ("multi_head", "additive")


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        vocabulary_size: Number of tokens, special ones included.
        grid_channels: Channels of the encoder grid.
        cell: ``lstm``, ``gru`` or ``simple_rnn``.
        units: Size of the recurrent state.
        embedding_units: Size of a word embedding.
        memory_units: Channels to which the grid is projected.
        attention: ``multi_head`` or ``additive``.
        heads: Number of heads of multi-head attention.
        dropout: Share of embeddings and outputs dropped in training, 0..1.
        memory_dropout: Share of the grid's channels dropped in training, 0..1.
    """

    vocabulary_size: int
    grid_channels: int = 1280
    cell: str = "lstm"
    units: int = 512
    embedding_units: int = 300
    memory_units: int = 512
    attention: str = "multi_head"
    heads: int = 8
    dropout: float = 0.5
    memory_dropout: float = 0.3

    def __post_init__(self):
        if self.attention not in ATTENTIONS:
            raise ValueError(f"unknown attention {self.attention!r}; known: {', '.join(ATTENTIONS)}")
        if self.memory_units % self.heads:
            raise ValueError(f"memory_units ({self.memory_units}) must be a multiple of heads ({self.heads})")

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


class Decoder(keras.Model):
    """The attention decoder; see `step` for one step and `call` for teacher forcing."""

    def __init__(self, config: DecoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        c = config
        dense = keras.layers.Dense
        self.memory_projection = dense(c.memory_units, activation="relu", name="memory_projection")
        self.memory_drop = keras.layers.Dropout(c.memory_dropout, name="memory_dropout")
        self.key_projection = dense(c.memory_units, name="key_projection")
        self.query_projection = dense(c.memory_units, name="query_projection")
        if c.attention == "additive":
            self.energy = dense(1, use_bias=False, name="energy")
        self.context_gate = dense(c.memory_units, activation="sigmoid", name="context_gate")
        self.cell = make_cell(c.cell, c.units, name="cell")
        self.start_state = [
            dense(c.units, activation="tanh", name=f"start_{part}") for part in self.cell.state_names
        ]
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
        if c.attention == "additive":
            self.energy.build((None, None, None, c.memory_units))
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
            ``(state, memory)``: state is a tuple of (images, units); memory is ``(values, keys)``, each (images,
            positions, memory_units), computed once per image and the same in every step.
        """
        if len(grid.shape) == 4:
            grid = ops.reshape(grid, (-1, grid.shape[1] * grid.shape[2], grid.shape[3]))
        values = self.memory_drop(self.memory_projection(grid), training=training)
        mean = ops.mean(values, axis=1)
        state = tuple(layer(mean) for layer in self.start_state)
        return state, (values, self.key_projection(values))

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
        words = self.embedding(tokens)
        state, context, attention = self._advance(self.cell.project(words), state, memory)
        return self._logits(state[0], context, words), state, ops.cast(attention, "float32")

    def call(self, grid, tokens, training: bool = False):
        """Teacher forcing: logits for every word of given captions.

        Args:
            grid: Encoder grid (images, rows, columns, channels).
            tokens: Input tokens (images, captions, steps), int32, beginning with the start token.
            training: Whether dropout applies.

        Returns:
            ``(logits, attention)``: (images, captions, steps, vocabulary) float32 and (images * captions, steps,
            positions) float32.
        """
        captions, steps = tokens.shape[1], tokens.shape[2]
        state, memory = self.initial_state(grid, training=training)
        state = tuple(ops.repeat(part, captions, axis=0) for part in state)
        words = self.embedding_drop(self.embedding(ops.reshape(tokens, (-1, steps))), training=training)
        projected = self.cell.project(words)
        outputs, contexts, attentions = [], [], []
        for t in range(steps):
            state, context, attention = self._advance(projected[:, t], state, memory)
            outputs.append(state[0])
            contexts.append(context)
            attentions.append(attention)
        logits = self._logits(ops.stack(outputs, 1), ops.stack(contexts, 1), words, training)
        logits = ops.reshape(logits, (-1, captions, steps, self.config.vocabulary_size))
        return logits, ops.cast(ops.stack(attentions, 1), "float32")

    def _advance(self, projected_words, state, memory):
        context, attention = self._attend(state[0], memory)
        projected = projected_words + self.cell.project(context, first=self.config.embedding_units)
        return self.cell.advance(projected, state), context, attention

    def _attend(self, h, memory):
        """Context (rows, memory_units) and attention (rows, positions) for states h (rows, units)."""
        values, keys = memory
        positions, width = values.shape[1], values.shape[2]
        gate = self.context_gate(h)
        query = self.query_projection(h)
        if self.config.attention == "additive":
            # rows of one image lie beside each other: (images, rows per image, 1, width) against (images, 1, positions, width)
            query = ops.reshape(query, (ops.shape(values)[0], -1, 1, width))
            weights = ops.softmax(self.energy(ops.tanh(keys[:, None] + query))[..., 0], axis=-1)
            context = ops.matmul(weights, values)
            attention = weights
        else:
            heads, size = self.config.heads, width // self.config.heads
            query = ops.reshape(query, (ops.shape(values)[0], -1, heads, size))
            query = ops.transpose(query, (0, 2, 1, 3))
            keys = ops.transpose(ops.reshape(keys, (-1, positions, heads, size)), (0, 2, 3, 1))
            split = ops.transpose(ops.reshape(values, (-1, positions, heads, size)), (0, 2, 1, 3))
            weights = ops.softmax(ops.matmul(query, keys) / math.sqrt(size), axis=-1)
            context = ops.transpose(ops.matmul(weights, split), (0, 2, 1, 3))
            attention = ops.mean(weights, axis=1)
        return gate * ops.reshape(context, (-1, width)), ops.reshape(attention, (-1, positions))

    def _logits(self, h, context, words, training: bool = False):
        hidden = self.output_hidden(ops.concatenate([h, context, words], axis=-1))
        hidden = self.output_drop(hidden, training=training)
        matrix = ops.transpose(ops.cast(self.embedding.embeddings, hidden.dtype))
        return ops.cast(ops.matmul(hidden, matrix), "float32") + ops.cast(self.output_bias, "float32")
