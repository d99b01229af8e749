"""How much a photo resembles the photos that a model was trained on, by where its pooled grid lies among theirs.

Prototypes stand for the training photos: the centres that spherical k-means (Dhillon and Modha 2001) finds among their
directions. How strange a photo is, is its cosine distance to the nearest one. The rank of that among the distances of
the training photos themselves is easy to read: the share of them that are as unusual.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.captions.config import CaptionerConfig
from captioner.models.saving import SavedModel
from captioner.schema import decode

PROTOTYPES = 64
_LEVELS = 200
_ROUNDS = 20
_FILE = "familiarity.json"


@dataclass(frozen=True)
class _Table:
    """``familiarity.json``: number of prototypes, and distances of training photos at equally spaced ranks."""

    format: Literal[2]
    prototypes: Annotated[int, Meta(ge=1, le=10_000)]
    distances: Annotated[tuple[Annotated[float, Meta(ge=-1, le=3)], ...], Meta(min_length=2, max_length=10_000)]

    def __post_init__(self):
        if any(after < before for before, after in itertools.pairwise(self.distances)):
            raise ValueError("distances do not ascend")


class Familiarity:
    """Where the training photos lie.

    Args:
        prototypes: Directions (prototypes, channels), of length 1.
        distances: Distances of training photos at equally spaced ranks, ascending.
    """

    def __init__(self, prototypes: np.ndarray, distances: np.ndarray):
        self.prototypes = np.asarray(prototypes, np.float32)
        self.distances = np.asarray(distances, np.float32)

    @classmethod
    def fit(cls, pooled: np.ndarray, *, prototypes: int = PROTOTYPES, seed: int = 0) -> Familiarity:
        """From the pooled grids of training photos (photos, channels).

        Args:
            pooled: The grids.
            prototypes: How many; fewer where there are not as many photos.
            seed: Of the choice of the first prototypes.

        Raises:
            ValueError: There is no photo.
        """
        if not len(pooled):
            raise ValueError("there is no photo to learn from")
        directions = _directions(pooled)
        chosen = np.random.default_rng(seed).choice(len(pooled), min(prototypes, len(pooled)), replace=False)
        centres = directions[np.sort(chosen)]
        for _ in range(_ROUNDS):
            nearest = (directions @ centres.T).argmax(axis=1)
            sums = np.zeros_like(centres)
            np.add.at(sums, nearest, directions)
            left = np.bincount(nearest, minlength=len(centres)) > 0  # the others stay where they are
            centres = np.where(left[:, None], _directions(sums), centres)
        centres = centres.astype(np.float16).astype(np.float32)  # as a folder keeps them
        distances = 1 - (directions @ centres.T).max(axis=1)
        return cls(centres, np.quantile(distances, np.linspace(0, 1, _LEVELS)))

    def distance(self, pooled: np.ndarray) -> np.ndarray:
        """Cosine distance to the nearest prototype: (photos, channels) to (photos,), 0..2."""
        return 1 - (_directions(pooled) @ self.prototypes.T).max(axis=1)

    def __call__(self, pooled: np.ndarray) -> np.ndarray:
        """The share of training photos that are at least as unusual: (photos, channels) to (photos,), 0..1.

        It is spread evenly over 0..1 for photos like those, and near 0 for photos that show other things.
        """
        rank = np.interp(self.distance(pooled), self.distances, np.linspace(0, 1, len(self.distances)))
        return 1 - rank

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """What a model folder keeps: arrays and texts, by name."""
        distances = [round(float(value), 6) for value in self.distances]
        table = {"format": 2, "prototypes": len(self.prototypes), "distances": distances}
        return {"familiarity/known/prototypes": self.prototypes}, {_FILE: json.dumps(table) + "\n"}

    @classmethod
    def from_saved(cls, saved: SavedModel) -> Familiarity | None:
        """What a model folder keeps; None where it keeps nothing.

        Args:
            saved: The folder.

        Raises:
            ModelLoadError: Table and prototypes do not fit each other or the encoder.
        """
        if _FILE not in saved.texts:
            return None
        table = decode(saved.texts[_FILE], _Table, saved.path(_FILE))
        channels = saved.settings(CaptionerConfig).decoder.grid_channels
        arrays = saved.part("familiarity", {"known/prototypes": (table.prototypes, channels)})
        return cls(arrays["known/prototypes"], np.array(table.distances))


def _directions(pooled: np.ndarray) -> np.ndarray:
    pooled = np.asarray(pooled, np.float32)
    return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-6)
