"""How likely it is that one of a classifier's classes happens at all: open-set recognition.

It judges a window by what it looks like, the mean embedding of its whole frames: by its distance from the means of the
classes in the training (Mahalanobis distance with one covariance for all, Lee et al. 2018), and, where the training had
clips of other things, by a ridge regression that knows those as one class more. A logistic function of both is the
probability (Platt 1999). What moves does not count: a camera that rests tells nothing of what happens before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from captioner.clips.head import CLIP, Classes
from captioner.errors import CaptionerError
from captioner.models.encoder_config import Channels
from captioner.models.saving import checked_arrays
from captioner.schema import check_fields

SCENE = "scene"
"""Name of the stream: embeddings of whole frames of a window, (frames, C)."""
SCENE_FRAMES = 3
"""How many whole frames of a window are encoded where the head looks at regions; else all are, for the head."""
_Number = Annotated[float, Meta(ge=-1e6, le=1e6)]


@dataclass(frozen=True)
class KnownConfig:
    """What is asked of a window, and how the answers become a probability.

    Attributes:
        classes: Number of labels.
        channels: Length C of the pooled embedding.
        components: Directions in which the spread within the classes is known by itself; in all others it is one value.
        background: Whether there was anything foreign to learn from.
        residual: That one value, the variance.
        slopes: Of the logistic function, one for each of `KnownHead.scores`.
        offset: Likewise.

    Raises:
        CaptionerError: A value is out of range (``kind="usage"``).
    """

    classes: Classes
    channels: Channels
    components: Annotated[int, Meta(ge=1, le=1024)]
    background: bool
    residual: Annotated[float, Meta(ge=1e-6, le=1e6)]
    slopes: tuple[_Number, ...]
    offset: _Number

    def __post_init__(self):
        object.__setattr__(self, "slopes", tuple(self.slopes))
        check_fields(self)
        if self.components > self.channels:
            raise CaptionerError("there are more components than channels", kind="usage")
        if len(self.slopes) != self.scores:
            raise CaptionerError(f"{self.scores} slopes are needed, not {len(self.slopes)}", kind="usage")

    @property
    def scores(self) -> int:
        """How many answers there are."""
        return 3 if self.background else 1


def known_shapes(config: KnownConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight."""
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (config.channels,),
        "scale": (config.channels,),
        "centres": (config.classes, config.channels),
        "axes": (config.channels, config.components),
        "variances": (config.components,),
    }
    if config.background:
        shapes |= {"kernel": (config.channels, config.classes + 1), "bias": (config.classes + 1,)}
    return shapes


def looks(windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """What windows look like: the mean over `SCENE` of each, float32 (N, C)."""
    return np.stack([window[SCENE].mean(axis=0, dtype=np.float32) for window in windows])


def standardised_looks(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Looks (N, C) less the mean, in spreads, cut off where a head would."""
    return np.clip((values - mean) * scale, -CLIP, CLIP)


def mahalanobis(
    rows: np.ndarray, centres: np.ndarray, axes: np.ndarray, variances: np.ndarray, residual: float
) -> np.ndarray:
    """Squared Mahalanobis distances (N, classes) of rows (N, C) from centres (classes, C).

    Args:
        rows: Standardised looks.
        centres: Of the classes.
        axes: Orthonormal directions (C, components).
        variances: Along them (components,).
        residual: Variance in every direction orthogonal to them.
    """
    away = rows[:, None] - centres[None]
    along = np.square(away @ axes)
    rest = np.maximum(np.square(away).sum(axis=-1) - along.sum(axis=-1), 0.0)
    return along @ (1 / variances) + rest / residual


class KnownHead:
    """Inference of the probability that one of the classes happens.

    Args:
        config: Its settings.
        weights: See `known_shapes`.
        where: The folder, for error messages.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """

    def __init__(self, config: KnownConfig, weights: Mapping[str, np.ndarray], where: str = "open-set head"):
        self.config = config
        self.weights = checked_arrays(weights, known_shapes(config), where)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Probabilities (N,) of `looks` (N, C)."""
        return self.probability(self.scores(values))

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (N,) of `scores`."""
        return 0.5 * (1 + np.tanh(0.5 * (scores @ np.array(self.config.slopes) + self.config.offset)))

    def scores(self, values: np.ndarray) -> np.ndarray:
        """What the probability is made from, higher for what is known: float64 (N, 1 or 3).

        Minus the logarithm of the squared distance to the nearest class per channel; and with a background what the
        regression says of the likeliest class, and minus what it says of the background.
        """
        weights, config = self.weights, self.config
        rows = standardised_looks(values, weights["mean"], weights["scale"])
        parts = (weights["centres"], weights["axes"], weights["variances"], config.residual)
        nearest = mahalanobis(rows, *parts).min(axis=1) / config.channels
        found = [-np.log(np.maximum(nearest, 1e-9))]
        if config.background:
            answers = rows @ weights["kernel"] + weights["bias"]
            found += [answers[:, :-1].max(axis=1), -answers[:, -1]]
        return np.stack(found, axis=1).astype(np.float64)
