"""Objects that the encoder is sure of, put into captions that lack them, and kept out of captions that made them up.

A captioner learns its words from a few thousand photos of people and dogs; its encoder was trained to tell a thousand
kinds of things in a million photos, and still knows what a bathroom or a train looks like. Where the two disagree the
search is run again with the word as a constraint (constrained beam search for novel objects: Anderson et al. 2017,
"Guided Open Vocabulary Image Captioning"). A word that the decoder has never read is written with the help of one that
is used alike, as in Hendricks et al. 2016 ("Deep Compositional Captioning"): a zebra stands where a horse would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from captioner.models.encoder_config import NUM_CLASSES
from captioner.models.search import BeamSize, Hypothesis
from captioner.models.tokenizer import Tokenizer, normalize
from captioner.schema import Name, Share, check_fields, decode


@dataclass(frozen=True)
class Concept:
    """Something that the encoder knows, and the word for it.

    Attributes:
        word: What it is called in a caption; one word or several.
        classes: The encoder's classes that are called so.
        also: Other words that name it well enough, for example its kinds and its plural.
        like: A word that the decoder knows and uses alike; "" where it knows ``word`` itself.
        certain: Whether the classes cover all that the word means, so that their absence tells.
        many: Whether the word is a plural or cannot be counted, and takes "some" for an article.
    """

    word: str
    classes: tuple[int, ...]
    also: tuple[str, ...] = ()
    like: str = ""
    certain: bool = False
    many: bool = False

    @property
    def asked(self) -> tuple[str, ...]:
        """The words that the decoder is asked to use."""
        return tuple(normalize(self.like or self.word))

    @cached_property
    def names(self) -> frozenset[str]:
        """Every single word that says that it is there."""
        return frozenset((normalize(self.word)[-1], *self.also))

    def written(self, words: Sequence[str]) -> list[str]:
        """A caption that was asked for with `asked`, as it is to be read: the word in its place, with its article."""
        words, asked, own = list(words), list(self.asked), normalize(self.word)
        for start in range(len(words) - len(asked) + 1):
            if words[start : start + len(asked)] == asked:
                words[start : start + len(asked)] = own
                if start and words[start - 1] in ("a", "an"):
                    words[start - 1] = "some" if self.many else "an" if own[0][0] in "aeiou" else "a"
                break
        return words


@dataclass(frozen=True)
class GroundingOptions:
    """When a caption is searched for again; chosen on photos of the kind that the model was trained on and on others.

    Attributes:
        required: From this probability on an object must be in the caption, 0..1.
        familiarity: Only in photos of at most this familiarity, 0..1; see `captioner.captions.familiarity`.
        absent: Below this probability a caption may not name a ``certain`` object, 0..1.
        margin: How much of its score the caption may lose for one of the two.
        most: Most objects that are required of one caption.
        beam_size: Of the search with a constraint, where the usual one is narrower: what it looks for is unlikely.

    Raises:
        CaptionerError: A value is out of bounds (``kind="usage"``).
    """

    required: Share = 0.1
    familiarity: Share = 0.2
    absent: Share = 0.05
    margin: Annotated[float, Meta(ge=0, le=1000)] = 2.0
    most: Annotated[int, Meta(ge=0, le=10)] = 1
    beam_size: BeamSize = 3

    def __post_init__(self):
        check_fields(self)


class Concepts:
    """What an encoder knows by name.

    Args:
        concepts: The things; a class may belong to several.
    """

    def __init__(self, concepts: Sequence[Concept]):
        self.concepts = tuple(concepts)
        classes = 1 + max((number for one in self.concepts for number in one.classes), default=0)
        self._members = np.zeros((classes, len(self.concepts)), np.float32)
        for column, concept in enumerate(self.concepts):
            self._members[list(concept.classes), column] = 1

    def __len__(self) -> int:
        return len(self.concepts)

    @classmethod
    def from_json(cls, text: str, where: str = "the table of concepts") -> Concepts:
        """Reads ``concepts.json``: ``{"format": 1, "concepts": [{"word", "classes", "also", "like", "certain",
        "many"}]}``.

        Classes are numbers and ``[first, last]`` ranges; all but the word and the classes may be left out.

        Args:
            text: Content of the file.
            where: Its path, for error messages.

        Raises:
            ModelLoadError: The text is no such table.
        """
        return cls([entry.concept() for entry in decode(text, _Table, where).concepts])

    def writable(self, tokenizer: Tokenizer) -> Concepts:
        """The concepts that a decoder with this vocabulary can be asked for."""
        return Concepts([one for one in self.concepts if all(word in tokenizer for word in one.asked)])

    def probabilities(self, class_scores: np.ndarray) -> np.ndarray:
        """How sure the encoder is of everything: logits (images, classes) to (images, concepts), 0..1."""
        scores = np.asarray(class_scores, np.float32)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (odds / odds.sum(axis=1, keepdims=True))[:, : len(self._members)] @ self._members


@dataclass(frozen=True)
class _Entry:
    """A concept as the file has it."""

    word: Name
    classes: Annotated[tuple[int | tuple[int, int], ...], Meta(min_length=1, max_length=NUM_CLASSES)]
    also: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()
    like: Annotated[str, Meta(max_length=200)] = ""
    certain: bool = False
    many: bool = False

    def __post_init__(self):
        for item in self.classes:
            first, last = item if isinstance(item, tuple) else (item, item)
            if not 0 <= first <= last < NUM_CLASSES:
                raise ValueError(f"classes of {self.word!r} must lie in 0..{NUM_CLASSES - 1}, not {item}")
        concept = self.concept()
        if not len(concept.asked) == len(normalize(self.word)) > 0:
            raise ValueError(f"{self.word!r} has not as many words as {self.like!r}")

    def concept(self) -> Concept:
        """The ranges written out, every class once."""
        classes: dict[int, None] = {}
        for item in self.classes:
            first, last = item if isinstance(item, tuple) else (item, item)
            classes.update(dict.fromkeys(range(first, last + 1)))
        return Concept(self.word, tuple(classes), self.also, self.like, self.certain, self.many)


@dataclass(frozen=True)
class _Table:
    format: Literal[1]
    concepts: Annotated[tuple[_Entry, ...], Meta(max_length=4096)]


Again = Callable[[np.ndarray, list[tuple[list[list[int]], list[int]]]], list[list[Hypothesis]]]
"""``again(rows, constraints)``: searches for some of the images, each under its own ``(must_include, avoid)``."""


def ground(
    found: Sequence[list[Hypothesis]],
    class_scores: np.ndarray,
    familiarity: np.ndarray,
    concepts: Concepts,
    tokenizer: Tokenizer,
    again: Again,
    options: GroundingOptions | None = None,
) -> tuple[list[list[Hypothesis]], list[tuple[Concept, ...]]]:
    """Corrects captions by what the encoder is sure of.

    First a caption that names a ``certain`` thing which is not there is searched for again without it. Then, in
    unfamiliar photos, with the likeliest thing that it lacks, and with the next one besides. A new caption is taken if
    its score is at most ``margin`` below that of the first.

    Args:
        found: Captions of every image, best first.
        class_scores: Logits of the encoder (images, classes).
        familiarity: Of the images (images,), 0..1.
        concepts: What the encoder knows; those that `Concepts.writable` gives.
        tokenizer: The vocabulary.
        again: Searches again.
        options: When.

    Returns:
        The captions, and for every image the concepts that its captions were asked for; `Concept.written` puts their
        words into place.
    """
    options = options or GroundingOptions()
    found = list(found)
    seen = concepts.probabilities(class_scores)
    lowest = [hypotheses[0].score - options.margin for hypotheses in found]
    avoided: list[tuple[int, ...]] = [()] * len(found)
    required: list[tuple[int, ...]] = [()] * len(found)

    def attempt(wishes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[int]:
        """Searches with (required, avoided) concepts for some rows; gives the rows where it was worth it."""
        constraints = []
        for wanted, barred in wishes.values():
            phrases = [tokenizer.encode(concepts.concepts[one].asked) for one in wanted]
            words = {word for one in barred for word in concepts.concepts[one].names if word in tokenizer}
            constraints.append((phrases, sorted(set(tokenizer.encode(sorted(words))).difference(*phrases))))
        taken = []
        answers = again(np.array(list(wishes)), constraints) if wishes else []
        for (row, wish), hypotheses in zip(wishes.items(), answers, strict=True):
            if hypotheses[0].finished and hypotheses[0].score >= lowest[row]:
                found[row] = hypotheses
                required[row], avoided[row] = wish
                taken.append(row)
        return taken

    def words_of(row: int) -> set[str]:
        words = tokenizer.decode(found[row][0].tokens)
        for one in required[row]:
            words = concepts.concepts[one].written(words)
        return set(words)

    wishes = {}
    for row, probabilities in enumerate(seen):
        missing = tuple(
            number
            for number, concept in enumerate(concepts.concepts)
            if concept.certain and probabilities[number] < options.absent
        )
        if any(concepts.concepts[number].names & words_of(row) for number in missing):
            wishes[row] = ((), missing)
    attempt(wishes)

    rows = [row for row in range(len(found)) if familiarity[row] <= options.familiarity]
    for _ in range(options.most):
        wishes = {}
        for row in rows:
            words = words_of(row)
            for number in np.argsort(-seen[row], kind="stable"):
                if seen[row, number] < options.required:
                    break
                if number not in required[row] and not concepts.concepts[number].names & words:
                    wishes[row] = ((*required[row], int(number)), avoided[row])
                    break
        rows = attempt(wishes)
    return found, [tuple(concepts.concepts[one] for one in wanted) for wanted in required]
