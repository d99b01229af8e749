"""What every stage of captioner training shares: the loss, the optimiser, averaging, and the way through the epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from keras import ops

from captioner.captions.decoder import Decoder
from captioner.errors import CaptionerError
from captioner.training.captions.options import StageOptions
from captioner.training.checkpoint import Checkpoint, TrainingLog


class CaptionTrainingModel(keras.Model):
    """Decoder, and encoder if it is to be trained, with the loss that all stages share.

    The loss is the sum over target words of ``weight * ((1 - s) * -log p(word) + s * mean of -log p)``, the mean being
    over the vocabulary: cross-entropy with label smoothing s (Szegedy et al. 2016) where the weights are positive, and
    the policy gradient of self-critical training (Rennie et al. 2017) where they are the advantages of samples.

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
        logprobs = ops.log_softmax(y_pred["logits"], axis=-1)
        nll = -ops.squeeze(ops.take_along_axis(logprobs, y["targets"][..., None], axis=-1), axis=-1)
        smoothing = y["smoothing"]
        loss = ops.sum(y["weights"] * ((1 - smoothing) * nll - smoothing * ops.mean(logprobs, axis=-1)))
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


@keras.saving.register_keras_serializable("captioner")
class TwoRateAdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter 2019) that multiplies the rate of some variables by a factor.

    Args:
        slow: The variables with the other rate.
        factor: What their rate is multiplied by.
    """

    def __init__(self, *args, slow: Iterable = (), factor: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self._slow_variables = list(slow)
        self._factor = factor

    def build(self, variables):
        """Creates the slots and notes which variables are slow."""
        super().build(variables)
        self._slow = {self._get_variable_index(variable) for variable in self._slow_variables}

    def update_step(self, gradient, variable, learning_rate):
        """One AdamW step."""
        slow = self._get_variable_index(variable) in self._slow
        rate = learning_rate * self._factor if slow else learning_rate
        super().update_step(gradient, variable, rate)


def make_optimizer(options: StageOptions, steps_per_epoch: int, encoder_variables=()) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine (Loshchilov & Hutter 2017), clipping by global norm and a moving average."""
    steps = max(1, options.epochs * steps_per_epoch)
    warmup = min(steps - 1, round(steps * options.warmup))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else options.learning_rate,
        decay_steps=steps - warmup,
        alpha=options.final_rate,
        warmup_target=options.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = TwoRateAdamW(
        schedule,
        weight_decay=options.weight_decay,
        global_clipnorm=options.clip_norm,
        beta_2=0.99,
        use_ema=True,
        ema_momentum=options.average,
        ema_overwrite_frequency=None,
        slow=encoder_variables,
        factor=options.encoder_rate,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


@contextmanager
def averaged_weights(model: CaptionTrainingModel):
    """Within this context the trainable weights are their moving averages."""
    variables = model.trainable_variables
    current = [np.asarray(variable) for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, current, strict=True):
            variable.assign(value)


def fit_stage(
    model: CaptionTrainingModel,
    batches,
    evaluate,
    *,
    name: str,
    options: StageOptions,
    folder: Path,
    settings: dict,
    on_best,
    progress=None,
) -> dict:
    """Trains one stage: epochs, dev evaluation of the averaged weights, checkpoint, early stopping, resume.

    Args:
        model: Compiled with `make_optimizer`.
        batches: ``batches(epoch)`` gives an iterable of (x, y) and has a length.
        evaluate: Called without arguments under the averaged weights; returns a dict with ``cider_d``.
        name: Of the stage, for files and progress.
        options: Settings.
        folder: Where checkpoint and log go.
        settings: What the checkpoint must agree with.
        on_best: Called under the averaged weights when dev CIDEr-D is the best so far, with ``{"epoch", "seconds",
            "scores"}``.
        progress: Called with (stage, epoch, epochs, step, steps, loss).

    Returns:
        ``{"rows": rows of the log, "best": dev CIDEr-D, "since_best": epochs since then, "seconds": time spent}``.

    Raises:
        DatasetError: The checkpoint in the folder is not of this run.
        CaptionerError: The loss is no longer a number (``kind="diverged"``), or the disk is full.
    """
    checkpoint = Checkpoint(folder / f"{name}.checkpoint.npz", settings)
    log = TrainingLog(folder, name)
    # A step builds the optimiser's slots; only then can a checkpoint be put in.
    model.optimizer.build(model.trainable_variables)
    record = checkpoint.restore(model) or {"rows": [], "best": -1.0, "since_best": 0, "seconds": 0.0}
    while len(record["rows"]) < options.epochs and record["since_best"] < options.patience:
        started = time.monotonic()
        epoch = len(record["rows"])
        data = batches(epoch)
        loss, count = 0.0, 0
        model.reset_metrics()
        extra: dict[str, float] = {}
        for x, y in data:
            logs = y.pop("logs", {})
            loss = float(model.train_on_batch(x, y))  # the mean since the metrics were reset
            count += 1
            if not math.isfinite(loss):
                raise CaptionerError(
                    f"{name}: the loss of epoch {epoch + 1}, step {count} is {loss}; the training has diverged, "
                    "lower the learning rate and start again",
                    kind="diverged",
                )
            for key, value in logs.items():
                extra[key] = extra.get(key, 0.0) + value
            if progress:
                progress(name, epoch + 1, options.epochs, count, len(data), loss)
        with averaged_weights(model):
            scores = evaluate()
            if scores["cider_d"] > record["best"]:
                record.update(best=scores["cider_d"], since_best=0)
                on_best(
                    {"epoch": epoch + 1, "seconds": record["seconds"] + time.monotonic() - started, "scores": scores}
                )
            else:
                record["since_best"] += 1
        seconds = time.monotonic() - started
        record["seconds"] += seconds
        row = {"epoch": epoch + 1, "loss": loss, **{k: v / max(count, 1) for k, v in extra.items()}}
        record["rows"].append({**row, **scores, "seconds": round(seconds, 1)})
        log.write(record["rows"])
        checkpoint.save(model, record)
    return record
