"""Ridge regression on a whole window: an order-blind alternative to the recurrent networks where clips are few.

It reads mean and spread over time of what the networks read frame by frame, and how things move place by place
(`captioner.clips.local_motion`), summed up as a vector of locally aggregated descriptors (VLAD, Jégou et al. 2010).
Each of the two has a linear regressor of its own; their scores are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.clips.head import CLIP, STREAMS, Classes, HeadConfig, Units
from captioner.clips.local_motion import DESCRIPTORS, LOCAL_MOTION, descriptor_size, local_descriptors
from captioner.models.encoder_config import Channels
from captioner.models.saving import checked_arrays

RIDGE = "ridge"
"""Its name beside the cells of the networks."""


@dataclass(frozen=True)
class RidgeConfig(HeadConfig):
    """What a ridge regression looks like.

    Attributes:
        classes: Number of labels.
        streams: What it is told: those of `captioner.clips.head.ClipConfig`, and ``local_motion``.
        channels: Length of the pooled embedding.
        components: Principal components of a local descriptor that are kept.
        words: Centres around which local descriptors are summed up.

    Raises:
        CaptionerError: A value is unknown or out of bounds (``kind="usage"``).
    """

    classes: Classes
    streams: Annotated[
        tuple[Literal["appearance", "change", "grid_change", "motion", "local_motion"], ...], Meta(min_length=1)
    ] = (*STREAMS, LOCAL_MOTION)
    channels: Channels = 1280
    components: Annotated[int, Meta(ge=1, le=min(map(descriptor_size, DESCRIPTORS)))] = 48
    words: Units = 64

    @property
    def vectors(self) -> tuple[str, ...]:
        """The streams with a vector for each frame."""
        return tuple(name for name in self.streams if name != LOCAL_MOTION)

    @property
    def summary_size(self) -> int:
        """Length of `summary`."""
        return 2 * sum(self.width(name) for name in self.vectors)

    @property
    def vlad_size(self) -> int:
        """Length of `Codebook.encode`."""
        return len(DESCRIPTORS) * self.words * self.components


def weight_shapes(config: RidgeConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a ridge regression."""
    shapes: dict[str, tuple[int, ...]] = {"output/bias": (config.classes,)}
    if config.vectors:
        size = config.summary_size
        shapes |= {"summary/mean": (size,), "summary/scale": (size,), "summary/kernel": (size, config.classes)}
    if LOCAL_MOTION in config.streams:
        for kind in DESCRIPTORS:
            size = descriptor_size(kind)
            shapes |= {f"{kind}/mean": (size,), f"{kind}/projection": (size, config.components)}
            shapes[f"{kind}/words"] = (config.words, config.components)
        shapes["vlad/kernel"] = (config.vlad_size, config.classes)
    return shapes


def summary(window: Mapping[str, np.ndarray], streams: Sequence[str]) -> np.ndarray:
    """Mean and spread over time of the streams (T, width) of a window, one after the other: float32 (size,).

    The first frame has no difference from the frame before, so it counts for the appearance alone.
    """
    parts = []
    for name in streams:
        rows = window[name] if name == "appearance" or len(window[name]) == 1 else window[name][1:]
        parts += [rows.mean(axis=0), rows.std(axis=0)]
    return np.concatenate(parts)


def standardised(summaries: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Summaries (N, size) less their mean, in spreads, cut off where a network would; the squares of a row sum up
    to about 1."""
    return np.clip((summaries - mean) * scale, -CLIP, CLIP) / np.float32(np.sqrt(summaries.shape[1]))


class Codebook:
    """Principal components and centres of local descriptors.

    Args:
        weights: ``kind/mean``, ``kind/projection`` and ``kind/words`` to array, as in `weight_shapes`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self.weights = weights

    def project(self, kind: str, descriptors: np.ndarray) -> np.ndarray:
        """Principal components (N, components) of descriptors (N, size)."""
        return (descriptors - self.weights[f"{kind}/mean"]) @ self.weights[f"{kind}/projection"]

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """The VLAD of a window: how its descriptors lie around the nearest centres, float32 (vlad_size,).

        Args:
            cells: (T, rows, columns, CELL_SIZE), see `captioner.clips.local_motion.local_descriptors`.

        Returns:
            For each kind, signed square roots with a sum of squares of 1 / kinds; all zero where nothing moves.
        """
        parts = []
        for kind, descriptors in local_descriptors(cells).items():
            words = self.weights[f"{kind}/words"]
            points = self.project(kind, descriptors)
            nearest = np.argmax(points @ words.T - 0.5 * np.square(words).sum(axis=1), axis=1)
            chosen = np.zeros((len(points), len(words)), np.float32)
            chosen[np.arange(len(points)), nearest] = 1
            sums = chosen.T @ points - words * chosen.sum(axis=0)[:, None]
            sums = (np.sign(sums) * np.sqrt(np.abs(sums))).ravel()
            parts.append(sums / max(float(np.linalg.norm(sums)), 1e-12))
        return np.concatenate(parts).astype(np.float32) / np.float32(np.sqrt(len(parts)))


class RidgeHead:
    """Inference of a ridge regression.

    Args:
        config: Its settings.
        weights: ``part/variable`` to array, see `weight_shapes`.
        where: The folder, for error messages.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """

    def __init__(self, config: RidgeConfig, weights: Mapping[str, np.ndarray], where: str = "ridge regression"):
        self.config = config
        self.weights = checked_arrays(weights, weight_shapes(config), where)
        self.codebook = Codebook(self.weights)

    def logits(self, windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits (1, N, classes) of windows, each from `captioner.clips.windows.measure_window`."""
        logits = np.tile(self.weights["output/bias"], (len(windows), 1))
        if self.config.vectors:
            rows = np.stack([summary(window, self.config.vectors) for window in windows])
            rows = standardised(rows, self.weights["summary/mean"], self.weights["summary/scale"])
            logits += rows @ self.weights["summary/kernel"]
        if LOCAL_MOTION in self.config.streams:
            rows = np.stack([self.codebook.encode(window[LOCAL_MOTION]) for window in windows])
            logits += rows @ self.weights["vlad/kernel"]
        return logits[None]
