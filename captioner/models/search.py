"""Search for captions with a model that is known only by its step: greedy, beam, constrained beam and sampling.

NumPy only. All images and beams of a batch take each step together; the state follows the beams, and images that are
done leave the batch. Log-probabilities are those of the softmax over the allowed tokens, that is, all but the forbidden
ones (padding, start, unknown), which get no share. Nothing else changes them: not the temperature, nor the limits on
length, a prefix, words that must be included or avoided, which only rule out what the search may choose.

The score of a caption is ``(sum of its log-probabilities, end included) / (words + 1) ** length_penalty`` (Wu et al.
2016 without the constant 5); of one that the length limit cut, the same without the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from captioner.errors import CaptionerError

STRATEGIES = ("beam", "greedy", "sample")
_SHRINK_AT = 0.75  # share of unfinished images below which the batch is rebuilt: copying its memory costs time too


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
            raise _usage(f"unknown strategy {self.strategy!r}; known: {', '.join(STRATEGIES)}")
        for name, least in (("beam_size", 1), ("n_best", 1), ("max_length", 1), ("min_length", 0), ("top_k", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise _usage(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not isinstance(self.seed, (int, np.integer)) or self.seed < 0:
            raise _usage(f"seed must be a whole number of at least 0, not {self.seed!r}")
        if self.min_length > self.max_length:
            raise _usage(f"min_length ({self.min_length}) is greater than max_length ({self.max_length})")
        if not 0 <= self.length_penalty < math.inf:
            raise _usage(f"length_penalty must be at least 0, not {self.length_penalty!r}")
        if not 0 < self.temperature < math.inf:
            raise _usage(f"temperature must be above 0, not {self.temperature!r}")
        if not 0 < self.top_p <= 1:
            raise _usage(f"top_p must be above 0 and at most 1, not {self.top_p!r}")
        if self.n_best > 1 and (self.strategy == "greedy" or (self.strategy == "beam" and self.beam_size == 1)):
            raise _usage("n_best above 1 needs beam search with beam_size above 1, or sampling")


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


def search(
    step: Callable,
    state: Sequence[np.ndarray],
    memory: Sequence[np.ndarray],
    options: SearchOptions,
    *,
    start: int,
    end: int,
    forbidden: Sequence[int] = (),
    prefix: Sequence[int] = (),
    must_include: Sequence[int | Sequence[int]] = (),
    avoid: Sequence[int] = (),
    each: Sequence[tuple[Sequence[int | Sequence[int]], Sequence[int]]] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Searches captions for a batch of images.

    Args:
        step: ``step(tokens (rows,) int32, state, memory) -> (logits (rows, vocabulary), state, attention (rows,
            positions))``. The rows of an image are neighbours, and their number is a multiple of the images in
            ``memory``. It may reuse the arrays that it returns at the next call.
        state: Parts of the initial state, each (images, units).
        memory: What the step needs of every image, each (images, ...).
        options: How to search.
        start: Token before the first word.
        end: Token after the last word.
        forbidden: Tokens that get no probability.
        prefix: First words that every caption must have; they count as words and by their log-probability.
        must_include: Words, or sequences of neighbouring words, that every caption must contain. The beam is kept apart
            by how much of them it contains (after Anderson et al. 2017 and Post & Vilar 2018): ``beam_size`` captions
            for every number of contained words.
        avoid: Words that no caption may contain after the prefix. Unlike ``forbidden`` they keep their probability: a
            caption that had to do without the likeliest word has the low score that it deserves.
        each: For every image what its own captions must include and avoid besides: ``(must_include, avoid)``.
        seeds: Sampling only: one for each image; default ``options.seed`` for all.

    Returns:
        For every image its captions, best first: ``n_best``, or fewer where the search did not come across as many;
        never none. Captions that the model did not end stand last.

    Raises:
        CaptionerError: The prefix and ``must_include`` are too long, forbidden or not to be had with the strategy
            (``kind="usage"``), or the model gave values that are no numbers (``kind="not_finite"``).
    """
    prefix = tuple(int(token) for token in prefix)
    images = len(state[0])
    if each is None:
        each = [((), ())] * images
    elif len(each) != images:
        raise ValueError(f"{len(each)} constraints for {images} images")
    phrases = [_phrases([*must_include, *own]) for own, _ in each]
    avoided = [frozenset((*avoid, *own)) for _, own in each]
    shared = (tuple(_phrases(must_include)), frozenset(avoid))
    for wanted, barred in {shared, *zip(map(tuple, phrases), avoided, strict=True)}:
        _check_words(options, prefix, wanted, end, forbidden)
        if any(set(phrase).intersection(barred) for phrase in wanted):
            raise _usage("must_include and avoid name the same word")
    if images == 0:
        return []
    run = _Run(step, state, memory, options, start, end, forbidden)
    run.force(prefix)
    run.avoid(avoided)
    if any(phrases) or (options.strategy == "beam" and options.beam_size > 1):
        _beam(run, _Phrases(phrases, run.vocabulary_size), prefix)
    elif options.strategy == "sample":
        draw = _Sampler(options, [options.seed] * images if seeds is None else seeds, images)
        _roll_out(run, draw, options.n_best)
    else:
        _roll_out(run, lambda logprobs, images, t: logprobs.argmax(axis=-1), 1)
    return run.results()


def _usage(message: str) -> CaptionerError:
    return CaptionerError(message, kind="usage")


def _phrases(must_include) -> list[tuple[int, ...]]:
    """Required words as tuples, each once, without those that another contains."""
    phrases = dict.fromkeys(
        (int(words),) if isinstance(words, (int, np.integer)) else tuple(int(word) for word in words)
        for words in must_include
    )
    return [phrase for phrase in phrases if not any(_contains(other, phrase) for other in phrases if other != phrase)]


def _contains(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(tokens[i : i + len(phrase)] == phrase for i in range(len(tokens) - len(phrase) + 1))


def _check_words(options, prefix, phrases, end, forbidden):
    if any(not phrase for phrase in phrases):
        raise _usage("must_include holds an empty entry")
    if phrases and options.strategy != "beam":
        raise _usage(f"must_include needs beam search, not strategy {options.strategy!r}")
    barred = {end, *forbidden}
    if barred.intersection(prefix) or any(barred.intersection(phrase) for phrase in phrases):
        raise _usage("prefix or must_include holds a word that the model does not know")
    needed = sum(len(phrase) for phrase in phrases if not _contains(prefix, phrase))
    if len(prefix) + needed > options.max_length:
        raise _usage(f"prefix and must_include hold more words than max_length ({options.max_length})")


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


class _Run:
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
        self._avoided: list[np.ndarray] = []  # for every image; empty where none avoids anything
        self._steps: list[_Step] = []
        self._work: np.ndarray | None = None
        self.options = options
        self.end = end
        self.images = np.arange(len(self._state[0]))
        self.tokens = np.full((len(self.images), 1), start, np.int32)
        self.totals = np.zeros((len(self.images), 1))
        self.length = 0
        self._endings: list[list[_Ending]] = [[] for _ in self.images]
        # The score that a caption must beat to be among the n_best.
        self.to_beat = np.full(len(self.images), -np.inf)
        self.logprobs, self._attention = self._advance()

    @property
    def vocabulary_size(self) -> int:
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

    def avoid(self, words):
        """Rules out words from here on, for every image its own."""
        if any(words):
            self._avoided = [np.asarray(sorted(own), np.intp) for own in words]
            self._rule_out(self.logprobs)

    def _rule_out(self, logprobs):
        if self._avoided:
            for position, image in enumerate(self.images):
                logprobs[position, :, self._avoided[image]] = -np.inf

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


def _roll_out(run: _Run, choose: Callable, width: int):
    """Follows ``width`` captions of every image, each by itself: greedy search and sampling.

    ``choose(logprobs (images, width, vocabulary), images, length)`` returns tokens (images, width).
    """
    options = run.options
    alive = np.ones((len(run.images), width), bool)
    totals = np.repeat(run.totals, width, axis=1)
    parents = np.zeros(alive.shape, np.intp)
    while True:
        logprobs = np.take_along_axis(run.logprobs, parents[..., None], axis=1)
        allowed = logprobs
        if run.length < options.min_length:
            allowed = logprobs.copy()
            allowed[..., run.end] = -np.inf
        tokens = choose(allowed, run.images, run.length)
        chosen = np.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
        ended = alive & (tokens == run.end)
        positions, beams = np.nonzero(ended)
        run.stop(positions, parents[positions, beams], chosen[ended])
        alive &= ~ended
        if run.length == options.max_length or not alive.any():
            positions, beams = np.nonzero(alive)
            run.stop(positions, parents[positions, beams])
            return
        totals = np.where(alive, totals + chosen, -np.inf)
        kept = run.take(tokens, parents, chosen, totals, alive.any(axis=1))
        alive, totals = alive[kept], totals[kept]
        parents = np.broadcast_to(np.arange(width), alive.shape)


class _Sampler:
    """Draws words by inverting the cumulative distribution, one uniform number for each word.

    The numbers come from one generator for each image, so that an image's captions do not depend on the others, and
    the first sample does not depend on how many are drawn.
    """

    def __init__(self, options: SearchOptions, seeds: Sequence[int], images: int):
        if len(seeds) != images:
            raise ValueError(f"{len(seeds)} seeds for {images} images")
        shape = (options.n_best, options.max_length + 1)
        self._uniform = np.stack([np.random.default_rng(int(seed)).random(shape) for seed in seeds])
        self._options = options

    def __call__(self, logprobs, images, length):
        options = self._options
        scaled = logprobs / np.float32(options.temperature)
        weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True), dtype=np.float64)
        order = None
        if options.top_p < 1 or 0 < options.top_k < logprobs.shape[-1]:
            order = np.argsort(-weights, axis=-1, kind="stable")
            weights = np.take_along_axis(weights, order, axis=-1)
            if options.top_k:
                weights[..., options.top_k :] = 0
            before = np.cumsum(weights, axis=-1) - weights
            weights[before >= options.top_p * weights.sum(axis=-1, keepdims=True)] = 0
        cumulative = np.cumsum(weights, axis=-1)
        target = self._uniform[images, :, length][..., None] * cumulative[..., -1:]
        drawn = (cumulative > target).argmax(axis=-1)
        return drawn if order is None else np.take_along_axis(order, drawn[..., None], axis=-1)[..., 0]


class _Phrases:
    """Follows, for every beam, how much of each required phrase it contains (Knuth-Morris-Pratt automata).

    Args:
        phrases: Of every image.
        vocabulary_size: Number of tokens.

    Attributes:
        words: Tokens that occur in any phrase.
        total: Tokens of all phrases of every image (images,).
    """

    def __init__(self, phrases: Sequence[Sequence[tuple[int, ...]]], vocabulary_size: int):
        every = dict.fromkeys(phrase for own in phrases for phrase in own)
        self.words = sorted({token for phrase in every for token in phrase})
        self.total = np.array([sum(len(phrase) for phrase in own) for own in phrases], np.intp)
        self._symbols = np.zeros(vocabulary_size, np.intp)  # 0 is any other token
        self._symbols[self.words] = np.arange(1, len(self.words) + 1)
        self._longest = max((len(phrase) for phrase in every), default=0)
        # Where an image has fewer phrases than another, the rest of its row is of length 0 and never moves.
        self._count = max((len(own) for own in phrases), default=0)
        self._moves = np.zeros((len(phrases), self._count, self._longest + 1, len(self.words) + 1), np.intp)
        automata = {phrase: self._automaton(phrase) for phrase in every}
        for own, moves in zip(phrases, self._moves, strict=True):
            for number, phrase in enumerate(own):
                moves[number] = automata[phrase]

    def _automaton(self, phrase: tuple[int, ...]) -> np.ndarray:
        """How much of the phrase has been read after a symbol, by how much it was before (longest + 1, symbols)."""
        moves = np.zeros((self._longest + 1, len(self.words) + 1), np.intp)
        moves[len(phrase)] = len(phrase)  # found once is found for good
        for matched in range(len(phrase)):
            for symbol, token in enumerate(self.words, start=1):
                tail = (*phrase[:matched], token)
                moves[matched, symbol] = max(n for n in range(len(tail) + 1) if tail[len(tail) - n :] == phrase[:n])
        return moves

    def none(self, shape) -> np.ndarray:
        """Progress (*shape, phrases) of beams without words."""
        return np.zeros((*shape, self._count), np.intp)

    def advance(self, progress, tokens, images):
        """Progress (images, ..., phrases) after tokens (images, ...) of the images with these numbers (images,)."""
        images = images.reshape(-1, *[1] * tokens.ndim)
        return self._moves[images, np.arange(self._count), progress, self._symbols[tokens][..., None]]


def _beam(run: _Run, phrases: _Phrases, prefix: Sequence[int]):
    """Beam search, in banks of ``beam_size`` beams by the number of required words that they contain.

    A caption ends when its end is among the ``beam_size`` best continuations of its bank; the beams that go on are the
    best of the others. Only the last bank, which contains everything, may end.
    """
    options, size = run.options, run.options.beam_size
    progress = phrases.none(run.tokens.shape)
    for token in prefix:
        progress = phrases.advance(progress, np.full(run.tokens.shape, token), run.images)
    most = int(phrases.total.max())
    special = [run.end, *phrases.words]  # always considered, however unlikely
    while True:
        images, beams, vocabulary = run.logprobs.shape
        special_logprobs = run.logprobs[..., special]
        run.logprobs[..., special] = -np.inf
        best, best_logprobs = _largest(run.logprobs, min(size, vocabulary))
        tokens = np.concatenate([np.broadcast_to(np.array(special), special_logprobs.shape), best], axis=-1)
        logprobs = np.concatenate([special_logprobs, best_logprobs], axis=-1)
        after = np.broadcast_to(progress[:, :, None], (*tokens.shape, progress.shape[-1]))
        after = phrases.advance(after, tokens, run.images)
        bank = after.sum(axis=-1)
        totals = run.totals[..., None] + logprobs
        if run.length < options.min_length:
            totals[..., 0] = -np.inf

        choices = tokens.shape[-1]
        flat = [array.reshape(images, -1) for array in (totals, tokens, logprobs, bank)]
        totals, tokens, logprobs, bank = flat
        after = after.reshape(images, beams * choices, -1)
        picked = []
        for number in range(most + 1):
            scores = totals if most == 0 else np.where(bank == number, totals, -np.inf)
            order = np.argsort(-scores, axis=-1, kind="stable")[:, : 2 * size]
            ends = order % choices == 0
            full = phrases.total[run.images] == number
            if full.any():
                ranked = np.take_along_axis(scores, order, axis=-1)
                positions, ranks = np.nonzero((ends & np.isfinite(ranked))[:, :size] & full[:, None])
                ended = order[positions, ranks]
                run.stop(positions, ended // choices, logprobs[positions, ended])
            going_on = np.argsort(ends, axis=-1, kind="stable")[:, :size]
            order = np.take_along_axis(order, going_on, axis=-1)
            ranked = np.take_along_axis(scores, order, axis=-1)
            ranked[order % choices == 0] = -np.inf
            picked.append((order, ranked))
        order = np.concatenate([order for order, _ in picked], axis=-1)
        totals = np.concatenate([ranked for _, ranked in picked], axis=-1)

        dead = ~np.isfinite(totals).any(axis=1)
        over = run.length == options.max_length
        cut = np.flatnonzero((dead | over) & np.isneginf(run.to_beat[run.images]))
        for position in cut:
            _cut(run, position, progress[position].sum(axis=-1))
        live = ~dead & (run.attainable(totals) > run.to_beat[run.images])
        if over or not live.any():
            return
        progress = np.take_along_axis(after, order[..., None], axis=1)
        kept = run.take(
            np.take_along_axis(tokens, order, axis=1),
            order // choices,
            np.take_along_axis(logprobs, order, axis=1),
            np.where(live[:, None], totals, -np.inf),
            live,
        )
        progress = progress[kept]


def _largest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the k largest of values (..., n) stand and what they are, both (..., k); the values are destroyed."""
    flat = values.reshape(-1, values.shape[-1])
    if k > 12:
        where = np.argpartition(flat, flat.shape[1] - k, axis=-1)[:, -k:]
        found = np.take_along_axis(flat, where, axis=-1)
    else:  # a few passes of argmax, which is vectorised, take less time than one partition
        rows = np.arange(len(flat))
        where = np.empty((len(flat), k), np.intp)
        found = np.empty((len(flat), k), flat.dtype)
        for i in range(k):
            where[:, i] = best = flat.argmax(axis=-1)
            found[:, i] = flat[rows, best]
            flat[rows, best] = -np.inf
    return where.reshape(*values.shape[:-1], k), found.reshape(*values.shape[:-1], k)


def _cut(run: _Run, position: int, contained: np.ndarray):
    """Stops those of an image's beams that contain most of the required words and have not just ended."""
    beams = np.flatnonzero(np.isfinite(run.totals[position]))
    beams = beams[contained[beams] == contained[beams].max(initial=0)]
    beams = [beam for beam in beams if not run.has_ended(position, beam)]
    run.stop([position] * len(beams), beams)
