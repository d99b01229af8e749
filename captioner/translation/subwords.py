"""Sentences to subword numbers and back, for all languages of a translator: unigram pieces (Kudo 2018).

A word that the translator has never read is put aside: a slot stands for it in what is read and in what is written, and
the word takes the slot's place again (Luong et al. 2015b).
"""

from __future__ import annotations

import io
import json
import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import sentencepiece
from msgspec import Meta

from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.schema import decode

SLOTS = tuple(chr(0xE000 + i) for i in range(8))
"""Characters for private use, each of which stands for words that are kept as they are."""
PAD, START, END, UNKNOWN = range(4)
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_NORMAL, _UNKNOWN, _CONTROL, _SLOT, _BYTE = 1, 2, 3, 4, 6  # types of sentencepiece's pieces
_SPACE = "\u2581"
_TOKEN = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[^\w\s]|_")
_ENGLISH = "en"


class Subwords:
    """A fixed vocabulary of pieces.

    Args:
        pieces: The pieces and their log-probabilities.
        known: English words, in lower case, that the translator has read.
        languages: Every language to the numbers of the pieces that it is written in.

    Attributes:
        languages: Codes of the languages.
    """

    def __init__(
        self, pieces: Sequence[tuple[str, float]], known: Iterable[str], languages: Mapping[str, Sequence[int]]
    ):
        self.pieces, self.known = tuple(pieces), frozenset(known)
        self.languages = tuple(languages)
        self._own = {language: tuple(numbers) for language, numbers in languages.items()}
        special = [*_SPECIAL, *(f"<{language}>" for language in languages), *SLOTS, *_BYTES]
        self._first = len(special) - len(_BYTES) - len(SLOTS)
        table = [(text, 0.0, _CONTROL) for text in special[: self._first]]
        table[UNKNOWN] = (_SPECIAL[UNKNOWN], 0.0, _UNKNOWN)
        table += [(text, 0.0, _SLOT) for text in SLOTS] + [(text, 0.0, _BYTE) for text in _BYTES]
        self._processor = sentencepiece.SentencePieceProcessor(
            model_proto=_model([*table, *((text, score, _NORMAL) for text, score in self.pieces)])
        )
        self.slots = tuple(range(self._first, self._first + len(SLOTS)))
        self._characters = {character for text, _ in self.pieces for character in text}

    def __len__(self) -> int:
        return self._first + len(SLOTS) + len(_BYTES) + len(self.pieces)

    @classmethod
    def learn(cls, sentences: Mapping[str, Sequence[str]], size: int) -> Subwords:
        """Learns the pieces of all languages together.

        Args:
            sentences: Every language, ``en`` among them, to its sentences.
            size: Number of tokens, special ones included.

        Raises:
            DatasetError: There is too little text for so many pieces.
        """
        texts = {language: [normalize(text) for text in lines] for language, lines in sentences.items()}
        languages = [language for language in texts if language != _ENGLISH]
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(text for lines in texts.values() for text in lines),
                model_writer=model, model_type="unigram", vocab_size=size - len(languages), character_coverage=1.0,
                byte_fallback=True, normalization_rule_name="identity", user_defined_symbols=list(SLOTS), pad_id=PAD,
                bos_id=START, eos_id=END, unk_id=UNKNOWN, num_threads=1, minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            raise DatasetError(f"there is too little text for {size} pieces ({error})") from error
        trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        other = {*_SPECIAL, *SLOTS, *_BYTES}
        pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(len(trained))]
        pieces = [(text, round(score, 4)) for text, score in pieces if text not in other]
        known = {token.casefold() for text in texts[_ENGLISH] for token in _TOKEN.findall(text)}
        every = cls(pieces, known, {language: () for language in languages})
        used = {
            language: {number for line in every._processor.encode(texts[language]) for number in line}
            for language in languages
        }
        return cls(pieces, known, {language: sorted(numbers) for language, numbers in used.items()})

    def start_of(self, language: str) -> int:
        """Number of the token that a translation into a language begins with.

        Raises:
            CaptionerError: There is no such language (``kind="usage"``); the message names those that there are.
        """
        if language not in self.languages:
            raise CaptionerError(
                f"unknown language {language!r}; this translator knows {', '.join(self.languages)}", kind="usage"
            )
        return len(_SPECIAL) + self.languages.index(language)

    @cached_property
    def written(self) -> dict[str, np.ndarray]:
        """Every language to what it is written in: its start token, the end, the slots, its pieces (n,) int32."""
        return {
            language: np.array([self.start_of(language), END, *self.slots, *numbers], np.int32)
            for language, numbers in self._own.items()
        }

    def encode(self, text: str) -> list[int]:
        """Tokens of a normalised sentence, the end included."""
        return [*self._processor.encode(text), END]

    def pieces_of(self, numbers: Iterable[int]) -> list[str]:
        """The tokens as text, in which a leading low line of sentencepiece stands for a space."""
        return [self._processor.id_to_piece(int(number)) for number in numbers]

    def decode(self, numbers: Sequence[int]) -> str:
        """The sentence that tokens spell."""
        return self._processor.decode([int(number) for number in numbers])

    def put_aside(self, text: str) -> tuple[str, list[str]]:
        """Puts slots in the place of what has never been read.

        Args:
            text: A normalised sentence.

        Returns:
            The sentence with slots, and what each stands for: neighbouring words together, and from the last slot on
            everything up to the last such word.
        """
        spans: list[list[int]] = []
        for match in _TOKEN.finditer(text):
            token = match[0]
            if token.casefold() in self.known or (not token[0].isalnum() and token in self._characters):
                continue
            if spans and (len(spans) == len(SLOTS) or not text[spans[-1][1] : match.start()].strip()):
                spans[-1][1] = match.end()
            else:
                spans.append([*match.span()])
        kept = [text[begin:end] for begin, end in spans]
        for slot, (begin, end) in reversed(list(zip(SLOTS, spans, strict=False))):
            text = text[:begin] + slot + text[end:]
        return text, kept

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        record = {
            "format": 1,
            "pieces": self.pieces,
            "languages": self._own,
            "known": sorted(self.known),
        }
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: str = "the vocabulary") -> Subwords:
        """Reads what `to_json` wrote.

        Args:
            text: Content of the file.
            where: Its path, for error messages.

        Raises:
            ModelLoadError: The text is no vocabulary.
        """
        record = decode(text, _Vocabulary, where)
        try:
            subwords = cls(record.pieces, record.known, record.languages)
        except RuntimeError as error:
            raise ModelLoadError(f"{where}: no vocabulary ({error}); get the folder again") from error
        first = len(subwords) - len(record.pieces)
        if any(not first <= number < len(subwords) for own in record.languages.values() for number in own):
            raise ModelLoadError(f"{where}: a language has pieces that are not there; get the folder again")
        return subwords


def normalize(text: str) -> str:
    """A sentence as it is read: composed characters, one space between words, none that is in place of a word."""
    text = unicodedata.normalize("NFKC", text).replace(_SPACE, "_")
    return " ".join("".join(character for character in text if character not in SLOTS).split())


_Text = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\A[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z")]
_Code = Annotated[str, Meta(pattern=r"\A[a-z]{2,8}\Z")]


@dataclass(frozen=True)
class _Vocabulary:
    """``tokenizer.json``."""

    format: Literal[1]
    pieces: Annotated[tuple[tuple[_Text, Annotated[float, Meta(ge=-1e3, le=0)]], ...], Meta(max_length=2**15)]
    languages: Annotated[dict[_Code, Annotated[tuple[int, ...], Meta(max_length=2**15)]], Meta(max_length=100)]
    known: Annotated[tuple[_Text, ...], Meta(max_length=2**18)]


def _model(table: Iterable[tuple[str, float, int]]) -> bytes:
    """A model of sentencepiece: what its protocol buffer (``ModelProto``) says, nothing of it from a file as it is.

    The pieces, then of ``TrainerSpec`` the fallback to bytes and the numbers of the special tokens, then of
    ``NormalizerSpec`` that there is nothing to normalise.
    """

    def integer(value: int) -> bytes:
        low = b""
        while value > 127:
            low, value = low + bytes([value & 127 | 128]), value >> 7
        return low + bytes([value])

    def block(field: int, content: bytes) -> bytes:
        return integer(field << 3 | 2) + integer(len(content)) + content

    def number(field: int, value: int) -> bytes:
        return integer(field << 3) + integer(value)

    model = b"".join(
        block(1, block(1, text.encode()) + integer(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind))
        for text, score, kind in table
    )
    ids = zip((40, 41, 42, 43), (UNKNOWN, START, END, PAD), strict=True)
    trainer = number(3, 1) + number(35, 1) + b"".join(number(*pair) for pair in ids)
    trainer += block(48, _SPECIAL[PAD].encode())
    return model + block(2, trainer) + block(3, block(1, b"identity"))
