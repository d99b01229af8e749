"""Fitting clip networks: settings, augmentation, early stopping, seeds and folds, calibration."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from captioner.clips.frames import PLAIN, View
from captioner.clips.head import STREAMS, ClipConfig, ClipHead, averaged_probabilities, pad
from captioner.clips.local_motion import LOCAL_MOTION
from captioner.clips.network import ClipNetwork
from captioner.clips.ridge import RIDGE, RidgeConfig, RidgeHead
from captioner.clips.windows import WindowOptions
from captioner.errors import CaptionerError, DatasetError
from captioner.training.checkpoint import Checkpoint, TrainingLog
from captioner.training.clips.data import Clip, ClipWindows, grouped_share
from captioner.training.settings import check_setting

VIEWS = {
    False: (PLAIN, View(flip=True)),
    True: (PLAIN, View(flip=True, zoom=0.9, shift=(0.05, -0.05))),
}
"""Views to train on, with and without regions; the first is the one that is classified."""


@dataclass(frozen=True)
class ClipOptions:
    """Settings of a training.

    Attributes:
        cell: See `captioner.clips.head.ClipConfig`; or ``ridge``, a ridge regression in place of networks
            (`captioner.clips.ridge`), which needs fewer clips and knows no order.
        streams: Likewise; None is ``appearance`` and ``change``, which cost nothing beside the embeddings, or all but
            ``appearance`` where regions are looked at: what a place looks like says little of what happens there, and
            few clips suffice to learn it by heart. A ridge regression is told ``local_motion`` besides.
        projection: Likewise.
        units: Likewise.
        region: Whether to look at the region where something moves.
        interval: Seconds between frames; None is 0.08 where regions are looked at, else 0.25.
        window: Length of a window in seconds.
        stride: Seconds from window to window; None is a window.
        seeds: One network is trained for each; their probabilities are averaged. A ridge regression takes the first.
        folds: 0 trains on ``train`` and stops on ``val``. Otherwise ``train`` and ``val`` together are cut into that
            many parts by group, and every seed trains one network a part, which stops on that part and is not trained
            on it. All are averaged. As a network flatters itself on the clips that it stops on, further networks are
            trained for the scores alone: each stops on the part after the one that judges it. A ridge regression is
            fitted to all clips, and judged by each part where it was fitted to the others.
        epochs: Passes over the training clips.
        patience: Epochs without a lower validation loss after which a network is done.
        batch_size: Clips a step.
        learning_rate: Of AdamW, falling as a cosine.
        weight_decay: Decoupled, per unit of rate; not on biases.
        clip_norm: Limit of the global gradient norm.
        dropout: Share of the inputs' channels, and of the pooled state, that is dropped.
        label_smoothing: Share of the target probability spread over all classes.
        shortest_crop: Smallest share of a window that a temporal crop keeps.
        speed: How many times faster or slower a window is read at most.
        penalty: On the squared weights of a ridge regression, beside one squared error a clip.
    """

    cell: str = "gru"
    streams: tuple[str, ...] | None = None
    projection: int = 64
    units: int = 64
    region: bool = False
    interval: float | None = None
    window: float = 2.0
    stride: float | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    folds: int = 0
    epochs: int = 30
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.5
    clip_norm: float = 1.0
    dropout: float = 0.5
    label_smoothing: float = 0.1
    shortest_crop: float = 0.6
    speed: float = 1.25
    penalty: float = 0.05

    def __post_init__(self):
        if self.streams is None:
            local = (LOCAL_MOTION,) if self.cell == RIDGE else ()
            object.__setattr__(self, "streams", (STREAMS[1:] if self.region else STREAMS[:2]) + local)
        if self.interval is None:
            object.__setattr__(self, "interval", 0.08 if self.region else 0.25)
        if self.stride is None:
            object.__setattr__(self, "stride", self.window)
        for name, low, high in (
            ("epochs", 1, 10_000), ("patience", 1, 10_000), ("batch_size", 1, 4096), ("learning_rate", 1e-8, 1.0),
            ("weight_decay", 0, 10), ("clip_norm", 1e-6, 1e6), ("dropout", 0, 0.95), ("label_smoothing", 0, 0.9),
            ("shortest_crop", 0.05, 1), ("speed", 1, 4), ("projection", 1, 4096), ("units", 1, 4096),
            ("penalty", 1e-6, 1e6),
        ):  # fmt: skip
            value = getattr(self, name)
            holds = isinstance(value, int | float) and low <= value <= high
            check_setting(self, name, holds, f"in {low:g}..{high:g}")
        if not self.seeds:
            raise CaptionerError("at least one seed is needed", kind="usage")
        check_setting(self, "folds", self.folds == 0 or self.folds >= 3, "0 or at least 3")
        _ = self.windows, self.head(2, 1)

    @property
    def windows(self) -> WindowOptions:
        """The windows."""
        return WindowOptions(self.interval, self.window, self.stride)

    def head(self, classes: int, channels: int) -> ClipConfig | RidgeConfig:
        """The settings of the network or the regression."""
        if self.cell == RIDGE:
            return RidgeConfig(classes, self.streams, channels)
        return ClipConfig(classes, self.cell, self.streams, channels, self.projection, self.units)

    def without(self, *names: str) -> dict:
        """JSON types, some settings left out."""
        return {key: value for key, value in asdict(self).items() if key not in names}


class _TrainingNetwork(ClipNetwork):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Cross-entropy with the smoothed and weighted targets (N, classes), mean over the clips."""
        return -ops.mean(ops.sum(y * ops.log_softmax(y_pred["logits"], axis=-1), axis=-1))

    def start_over(self, seed: int) -> None:
        """Gives weights, dropout and optimiser the state that a new network with that seed has."""
        keras.utils.set_random_seed(seed)
        fresh = ClipNetwork(self.config, self.dropout.rate)
        for variable, start in zip(self.variables, fresh.variables, strict=True):
            variable.assign(start)
        for variable in self.optimizer.variables:
            variable.assign(ops.zeros_like(variable))


def compiled_network(
    measured: Mapping[str, Sequence[ClipWindows]], labels: Sequence[str], options: ClipOptions
) -> _TrainingNetwork:
    """A network to be trained by `fit_network`, once or several times."""
    network = _TrainingNetwork(options.head(len(labels), channels_of(measured, options.streams)), options.dropout)
    optimizer = keras.optimizers.AdamW(
        options.learning_rate, weight_decay=options.weight_decay, global_clipnorm=options.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    network.compile(optimizer=optimizer)
    optimizer.build(network.trainable_variables)
    return network


@dataclass(frozen=True)
class TrainedHead:
    """What the training of one network, or the fit of one ridge regression, gave.

    Attributes:
        config: Its settings.
        weights: As `captioner.clips.head.ClipHead` or `captioner.clips.ridge.RidgeHead` takes them.
        logits: Clip name to logits of its windows (windows, classes), of the clips that judge it.
        rows: The log, one a epoch; a regression has none.
    """

    config: ClipConfig | RidgeConfig
    weights: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    rows: list[dict]


def fit_network(
    train: Sequence[Clip],
    val: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    labels: Sequence[str],
    options: ClipOptions,
    *,
    seed: int,
    judged: Sequence[Clip] | None = None,
    folder: Path | None = None,
    name: str = "network",
    key: str = "",
    network: _TrainingNetwork | None = None,
    progress: Callable[..., None] | None = None,
) -> TrainedHead:
    """Trains one network until its validation loss no longer falls, and keeps its best weights.

    Args:
        train: Clips to train on.
        val: Clips to stop on.
        measured: Clip name to views, from `captioner.training.clips.data.measured_clips`.
        labels: The classes.
        options: Settings.
        seed: Of everything random.
        judged: Clips that judge it; None are those to stop on.
        folder: Where checkpoint and log go; a stopped training goes on from there. None keeps neither.
        name: Of the network, for files and progress.
        key: What the measurements belong to; a checkpoint of other measurements is refused.
        network: From `compiled_network`, to start over with: compiling takes longer than training.
        progress: Called with (name, epoch, epochs, step, steps, loss).
    """
    number = {label: index for index, label in enumerate(labels)}
    network = network or compiled_network(measured, labels, options)
    config = network.config
    network.start_over(seed)
    plain = [only(window, options.streams) for clip in train for window in measured[clip.name][0].inputs]
    network.standardise(*pad(plain))
    frames = max(len(next(iter(w.values()))) for views in measured.values() for view in views for w in view.inputs)
    batches = -(-len(train) // options.batch_size)
    targets = smoothed_targets([number[clip.label] for clip in train], len(labels), options.label_smoothing)
    truth = [number[clip.label] for clip in val]

    record = {"rows": [], "best": np.inf, "since_best": 0}
    best: dict[str, np.ndarray] = {}
    settings = {
        **options.without("seeds", "folds", "penalty"),
        "seed": seed,
        "key": key,
        "train": [c.name for c in train],
        "labels": [*labels],
    }
    checkpoint = folder and Checkpoint(folder / f"{name}.checkpoint.npz", settings)
    if checkpoint and (restored := checkpoint.restore(network)):
        record = restored
        with np.load(folder / f"{name}.best.npz", allow_pickle=False) as saved:
            best = {key: saved[key] for key in saved.files}
    while len(record["rows"]) < options.epochs and record["since_best"] < options.patience:
        started = time.monotonic()
        epoch = len(record["rows"])
        rng = np.random.default_rng((seed, epoch))
        cosine = 0.5 * (1 + np.cos(np.pi * epoch / options.epochs))
        network.optimizer.learning_rate = options.learning_rate * (0.02 + 0.98 * cosine)
        order = rng.permutation(len(train))
        order = np.concatenate([order, order[: batches * options.batch_size - len(order)]])
        total = 0.0
        for step in range(batches):
            chosen = order[step * options.batch_size : (step + 1) * options.batch_size]
            drawn = [augmented(measured[train[i].name], options, rng) for i in chosen]
            inputs, mask = pad(drawn, frames)
            total += float(network.train_on_batch({**inputs, "mask": mask}, targets[chosen]))
            if progress:
                progress(name, epoch + 1, options.epochs, step + 1, batches, total / (step + 1))
        weights = network.numpy_weights()
        logits = clip_logits(ClipHead(config, weights), val, measured)
        shares = clip_probabilities([logits], val)
        loss = float(-np.mean(np.log(np.maximum(shares[np.arange(len(val)), truth], 1e-9))))
        if loss < record["best"]:
            record |= {"best": loss, "since_best": 0}
            best = weights
            if folder:
                _save_arrays(folder / f"{name}.best.npz", best)
        else:
            record["since_best"] += 1
        accuracy = float(np.mean(shares.argmax(axis=1) == truth))
        row = {"epoch": epoch + 1, "loss": total / batches, "val_loss": loss, "val_accuracy": accuracy}
        record["rows"].append({**row, "seconds": round(time.monotonic() - started, 2)})
        if checkpoint:
            TrainingLog(folder, name).write(record["rows"])
            checkpoint.save(network, record)
    logits = clip_logits(ClipHead(config, best), val if judged is None else judged, measured)
    return TrainedHead(config, best, logits, record["rows"])


def fit_networks(
    clips: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    labels: Sequence[str],
    options: ClipOptions,
    *,
    judges: bool = False,
    folder: Path | None = None,
    key: str = "",
    progress: Callable[..., None] | None = None,
) -> list[TrainedHead]:
    """Trains a network for every seed, and for every fold where there are folds.

    Args:
        clips: Clips of the splits ``train`` and ``val``; others are not touched.
        measured: See `fit_network`.
        labels: Likewise.
        options: Likewise.
        judges: Whether the part that judges a network is another than the one that it stops on; needs folds.
        folder: Likewise.
        key: Likewise.
        progress: Likewise.
    """
    clips = [clip for clip in clips if clip.split in ("train", "val")]
    network = compiled_network(measured, labels, options)
    networks = []
    for seed in options.seeds:
        parts = held_out(clips, options.folds, seed)
        for fold, held in enumerate(parts):
            stopping = parts[(fold + 1) % len(parts)] if judges else held
            train = [clip for clip in clips if clip.name not in held | stopping]
            val = [clip for clip in clips if clip.name in stopping]
            judged = [clip for clip in clips if clip.name in held]
            name = f"seed{seed}-fold{fold}" if options.folds else f"seed{seed}"
            chosen = {"seed": seed, "judged": judged, "folder": folder, "name": name, "key": key, "network": network}
            networks.append(fit_network(train, val, measured, labels, options, **chosen, progress=progress))
    return networks


def held_out(clips: Sequence[Clip], folds: int, seed: int) -> list[set[str]]:
    """Names of the clips that judge: those of ``val``, or those of each fold, cut by group and class.

    Raises:
        DatasetError: There are more folds than groups.
    """
    if not folds:
        return [{clip.name for clip in clips if clip.split == "val"}]
    remaining = list(clips)
    parts = []
    for fold in range(folds - 1):
        chosen = grouped_share(remaining, 1 / (folds - fold), seed)
        parts.append({clip.name for clip in remaining if clip.group in chosen})
        remaining = [clip for clip in remaining if clip.group not in chosen]
    parts.append({clip.name for clip in remaining})
    if not all(parts):
        raise DatasetError(f"{folds} folds need at least as many groups of every class; give fewer folds")
    return parts


def augmented(views: Sequence[ClipWindows], options: ClipOptions, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random window of a random view, cropped in time and read faster or slower.

    Args:
        views: Of one clip.
        options: ``streams``, ``shortest_crop`` and ``speed``.
        rng: Source of randomness.

    Returns:
        Stream to (frames, width), at least one frame. Frames are repeated or left out; their differences from the frame
        before stay as measured.
    """
    view = views[rng.integers(len(views))]
    window = view.inputs[rng.integers(len(view.inputs))]
    count = len(next(iter(window.values())))
    kept = max(1, round(count * rng.uniform(options.shortest_crop, 1.0)))
    first = rng.integers(count - kept + 1)
    speed = np.exp(rng.uniform(-1, 1) * np.log(options.speed))
    rows = first + np.unique(np.arange(0, kept, speed).astype(int)) if speed > 1 else _slowed(first, kept, speed, count)
    return {name: window[name][rows] for name in options.streams}


def _slowed(first: int, kept: int, speed: float, count: int) -> np.ndarray:
    """Row numbers with some repeated, no more than the window had."""
    return (first + (np.arange(0, kept, speed)).astype(int))[:count]


def only(window: Mapping[str, np.ndarray], streams: Sequence[str]) -> dict[str, np.ndarray]:
    """Some streams of a window."""
    return {name: window[name] for name in streams}


def smoothed_targets(truth: Sequence[int], classes: int, smoothing: float) -> np.ndarray:
    """Targets (N, classes): smoothed (Szegedy et al. 2016), and weighted so that every class weighs the same in all."""
    counts = Counter(truth)
    targets = np.eye(classes, dtype=np.float32)[list(truth)] * (1 - smoothing) + smoothing / classes
    weights = np.array([len(truth) / (len(counts) * counts[label]) for label in truth], np.float32)
    return targets * weights[:, None]


def clip_logits(
    head: ClipHead | RidgeHead, clips: Sequence[Clip], measured: Mapping[str, Sequence[ClipWindows]]
) -> dict[str, np.ndarray]:
    """Logits of the windows of each clip (windows, classes), in its plain view."""
    if not clips:
        return {}
    (logits,) = head.logits([window for clip in clips for window in measured[clip.name][0].inputs])
    ends = np.cumsum([len(measured[clip.name][0].inputs) for clip in clips])
    return {clip.name: part for clip, part in zip(clips, np.split(logits, ends[:-1]), strict=True)}


def clip_probabilities(
    networks: Sequence[Mapping[str, np.ndarray]], clips: Sequence[Clip], temperature: float = 1.0
) -> np.ndarray:
    """Probabilities (clips, classes), averaged over the networks that have seen a clip and over its windows.

    Args:
        networks: For each network, clip name to logits (windows, classes).
        clips: Clips that at least one network has logits of.
        temperature: What logits are divided by.
    """
    rows = []
    for clip in clips:
        logits = np.stack([network[clip.name] for network in networks if clip.name in network])
        rows.append(averaged_probabilities(logits, temperature).mean(axis=0))
    return np.array(rows)


def best_temperature(
    networks: Sequence[Mapping[str, np.ndarray]], clips: Sequence[Clip], truth: Sequence[int]
) -> float:
    """The temperature with the lowest loss of the averaged probabilities (Guo et al. 2017), between 0.5 and 5.

    Where hardly a clip is wrong, the lowest loss alone would ask for certainty.
    """

    def loss(temperature: float) -> float:
        shares = clip_probabilities(networks, clips, temperature)[np.arange(len(clips)), truth]
        return -float(np.mean(np.log(np.maximum(shares, 1e-12))))

    return float(min(np.geomspace(0.5, 5.0, 61), key=loss))


def channels_of(measured: Mapping[str, Sequence[ClipWindows]], streams: Sequence[str]) -> int:
    """Length of the pooled embeddings from which clips were measured."""
    window = next(iter(measured.values()))[0].inputs[0]
    return next((window[name].shape[-1] for name in streams if name not in ("motion", LOCAL_MOTION)), 1)


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import io

    from captioner.atomic import write_atomic

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())
