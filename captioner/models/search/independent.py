"""Captions that are followed each by itself: greedy search and sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from captioner.models.search.batch import Batch
from captioner.models.search.options import SearchOptions


def roll_out(run: Batch, choose: Callable, width: int):
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


class Sampler:
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
        """Tokens (images, n_best), as `roll_out` wants them chosen."""
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
