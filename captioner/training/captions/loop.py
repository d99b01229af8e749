"""What every stage of captioner training shares: the loss."""

from __future__ import annotations

import keras
from keras import ops

from captioner.models.decoder import Decoder
from captioner.training.captions.options import StageOptions
from captioner.training.loop import word_loss


class CaptionTrainingModel(keras.Model):
    """Decoder, and encoder if it is to be trained, with the loss that all stages share.

    The loss is `captioner.training.loop.word_loss`: cross-entropy where the weights are positive, and the policy
    gradient of self-critical training (Rennie et al. 2017) where they are the advantages of samples.

    Args:
        decoder: The decoder.
        encoder: The encoder, or None to train on cached grids.
        options: ``attention_weight`` and ``tag_weight`` are used.
        tags: A layer from the pooled grid to the log-odds of the tags, or None.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoder: keras.Model | None,
        options: StageOptions,
        tags: keras.layers.Layer | None = None,
    ):
        super().__init__()
        self.decoder = decoder
        self.encoder = encoder
        self.options = options
        self.tags = tags

    def call(self, inputs, training=False):
        """From ``tokens`` (B, K, T) and ``grid`` or ``images`` to ``logits``, ``attention``, ``tags``."""
        outputs = {}
        if self.encoder is None:
            grid = inputs["grid"]
        else:
            encoded = self.encoder(inputs["images"], training=training)
            grid = encoded["grid"]
            if self.tags is not None:
                outputs["tags"] = self.tags(encoded["pooled"])
        outputs["logits"], outputs["attention"] = self.decoder(grid, inputs["tokens"], training=training)
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """For ``y``: ``targets`` and ``weights`` (B, K, T), ``smoothing`` (B, K, 1); perhaps ``used`` (B, tags) and
        ``shares`` (B, 1).
        """
        loss = word_loss(y_pred["logits"], y["targets"], y["weights"], y["smoothing"])
        if self.options.attention_weight:
            loss += self.options.attention_weight * self._uneven_attention(y_pred["attention"], y["weights"])
        if self.options.tag_weight and "used" in y:
            loss += self.options.tag_weight * self._wrong_tags(y_pred["tags"], y["used"], y["shares"])
        return loss

    @staticmethod
    def _wrong_tags(odds, used, shares):
        """Cross-entropy of the tags, summed over them: log-odds (B, tags) that one of five people uses a word, whether
        somebody did (B, tags), and of five captions, how many the photo has (B, 1), as in `fit_tags`.
        """
        unused = -shares * ops.softplus(ops.cast(odds, "float32"))  # log-probability that nobody uses it
        said = ops.log(ops.maximum(-ops.expm1(unused), 1e-6))
        return -ops.mean(ops.sum(used * said + (1 - used) * unused, axis=-1))

    @staticmethod
    def _uneven_attention(attention, weights):
        """Doubly stochastic attention (Xu et al. 2015): how unevenly a caption's words cover the grid."""
        steps = attention.shape[1]
        mask = ops.reshape(ops.cast(weights != 0, "float32"), (-1, steps, 1))
        covered = ops.sum(attention * mask, axis=1)
        even = ops.mean(covered, axis=-1, keepdims=True) + 1e-6
        return ops.mean(ops.square(covered / even - 1.0))
