"""Beam search, also for captions that must contain certain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.models.search.batch import Batch
from captioner.models.search.phrases import Phrases


def beam_search(run: Batch, phrases: Phrases, prefix: Sequence[int]):
    """Beam search, in banks of ``beam_size`` beams by the number of required words that they contain.

    A caption ends when its end is among the ``beam_size`` best continuations of its bank; the beams that go on are the
    best of the others. Only the last bank, which contains everything, may end.
    """
    options, size = run.options, run.options.beam_size
    progress = phrases.none(run.tokens.shape)
    for token in prefix:
        progress = phrases.advance(progress, np.full(run.tokens.shape, token))
    special = [run.end, *phrases.words]  # always considered, however unlikely
    while True:
        images, beams, vocabulary = run.logprobs.shape
        special_logprobs = run.logprobs[..., special]
        run.logprobs[..., special] = -np.inf
        best, best_logprobs = _largest(run.logprobs, min(size, vocabulary))
        tokens = np.concatenate([np.broadcast_to(np.array(special), special_logprobs.shape), best], axis=-1)
        logprobs = np.concatenate([special_logprobs, best_logprobs], axis=-1)
        after = np.broadcast_to(progress[:, :, None], (*tokens.shape, progress.shape[-1]))
        after = phrases.advance(after, tokens)
        bank = after.sum(axis=-1)
        totals = run.totals[..., None] + logprobs
        if run.length < options.min_length:
            totals[..., 0] = -np.inf

        choices = tokens.shape[-1]
        flat = [array.reshape(images, -1) for array in (totals, tokens, logprobs, bank)]
        totals, tokens, logprobs, bank = flat
        after = after.reshape(images, beams * choices, -1)
        picked = []
        for number in range(phrases.total + 1):
            scores = totals if phrases.total == 0 else np.where(bank == number, totals, -np.inf)
            order = np.argsort(-scores, axis=-1, kind="stable")[:, : 2 * size]
            ends = order % choices == 0
            if number == phrases.total:
                ranked = np.take_along_axis(scores, order, axis=-1)
                positions, ranks = np.nonzero((ends & np.isfinite(ranked))[:, :size])
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


def _cut(run: Batch, position: int, contained: np.ndarray):
    """Stops those of an image's beams that contain most of the required words and have not just ended."""
    beams = np.flatnonzero(np.isfinite(run.totals[position]))
    beams = beams[contained[beams] == contained[beams].max(initial=0)]
    beams = [beam for beam in beams if not run.has_ended(position, beam)]
    run.stop([position] * len(beams), beams)
