"""Words that captions must contain, and how much of them each beam contains so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Phrases:
    """Follows, for every beam, how much of each required phrase it contains (Knuth-Morris-Pratt automata).

    Args:
        phrases: What every caption must contain.
        vocabulary_size: Number of tokens.

    Attributes:
        words: Tokens that occur in any phrase.
        total: Tokens of all phrases.
    """

    def __init__(self, phrases: Sequence[tuple[int, ...]], vocabulary_size: int):
        self.words = sorted({token for phrase in phrases for token in phrase})
        self.total = sum(len(phrase) for phrase in phrases)
        self._symbols = np.zeros(vocabulary_size, np.intp)  # 0 is any other token
        self._symbols[self.words] = np.arange(1, len(self.words) + 1)
        self._longest = max((len(phrase) for phrase in phrases), default=0)
        self._moves = np.zeros((len(phrases), self._longest + 1, len(self.words) + 1), np.intp)
        for number, phrase in enumerate(phrases):
            self._moves[number] = self._automaton(phrase)

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
        return np.zeros((*shape, len(self._moves)), np.intp)

    def advance(self, progress, tokens):
        """Progress (..., phrases) after tokens (...)."""
        return self._moves[np.arange(len(self._moves)), progress, self._symbols[tokens][..., None]]
