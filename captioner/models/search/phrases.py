"""Words that captions must contain, and how much of them each beam contains so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Phrases:
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
