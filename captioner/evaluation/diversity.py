"""How varied and how well-formed captions are, whatever the photos show; needs no references.

Training for one metric can wreck these silently: self-critical training with CIDEr-D shrinks the vocabulary, repeats
words and breaks captions off after "a" or "with a". The captions that people wrote for Flickr8k score, on the same
definitions: 0.7 % dangling, 7.7 % with a repeated content word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

# Words after which something must follow. Those that people do end captions with ("looks up", "stands behind") are not
# among them; "on" is, although some people wear "a coat with a hood on".
_DANGLING = (
    "a an the its their his of in on at to with for from into onto near between through under across against toward "
    "towards during while among atop next like and or but that which where when as than is are was were be being am "
    "has have had can will very"
)
_OTHER_FUNCTION_WORDS = (
    "this these those her by behind beside beneath over along around above below inside outside off up down out who do "
    "does did been he she it they him them theirs himself herself itself themselves one other another each some there "
    "what whom whose i you we my your our 's n't not"
)
DANGLING = frozenset(_DANGLING.split())
FUNCTION_WORDS = DANGLING | frozenset(_OTHER_FUNCTION_WORDS.split())


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
    """

    captions: int
    distinct_captions: int
    distinct_words: int
    distinct_bigrams: float
    mean_length: float
    dangling: float
    repeated: float

    def to_dict(self) -> dict:
        """The attributes as plain numbers."""
        return asdict(self)


def is_dangling(words: Sequence[str]) -> bool:
    """Whether a caption breaks off, as in "a dog runs with a"; a caption without words does too."""
    return not words or words[-1] in DANGLING


def repeated_words(words: Sequence[str]) -> list[str]:
    """Content words that occur more than once, in order of first occurrence."""
    return [word for word, count in Counter(words).items() if count > 1 and word not in FUNCTION_WORDS]


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
    )
