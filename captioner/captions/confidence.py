"""What the probabilities of words mean: from "this is the next word" to "people use this word for the photo".

Platt scaling (Platt 1999), that is, a logistic function of the log-odds that the decoder gave, with more inputs. How
common a word is, because "a" and "in" are right whatever the photo shows; how familiar the photo is, because away from
home a decoder is as sure as ever and right less often; and how likely the tag is that the word is a form of.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from captioner.schema import check_fields

_Weight = Annotated[float, Meta(ge=-1e3, le=1e3)]
_FLOOR = 0.01  # of familiarity: below the rarest percent of the training photos all are as strange


@dataclass(frozen=True)
class WordCalibration:
    """Weights of the logistic function; the defaults leave probabilities as they are.

    Attributes:
        slope: Of the log-odds.
        offset: Added to them.
        rank: For the logarithm of a word's rank by frequency in the training captions.
        rank_squared: For its square.
        unfamiliar: For minus the logarithm of the photo's familiarity.
        tag: For the log-odds of the tag that the word is a form of.
        tagged: Added for a word that is a form of one.

    Raises:
        CaptionerError: A weight is out of bounds (``kind="usage"``).
    """

    slope: _Weight = 1.0
    offset: _Weight = 0.0
    rank: _Weight = 0.0
    rank_squared: _Weight = 0.0
    unfamiliar: _Weight = 0.0
    tag: _Weight = 0.0
    tagged: _Weight = 0.0

    def __post_init__(self):
        check_fields(self)

    @staticmethod
    def inputs(logprobs, ranks, familiarity, tags=np.nan) -> np.ndarray:
        """What the weights are for, float64 (words, 7).

        Args:
            logprobs: Log-probabilities of words (words,).
            ranks: Their ranks, 1 for the most frequent word (words,).
            familiarity: Of their photos, 0..1, (words,) or one for all; see `captioner.captions.familiarity`.
            tags: Probabilities of the tags that they are forms of, nan where of none, (words,) or one for all.
        """
        rarity = np.log(np.maximum(np.asarray(ranks, np.float64), 1.0))
        unfamiliar = -np.log(np.broadcast_to(np.asarray(familiarity, np.float64), rarity.shape) + _FLOOR)
        odds = _odds(np.exp(np.asarray(logprobs, np.float64)))
        shown = np.broadcast_to(np.asarray(tags, np.float64), rarity.shape)
        tagged = ~np.isnan(shown)
        seen = np.where(tagged, _odds(np.where(tagged, shown, 0.5)), 0.0)
        return np.stack([odds, np.ones_like(odds), rarity, rarity**2, unfamiliar, seen, tagged], axis=-1)

    def __call__(self, logprobs, ranks, familiarity=1.0, tags=np.nan) -> np.ndarray:
        """Probabilities that words are right, 0..1 exclusive (words,); arguments as for `inputs`."""
        odds = self.inputs(logprobs, ranks, familiarity, tags) @ np.array(list(asdict(self).values()))
        return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _odds(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds, finite."""
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.log(clipped) - np.log1p(-clipped)
