"""Captions to token numbers and back: normalisation, vocabulary, special tokens."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from captioner.errors import ModelLoadError

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)
_WORD = re.compile(r"'s\b|n't\b|[^\W_]+(?:[-&][^\W_]+)*")
_CLITICS = ("'s", "n't")


def normalize(text: str) -> list[str]:
    """Splits a sentence into lower-case words.

    Punctuation goes; hyphenated words stay whole; ``man's`` becomes ``man 's`` and ``isn't`` becomes ``is n't``, as in
    the tokenisation that the caption metrics use.
    """
    text = text.lower().replace("’", "'").replace("`", "'")
    return _WORD.findall(text.replace("n't", " n't"))


class Tokenizer:
    """A fixed vocabulary.

    Args:
        words: The words after the four special tokens, in order of their numbers.

    Attributes:
        pad, start, end, unknown: Numbers of the special tokens: 0, 1, 2, 3.
    """

    pad, start, end, unknown = range(4)

    def __init__(self, words: Sequence[str]):
        self.words = (*SPECIAL, *words)
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if len(self._numbers) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ModelLoadError(f"the vocabulary holds {twice!r} twice")

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 5) -> Tokenizer:
        """The words that occur at least ``min_count`` times, most frequent first, ties in alphabetical order."""
        counts = Counter(word for caption in captions for word in normalize(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._numbers and word not in SPECIAL

    def encode(self, text: str | Sequence[str], *, end: bool = False) -> list[int]:
        """Token numbers of a sentence or a list of words; unknown words become `unknown`.

        Args:
            text: The sentence, or its words.
            end: Whether the end token is appended.
        """
        words = normalize(text) if isinstance(text, str) else text
        numbers = [self._numbers.get(word, self.unknown) for word in words]
        return [*numbers, self.end] if end else numbers

    def encode_batch(self, texts: Sequence[str], max_length: int) -> np.ndarray:
        """Tokens (len(texts), max_length + 2) int32: start, at most ``max_length`` words, end (if it fits), padding."""
        batch = np.full((len(texts), max_length + 2), self.pad, np.int32)
        for row, text in zip(batch, texts, strict=True):
            words = self.encode(text)
            tokens = [self.start, *words[:max_length], *([self.end] if len(words) <= max_length else [])]
            row[: len(tokens)] = tokens
        return batch

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Words up to the end token, without special tokens."""
        words = []
        for number in numbers:
            if number == self.end:
                break
            if number >= len(SPECIAL):
                words.append(self.words[number])
        return words

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        return json.dumps({"format": 1, "words": self.words[len(SPECIAL) :]}, ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Reads what `to_json` wrote.

        Raises:
            ModelLoadError: The text is no vocabulary.
        """
        try:
            record = json.loads(text)
            words = record["words"]
            if record["format"] != 1 or not isinstance(words, list):
                raise ValueError("unexpected content")
            if not all(isinstance(word, str) and word for word in words):
                raise ValueError("a word is no text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelLoadError(f"not a vocabulary of format 1 ({error})") from error
        return cls(words)


def join_words(words: Sequence[str]) -> str:
    """Words as a sentence: ``man 's`` is written ``man's``, ``is n't`` ``isn't``."""
    text = ""
    for word in words:
        text += word if not text or word in _CLITICS else f" {word}"
    return text
