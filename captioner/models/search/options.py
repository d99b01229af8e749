"""How captions are searched for, and what the search finds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from captioner.errors import CaptionerError

STRATEGIES = ("beam", "greedy", "sample")


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
        seed: Sampling only: of an image; the same image and seed give the same caption in any batch.

    Raises:
        CaptionerError: A value makes no sense (``kind="usage"``).
    """

    strategy: str = "beam"
    beam_size: int = 3
    n_best: int = 1
    max_length: int = 20
    min_length: int = 1
    length_penalty: float = 0.9
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise usage(f"unknown strategy {self.strategy!r}; known: {', '.join(STRATEGIES)}")
        for name, least in (("beam_size", 1), ("n_best", 1), ("max_length", 1), ("min_length", 0), ("top_k", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise usage(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise usage(f"seed must be a whole number of at least 0, not {self.seed!r}")
        if self.min_length > self.max_length:
            raise usage(f"min_length ({self.min_length}) is greater than max_length ({self.max_length})")
        if not 0 <= self.length_penalty < math.inf:
            raise usage(f"length_penalty must be at least 0, not {self.length_penalty!r}")
        if not 0 < self.temperature < math.inf:
            raise usage(f"temperature must be above 0, not {self.temperature!r}")
        if not 0 < self.top_p <= 1:
            raise usage(f"top_p must be above 0 and at most 1, not {self.top_p!r}")
        if self.n_best > 1 and (self.strategy == "greedy" or (self.strategy == "beam" and self.beam_size == 1)):
            raise usage("n_best above 1 needs beam search with beam_size above 1, or sampling")


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
