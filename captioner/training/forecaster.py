"""Training the forecaster: from the frame embeddings of videos, without labels.

The network sees a video in which a stretch of frames is replaced by frames of another video, and forecasts the frames
that belong there. So it learns to tell what the video is about and to hold on to it, as a denoising autoencoder does
(Vincent et al. 2008), and a foreign stretch stays surprising for as long as it lasts. Some videos change for good, so
that it also learns to let go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from captioner.errors import DatasetError
from captioner.models.recurrent import GRUCell
from captioner.models.saving import refuse_foreign, save_model
from captioner.outputs.locks import exclusive
from captioner.training.settings import check_setting
from captioner.videos.forecaster import Forecaster, ForecasterConfig, standardised

FEWEST_VIDEOS = 4


@dataclass(frozen=True)
class ForecasterTraining:
    """How a forecaster is trained.

    Attributes:
        components: See `captioner.videos.forecaster.ForecasterConfig`.
        units: See there.
        steps: Number of optimiser steps.
        batch_size: Videos a step.
        length: Frames a video, at least 4; shorter ones are played forth and back.
        slowest: Largest number of frames from one to the next; each time drawn from 1 to this.
        longest_foreign: Largest number of replaced frames.
        changes: Share of the videos that change for good instead, 0..1.
        learning_rate: Peak of the cosine schedule.
        clip_norm: Global norm to which gradients are clipped.
        seed: Of initial weights and draws.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    components: int = 128
    units: int = 192
    steps: int = 800
    batch_size: int = 32
    length: int = 32
    slowest: int = 5
    longest_foreign: int = 8
    changes: float = 0.1
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name in ("components", "units", "steps", "batch_size", "slowest", "longest_foreign"):
            check_setting(self, name, getattr(self, name) >= 1, "at least 1")
        check_setting(self, "length", self.length >= 4, "at least 4: a foreign stretch has frames before and after it")
        check_setting(self, "changes", 0 <= self.changes <= 1, "0..1")
        for name in ("learning_rate", "clip_norm"):
            check_setting(self, name, getattr(self, name) > 0, "above 0")
        check_setting(self, "seed", self.seed >= 0, "at least 0")


class ForecasterNetwork(keras.Model):
    """The network on principal components: a GRU and a linear layer.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ForecasterConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.cell = GRUCell(config.units, name="cell")
        self.cell.build(config.components)
        self.output_layer = keras.layers.Dense(config.components, name="output")
        self.output_layer.build((None, config.units))
        self.built = True

    def call(self, components):
        """Forecasts (N, T, components) of the frames 1 to T + 1 from the frames 0 to T, (N, T, components)."""
        projected = self.cell.project(components)
        state = (ops.zeros((ops.shape(components)[0], self.config.units)),)
        states = []
        for step in range(components.shape[1]):
            state = self.cell.advance(projected[:, step], state)
            states.append(state[0])
        return self.output_layer(ops.stack(states, axis=1))

    def numpy_weights(self) -> dict[str, np.ndarray]:
        """``layer/variable`` to array, but for the components."""
        return {
            f"{layer.name}/{variable.name}": np.asarray(variable)
            for layer in (self.cell, self.output_layer)
            for variable in layer.weights
        }


def cosine_error(targets, forecasts):
    """1 - cosine, averaged over frames; what `captioner.videos.forecaster.Forecaster.error` measures."""
    products = ops.sum(targets * forecasts, axis=-1)
    lengths = ops.sqrt(ops.sum(targets * targets, axis=-1) * ops.sum(forecasts * forecasts, axis=-1) + 1e-9)
    return ops.mean(1 - products / lengths, axis=-1)


@exclusive
def fit_forecaster(
    embeddings: Sequence[np.ndarray],
    output: str | os.PathLike,
    *,
    encoder: dict | None = None,
    options: ForecasterTraining | None = None,
    metadata: dict | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Forecaster:
    """Trains a forecaster and saves it.

    Args:
        embeddings: Pooled embeddings (frames, channels) of each video, evenly spaced in time.
        output: The model folder to write.
        encoder: The encoder that the embeddings come from: ``{"model", "sha256"}``, the captioner's
            name and checksum.
        options: How to train; None for the defaults.
        metadata: What else to remember: data, command.
        progress: Called with step, steps and loss.

    Returns:
        The forecaster, read back from the folder.

    Raises:
        DatasetError: There are too few videos, or their embeddings do not fit together.
    """
    from captioner.models.saving import read_model

    options = options or ForecasterTraining()
    refuse_foreign(output)
    videos = _checked(embeddings)
    keras.utils.set_random_seed(options.seed)
    mean, basis = principal_components(videos, options.components)
    config = ForecasterConfig(videos[0].shape[1], basis.shape[1], options.units)
    sequences = [standardised(video, mean, basis) for video in videos]
    network = ForecasterNetwork(config, name="forecaster")
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, options.steps, alpha=0.01, warmup_target=options.learning_rate, warmup_steps=options.steps // 20
    )
    network.compile(keras.optimizers.Adam(schedule, global_clipnorm=options.clip_norm), loss=cosine_error)
    generator = np.random.default_rng(options.seed)
    loss = float("nan")
    for step in range(options.steps):
        inputs, targets = training_batch(sequences, options, generator)
        loss = float(network.train_on_batch(inputs, targets))
        if progress is not None:
            progress(step + 1, options.steps, loss)
    weights = {"components/mean": mean, "components/basis": basis, **network.numpy_weights()}
    forecaster = Forecaster(config, weights)
    errors = np.concatenate([forecaster.values(video)[1:] for video in videos])
    usual = float(np.median(errors))
    config = ForecasterConfig(
        config.channels, config.components, config.units, usual, float(np.quantile(errors, 0.99)) / usual
    )
    details = {
        "training": asdict(options),
        "data": {"videos": len(videos), "frames": sum(len(video) for video in videos)},
        "scores": {"training_loss": round(loss, 4), "usual_error": round(usual, 4)},
        "keras": keras.__version__,
        **(metadata or {}),
    }
    save_model(
        Path(output),
        kind="forecaster",
        config={"forecaster": config.to_dict(), "encoder": encoder or {}},
        weights={f"forecaster/{name}": value for name, value in weights.items()},
        texts={},
        metadata=details,
        card=_card(config, details),
    )
    return Forecaster.from_saved(read_model(Path(output)))


def principal_components(videos: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (channels,) and basis (channels, count) of unit-length embeddings; the components' mean square is 1 in sum.

    Args:
        videos: Embeddings (frames, channels).
        count: Number of components; fewer where there are fewer frames or channels.
    """
    frames = np.concatenate(videos).astype(np.float64)
    frames /= np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-6)
    mean = frames.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(frames - mean, rowvar=False))
    count = min(count, len(frames), frames.shape[1])
    basis = vectors[:, ::-1][:, :count]
    return mean.astype(np.float32), (basis / np.sqrt(max(values[::-1][:count].sum(), 1e-12))).astype(np.float32)


def training_batch(
    sequences: Sequence[np.ndarray], options: ForecasterTraining, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws videos with a foreign stretch.

    Args:
        sequences: Components (frames, components) of each video.
        options: ``batch_size``, ``length``, ``slowest``, ``longest_foreign`` and ``changes``.
        generator: Draws everything.

    Returns:
        Inputs and targets, float32 (batch_size, length, components): target t is the frame that belongs at t + 1.
    """
    shape = (options.batch_size, options.length, sequences[0].shape[1])
    inputs, targets = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for row in range(options.batch_size):
        own, other = generator.choice(len(sequences), 2, replace=False)
        pace = int(generator.integers(1, options.slowest + 1))
        video = _excerpt(sequences[own], options.length + 1, pace, generator)
        foreign = _excerpt(sequences[other], options.length + 1, pace, generator)
        start = int(generator.integers(2, options.length - 1))
        if generator.random() < options.changes:
            video[start:] = foreign[start:]
            inputs[row] = video[:-1]
        else:
            stop = start + int(generator.integers(1, options.longest_foreign + 1))
            inputs[row] = video[:-1]
            inputs[row, start:stop] = foreign[start : min(stop, options.length)]
        targets[row] = video[1:]
    return inputs, targets


def _excerpt(sequence: np.ndarray, length: int, pace: int, generator: np.random.Generator) -> np.ndarray:
    """``length`` frames from a random place on, every ``pace``-th, forth and back where the video is too short."""
    count = len(sequence)
    if count == 1:
        return np.repeat(sequence, length, axis=0)
    position = int(generator.integers(2 * count - 2)) + pace * np.arange(length)
    position %= 2 * count - 2
    return sequence[np.where(position < count, position, 2 * count - 2 - position)].copy()


def _checked(embeddings: Sequence[np.ndarray]) -> list[np.ndarray]:
    videos = [np.asarray(video, np.float32) for video in embeddings]
    videos = [video for video in videos if video.ndim == 2 and len(video) >= 2]
    if len(videos) < FEWEST_VIDEOS:
        raise DatasetError(
            f"only {len(videos)} videos of two frames or more; a forecaster needs at least {FEWEST_VIDEOS}"
        )
    if len({video.shape[1] for video in videos}) > 1:
        raise DatasetError("the videos' embeddings have different lengths; encode all with one encoder")
    if not all(np.isfinite(video).all() for video in videos):
        raise DatasetError("an embedding holds values that are not numbers")
    return videos


def _card(config: ForecasterConfig, details: dict) -> str:
    data = details["data"]
    return f"""# A forecaster of frame embeddings

Forecasts the next frame of a video as an embedding of the encoder; its error over time shows unusual moments. A GRU
with {config.units} units on {config.components} principal components of the pooled embedding.

Trained without labels on {data["videos"]:,} videos ({data["frames"]:,} frames): stretches of foreign frames were put in
their place, and the network had to forecast what belongs there. A value of 1 is the usual error on those videos; 1 % of
their frames exceed {config.unusual_value:.2f}.

It knows scenes like those of its training videos, at 1 to 5 frames a second. A cut to another scene is unusual to it
until it has got used to the new one, which takes a few frames.
"""
