"""How captions are searched for, and what the search finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.errors import CaptionerError
from captioner.schema import check_fields

BeamSize = Annotated[int, Meta(ge=1, le=1024)]
"""Captions that are followed, or wanted, for a photo: each takes memory and time."""

_SAMPLING = ("temperature", "top_k", "top_p", "seed")


@dataclass(frozen=True)
class SearchOptions:
    """How captions are searched for; every default of the package comes from here.

    Attributes:
        strategy: ``beam``, ``greedy`` (always the likeliest word) or ``sample`` (a word at random by its probability).
        beam_size: Captions that are followed at the same time; 1 is greedy search.
        n_best: Captions returned for each image, best first.
        max_length: Most words of a caption.
        min_length: Fewest words of a caption.
        length_penalty: Power of the length by which log-probabilities are divided; 0 prefers short captions, 1 is the
            mean for each word.
        temperature: Sampling only: logits are divided by it; below 1 is more careful, above 1 bolder.
        top_k: Sampling only: choose among that many likeliest words; 0 is no limit.
        top_p: Sampling only: choose among the likeliest words that reach this probability together, 0..1.
        repeat_words: Whether a caption may use a word that carries meaning twice, as in "a woman and a woman".
        seed: Sampling only: of an image; the same image and seed give the same caption in any batch.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    strategy: Literal["beam", "greedy", "sample"] = "beam"
    beam_size: BeamSize = 3
    n_best: BeamSize = 1
    max_length: Annotated[int, Meta(ge=1, le=100)] = 20
    min_length: Annotated[int, Meta(ge=0, le=100)] = 1
    length_penalty: Annotated[float, Meta(ge=0, le=100)] = 0.9
    temperature: Annotated[float, Meta(ge=1e-3, le=1e3)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=2**31)] = 0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0)] = 0
    repeat_words: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.min_length > self.max_length:
            raise usage(f"min_length ({self.min_length}) is greater than max_length ({self.max_length})")
        if self.n_best > 1 and (self.strategy == "greedy" or (self.strategy == "beam" and self.beam_size == 1)):
            raise usage("n_best above 1 needs beam search with beam_size above 1, or sampling")

    def refuse_idle(self, given: Iterable[str]) -> None:
        """Refuses options that do nothing with this strategy, for people who believe that they do.

        Args:
            given: Names of the options that were chosen.

        Raises:
            CaptionerError: One does nothing (``kind="usage"``).
        """
        for name in given:
            needed = "sample" if name in _SAMPLING else "beam" if name == "beam_size" else self.strategy
            if self.strategy != needed:
                raise usage(f"{name} does nothing with strategy {self.strategy!r}; it needs strategy {needed!r}")


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A caption that the search found.

    Attributes:
        tokens: Its words, without start and end.
        logprobs: Log-probability of every word, float32 (len(tokens),).
        end_logprob: Log-probability of the end after the last word; nan where the caption was cut.
        score: What it was ranked by.
        finished: Whether the model ended it; False if the length limit cut it.
        attention: Where the model looked for every word, float32 (len(tokens), positions).
    """

    tokens: tuple[int, ...]
    logprobs: np.ndarray
    end_logprob: float
    score: float
    finished: bool
    attention: np.ndarray = field(repr=False)


def usage(message: str) -> CaptionerError:
    """The error for an option that makes no sense."""
    return CaptionerError(message, kind="usage")
