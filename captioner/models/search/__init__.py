"""Search for captions with a model that is known only by its step: greedy, beam, constrained beam and sampling.

NumPy only. All images and beams of a batch take each step together; the state follows the beams, and images that are
done leave the batch. Log-probabilities are those of the softmax over the allowed tokens, that is, all but the forbidden
ones (padding, start, unknown), which get no share. Nothing else changes them: not the temperature, nor the limits on
length, a prefix, words that must be included or may not come again, which only rule out what the search may choose.

The score of a caption is ``(sum of its log-probabilities, end included) / (words + 1) ** length_penalty`` (Wu et al.
2016 without the constant 5); of one that the length limit cut, the same without the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from captioner.models.search.batch import Batch
from captioner.models.search.beam import beam_search
from captioner.models.search.independent import Sampler, roll_out
from captioner.models.search.options import BeamSize, Hypothesis, SearchOptions, usage
from captioner.models.search.phrases import Phrases

__all__ = ["BeamSize", "Hypothesis", "SearchOptions", "search"]


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
    once: Sequence[int] = (),
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
        once: Words that no caption may use a second time, unless ``must_include`` has them (n-gram blocking, Paulus
            et al. 2018, of single words). Unlike ``forbidden`` they keep their probability: a caption that had to do
            without the likeliest word has the low score that it deserves. Needs a forbidden token.
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
    phrases = _phrases(must_include)
    _check_words(options, prefix, phrases, end, forbidden)
    if images == 0:
        return []
    run = Batch(step, state, memory, options, start, end, forbidden)
    run.force(prefix)
    run.use_once(sorted(set(once).difference(*phrases)))
    if phrases or (options.strategy == "beam" and options.beam_size > 1):
        beam_search(run, Phrases(phrases, run.vocabulary_size), prefix)
    elif options.strategy == "sample":
        draw = Sampler(options, [options.seed] * images if seeds is None else seeds, images)
        roll_out(run, draw, options.n_best)
    else:
        roll_out(run, lambda logprobs, images, t: logprobs.argmax(axis=-1), 1)
    return run.results()


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
        raise usage("must_include holds an empty entry")
    if phrases and options.strategy != "beam":
        raise usage(f"must_include needs beam search, not strategy {options.strategy!r}")
    barred = {end, *forbidden}
    if barred.intersection(prefix) or any(barred.intersection(phrase) for phrase in phrases):
        raise usage("prefix or must_include holds a word that the model does not know")
    needed = sum(len(phrase) for phrase in phrases if not _contains(prefix, phrase))
    if len(prefix) + needed > options.max_length:
        raise usage(f"prefix and must_include hold more words than max_length ({options.max_length})")
