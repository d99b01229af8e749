"""The translator as it is trained: a bidirectional encoder (Schuster & Paliwal 1997) and the attention decoder.

Sentences that are read together have the same number of tokens, so that nothing has to be masked. Words that are read
and words that are written share one embedding (Press & Wolf 2017).
"""

from __future__ import annotations

import keras
from keras import ops

from captioner.models.decoder import Decoder
from captioner.models.recurrent import make_cell, recur
from captioner.translation.config import SentenceEncoderConfig, TranslatorConfig


class SentenceEncoder(keras.Model):
    """Reads sentences forwards and backwards.

    Args:
        config: Sizes.
        embedding_units: Size of the embedding of a word.
    """

    def __init__(self, config: SentenceEncoderConfig, embedding_units: int, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.drop = keras.layers.Dropout(config.dropout, name="dropout")
        self.forward = make_cell(config.cell, config.units, name="forward")
        self.backward = make_cell(config.cell, config.units, name="backward")
        for cell in (self.forward, self.backward):
            cell.build(embedding_units)
        self.built = True

    def call(self, words, training: bool = False):
        """What was read around every word.

        Args:
            words: Embeddings (sentences, tokens, embedding_units).
            training: Whether dropout applies.

        Returns:
            (sentences, tokens, 2 * units).
        """
        words = self.drop(words, training=training)
        return ops.concatenate([self._read(self.forward, words), self._read(self.backward, words, True)], axis=-1)

    def _read(self, cell, words, backwards: bool = False):
        projected = cell.project(ops.flip(words, axis=1) if backwards else words)
        start = ops.zeros_like(projected[:, 0, : cell.units])
        outputs = recur(cell, projected, tuple(start for _ in cell.state_names))
        return ops.flip(outputs, axis=1) if backwards else outputs


class TranslationNetwork(keras.Model):
    """Encoder and decoder.

    Args:
        config: Sizes.
    """

    def __init__(self, config: TranslatorConfig, **kwargs):
        super().__init__(**kwargs)
        self.decoder = Decoder(config.decoder, name="decoder")
        self.encoder = SentenceEncoder(config.encoder, config.decoder.embedding_units, name="encoder")
        self.built = True

    def call(self, inputs, training: bool = False):
        """Teacher forcing.

        Args:
            inputs: ``source`` (sentences, tokens) int32, ``tokens`` (sentences, 1, steps) int32 beginning with the
                start token of the language, ``among`` (n,) int32: what can be written in that language.
            training: Whether dropout applies.

        Returns:
            Logits (sentences, 1, steps, n), float32.
        """
        read = self.encoder(self.decoder.embed(inputs["source"]), training=training)
        return self.decoder(read, inputs["tokens"], among=inputs["among"], training=training)[0]
