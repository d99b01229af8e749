"""A small GRU that forecasts the next frame's embedding; how wrong it is tells how unusual a moment is.

It is trained without labels (`captioner.training.forecaster`). Inference is NumPy: one step costs microseconds, so that
no framework has to be loaded, and a video of any length takes the memory of one state. The idea of finding anomalies by
the error of a prediction is that of Liu et al. 2018 (arXiv:1712.09867), here with embeddings instead of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.errors import ModelLoadError
from captioner.models.encoder_config import Channels
from captioner.models.saving import checked_arrays
from captioner.results import NoveltyPoint
from captioner.schema import check_fields

if TYPE_CHECKING:
    from captioner.models.saving import SavedModel


@dataclass(frozen=True)
class ForecasterConfig:
    """Sizes of a forecaster.

    Attributes:
        channels: Length of an embedding.
        components: Number of principal components of the embeddings that it looks at and forecasts.
        units: Size of the recurrent state.
        usual_error: Median error on training videos; values are multiples of it.
        unusual_value: Value below which nothing is unusual: that which 1 % of the training frames exceed.

    Raises:
        CaptionerError: A value is out of bounds (``kind="usage"``).
    """

    channels: Channels = 1280
    components: Annotated[int, Meta(ge=1, le=2048)] = 128
    units: Annotated[int, Meta(ge=1, le=2048)] = 192
    usual_error: Annotated[float, Meta(ge=1e-9, le=2)] = 1.0
    unusual_value: Annotated[float, Meta(ge=0, le=1e9)] = 1.0

    def __post_init__(self):
        check_fields(self)

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """``config.json`` of a forecaster."""

    forecaster: ForecasterConfig
    encoder: dict[Literal["model", "sha256"], Annotated[str, Meta(max_length=4096)]] = field(default_factory=dict)


def weight_shapes(config: ForecasterConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, as ``layer/variable``."""
    channels, components, units = config.channels, config.components, config.units
    return {
        "components/mean": (channels,),
        "components/basis": (channels, components),
        "cell/kernel": (components, 3 * units),
        "cell/recurrent_kernel": (units, 3 * units),
        "cell/bias": (3 * units,),
        "cell/recurrent_bias": (3 * units,),
        "output/kernel": (units, components),
        "output/bias": (components,),
    }


def standardised(embeddings: np.ndarray, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Principal components (..., components) of embeddings (..., channels), which are made unit vectors before.

    The length of an embedding follows contrast and sharpness more than content.
    """
    embeddings = np.asarray(embeddings, np.float32)
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return (embeddings / np.maximum(length, 1e-6) - mean) @ basis


class Forecaster:
    """Forecasts embeddings.

    Args:
        config: Sizes.
        weights: ``layer/variable`` to array.
        where: The folder, for error messages.
        encoder: The encoder whose embeddings it knows: ``{"model", "sha256"}``.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """

    def __init__(
        self, config: ForecasterConfig, weights: Mapping[str, np.ndarray], *, where: str = "forecaster", encoder=None
    ):
        self.config = config
        self.encoder = dict(encoder or {})
        self.weights = checked_arrays(weights, weight_shapes(config), where)

    @classmethod
    def from_saved(cls, saved: SavedModel) -> Forecaster:
        """The forecaster of a model folder.

        Raises:
            ModelLoadError: The folder holds another kind of model, or is inconsistent.
        """
        if saved.kind != "forecaster":
            raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, not a forecaster")
        file = saved.settings(_File)
        weights = saved.part("forecaster", weight_shapes(file.forecaster))
        return cls(file.forecaster, weights, where=str(saved.folder), encoder=file.encoder)

    def stream(self) -> ForecastStream:
        """A new video, to be fed embedding by embedding."""
        return ForecastStream(self)

    def values(self, embeddings: np.ndarray) -> np.ndarray:
        """How unusual each frame of a video is.

        Args:
            embeddings: Pooled embeddings (frames, channels), evenly spaced in time.

        Returns:
            float64 (frames,): forecast errors, 1 is usual on the training videos; 0 for the first frame.
        """
        stream = self.stream()
        return np.array([stream.push(embedding) for embedding in embeddings])

    def start(self) -> np.ndarray:
        """The state before the first frame (units,)."""
        return np.zeros(self.config.units, np.float32)

    def step(self, components: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step: ``(forecast, state)`` from components (..., components) and state (..., units)."""
        weights = self.weights
        projected = components @ weights["cell/kernel"] + weights["cell/bias"]
        from_state = state @ weights["cell/recurrent_kernel"] + weights["cell/recurrent_bias"]
        xz, xr, xn = np.split(projected, 3, axis=-1)
        hz, hr, hn = np.split(from_state, 3, axis=-1)
        update = _sigmoid(xz + hz)
        state = update * state + (1 - update) * np.tanh(xn + _sigmoid(xr + hr) * hn)
        return state @ weights["output/kernel"] + weights["output/bias"], state

    def error(self, forecast: np.ndarray, components: np.ndarray) -> float:
        """How wrong a forecast is: 1 - cosine, 0..2, in multiples of ``usual_error``."""
        lengths = float(np.linalg.norm(forecast) * np.linalg.norm(components))
        return (1 - float(forecast @ components) / max(lengths, 1e-6)) / self.config.usual_error


class ForecastStream:
    """One video on its way through a forecaster.

    Args:
        forecaster: The forecaster.
    """

    def __init__(self, forecaster: Forecaster):
        self._forecaster = forecaster
        self._state = forecaster.start()
        self._forecast: np.ndarray | None = None

    def push(self, embedding: np.ndarray) -> float:
        """Takes the next frame's pooled embedding (channels,); gives how unusual it is, 0 for the first."""
        weights = self._forecaster.weights
        components = standardised(embedding, weights["components/mean"], weights["components/basis"])
        value = 0.0 if self._forecast is None else self._forecaster.error(self._forecast, components)
        self._forecast, self._state = self._forecaster.step(components, self._state)
        return value


SPREADS = 3.0
"""A moment is unusual where its value lies this many (robust) standard deviations above the video's median."""


def novelty_curve(times: Sequence[float], values: Sequence[float], least: float) -> tuple[NoveltyPoint, ...]:
    """Marks the moments that stand out from the rest of the video.

    Args:
        times: Seconds of the frames.
        values: From `ForecastStream.push`, one a frame.
        least: Value below which nothing is unusual: `ForecasterConfig.unusual_value`.

    Returns:
        One point a frame. The spread is taken from the median absolute deviation, which the unusual moments themselves
        hardly change.
    """
    array = np.asarray(values, np.float64)
    if not len(array):
        return ()
    rest = array[1:] if len(array) > 1 else array
    middle = float(np.median(rest))
    spread = 1.4826 * float(np.median(np.abs(rest - middle)))
    limit = max(least, middle + SPREADS * spread)
    return tuple(
        NoveltyPoint(float(time), float(value), bool(index > 0 and value > limit))
        for index, (time, value) in enumerate(zip(times, array, strict=True))
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # By tanh, which does not overflow.
    return 0.5 * (np.tanh(0.5 * x) + 1)
