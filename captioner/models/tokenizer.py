"""Captions to token numbers and back: normalisation, vocabulary, special tokens."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.words import FUNCTION_WORDS
from captioner.schema import decode

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
        styles: Manners of writing besides the general one, each with a start token of its own after the words, as
            multilingual translators name the language (Johnson et al. 2017).

    Attributes:
        pad, start, end, unknown: Numbers of the special tokens: 0, 1, 2, 3.
        forbidden: Numbers of all tokens that no caption may hold.
        meaningful: Numbers of the words that carry a meaning of their own.
    """

    pad, start, end, unknown = range(4)

    def __init__(self, words: Sequence[str], styles: Sequence[str] = ()):
        self.styles = tuple(styles)
        self.words = (*SPECIAL, *words, *(f"<{style}>" for style in self.styles))
        self._last_word = len(SPECIAL) + len(words) - 1
        self.forbidden = (self.pad, self.start, self.unknown, *range(self._last_word + 1, len(self.words)))
        self.meaningful = tuple(
            number for number, word in enumerate((*SPECIAL, *words)) if word not in FUNCTION_WORDS | set(SPECIAL)
        )
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if len(self._numbers) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ModelLoadError(f"the vocabulary holds {twice!r} twice")

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 5, styles: Sequence[str] = ()) -> Tokenizer:
        """The words that occur at least ``min_count`` times, most frequent first, ties in alphabetical order."""
        counts = Counter(word for caption in captions for word in normalize(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), styles)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return len(SPECIAL) <= self._numbers.get(word, 0) <= self._last_word

    def start_of(self, style: str) -> int:
        """Number of the token that a caption in this style begins with; "" is the general one.

        Raises:
            CaptionerError: There is no such style (``kind="usage"``); the message names those that there are.
        """
        if not style:
            return self.start
        if style not in self.styles:
            known = ", ".join(self.styles) or "the general one alone"
            raise CaptionerError(f"unknown style {style!r}; this model has {known}", kind="usage")
        return self._numbers[f"<{style}>"]

    def encode(self, text: str | Sequence[str], *, end: bool = False) -> list[int]:
        """Token numbers of a sentence or a list of words; unknown words become `unknown`.

        Args:
            text: The sentence, or its words.
            end: Whether the end token is appended.
        """
        words = normalize(text) if isinstance(text, str) else text
        numbers = [self._numbers.get(word, self.unknown) for word in words]
        return [*numbers, self.end] if end else numbers

    def encode_batch(self, texts: Sequence[str], max_length: int, style: str = "") -> np.ndarray:
        """Tokens (len(texts), max_length + 2) int32: start of the style, at most ``max_length`` words, end (if it
        fits), padding."""
        start = self.start_of(style)
        batch = np.full((len(texts), max_length + 2), self.pad, np.int32)
        for row, text in zip(batch, texts, strict=True):
            words = self.encode(text)
            tokens = [start, *words[:max_length], *([self.end] if len(words) <= max_length else [])]
            row[: len(tokens)] = tokens
        return batch

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Words up to the end token, without special tokens."""
        words = []
        for number in numbers:
            if number == self.end:
                break
            if len(SPECIAL) <= number <= self._last_word:
                words.append(self.words[number])
        return words

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        record = {"format": 1, "words": self.words[len(SPECIAL) : self._last_word + 1]}
        if self.styles:
            record["styles"] = self.styles
        return json.dumps(record, ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str, where: str = "the vocabulary") -> Tokenizer:
        """Reads what `to_json` wrote.

        Args:
            text: Content of the file.
            where: Its path, for error messages.

        Raises:
            ModelLoadError: The text is no vocabulary.
        """
        record = decode(text, _Vocabulary, where)
        try:
            return cls(record.words, record.styles)
        except ModelLoadError as error:
            raise ModelLoadError(f"{where}: {error}; get the folder again") from error


# No spaces, nor what would steer a terminal.
_Token = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\A[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z")]


@dataclass(frozen=True)
class _Vocabulary:
    """``tokenizer.json``."""

    format: Literal[1]
    words: Annotated[tuple[_Token, ...], Meta(max_length=2**15)]
    styles: Annotated[tuple[_Token, ...], Meta(max_length=100)] = ()


def join_words(words: Sequence[str]) -> str:
    """Words as a sentence: ``man 's`` is written ``man's``, ``is n't`` ``isn't``."""
    text = ""
    for word in words:
        text += word if not text or word in _CLITICS else f" {word}"
    return text
