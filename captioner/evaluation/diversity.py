"""How varied and how well-formed captions are, whatever the photos show; needs no references.

Training for one metric can wreck these silently: self-critical training with CIDEr-D shrinks the vocabulary, repeats
words and breaks captions off after "a" or "with a". The captions that people wrote for Flickr8k score, on the same
definitions: 0.7 % dangling, 7.7 % with a repeated content word, 0.6 % with a slip of grammar, nearly all of which are
what they are said to be ("an man", "two woman").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from captioner.models.words import DANGLING, FUNCTION_WORDS


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ARTICLES = _set("a an the")
# "her" is left out, because "a man looks at her in the rain"; "near", because of "a near miss".
_NEVER_AFTER_ARTICLE = _set(
    "a an the his its their this these those of in on at to with for from into onto between through across against "
    "toward towards during while among atop and or but which where when than is are was were be am has have had"
)
_NEVER_LAST = _NEVER_AFTER_ARTICLE - _set("in on through across to between at be this these those her")
_PREPOSITIONS = _set("of with for at into from")
_NEVER_AFTER_PREPOSITION = _set("of with for into")
_CONJUNCTIONS = _set("and or but")
_TWICE = _set("very that had so really big orange")
_UP_AND_UP = _set("up over more round around on out down high higher back about miles rows rings layers")
_SPOKEN_WITH_YOU = ("uni", "use", "usa", "usi", "usu", "util", "uri", "ute", "euro", "ewe", "one", "once", "ufo")
_SPOKEN_WITH_UN = ("unin", "unim")
_SILENT_H = ("hour", "honest", "honor", "honour", "heir", "herb")
_SPELLED = _set("suv mp3 rv nfl nba lcd led xbox sos fm hd")
_PLURALS = _set("people men women children dogs boys girls books trees")
_SINGULARS = _set("man woman child person dog boy girl")
_NUMBERS = _set("two three four five six several many")
_VERBS = _set("sit play walk run ride jump")
_GROUPS = _set("group crowd bunch pair couple line row")
_BETWEEN = [[word] for word in ("in", "on", "with", "near", "under", "behind", "beside", "by", "at", "over", "of")]
_BETWEEN += [["in", "front", "of"], ["next", "to"], ["on", "top", "of"]]


@dataclass(frozen=True)
class Diversity:
    """What `diversity` counts.

    Attributes:
        captions: How many captions.
        distinct_captions: How many different ones.
        distinct_words: How many different words they use.
        distinct_bigrams: Different pairs of neighbouring words over all such pairs, 0..1 (Li et al., 2016).
        mean_length: Words a caption.
        dangling: Share of captions that end in a word that needs another after it, 0..1.
        repeated: Share of captions that hold a content word twice, 0..1.
        slips: Share of captions with a slip of grammar, 0..1; see `grammar_slips`.
    """

    captions: int
    distinct_captions: int
    distinct_words: int
    distinct_bigrams: float
    mean_length: float
    dangling: float
    repeated: float
    slips: float

    def to_dict(self) -> dict:
        """The attributes as plain numbers."""
        return asdict(self)


def is_dangling(words: Sequence[str]) -> bool:
    """Whether a caption breaks off, as in "a dog runs with a"; a caption without words does too."""
    return not words or words[-1] in DANGLING


def repeated_words(words: Sequence[str]) -> list[str]:
    """Content words that occur more than once, in order of first occurrence."""
    return [word for word, count in Counter(words).items() if count > 1 and word not in FUNCTION_WORDS]


def grammar_slips(words: Sequence[str]) -> list[str]:
    """Where a caption goes wrong as English, each as the words in question.

    Finds what captioners do and what can be told without parsing: a word doubled ("in in"), an article before a word
    that never follows one ("a with"), prepositions that never meet ("of with"), "a" and "an" confused, number ("a men",
    "two woman"), a thing joined to itself ("a black hat and hat", "a woman and a woman", "a bench on a bench", "a group
    of people in front of a group of people") and an end after which something must follow. "A black dog and a brown
    dog" is right. Every rule is narrow, so that hardly a right sentence is among those found; slips of other kinds are
    not.

    Args:
        words: In lower case, without punctuation, as `captioner.evaluation.ptb.tokenize` gives them.
    """
    words = list(words)
    found = [f"{first} {second}" for first, second in pairwise(words) if _never_meet(first, second)]
    padded = [*words, "", ""]
    for at, word in enumerate(words):
        after, next_but_one = padded[at + 1 : at + 3]
        if word in ("a", "an") and after in _PLURALS and next_but_one != "'s":
            found.append(f"{word} {after}")
        if word in _NUMBERS and after in _SINGULARS and (_closed(padded, at + 2) or next_but_one.endswith("ing")):
            found.append(f"{word} {after}")
        found += _joined_to_itself(words, at)
    if words and words[-1] in _NEVER_LAST:
        found.append(words[-1])
    return found


def _never_meet(first: str, second: str) -> bool:
    """Whether no sentence holds the two next to each other."""
    return (
        (first == second and first not in _TWICE)
        or (first in _ARTICLES and second in _NEVER_AFTER_ARTICLE)
        or (first in _PREPOSITIONS and second in _NEVER_AFTER_PREPOSITION)
        or (first in _CONJUNCTIONS and second in _CONJUNCTIONS)
        or (first in ("a", "an") and (first == "an") != _takes_an(second, first == "an"))
    )


def _takes_an(word: str, default: bool) -> bool:
    """Whether a word begins with a vowel as it is spoken; ``default`` where that cannot be told."""
    if not word[0].isalpha() or len(word) == 1 or word in _SPELLED | _NEVER_AFTER_ARTICLE or word.startswith("histor"):
        return default
    if word.startswith(_SILENT_H):
        return True
    return word[0] in "aeiou" and (not word.startswith(_SPOKEN_WITH_YOU) or word.startswith(_SPOKEN_WITH_UN))


def _closed(padded: Sequence[str], at: int) -> bool:
    """Whether no noun goes on at this place, as in "a bench on a bench press"."""
    return not padded[at] or padded[at] in FUNCTION_WORDS | _VERBS


def _joined_to_itself(words: Sequence[str], at: int) -> list[str]:
    """Things that begin at a place and are joined to themselves."""
    padded = [*words, "", ""]
    for length in (1, 2):  # a noun, or one with one word before it
        thing = words[at : at + length]
        end = at + length
        if len(thing) < length or any(word in FUNCTION_WORDS for word in thing) or thing[-1] in _UP_AND_UP:
            continue
        if words[end : end + 1] == ["and"]:
            start = end + 1 + (words[end + 1 : end + 2] in (["a"], ["an"], ["the"]))
            if words[start : start + length] == thing and _closed(padded, start + length):
                return [" ".join(words[at : start + length])]
        if at and words[at - 1] in ("a", "an"):
            for link in _BETWEEN:
                start = end + len(link)
                again = words[start : start + 1 + length] == [words[at - 1], *thing]
                if words[end:start] == link and again and _closed(padded, start + 1 + length):
                    return [" ".join(words[at - 1 : start + 1 + length])]
    group = words[at : at + 3]
    if len(group) == 3 and group[0] in _GROUPS and group[1] == "of":
        for start in range(at + 3, len(words) - 2):
            if words[start : start + 3] == group:
                return [" ".join(words[at : start + 3])]
    return []


def diversity(captions: Iterable[Sequence[str]]) -> Diversity:
    """Measures a set of captions.

    The numbers of distinct captions and words grow with the number of captions: compare sets of equal size.

    Args:
        captions: Words of every caption, in lower case, without punctuation.

    Raises:
        ValueError: There is no caption.
    """
    captions = [tuple(words) for words in captions]
    if not captions:
        raise ValueError("there is no caption to measure")
    bigrams = Counter(pair for words in captions for pair in pairwise(words))
    return Diversity(
        captions=len(captions),
        distinct_captions=len(set(captions)),
        distinct_words=len({word for words in captions for word in words}),
        distinct_bigrams=len(bigrams) / max(1, bigrams.total()),
        mean_length=sum(map(len, captions)) / len(captions),
        dangling=sum(map(is_dangling, captions)) / len(captions),
        repeated=sum(bool(repeated_words(words)) for words in captions) / len(captions),
        slips=sum(bool(grammar_slips(words)) for words in captions) / len(captions),
    )
