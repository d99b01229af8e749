"""The clip classifier in NumPy: a recurrent network over the frames of a clip, small enough to need no other runtime.

It computes what `captioner.clips.network.ClipNetwork` computes, from the same weights, and holds what both
share: the settings and the inputs of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.clips.motion import MOTION_SIZE
from captioner.errors import CaptionerError
from captioner.models.encoder_config import Channels
from captioner.models.saving import checked_arrays
from captioner.schema import check_fields

CELLS = ("gru", "lstm", "simple_rnn")
BASELINES = ("mean", "single_frame")
STREAMS = ("appearance", "change", "grid_change", "motion")

Classes = Annotated[int, Meta(ge=2, le=1000)]
Units = Annotated[int, Meta(ge=1, le=1024)]


class HeadConfig:
    """What the settings of networks and of ridge regressions (`captioner.clips.ridge`) share."""

    streams: tuple[str, ...]
    channels: int

    def __post_init__(self):
        object.__setattr__(self, "streams", tuple(self.streams))
        check_fields(self)
        if len(set(self.streams)) < len(self.streams):
            raise CaptionerError(f"streams holds one twice: {', '.join(self.streams)}", kind="usage")

    def width(self, stream: str) -> int:
        """Length of the vector that a stream has for each frame."""
        return MOTION_SIZE if stream == "motion" else self.channels

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return {**asdict(self), "streams": list(self.streams)}


@dataclass(frozen=True)
class ClipConfig(HeadConfig):
    """What a clip network looks like.

    Attributes:
        classes: Number of labels.
        cell: ``gru``, ``lstm`` or ``simple_rnn``, or an order-blind baseline: ``mean`` of the projected frames,
            ``single_frame``, the middle one alone.
        streams: What the network is told of each frame: ``appearance``, the pooled embedding; ``change``, how much each
            of its channels differs from the frame before; ``grid_change``, the largest such difference over the places
            of the grid; ``motion``, the vector of `captioner.clips.motion`.
        channels: Length of the pooled embedding.
        projection: Units to which each stream is projected.
        units: Size of the recurrent state.

    Raises:
        CaptionerError: A value is unknown or out of bounds (``kind="usage"``).
    """

    classes: Classes
    cell: Literal["gru", "lstm", "simple_rnn", "mean", "single_frame"] = "gru"
    streams: Annotated[tuple[Literal["appearance", "change", "grid_change", "motion"], ...], Meta(min_length=1)] = (
        STREAMS
    )
    channels: Channels = 1280
    projection: Units = 64
    units: Units = 64


def frame_inputs(
    streams: Sequence[str],
    pooled: np.ndarray,
    motion: np.ndarray | None = None,
    grid_change: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The inputs of the network from what was measured on the frames of one clip.

    Args:
        streams: See `ClipConfig`.
        pooled: Pooled embeddings (T, C).
        motion: Motion vectors (T, MOTION_SIZE); needed for the stream of that name.
        grid_change: Largest differences over the grid (T, C); needed for the stream of that name.

    Returns:
        Stream to float32 (T, width). The first frame has no frame before it, so its differences are 0.

    Raises:
        ValueError: What a stream needs is not given.
    """
    inputs = {}
    for name in streams:
        if name == "appearance":
            value = pooled
        elif name == "change":
            value = np.abs(np.diff(pooled.astype(np.float32), axis=0, prepend=pooled[:1].astype(np.float32)))
        else:
            value = motion if name == "motion" else grid_change
        if value is None:
            raise ValueError(f"the network looks at {name}, which is not given")
        inputs[name] = np.asarray(value, np.float32)
    return inputs


def grid_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Largest absolute difference of each channel over the places of two grids (..., positions, C): (..., C)."""
    return np.abs(after.astype(np.float32) - before.astype(np.float32)).max(axis=-2)


def pad(clips: Sequence[Mapping[str, np.ndarray]], frames: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Clips of different lengths as one batch.

    Args:
        clips: From `frame_inputs`, one per clip, with at least one frame each.
        frames: Length of the batch in frames where the longest clip is shorter.

    Returns:
        Stream to float32 (N, T, width), zeros after the end of a clip, and the mask (N, T), True where frames are.
    """
    lengths = [len(next(iter(clip.values()))) for clip in clips]
    mask = np.arange(max(*lengths, frames))[None] < np.array(lengths)[:, None]
    batch = {}
    for name in clips[0]:
        batch[name] = np.zeros((*mask.shape, clips[0][name].shape[-1]), np.float32)
        batch[name][mask] = np.concatenate([clip[name] for clip in clips])
    return batch, mask


class ClipHead:
    """Inference of one clip network.

    Args:
        config: Its settings.
        weights: ``layer/variable`` to array.
        where: The folder, for error messages.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """

    def __init__(self, config: ClipConfig, weights: Mapping[str, np.ndarray], where: str = "clip network"):
        self.config = config
        self.weights = checked_arrays(weights, weight_shapes(config), where)

    def __call__(self, inputs: Mapping[str, np.ndarray], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, classes) and attention over the frames (N, T), for inputs and mask from `pad`."""
        return _infer(self.config, self.weights, inputs, mask)

    def logits(self, windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits (1, N, classes) of windows, each from `captioner.clips.windows.measure_window`."""
        return self(*_padded(windows, self.config.streams))[0][None]


class ClipEnsemble:
    """Several clip networks of the same settings, computed together: a step of all costs little more than one of one.

    Args:
        heads: The networks, at least one.
    """

    def __init__(self, heads: Sequence[ClipHead]):
        self.config = heads[0].config
        self._weights = {}
        for name in heads[0].weights:
            value = np.stack([head.weights[name] for head in heads])
            # Where frames are computed side by side, a weight has to be spread over clips, or over clips and frames.
            if name in ("cell/recurrent_bias", "output/bias"):
                value = value[:, None]
            elif name not in ("cell/recurrent_kernel", "output/kernel", "attention/query"):
                value = value[:, None] if value.ndim == 3 else value[:, None, None]
            self._weights[name] = value

    def __call__(self, inputs: Mapping[str, np.ndarray], mask: np.ndarray) -> np.ndarray:
        """Logits (members, N, classes), for inputs and mask from `pad`."""
        return _infer(self.config, self._weights, inputs, mask)[0]

    def logits(self, windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits (members, N, classes) of windows, each from `captioner.clips.windows.measure_window`."""
        return self(*_padded(windows, self.config.streams))


def _padded(windows: Sequence[Mapping[str, np.ndarray]], streams: Sequence[str]):
    return pad([{name: window[name] for name in streams} for window in windows])


def _infer(config: ClipConfig, weights: Mapping[str, np.ndarray], inputs, mask) -> tuple[np.ndarray, np.ndarray]:
    """Logits (..., N, classes) and attention (..., N, T); the dimensions in front are those of the weights."""
    projected = []
    for name in config.streams:
        x = (inputs[name] - weights[f"{name}/mean"]) * weights[f"{name}/scale"]
        x = np.clip(x, -CLIP, CLIP) @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        projected.append(np.maximum(x, 0))
    x = np.concatenate(projected, axis=-1)
    if config.cell in BASELINES:
        hidden = x
        attention = baseline_attention(config.cell, mask)
    else:
        hidden = _recur(config, weights, x, mask)
        scores = np.tanh(hidden @ weights["attention/kernel"] + weights["attention/bias"])
        scores = np.einsum("...ntu,...u->...nt", scores, weights["attention/query"])
        scores = np.where(mask, scores, -np.inf)
        attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
    summary = np.einsum("...nt,...ntu->...nu", attention, hidden)
    return summary @ weights["output/kernel"] + weights["output/bias"], attention


def _recur(config: ClipConfig, weights: Mapping[str, np.ndarray], x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """States (..., N, T, units); after the end of a clip the state stays."""
    projected = x @ weights["cell/kernel"] + weights["cell/bias"]
    h = np.zeros((*x.shape[:-2], config.units), np.float32)
    c = h
    states = []
    for step in range(x.shape[-2]):
        from_state = h @ weights["cell/recurrent_kernel"]
        now = projected[..., step, :]
        if config.cell == "simple_rnn":
            new_h, new_c = np.tanh(now + from_state), c
        elif config.cell == "gru":
            xz, xr, xn = np.split(now, 3, axis=-1)
            hz, hr, hn = np.split(from_state + weights["cell/recurrent_bias"], 3, axis=-1)
            update = _sigmoid(xz + hz)
            new_h, new_c = update * h + (1 - update) * np.tanh(xn + _sigmoid(xr + hr) * hn), c
        else:
            i, f, g, o = np.split(now + from_state, 4, axis=-1)
            new_c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            new_h = _sigmoid(o) * np.tanh(new_c)
        here = mask[:, step, None]
        h, c = np.where(here, new_h, h), np.where(here, new_c, c)
        states.append(h)
    return np.stack(states, axis=-2)


CLIP = 5.0
"""Standardised inputs are cut off at this many standard deviations, so that an odd frame cannot flood the state."""
_GATES = {"gru": 3, "lstm": 4, "simple_rnn": 1}


def weight_shapes(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a clip network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in config.streams:
        width = config.width(name)
        shapes |= {f"{name}/mean": (width,), f"{name}/scale": (width,)}
        shapes |= {f"{name}/kernel": (width, config.projection), f"{name}/bias": (config.projection,)}
    hidden = config.projection * len(config.streams)
    if config.cell in CELLS:
        gates, units = _GATES[config.cell], config.units
        shapes |= {"cell/kernel": (hidden, gates * units), "cell/recurrent_kernel": (units, gates * units)}
        shapes |= {"cell/bias": (gates * units,)}
        if config.cell == "gru":
            shapes["cell/recurrent_bias"] = (gates * units,)
        hidden = units
        shapes |= {"attention/kernel": (units, units), "attention/bias": (units,), "attention/query": (units,)}
    return shapes | {"output/kernel": (hidden, config.classes), "output/bias": (config.classes,)}


def baseline_attention(cell: str, mask: np.ndarray) -> np.ndarray:
    """Weights of the frames (N, T) in the order-blind baselines."""
    lengths = mask.sum(axis=1, keepdims=True)
    if cell == "mean":
        return (mask / lengths).astype(np.float32)
    return (np.arange(mask.shape[1])[None] == (lengths - 1) // 2).astype(np.float32)


def averaged_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits (members, N, classes) at a temperature, averaged over the members: float64 (N, classes)."""
    scaled = np.asarray(logits, np.float64) / temperature
    shares = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (shares / shares.sum(axis=-1, keepdims=True)).mean(axis=0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # By tanh, which does not overflow.
    return 0.5 * (np.tanh(0.5 * x) + 1)
