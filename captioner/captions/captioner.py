"""Images to captions: the model that `captioner.load` returns, on whichever runtime."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, overload

import numpy as np
import PIL.Image

from captioner.captions.config import CaptionerConfig
from captioner.captions.familiarity import Familiarity
from captioner.captions.pipeline import BATCH_SIZE, caption_stream
from captioner.captions.runtime import Runtime, open_runtime
from captioner.captions.tags import Tagger
from captioner.errors import CaptionerError, ModelLoadError
from captioner.media.images import name_of, read_image
from captioner.models.saving import SavedModel, read_model
from captioner.models.search import Hypothesis, SearchOptions, search
from captioner.models.tokenizer import SPECIAL, Tokenizer, join_words, normalize
from captioner.outputs.thumbnails import thumbnail
from captioner.results import Caption, Word
from captioner.translation.translator import SHIPPED_TRANSLATOR, Translator

if TYPE_CHECKING:
    from captioner.models.runtime import Features

_LOG = logging.getLogger(__name__)

FAR = 0.02
"""Familiarity below which a photo gets a plain sentence from its tags instead of a caption; one in fifty of the
training photos is below it."""

LIKELY = 0.3
"""Probability that the thing in such a sentence needs."""

Image: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | PIL.Image.Image | np.ndarray"
"""A path, the bytes of a file, a binary file, a PIL image or an array (height, width[, 1, 3 or 4])."""


class ImageCaptioner:
    """Writes captions for images.

    Args:
        saved: A model folder of kind ``captioner``.
        runtime: What computes encoder and decoder; see `captioner.captions.runtime`.

    Attributes:
        name: Name of the model folder.
        image_size: Side in pixels of the square that the encoder sees.
        encode_batch: See `captioner.captions.runtime.Runtime`.
        channels: Length of the vectors that the encoder gives.
        tokenizer: The vocabulary.
        options: The search options used where a call names no others.
        familiarity: How much photos resemble the training photos; None where the model has no statistics of those.
        tagger: What gives photos tags; None where the model has learnt none.
        calibration: From the decoder's probabilities of words to those that people use them for the photo.

    Raises:
        ModelLoadError: The folder holds another kind of model, or its vocabulary does not fit the decoder.
    """

    def __init__(self, saved: SavedModel, runtime: Runtime):
        if saved.kind != "captioner":
            raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, not a captioner")
        self._origin: tuple[str, dict[str, Any]] | None = None
        self.name = saved.name
        self.metadata = saved.metadata
        self.encoder_sha256 = saved.encoder_sha256
        self.runtime = runtime
        self.image_size = runtime.image_size
        self.encode_batch = runtime.encode_batch
        self.channels = runtime.channels
        self.grid_side = math.isqrt(runtime.positions)
        file = saved.settings(CaptionerConfig)
        self.options, self.calibration = file.search, file.calibration
        self.tokenizer = Tokenizer.from_json(saved.texts["tokenizer.json"], saved.path("tokenizer.json"))
        if len(self.tokenizer) != file.decoder.vocabulary_size:
            raise ModelLoadError(
                f"{saved.path('tokenizer.json')}: holds {len(self.tokenizer)} tokens, the decoder wants "
                f"{file.decoder.vocabulary_size}; the files belong to different models, get the folder again"
            )
        self.familiarity = Familiarity.from_saved(saved)
        self.tagger = Tagger.from_saved(saved)

    @classmethod
    def open(
        cls, saved: SavedModel, *, runtime: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> ImageCaptioner:
        """The captioner of a model folder on a runtime; see `captioner.load`, which this is behind."""
        begin = time.monotonic()
        engine = open_runtime(saved, runtime=runtime, precision=precision, threads=threads)
        model = cls(saved, engine)
        settings = {"runtime": engine.name, "precision": engine.precision, "threads": threads}
        model._origin = (saved.reference, settings)
        how = f"{engine.name}, {engine.precision}, {threads or 'all'} cores"
        _LOG.info("%s: %s; opened in %.1f s", saved.folder, how, time.monotonic() - begin)
        return model

    def __reduce__(self):
        """Pickles name and settings; whoever unpickles opens the folder again."""
        if self._origin is None:
            raise CaptionerError(f"{self.name}: was put together in this process; save it, and load it from its folder")
        changed = {name: getattr(self, name) for name in ("options", "calibration")}
        return _open_again, self._origin, changed

    @overload
    def caption(self, image: Image, **options: Any) -> Caption: ...

    @overload
    def caption(self, image: list[Any] | tuple[Any, ...], **options: Any) -> list[Caption]: ...

    @overload
    def caption(self, image: Iterator[Any], **options: Any) -> Iterator[Caption]: ...

    def caption(
        self,
        image: Any,
        *,
        prefix: str = "",
        must_include: str | Sequence[str] = (),
        seeds: Sequence[int] | None = None,
        style: str = "",
        language: str = "en",
        translator: Translator | None = None,
        plain: bool = True,
        attention: bool = True,
        batch_size: int = BATCH_SIZE,
        **options: Any,
    ) -> Caption | list[Caption] | Iterator[Caption]:
        """Captions one image, or several: a list of them, or what a generator gives.

        Args:
            image: A path, bytes, file object, PIL image or array (height, width[, 1, 3 or 4]); or a list or an iterator
                of such.
            prefix: First words that the caption must have.
            must_include: Words that the caption must contain (one, or a list); needs beam search.
            seeds: One seed an image for sampling; by default ``seed`` for all of them.
            style: Manner of writing, one of ``model.tokenizer.styles``; "" is the general one.
            language: Of the caption: ``en``, or one to which the translator translates, such as ``de``;
                ``caption.english`` stays, and the attention of the words is over ``caption.translation.source_words``.
            translator: What `captioner.load` gives for the folder of a trained translator; by default the shipped one.
            plain: Whether a photo far from all that the model has learnt from gets a plain sentence from its tags ("a
                picture of a cat") before the captions that the search finds; with beam search, where neither
                ``prefix`` nor ``must_include`` asks for something else.
            attention: Whether every word keeps its attention map.
            batch_size: Images computed together.
            **options: Fields of `captioner.models.search.SearchOptions`: ``beam_size``, ``n_best``, ``max_length``,
                ``strategy``, ``temperature``, ``top_k``, ``top_p``, ``seed`` and so on.

        Returns:
            A `Caption` for one image; a list, in order, for a list; for an iterator an iterator, which takes images as
            captions are asked for, and a few ahead. The next best captions are its ``alternatives``.

        Raises:
            ImageReadError: An image cannot be read; the message names it. (`caption_many` goes on.)
            CaptionerError: An option makes no sense, or a word is not in the vocabulary.
        """
        several = isinstance(image, (list, tuple))
        streamed = isinstance(image, Iterator) and not hasattr(image, "read")  # files give their lines
        images = image if several or streamed else [image]
        if seeds is not None and not streamed and len(seeds) != len(images):
            raise CaptionerError(f"{len(seeds)} seeds for {len(images)} images", kind="usage")
        outcomes = self.caption_many(
            images, prefix=prefix, must_include=must_include, seeds=seeds, style=style, language=language,
            translator=translator, plain=plain, attention=attention, batch_size=batch_size, **options,
        )  # fmt: skip
        captions = map(_unless_error, outcomes)
        if streamed:
            return captions
        if several:
            return [_with_picture(caption, one) for caption, one in zip(captions, image, strict=True)]
        [caption] = captions
        return _with_picture(caption, image, alone=True)

    def caption_many(
        self,
        images: Iterable[Image],
        *,
        prefix: str = "",
        must_include: str | Sequence[str] = (),
        seeds: Iterable[int] | None = None,
        style: str = "",
        language: str = "en",
        translator: Translator | None = None,
        plain: bool = True,
        attention: bool = True,
        batch_size: int = BATCH_SIZE,
        threads: int | None = None,
        **options: Any,
    ) -> Iterator[Caption | CaptionerError]:
        """Captions of many images, in order; one that cannot be read is an error in its place, and the rest goes on.

        Later images are read and encoded while the caller looks at a caption; a few batches at most are in memory.

        Args:
            images: As many as you like; they are taken when there is room for them.
            prefix: See `caption`, for this and the other options.
            must_include: See `caption`.
            seeds: See `caption`.
            style: See `caption`.
            language: See `caption`.
            translator: See `caption`.
            plain: See `caption`.
            attention: See `caption`.
            batch_size: See `caption`.
            threads: Cores to keep busy with reading and encoding; None for all that this process may use.
            **options: See `caption`.

        Yields:
            For every image its `Caption`, or the `CaptionerError` that says why it could not be read.

        Raises:
            CaptionerError: An option makes no sense, or a word is not in the vocabulary.
        """
        if isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):
            raise CaptionerError(f"{name_of(images)}: is not several images; give a list of them", kind="usage")
        chosen = self.search_options(**options)
        words = {
            "prefix": prefix,
            "must_include": (must_include,) if isinstance(must_include, str) else tuple(must_include),
            "style": style,
            "plain": plain,
            "attention": attention,
        }
        if seeds is None:
            found = caption_stream(self, images, chosen, batch_size=batch_size, threads=threads, **words)
        else:
            found = self._seeded(images, seeds, chosen, words)
        if language == "en":
            return found
        translator = translator or self.translator
        translator.check(language)
        return (one if isinstance(one, CaptionerError) else _translated(one, translator, language) for one in found)

    @cached_property
    def translator(self) -> Translator:
        """What translates the captions where another language is asked for: the shipped translator."""
        return Translator.open(read_model(SHIPPED_TRANSLATOR))

    def _seeded(self, images, seeds, options, words) -> Iterator[Caption | CaptionerError]:
        left = iter(seeds)
        for image in images:
            seed = next(left, None)
            if seed is None:
                raise CaptionerError("there are fewer seeds than images", kind="usage")
            yield from caption_stream(self, [image], replace(options, seed=seed), batch_size=1, **words)

    def search_options(self, **options) -> SearchOptions:
        """The model's search options with some changed.

        Raises:
            CaptionerError: There is no such option, its value makes no sense, or it does nothing.
        """
        known = [field.name for field in fields(SearchOptions)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise CaptionerError(f"unknown option {unknown[0]!r}; known: {', '.join(known)}", kind="usage")
        chosen = replace(self.options, **options)
        chosen.refuse_idle(options)
        return chosen

    def encode(self, images: np.ndarray) -> Features:
        """Images (N, S, S, 3) uint8, as `captioner.media.images.read_image` gives them, to features."""
        return self.runtime.encode(images)

    def caption_features(
        self,
        features: Features,
        options: SearchOptions | None = None,
        *,
        prefix: str = "",
        must_include: Sequence[str] = (),
        style: str = "",
        plain: bool = True,
        tags: bool = True,
        attention: bool = True,
    ) -> list[Caption]:
        """Captions encoded images; several frames of one scene may share a row by lying behind each other in the grid.

        Args:
            features: From `encode`.
            options: How to search; None for the model's own.
            prefix: First words that every caption must have.
            must_include: Words that every caption must contain.
            style: See `caption`.
            plain: See `caption`.
            tags: Whether the tags weigh the words; see `captioner.captions.tags`.
            attention: Whether every word keeps its attention map.

        Returns:
            A caption for every row of the features.

        Raises:
            CaptionerError: As for `caption`.
        """
        if not len(features.grid):
            return []
        options = options or self.options
        state, memory = self.runtime.initial_state(features)
        special = self.tokenizer
        constraints: dict[str, Any] = {
            "start": special.start_of(style),
            "end": special.end,
            "once": () if options.repeat_words else special.meaningful,
            "forbidden": special.forbidden,
            "prefix": self._known_words(prefix, "prefix"),
        }
        phrases = [self._known_words(word, "must_include") for word in must_include]
        tagger: Any = self.tagger  # None where seen is
        seen = None if tagger is None else tagger.probabilities(features.pooled)
        step = self.runtime.step
        if seen is not None and tags:
            memory = (*memory, tagger.lift(seen, self._tag_columns))
            step = self._lifted_step
        found = search(step, state, memory, options, must_include=phrases, **constraints)
        familiarity = None if self.familiarity is None else self.familiarity(features.pooled)
        captions = []
        for row, hypotheses in enumerate(found):
            known = {
                "familiarity": None if familiarity is None else float(familiarity[row]),
                "tags": () if seen is None else tagger.shown(seen[row]),
            }
            part = None if seen is None else seen[row]
            ranked = [self._one(one, known, part, attention) for one in hypotheses]
            free = plain and not prefix and not must_include and options.strategy == "beam"
            if free and seen is not None and familiarity is not None and familiarity[row] < FAR:
                own = [tuple(np.asarray(value)[row : row + 1] for value in part) for part in (state, memory)]
                thing = tagger.likeliest_thing(seen[row], LIKELY)
                hypothesis = self._plain(thing, step, own[0], own[1], constraints)
                if hypothesis is not None:
                    ranked = [self._one(hypothesis, known, part, attention), *ranked[: options.n_best - 1]]
            captions.append(replace(ranked[0], alternatives=tuple(ranked[1:])))
        return captions

    @property
    def _tag_columns(self) -> np.ndarray:
        """Number of the tag that every token is a form of, -1 where it is of none (tokens,)."""
        tagger: Any = self.tagger
        numbers = [tagger.number(word) for word in self.tokenizer.words]
        return np.array([-1 if number is None else number for number in numbers])

    def _lifted_step(self, tokens: np.ndarray, state, memory):
        """A step of the decoder whose words are weighed by the tags, the last part of the memory."""
        logits, state, attention = self.runtime.step(tokens, state, memory[:-1])
        return logits + np.repeat(memory[-1], len(tokens) // len(memory[-1]), axis=0), state, attention

    def _plain(self, thing: str | None, step, state, memory, constraints: dict[str, Any]) -> Hypothesis | None:
        """A plain sentence with what a photo shows most likely, as the decoder would read it; None where it cannot."""
        words = normalize(f"a picture of {thing}" if thing else "a picture that is hard to make out")
        if not all(word in self.tokenizer for word in words):
            return None
        options = SearchOptions(strategy="greedy", max_length=len(words), min_length=0)
        [[read]] = search(step, state, memory, options, **{**constraints, "prefix": self.tokenizer.encode(words)})
        return replace(read, finished=True)

    def complete(self, text: str = "", n: int = 5, *, image: Any = None, **options) -> list[Caption]:
        """Sentences that begin with ``text``, the best first; see `LanguageModel.complete` in `captioner.captions`."""
        from captioner.captions.language_model import LanguageModel

        return LanguageModel(self, image).complete(text, n, **options)

    def _known_words(self, text: str, argument: str) -> list[int]:
        words = normalize(text)
        unknown = [word for word in words if word not in self.tokenizer]
        if unknown:
            raise CaptionerError(
                f"{argument}: the model does not know the word {unknown[0]!r}; "
                f"its {len(self.tokenizer) - len(SPECIAL)} words are in model.tokenizer.words",
                kind="usage",
            )
        return self.tokenizer.encode(words)

    def _one(self, hypothesis: Hypothesis, known: dict[str, Any], tags: np.ndarray | None, attention: bool) -> Caption:
        texts = [self.tokenizer.words[token] for token in hypothesis.tokens]
        frames = hypothesis.attention.shape[-1] // self.grid_side**2
        maps = hypothesis.attention.reshape(len(texts), frames, self.grid_side, self.grid_side).mean(axis=1)
        sure = self.word_confidence(hypothesis.tokens, hypothesis.logprobs, known["familiarity"], tags)
        words = tuple(
            Word(text, float(logprob), maps[i] / maps[i].sum() if attention else None, float(sure[i]))
            for i, (text, logprob) in enumerate(zip(texts, hypothesis.logprobs, strict=True))
        )
        return Caption(
            text=join_words(texts),
            words=words,
            score=float(hypothesis.score),
            confidence=float(sure.mean()) if words else 0.0,
            finished=hypothesis.finished,
            model=self.name,
            **known,
        )

    def word_confidence(
        self,
        tokens: Sequence[int],
        logprobs: np.ndarray,
        familiarity: float | None = None,
        tags: np.ndarray | None = None,
    ) -> np.ndarray:
        """Calibrated probabilities of words (words,), 0..1: how likely one of five people uses each for the photo.

        Fitted on photos that the model was not trained on (see the model card). Their mean is the confidence of a
        caption.

        Args:
            tokens: The words (words,).
            logprobs: Their log-probabilities (words,).
            familiarity: Of the photo; None where it is not known.
            tags: Probabilities of all tags for the photo (tags,); None where they are not known.
        """
        ranks = np.asarray(tokens, np.int64) - len(SPECIAL) + 1
        words = [self.tokenizer.words[token] for token in tokens]
        shown = np.nan if tags is None or self.tagger is None else self.tagger.of_words(words, tags)
        return self.calibration(logprobs, ranks, 1.0 if familiarity is None else familiarity, shown)


def _open_again(model: str, settings: dict[str, Any]) -> ImageCaptioner:
    return ImageCaptioner.open(read_model(model), **settings)


def _with_picture(caption: Caption, image: Any, *, alone: bool = False) -> Caption:
    """The caption with what a notebook shows beside it: a file is read then, pixels make a small JPEG now."""
    if isinstance(image, (str, os.PathLike)):
        return replace(caption, picture=partial(_thumbnail_of, image))
    if alone and isinstance(image, (np.ndarray, PIL.Image.Image)):  # of a list, they would only fill the memory
        return replace(caption, picture=partial(bytes, _thumbnail_of(image)))
    return caption


def _thumbnail_of(image: Any) -> bytes:
    return thumbnail(read_image(image))


def _translated(caption: Caption, translator: Translator, language: str) -> Caption:
    captions = (caption, *caption.alternatives)
    found = translator.translate([one.text for one in captions], language)
    first, *others = (
        replace(one, text=translation.text, words=translation.words, translation=translation)
        for one, translation in zip(captions, found, strict=True)
    )
    return replace(first, alternatives=tuple(others))


def _unless_error(outcome: Caption | CaptionerError) -> Caption:
    if isinstance(outcome, CaptionerError):
        raise outcome
    return outcome
