"""Invented words: things and colours that a caption names and no person's caption of the photo does.

After CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning"), which asks it of COCO's eighty objects.
Here a table of some six hundred nouns and colours is asked, `things.txt`, which says what is another name for the same
and what is one of what: "man" is right where people write "skier", but "skier" is not where they write "man". People
leave much unsaid, so a person's own caption has a share as well: compare with that, not with 0.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

_MASS = "ss"  # "glass", "grass" and "dress" are no plurals


@dataclass(frozen=True)
class _Table:
    """What `things.txt` holds.

    Attributes:
        named: Names to the numbers of the things that are called so.
        implied: The same with the words that say that a thing is there without being its name.
        broader: The number of a thing to its own and those of everything that it is one of.
        verbs: Forms that are not looked for.
    """

    named: dict[str, frozenset[int]]
    implied: dict[str, frozenset[int]]
    broader: dict[int, frozenset[int]]
    verbs: frozenset[str]


@functools.cache
def _table() -> _Table:
    names: dict[str, set[int]] = {}
    implied: dict[str, set[int]] = {}
    parents: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    verbs: set[str] = set()
    for number, line in enumerate(resources.files(__package__).joinpath("things.txt").read_text("utf-8").splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("!"):
            verbs.update(line.split()[1:])
            continue
        line, _, up = line.removeprefix("=").partition("<")
        called, _, also = line.partition("~")
        for name in called.split():
            names.setdefault(name, set()).add(number)
        for name in (called + also).split():
            implied.setdefault(name, set()).add(number)
        first.setdefault(called.split()[0], number)
        parents[number] = up.split()

    @functools.cache
    def broader(number: int) -> frozenset[int]:
        return frozenset({number}).union(*(broader(first[parent]) for parent in parents[number]))

    return _Table(
        {name: frozenset(numbers) for name, numbers in names.items()},
        {name: frozenset(numbers) for name, numbers in implied.items()},
        {number: broader(number) for number in parents},
        frozenset(verbs),
    )


def _folded(word: str, names: dict[str, frozenset[int]]) -> frozenset[int]:
    """The things of a word or of its singular; none where there is no such name."""
    for ending, singular in (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe")):
        stem = word.removesuffix(ending) + singular
        if word.endswith(ending) and stem in names and not (ending and word.endswith(_MASS)):
            return names[stem]
    return frozenset()


def _found(words: Sequence[str], names: dict[str, frozenset[int]]) -> list[tuple[str, frozenset[int]]]:
    """Names in a caption with their things, two words that belong together before one."""
    found, at = [], 0
    while at < len(words):
        pair = "_".join(words[at : at + 2])
        length = 2 if "_" in pair and _folded(pair, names) else 1
        name = pair if length == 2 else words[at]
        if things := _folded(name, names):
            found.append((name.replace("_", " "), things))
        at += length
    return found


def things(words: Sequence[str]) -> list[str]:
    """The nouns and colours of a caption that the table knows, in their order.

    Args:
        words: As `captioner.evaluation.ptb.tokenize` gives them.
    """
    table = _table()
    text = [word if word not in table.verbs else "" for word in words]
    # "a couple of dogs" are not two people.
    text = ["" if word == "couple" and text[at + 1 : at + 2] == ["of"] else word for at, word in enumerate(text)]
    return [name for name, _ in _found(text, table.named)]


def invented(words: Sequence[str], people: Iterable[Sequence[str]]) -> list[str]:
    """The nouns and colours of a caption that nobody names.

    Args:
        words: Of the caption, as `captioner.evaluation.ptb.tokenize` gives them.
        people: Of what people wrote for the photo.

    Returns:
        Those of `things` that are neither named nor implied, nor a broader word for what is, in their order.
    """
    table = _table()
    there: set[int] = set()
    for caption in people:
        for _, numbers in _found(caption, table.implied):
            there.update(*(table.broader[number] for number in numbers))
    return [name for name in things(words) if there.isdisjoint(_folded(name.replace(" ", "_"), table.named))]
