"""The batch of images while it is searched: every step that a strategy takes, it takes for all of them together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from captioner.errors import CaptionerError
from captioner.models.search.options import Hypothesis

_SHRINK_AT = 0.75  # share of unfinished images below which the batch is rebuilt: copying its memory costs time too


@dataclass
class _Step:
    """What was chosen at one step: arrays (images, beams); attention is (images, beams before, positions)."""

    images: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    logprobs: np.ndarray
    attention: np.ndarray


@dataclass
class _Ending:
    """A caption that stopped: beam ``beam`` after ``length`` words."""

    score: float
    length: int
    beam: int
    end_logprob: float
    finished: bool


class Batch:
    """The batch while it is searched: live images, their state, the steps so far, and the captions that ended.

    Attributes:
        images: Numbers of the images still in the batch, ascending.
        tokens: Last word of every beam (images, beams).
        totals: Sum of the log-probabilities of every beam, float64 (images, beams); -inf is no beam.
        length: Words so far.
    """

    def __init__(self, step, state, memory, options, start, end, forbidden):
        self._step = step
        self._state = tuple(np.asarray(part) for part in state)
        self._memory = tuple(memory)
        self._forbidden = np.asarray(sorted(set(forbidden)), np.intp)
        self._once: np.ndarray | None = None  # for every token, whether it may occur once only
        self._steps: list[_Step] = []
        self._work: np.ndarray | None = None
        self.options = options
        self.end = end
        self.images = np.arange(len(self._state[0]))
        self.tokens = np.full((len(self.images), 1), start, np.int32)
        self._words = self.tokens[..., None]  # of every beam so far, start included (images, beams, length + 1)
        self.totals = np.zeros((len(self.images), 1))
        self.length = 0
        self._endings: list[list[_Ending]] = [[] for _ in self.images]
        # The score that a caption must beat to be among the n_best.
        self.to_beat = np.full(len(self.images), -np.inf)
        self.logprobs, self._attention = self._advance()

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens that the model knows."""
        return self.logprobs.shape[-1]

    def _advance(self):
        """Log-probabilities (images, beams, vocabulary) of the next word, and attention (images, beams, positions)."""
        logits, state, attention = self._step(self.tokens.reshape(-1), self._state, self._memory)
        self._state = tuple(np.asarray(part) for part in state)
        if self._work is None or self._work.shape[1] < len(logits):  # new large arrays cost more than filling them
            self._work = np.empty((2, *np.shape(logits)), np.float32)
        logprobs, scratch = self._work[:, : len(logits)]
        logprobs[...] = logits
        logprobs[:, self._forbidden] = -np.inf
        with np.errstate(invalid="ignore"):
            logprobs -= logprobs.max(axis=-1, keepdims=True)
            logprobs -= np.log(np.exp(logprobs, out=scratch).sum(axis=-1, keepdims=True))
        if np.isnan(logprobs[:, 0]).any():  # one nan or inf in a row makes the whole row nan
            raise CaptionerError(
                "the model gave values that are no numbers; its weights may be damaged", kind="not_finite"
            )
        shape = self.tokens.shape
        logprobs = logprobs.reshape(*shape, -1)
        self._rule_out(logprobs)
        return logprobs, np.array(attention, np.float32).reshape(*shape, -1)

    def force(self, prefix):
        """Gives every image the same first words."""
        for token in prefix:
            shape = self.tokens.shape
            tokens = np.full(shape, token, np.int32)
            logprobs = self.logprobs[:, :, token].copy()
            self.take(tokens, np.zeros(shape, np.intp), logprobs, self.totals + logprobs)

    def use_once(self, words):
        """Rules out these words from here on in captions that hold them already."""
        if len(words):
            self._once = np.zeros(self.vocabulary_size, bool)
            self._once[np.asarray(words)] = True
            self._rule_out(self.logprobs)

    def _rule_out(self, logprobs):
        if self._once is not None:
            # where there is nothing to rule out, a word is named that is ruled out anyway
            spent = np.where(self._once[self._words], self._words, self._forbidden[0])
            np.put_along_axis(logprobs, spent.astype(np.intp), -np.inf, axis=2)

    def take(self, tokens, parents, logprobs, totals, live=None):
        """Appends a word to every beam, drops images that are done, and takes the next step.

        Args:
            tokens: The words (images, beams).
            parents: The beams that they continue (images, beams).
            logprobs: Their log-probabilities (images, beams).
            totals: Sums of log-probabilities after them (images, beams).
            live: Which images go on (images,); default all.

        Returns:
            Positions of the images that are still in the batch, in the order before.
        """
        self._steps.append(_Step(self.images, tokens, parents, logprobs, self._attention))
        self.length += 1
        kept = np.arange(len(self.images))
        if live is not None and live.sum() <= _SHRINK_AT * len(live):
            kept = np.flatnonzero(live)
            self.images = self.images[kept]
            self._memory = tuple(np.asarray(part)[kept] for part in self._memory)
        beams = self.tokens.shape[1]
        rows = (kept[:, None] * beams + parents[kept]).reshape(-1)
        self._state = tuple(part[rows] for part in self._state)
        self.tokens = np.ascontiguousarray(tokens[kept], np.int32)
        history = np.take_along_axis(self._words[kept], parents[kept][..., None], axis=1)
        self._words = np.concatenate([history, self.tokens[..., None]], axis=2)
        self.totals = totals[kept]
        self.logprobs, self._attention = self._advance()
        return kept

    def stop(self, positions, beams, end_logprobs=None):
        """Notes that beams stopped: (images' positions, beams) with the log-probability of the end, or None if cut."""
        finished = end_logprobs is not None
        for i, (position, beam) in enumerate(zip(positions, beams, strict=True)):
            image = self.images[position]
            end_logprob = float(end_logprobs[i]) if finished else math.nan
            total = self.totals[position, beam] + (end_logprob if finished else 0.0)
            words = self.length + finished
            score = float(total) / max(words, 1) ** self.options.length_penalty
            endings = self._endings[image]
            endings.append(_Ending(score, self.length, int(beam), end_logprob, finished))
            if finished and len(endings) >= self.options.n_best:
                self.to_beat[image] = sorted(ending.score for ending in endings)[-self.options.n_best]

    def has_ended(self, position, beam) -> bool:
        """Whether a beam ended after its last word."""
        endings = self._endings[self.images[position]]
        return any((ending.length, ending.beam) == (self.length, beam) for ending in endings)

    def attainable(self, totals):
        """The best score that any continuation of the beams can reach (images,): every further word certain."""
        return totals.max(axis=1) / (self.options.max_length + 1) ** self.options.length_penalty

    def results(self) -> list[list[Hypothesis]]:
        """For every image its captions, the best first."""
        found = []
        for image, endings in enumerate(self._endings):
            ranked = sorted(endings, key=lambda ending: (not ending.finished, -ending.score))
            found.append([self._trace(image, ending) for ending in ranked[: self.options.n_best]])
        return found

    def _trace(self, image: int, ending: _Ending) -> Hypothesis:
        """Follows a beam back to its first word."""
        tokens, logprobs, attention = [], [], []
        beam = ending.beam
        for step in reversed(self._steps[: ending.length]):
            position = np.searchsorted(step.images, image)
            tokens.append(int(step.tokens[position, beam]))
            logprobs.append(step.logprobs[position, beam])
            beam = step.parents[position, beam]
            attention.append(step.attention[position, beam])
        positions = self._attention.shape[-1]
        return Hypothesis(
            tokens=tuple(reversed(tokens)),
            logprobs=np.array(logprobs[::-1], np.float32),
            end_logprob=ending.end_logprob,
            score=ending.score,
            finished=ending.finished,
            attention=np.array(attention[::-1], np.float32).reshape(-1, positions),
        )
