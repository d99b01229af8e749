"""Tags: words that people would use for a photo, each with its probability, whatever the caption made of them.

A linear layer on the pooled grid, one logistic output a word (Fang et al. 2015, "From Captions to Visual Concepts and
Back"; Wu et al. 2016, "What Value Do Explicit High Level Concepts Have in Vision to Language Problems?").

The tags also weigh the words that the decoder may write next: the logit of a word rises with the logarithm of how much
more likely it is for this photo than for any, and falls likewise. So captions name what is there more often, and
things that are not there less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.captions.config import CaptionerConfig
from captioner.errors import ModelLoadError
from captioner.models.saving import SavedModel
from captioner.schema import Name, Share, decode

WEIGHT = 0.6
_FILE = "tags.json"
_FLOOR, _MOST = 0.003, 3.0  # rare and unlikely is as good as rare and impossible, and no tag may silence the decoder


@dataclass(frozen=True)
class _Table:
    """``tags.json``: the words, other forms of them, the things among them, and from when on they are shown."""

    format: Literal[1]
    words: Annotated[list[Name], Meta(min_length=1, max_length=10_000)]
    forms: Annotated[dict[Name, Name], Meta(max_length=100_000)]
    things: Annotated[dict[Name, Name], Meta(max_length=10_000)]
    weight: Annotated[float, Meta(ge=0, le=10)]
    threshold: Share


class Tagger:
    """Gives photos tags.

    Args:
        words: The tags.
        forms: Other forms of some of them, form to tag: "dogs" to "dog", "runs" to "running".
        things: Tags that name things, each as a sentence has it: "a dog", "grass".
        kernel: Weights (channels, words).
        prior: Their mean probabilities over the training photos (words,).
        bias: (words,); with the kernel it gives log-odds that are calibrated: one of five people uses the word.
        threshold: Probability from which a tag is shown.
        weight: How much the tags weigh in the choice of words; 0 for not at all.

    Raises:
        ValueError: The shapes do not fit the words, or a word is there twice.
    """

    def __init__(
        self,
        words: Sequence[str],
        forms: Mapping[str, str],
        things: Mapping[str, str],
        kernel: np.ndarray,
        bias: np.ndarray,
        threshold: float,
        prior: np.ndarray | None = None,
        weight: float = WEIGHT,
    ):
        self.words = tuple(words)
        self.forms = dict(forms)
        self.things = dict(things)
        self.kernel = np.asarray(kernel, np.float32)
        self.bias = np.asarray(bias, np.float32)
        self.threshold = threshold
        self.prior = np.full(len(self.words), 0.01, np.float32) if prior is None else np.asarray(prior, np.float32)
        self.weight = weight
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if self.kernel.ndim != 2 or not self.kernel.shape[1:] == self.bias.shape == self.prior.shape == (
            len(self.words),
        ):
            raise ValueError(f"{len(self.words)} words, kernel {self.kernel.shape}, bias {self.bias.shape}")
        if len(self._numbers) != len(self.words):
            raise ValueError("a word is there twice")
        if unknown := self.things.keys() - self._numbers.keys():
            raise ValueError(f"the thing {min(unknown)!r} is no tag")

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of all words: pooled grids (images, channels) to (images, words), 0..1."""
        return 1 / (1 + np.exp(-np.clip(np.asarray(pooled, np.float32) @ self.kernel + self.bias, -30, 30)))

    def shown(self, probabilities: np.ndarray) -> tuple[tuple[str, float], ...]:
        """The tags of one image, most likely first.

        Args:
            probabilities: Those of all words (words,).
        """
        likely = np.flatnonzero(probabilities >= self.threshold)
        order = likely[np.argsort(-probabilities[likely], kind="stable")]
        return tuple((self.words[number], float(probabilities[number])) for number in order)

    def lift(self, probabilities: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """What is added to the logits of words: (images, tokens).

        Args:
            probabilities: Of all tags (images, words).
            columns: Number of the tag of every token, -1 for those that are none (tokens,).
        """
        ratio = np.log((probabilities + _FLOOR) / (self.prior + _FLOOR))
        added = self.weight * np.clip(ratio, -_MOST, _MOST)
        return np.where(columns >= 0, added[:, columns], 0).astype(np.float32)

    def likeliest_thing(self, probabilities: np.ndarray, least: float) -> str | None:
        """What an image shows more likely than anything else, as a sentence has it; None where nothing is that likely.

        Args:
            probabilities: Those of all words (words,).
            least: The probability that it needs, 0..1.
        """
        known = [(probabilities[self._numbers[tag]], said) for tag, said in self.things.items()]
        probability, said = max(known, default=(0.0, ""))
        return said if probability >= least else None

    def of_words(self, words: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        """Probabilities of the tags that words are forms of, nan where of none (words,).

        Args:
            words: In lower case.
            probabilities: Of all tags, of one image (tags,).
        """
        numbers = [self.number(word) for word in words]
        return np.array([np.nan if number is None else probabilities[number] for number in numbers], np.float64)

    def number(self, word: str) -> int | None:
        """Column of the tag that a word is a form of; None where it is of none."""
        return self._numbers.get(self.forms.get(word, word))

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """What a model folder keeps: arrays and texts, by name."""
        table = {
            "format": 1,
            "threshold": self.threshold,
            "words": self.words,
            "forms": self.forms,
            "things": self.things,
            "weight": self.weight,
        }
        arrays = {f"tags/linear/{name}": getattr(self, name) for name in ("kernel", "bias", "prior")}
        return arrays, {_FILE: json.dumps(table, ensure_ascii=False, indent=0) + "\n"}

    @classmethod
    def from_saved(cls, saved: SavedModel) -> Tagger | None:
        """The tagger of a model folder; None where it has none.

        Raises:
            ModelLoadError: Table and weights do not fit each other or the encoder.
        """
        if _FILE not in saved.texts:
            return None
        table = decode(saved.texts[_FILE], _Table, saved.path(_FILE))
        shapes = {
            "linear/kernel": (saved.settings(CaptionerConfig).decoder.grid_channels, len(table.words)),
            "linear/bias": (len(table.words),),
            "linear/prior": (len(table.words),),
        }
        arrays = saved.part("tags", shapes)
        try:
            return cls(
                table.words, table.forms, table.things, arrays["linear/kernel"], arrays["linear/bias"],
                table.threshold, arrays["linear/prior"], table.weight,
            )  # fmt: skip
        except ValueError as error:
            raise ModelLoadError(f"{saved.path(_FILE)}: {error}; get the folder again") from error
