"""What trainings of writers share: the loss of words, the optimiser, averaging, and the way through the epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from keras import ops

from captioner.errors import CaptionerError
from captioner.training.checkpoint import Checkpoint, TrainingLog
from captioner.training.settings import FitOptions


@contextmanager
def computing_in(precision: str):
    """Layers made within this context compute in ``bf16`` or ``f32``; their weights are float32 either way."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def word_loss(logits, targets, weights, smoothing):
    """Cross-entropy with label smoothing s (Szegedy et al. 2016).

    Args:
        logits: Of all words (..., steps, vocabulary), float32.
        targets: The words (..., steps), int32.
        weights: Of each (..., steps).
        smoothing: s; a number, or an array that fits the weights.

    Returns:
        The sum over words of ``weight * ((1 - s) * -log p(word) + s * mean of -log p)``, the mean being over the
        vocabulary.
    """
    logprobs = ops.log_softmax(logits, axis=-1)
    nll = -ops.squeeze(ops.take_along_axis(logprobs, targets[..., None], axis=-1), axis=-1)
    return ops.sum(weights * ((1 - smoothing) * nll - smoothing * ops.mean(logprobs, axis=-1)))


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


def make_optimizer(
    options: FitOptions, steps_per_epoch: int, slow=(), factor: float = 1.0
) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine (Loshchilov & Hutter 2017), clipping by global norm and a moving average.

    Args:
        options: Settings.
        steps_per_epoch: Batches of an epoch.
        slow: Variables with another rate.
        factor: What their rate is multiplied by.
    """
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
        slow=slow,
        factor=factor,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


@contextmanager
def averaged_weights(model: keras.Model):
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
    model: keras.Model,
    batches,
    evaluate,
    *,
    name: str,
    options: FitOptions,
    folder: Path,
    settings: dict,
    on_best,
    by: str = "cider_d",
    progress=None,
) -> dict:
    """Trains one stage: epochs, dev evaluation of the averaged weights, checkpoint, early stopping, resume.

    Args:
        model: Compiled with `make_optimizer`.
        batches: ``batches(epoch)`` gives an iterable of (x, y) and has a length.
        evaluate: Called without arguments under the averaged weights; returns a dict with ``by``.
        name: Of the stage, for files and progress.
        options: Settings.
        folder: Where checkpoint and log go.
        settings: What the checkpoint must agree with.
        on_best: Called under the averaged weights when that score is the best so far, with ``{"epoch", "seconds",
            "scores"}``.
        by: Score by which epochs are chosen.
        progress: Called with (stage, epoch, epochs, step, steps, loss).

    Returns:
        ``{"rows": rows of the log, "best": the best score, "since_best": epochs since then, "seconds": time spent}``.

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
            if scores[by] > record["best"]:
                record.update(best=scores[by], since_best=0)
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
