"""How much a photo resembles the photos that a model was trained on, by what the encoder sees in it.

The encoder gives every photo a distribution over its classes. Averaged over the training photos it says what such
photos show; the cross-entropy of a photo to that average, its surprise, is small for what they often show and large for
what they never do. Its rank among the surprises of the training photos themselves is easy to read: the share of them
that are as unusual. Only two small arrays have to be kept.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.models.encoder_config import NUM_CLASSES
from captioner.schema import decode

_Number = Annotated[float, Meta(ge=-1e4, le=1e4)]
_LEVELS = 200
_FLOOR = 1e-3  # a class that no training photo shows still has this frequency


class Familiarity:
    """Statistics of the training photos.

    Args:
        rarity: Minus the logarithm of the frequency of every class (classes,).
        surprises: Surprises of the training photos at equally spaced ranks, ascending.
    """

    def __init__(self, rarity: np.ndarray, surprises: np.ndarray):
        self.rarity = np.asarray(rarity, np.float32)
        self.surprises = np.asarray(surprises, np.float32)

    @classmethod
    def fit(cls, class_scores: np.ndarray) -> Familiarity:
        """From the encoder's logits of training photos (photos, classes).

        Raises:
            ValueError: There is no photo.
        """
        if not len(class_scores):
            raise ValueError("there is no photo to learn from")
        shares = _softmax(class_scores)
        rarity = -np.log(shares.mean(axis=0) + _FLOOR)
        return cls(rarity, np.quantile(shares @ rarity, np.linspace(0, 1, _LEVELS)))

    def surprise(self, class_scores: np.ndarray) -> np.ndarray:
        """Mean rarity of what photos show: logits (photos, classes) to (photos,), in nats."""
        return _softmax(class_scores) @ self.rarity

    def __call__(self, class_scores: np.ndarray) -> np.ndarray:
        """The share of training photos that are at least as unusual: (photos, classes) to (photos,), 0..1.

        It is spread evenly over 0..1 for photos like those, and near 0 for photos that show other things.
        """
        rank = np.interp(self.surprise(class_scores), self.surprises, np.linspace(0, 1, len(self.surprises)))
        return 1 - rank

    def to_json(self) -> str:
        """As text, about 10 KB."""
        record = {name: [round(float(value), 3) for value in getattr(self, name)] for name in ("rarity", "surprises")}
        return json.dumps({"format": 1, **record}) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "the record of familiarity") -> Familiarity:
        """Reads what `to_json` wrote.

        Args:
            text: Content of the file.
            where: Its path, for error messages.

        Raises:
            ModelLoadError: The text is no such record.
        """
        record = decode(text, _Record, where)
        return cls(np.array(record.rarity, np.float32), np.array(record.surprises, np.float32))


@dataclass(frozen=True)
class _Record:
    """``familiarity.json``."""

    format: Literal[1]
    rarity: Annotated[tuple[_Number, ...], Meta(min_length=NUM_CLASSES, max_length=NUM_CLASSES)]
    surprises: Annotated[tuple[_Number, ...], Meta(min_length=2, max_length=10_000)]

    def __post_init__(self):
        if any(after < before for before, after in itertools.pairwise(self.surprises)):
            raise ValueError("surprises do not ascend")


def _softmax(class_scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(class_scores, np.float32)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
