"""English sentences to other languages: the model that `captioner.load` returns for a translator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, overload

import numpy as np

from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.decoder_config import decoder_shapes
from captioner.models.graph_parts import Weights
from captioner.models.search import Hypothesis, SearchOptions
from captioner.results import Translation, Word
from captioner.translation.config import TranslatorConfig, sentence_encoder_shapes
from captioner.translation.runtime import TranslationRuntime
from captioner.translation.subwords import SLOTS, Subwords, normalize

if TYPE_CHECKING:
    from captioner.models.saving import SavedModel

SHIPPED_TRANSLATOR = "translator"
"""Name of the translator that is used where none is named."""

_LONGEST = 60  # words that are read together; what is longer is read in parts
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=\S)")
_SPACE = "\u2581"


class Translator:
    """Translates English sentences.

    Args:
        name: Name of the model.
        config: Sizes and search options.
        subwords: The vocabulary.
        encoder_weights: ``layer/variable`` to array.
        decoder_weights: ``layer/variable`` to array.
        precision: ``f32``, ``bf16``, or ``auto``: bfloat16 where the CPU computes in it.
        threads: Cores to use; None for all that this process may use.

    Attributes:
        name: Name of the model folder.
        languages: Codes of the languages that it translates to, such as ``de``.
        options: The search options used where a call names no others.
    """

    def __init__(
        self, name: str, config: TranslatorConfig, subwords: Subwords, encoder_weights: Weights,
        decoder_weights: Weights, *, precision: str = "auto", threads: int | None = None,
    ):  # fmt: skip
        self.name = name
        self.options = config.search
        self.languages = subwords.languages
        self._subwords = subwords
        self._runtime = TranslationRuntime(
            config, encoder_weights, decoder_weights, subwords, precision=precision, threads=threads
        )

    @classmethod
    def open(
        cls, saved: SavedModel, *, runtime: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Translator:
        """The translator of a model folder; see `captioner.load`, which this is behind.

        Raises:
            CaptionerError: It cannot be run so (``kind="usage"``).
            ModelLoadError: The folder holds another kind of model, or its files belong to different ones.
        """
        if saved.kind != "translator":
            raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, not a translator")
        if runtime == "keras" or precision not in ("auto", "f32", "bf16"):
            raise CaptionerError("a translator runs on openvino, in f32 or bf16", kind="usage")
        if threads is not None and threads < 1:
            raise CaptionerError(f"threads must be at least 1, not {threads}", kind="usage")
        config = saved.settings(TranslatorConfig)
        subwords = Subwords.from_json(saved.texts["tokenizer.json"], saved.path("tokenizer.json"))
        if len(subwords) != config.decoder.vocabulary_size:
            raise ModelLoadError(
                f"{saved.path('tokenizer.json')}: holds {len(subwords)} tokens, the decoder wants "
                f"{config.decoder.vocabulary_size}; the files belong to different models, get the folder again"
            )
        shapes = sentence_encoder_shapes(config.encoder, config.decoder.embedding_units)
        return cls(
            saved.name, config, subwords, saved.part("encoder", shapes),
            saved.part("decoder", decoder_shapes(config.decoder)), precision=precision, threads=threads,
        )  # fmt: skip

    def check(self, language: str) -> None:
        """Refuses a language to which it does not translate.

        Raises:
            CaptionerError: There is no such language (``kind="usage"``); the message names those that there are.
        """
        self._subwords.start_of(language)

    @overload
    def translate(self, text: str, to: str, **options) -> Translation: ...

    @overload
    def translate(self, text: Sequence[str], to: str, **options) -> list[Translation]: ...

    def translate(self, text, to, **options):
        """Translates a text, or several.

        Args:
            text: English, a sentence or several; or a list of such texts, which takes less time than one by one. Does
                not depend on what else is translated.
            to: Code of the language, one of `languages`.
            **options: Of `captioner.SearchOptions`, such as ``beam_size``.

        Returns:
            A translation for every text; an empty one for an empty text. Words that the translator has never read are
            kept as they are.

        Raises:
            CaptionerError: There is no such language, or an option makes no sense (``kind="usage"``).
        """
        if isinstance(text, str):
            return self.translate([text], to, **options)[0]
        known = [field.name for field in fields(SearchOptions)]
        if unknown := sorted(set(options) - set(known)):
            raise CaptionerError(f"unknown option {unknown[0]!r}; known: {', '.join(known)}", kind="usage")
        self.check(to)
        parts = [list(_parts(normalize(one))) for one in text]
        aside = [self._subwords.put_aside(part) for own in parts for part in own]
        sources = [self._subwords.encode(part) for part, _ in aside]
        found = self._runtime.translate(sources, to, replace(self.options, **options))
        done = iter(
            self._one(source, kept, hypotheses[0])
            for source, (_, kept), hypotheses in zip(sources, aside, found, strict=True)
        )
        return [_joined(one, to, [next(done) for _ in own]) for one, own in zip(text, parts, strict=True)]

    def _one(self, source: Sequence[int], kept: Sequence[str], found: Hypothesis) -> Translation:
        """A translated sentence, its language still open."""
        read, columns = _words(self._subwords.pieces_of(source[:-1]), kept)
        written, rows = _words(self._subwords.pieces_of(found.tokens), kept)
        attention = np.zeros((len(found.tokens), len(read)), np.float32)
        for column, place in enumerate(columns):  # what it looked at the end for belongs to no word
            attention[:, place] += found.attention[:, column]
        attention /= np.maximum(attention.sum(axis=1, keepdims=True), 1e-9)
        words = []
        for place, text in enumerate(written):
            own = [row for row, word in enumerate(rows) if word == place]
            words.append(Word(text, float(found.logprobs[own].sum()), attention[own].mean(axis=0)))
        text = self._subwords.decode(found.tokens)
        for slot, words_kept in zip(SLOTS, kept, strict=False):
            text = text.replace(slot, words_kept)
        return Translation(text, "", "", tuple(words), tuple(read), float(found.score))


def _parts(text: str) -> Iterable[str]:
    """The sentences of a text, cut where they are too long."""
    for sentence in _SENTENCES.split(text) if text else ():
        words = sentence.split(" ")
        for first in range(0, len(words), _LONGEST):
            yield " ".join(words[first : first + _LONGEST])


def _words(pieces: Sequence[str], kept: Sequence[str]) -> tuple[list[str], list[int]]:
    """Words that pieces spell, with what slots stand for, and for every piece the number of its word."""
    words: list[str] = []
    places = []
    for piece in pieces:
        for slot, words_kept in zip(SLOTS, kept, strict=False):
            piece = piece.replace(slot, words_kept)
        if piece.startswith(_SPACE) or not words:
            words.append("")
        words[-1] += piece.removeprefix(_SPACE)
        places.append(len(words) - 1)
    return words, places


def _joined(source: str, language: str, parts: Sequence[Translation]) -> Translation:
    """The translations of the sentences of a text as one."""
    before = np.cumsum([0, *(len(part.source_words) for part in parts)])
    words = tuple(
        replace(word, attention=np.pad(word.attention, (before[i], before[-1] - before[i + 1])))
        for i, part in enumerate(parts)
        for word in part.words
    )
    return Translation(
        text=" ".join(part.text for part in parts),
        language=language,
        source=source,
        words=words,
        source_words=tuple(word for part in parts for word in part.source_words),
        score=float(np.mean([part.score for part in parts])) if parts else 0.0,
    )
