"""Tags learnt from captions: which words they are, and the linear layer that gives a photo its own.

The words are the frequent ones that are no function words, singular and plural folded into one, the forms of common
verbs into that on "-ing": nouns, adjectives and what somebody is doing. The layer is fitted by cross-entropy. A photo
with n captions says whether one of n people uses a word, where the layer is to say whether one of five does; if people
choose their words independently, the one probability is 1 - (1 - p) ** (n / 5), and the loss is that of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from captioner.captions.tags import Tagger
from captioner.evaluation.diversity import FUNCTION_WORDS
from captioner.evaluation.invented import things
from captioner.models.tokenizer import normalize
from captioner.training.captions.data import FULL_REFERENCES

MOST_WORDS = 500
MIN_PHOTOS = 20
"""A tag is used for so many training photos at least."""

_WITH_ARTICLE = 0.15  # of a thing's mentions: with fewer it is a mass, "grass", or worn and many, "skis"
_EPOCHS = 8
_BATCH = 512
_LEARNING_RATE = 4e-4
_STEADY = (0.9, 0.99)  # Adam's averages

# What says too little by itself: numbers, places in the picture, words for pictures, verbs of no picture.
_VAGUE = (
    "two three four five six seven eight nine ten several many few very all both half various different same more most "
    "much own set pair couple lot bunch piece part number group variety row kind type side front top back middle end "
    "edge bottom right left corner center background foreground distance area thing something someone somebody "
    "everyone picture image photo photograph view scene together open full big little small large long short tall high "
    "low close next past before after about ahead away forward ready time way well just only even still no nothing go "
    "goes do doing get gets getting take taking taken try trying coming come make making made seen show shown showing "
    "appear appears use used using move moving turn turned cover covered fill filled surrounded lined topped attached "
    "called whole new so then let see it's there's without has s can't not else wait waiting"
)
_COLOURS = (
    "black white gray grey red blue green yellow orange brown pink purple tan beige gold silver colorful dark bright"
)
_DULL = FUNCTION_WORDS | frozenset(_VAGUE.split())
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "knives": "knife", "leaves": "leaf", "shelves": "shelf", "sheep": "sheep", "geese": "goose", "mice": "mouse",
}  # fmt: skip
_VERBS = (
    "chase climb carry catch crouch dance dig dive eat fly hang hold hug jump kick kneel laugh lay lean leap lick lie "
    "look perform play pose pull push reach read ride run shake sing sit sleep smile splash stand stare swim talk "
    "throw touch wade walk watch wear"
)
_DOUBLED = frozenset(("dig", "hug", "run", "sit", "swim"))


def _verb_forms() -> dict[str, str]:
    """ "run" and "runs" to "running", and so for all verbs."""
    forms = {}
    for verb in _VERBS.split():
        stem = verb[:-2] + "y" if verb.endswith("ie") else verb.removesuffix("e")
        tag = stem + (verb[-1] if verb in _DOUBLED else "") + "ing"
        forms.update({verb: tag, verb + "s": tag, verb + "es": tag, verb[:-1] + "ies": tag})
    return forms


_FORMS = {**_IRREGULAR, **_verb_forms()}


def _singular(word: str, counts: Mapping[str, int]) -> str:
    """The singular of a word that is used as one; any other word as it is."""
    if len(word) > 3 and not word.endswith(("ss", "us", "is")):
        for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
            base = word.removesuffix(ending) + replacement
            # "glasses" are not more of "glass", nor "skis" of "ski", where nearly nobody writes the singular.
            if word.endswith(ending) and counts[base] >= 0.1 * counts[word]:
                return base
    return word


def choose_words(
    captions: Sequence[Sequence[str]], *, most: int = MOST_WORDS, min_photos: int = MIN_PHOTOS
) -> tuple[list[str], dict[str, str]]:
    """The tags that captions call for.

    Args:
        captions: Of every photo.
        most: How many tags at most: the most frequent ones.
        min_photos: For so many photos at least a tag is used.

    Returns:
        Tags, the most frequent first, and their other forms, form to tag.
    """
    counts = Counter(word for texts in captions for text in texts for word in normalize(text))
    forms = {word: _FORMS.get(word) or _singular(word, counts) for word in counts}
    photos = Counter(tag for texts in captions for tag in _used(texts, forms))
    frequent = [tag for tag, n in photos.items() if n >= min_photos and tag not in _DULL]
    tags = sorted(frequent, key=lambda tag: (-photos[tag], tag))[:most]
    kept = set(tags)
    return tags, {form: tag for form, tag in sorted(forms.items()) if tag in kept and form != tag}


def _used(texts: Sequence[str], forms: Mapping[str, str]) -> set[str]:
    return {forms.get(word, word) for text in texts for word in normalize(text)}


def choose_things(words: Sequence[str], captions: Sequence[Sequence[str]]) -> dict[str, str]:
    """The tags that name things, each as people mostly write it: with "a", "an" or without.

    Args:
        words: The tags.
        captions: Of every photo.
    """
    pairs = Counter(pair for texts in captions for text in texts for pair in pairwise(normalize(text)))
    counts = Counter(word for texts in captions for text in texts for word in normalize(text))
    said = {}
    for word in words:
        if things([word]) and word not in _COLOURS.split():
            article = max(("a", "an"), key=lambda one: pairs[one, word])
            said[word] = f"{article} {word}" if pairs[article, word] >= _WITH_ARTICLE * counts[word] else word
    return said


def used_tags(tagger: Tagger, captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Which tags people use for photos: captions of every photo to bool (photos, tags)."""
    used = np.zeros((len(captions), len(tagger.words)), bool)
    for row, texts in zip(used, captions, strict=True):
        numbers = {tagger.number(word) for text in texts for word in normalize(text)}
        row[[number for number in numbers if number is not None]] = True
    return used


def caption_shares(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Of five captions, how many every photo has, at most all: float32 (photos,)."""
    return np.array([min(len(texts), FULL_REFERENCES) / FULL_REFERENCES for texts in captions], np.float32)


def fit_tags(
    pooled: np.ndarray,
    captions: Sequence[Sequence[str]],
    *,
    most: int = MOST_WORDS,
    min_photos: int = MIN_PHOTOS,
    epochs: int = _EPOCHS,
    seed: int = 0,
) -> Tagger:
    """Learns tags from training photos; the probabilities are not yet calibrated.

    Args:
        pooled: Pooled grids of the photos (photos, channels).
        captions: Of every photo.
        most: See `choose_words`.
        min_photos: See `choose_words`.
        epochs: Times that every photo is seen.
        seed: Of the order of the photos.
    """
    words, forms = choose_words(captions, most=most, min_photos=min_photos)
    named = choose_things(words, captions)
    blank = Tagger(words, forms, named, np.zeros((pooled.shape[1], len(words))), np.zeros(len(words)), 0.5)
    used = used_tags(blank, captions)
    shares = caption_shares(captions)
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0) + 1e-3
    inputs = ((pooled - mean) / spread).astype(np.float32)
    rate = (used.sum(axis=0) + 0.5) / (len(used) + 1)
    kernel = np.zeros((pooled.shape[1], len(words)), np.float32)
    bias = np.log(rate / (1 - rate)).astype(np.float32)
    learn = [_Adam(kernel), _Adam(bias)]
    batches = [rows for epoch in range(epochs) for rows in _batches(len(inputs), np.random.default_rng([seed, epoch]))]
    for number, rows in enumerate(batches):
        slopes = _slopes(inputs[rows] @ kernel + bias, used[rows], shares[rows, None]) / len(rows)
        rate = _LEARNING_RATE * (1 + np.cos(np.pi * number / len(batches))) / 2
        learn[0](inputs[rows].T @ slopes, rate)
        learn[1](slopes.sum(axis=0), rate)
    kernel /= spread[:, None]
    return Tagger(words, forms, named, kernel, bias - mean @ kernel, 0.5)


def _batches(photos: int, rng: np.random.Generator) -> list[np.ndarray]:
    order = rng.permutation(photos)
    return np.array_split(order, -(-photos // _BATCH))


class _Adam:
    """Changes an array in place (Kingma and Ba 2015)."""

    def __init__(self, value: np.ndarray):
        self.value = value
        self.mean, self.square = np.zeros_like(value), np.zeros_like(value)
        self.steps = 0

    def __call__(self, gradient: np.ndarray, rate: float) -> None:
        self.steps += 1
        first, second = _STEADY
        self.mean += (1 - first) * (gradient - self.mean)
        self.square += (1 - second) * (gradient**2 - self.square)
        size = np.sqrt(self.square / (1 - second**self.steps)) + 1e-8
        self.value -= (rate / (1 - first**self.steps)) * self.mean / size


def _slopes(odds: np.ndarray, used: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Derivative of the loss by the log-odds that one of five people uses a word.

    Args:
        odds: (photos, words).
        used: Whether somebody used it (photos, words).
        shares: Of five captions, how many the photo has (photos, 1).
    """
    unused = np.exp(-shares * np.logaddexp(0, odds))  # probability that nobody uses it
    return shares / (1 + np.exp(-odds)) * np.where(used, -unused / np.maximum(1 - unused, 1e-6), 1)
