"""BLEU, ROUGE-L and CIDEr-D as coco-caption defines them.

Every function takes tokens, not text (see `captioner.evaluation.ptb.tokenize`), and returns scores on the scale of
coco-caption: BLEU and ROUGE-L in 0..1, CIDEr-D in 0..10. Published figures are these numbers times 100: a CIDEr-D of
"58.9" is 0.589 here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

Tokens = Sequence[Hashable]

MAX_N = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0

# coco-caption keeps zero counts from dividing by zero with these two; they are visible in scores near zero.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(
    references: Mapping[Hashable, Sequence[Tokens]], candidates: Mapping[Hashable, Tokens]
) -> tuple[list[float], np.ndarray]:
    """BLEU-1 to BLEU-4 (Papineni et al., 2002) over a corpus, with the closest reference length.

    Args:
        references: Tokens of every reference of every image.
        candidates: Tokens of one candidate an image; the keys are those of ``references``.

    Returns:
        The four corpus scores, 0..1, and the same four for every image alone: float64 (4, images) in the order of
        ``candidates``. The corpus score is not the mean of the images' scores.

    Raises:
        ValueError: The keys differ, there is no image, or an image has no reference.
    """
    statistics = bleu_statistics(references, candidates)
    return bleu_from_statistics(statistics.sum(axis=0)).tolist(), bleu_from_statistics(statistics)


def bleu_statistics(
    references: Mapping[Hashable, Sequence[Tokens]], candidates: Mapping[Hashable, Tokens]
) -> np.ndarray:
    """What BLEU counts in every image; sums over images are the counts of a corpus.

    Returns:
        int64 (images, 10): matched n-grams for n = 1..4, n-grams of the candidate for n = 1..4, length of the
        candidate, length of the closest reference (the shorter one of two that are equally close).
    """
    _check(references, candidates)
    rows = []
    for key, candidate in candidates.items():
        most = Counter()
        for reference in references[key]:
            most |= Counter(_ngrams(reference))
        matched, length = [0] * MAX_N, len(candidate)
        for ngram, count in Counter(_ngrams(candidate)).items():
            matched[len(ngram) - 1] += min(count, most[ngram])
        closest = min((abs(len(reference) - length), len(reference)) for reference in references[key])[1]
        rows.append([*matched, *(max(0, length - n) for n in range(MAX_N)), length, closest])
    return np.array(rows, np.int64)


def bleu_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 from counts.

    Args:
        statistics: (10,) or (..., 10), as `bleu_statistics` gives them, or sums of its rows.

    Returns:
        float64 (4,) or (4, ...), 0..1.
    """
    matched, guessed, length, closest = np.split(statistics.astype(np.float64), [MAX_N, 2 * MAX_N, 2 * MAX_N + 1], -1)
    precision = np.cumprod((matched + _TINY) / (guessed + _SMALL), axis=-1) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (length + _TINY) / (closest + _SMALL)
    with np.errstate(over="ignore"):
        brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    return np.moveaxis(precision * brevity, -1, 0)


def rouge_l(
    references: Mapping[Hashable, Sequence[Tokens]], candidates: Mapping[Hashable, Tokens]
) -> tuple[float, np.ndarray]:
    """ROUGE-L (Lin, 2004): F-measure of the longest common subsequence, beta 1.2.

    As in coco-caption, precision and recall are maximised over the references independently of each other, and a
    caption without tokens counts as one empty token.

    Returns:
        The mean over images, 0..1, and the score of every image: float64 (images,) in the order of ``candidates``.

    Raises:
        ValueError: The keys differ, there is no image, or an image has no reference.
    """
    _check(references, candidates)
    scores = []
    for key, candidate in candidates.items():
        candidate = list(candidate) or [""]
        pairs = [(_common(candidate, list(reference) or [""]), len(reference) or 1) for reference in references[key]]
        precision = max(common / len(candidate) for common, _ in pairs)
        recall = max(common / length for common, length in pairs)
        bottom = recall + ROUGE_BETA**2 * precision
        scores.append((1 + ROUGE_BETA**2) * precision * recall / bottom if bottom else 0.0)
    return float(np.mean(scores)), np.array(scores)


def cider_d(
    references: Mapping[Hashable, Sequence[Tokens]],
    candidates: Mapping[Hashable, Tokens],
    *,
    idf_from: Mapping[Hashable, Sequence[Tokens]] | None = None,
) -> tuple[float, np.ndarray]:
    """CIDEr-D (Vedantam, Zitnick and Parikh, 2015) of one candidate an image.

    Scores of different sets of images are not comparable: the weights of words come from the references themselves.
    A single image scores 0 whatever the caption, because every word of it is in every image.

    Args:
        references: Tokens of every reference of every image.
        candidates: Tokens of one candidate an image; the keys are those of ``references``.
        idf_from: References that give the document frequencies instead, for example the training captions.

    Returns:
        The mean over images, 0..10 (published figures are this times 100), and the score of every image: float64
        (images,) in the order of ``candidates``.

    Raises:
        ValueError: The keys differ, there is no image, or an image has no reference.
    """
    _check(references, candidates)
    scores = CiderD(references, idf_from=idf_from).score(list(candidates), list(candidates.values()))
    return float(scores.mean()), scores


class CiderD:
    """CIDEr-D of many candidates against fixed references; the references are analysed once.

    The reward of self-critical training (Rennie et al., 2017): about twenty thousand candidates of 12 tokens a second
    on one core. Tokens are any hashable values, so token numbers do as well as words; whether the end of a caption
    counts is up to the caller, who appends an end token to references and candidates alike.

    Args:
        references: Tokens of every reference of every image.
        idf_from: References that give the document frequencies; by default ``references``. N-grams are weighted by
            log(images / images whose references contain the n-gram).

    Raises:
        ValueError: There is no image, or an image has no reference.
    """

    def __init__(
        self,
        references: Mapping[Hashable, Sequence[Tokens]],
        *,
        idf_from: Mapping[Hashable, Sequence[Tokens]] | None = None,
    ):
        corpus = references if idf_from is None else idf_from
        if not references or not corpus:
            raise ValueError("CIDEr-D needs the references of at least one image")
        frequencies = Counter()
        for captions in corpus.values():
            frequencies.update({ngram for caption in captions for ngram in _ngrams(caption)})
        # N-grams have numbers, so that each is stored once, however many images hold it.
        self._number = {ngram: number for number, ngram in enumerate(frequencies)}
        self._rarest = math.log(len(corpus))
        self._idf = [self._rarest - math.log(count) for count in frequencies.values()]
        self._images = {key: self._analyse(key, captions) for key, captions in references.items()}
        self._mean_worth: dict[int, float] | None = None

    def score(self, keys: Iterable[Hashable], candidates: Iterable[Tokens]) -> np.ndarray:
        """Scores candidates, any number an image and in any order.

        Args:
            keys: The image of every candidate.
            candidates: Tokens of every candidate.

        Returns:
            float64 (candidates,), 0..10.

        Raises:
            KeyError: There are no references for a key.
        """
        return np.array([self._score(*pair) for pair in zip(keys, candidates, strict=True)], np.float64)

    def commonness(self, candidates: Iterable[Tokens]) -> np.ndarray:
        """How well candidates would do for an image drawn at random: high for captions that suit everything.

        The mean CIDEr (cosines of the tf-idf vectors, without CIDEr-D's clipping and its penalty on length, so that the
        mean over all images is one product) with the references of all images.

        Args:
            candidates: Tokens of every candidate.

        Returns:
            float64 (candidates,), 0..10.
        """
        if self._mean_worth is None:
            self._mean_worth = {}
            for bigrams, matches in self._images.values():
                share = 1 / (len(bigrams) * len(self._images))
                for number, found in matches.items():
                    worth = share * sum(worth for _, _, worth in found)
                    self._mean_worth[number] = self._mean_worth.get(number, 0.0) + worth
        scores = []
        for candidate in candidates:
            counts = Counter(_ngrams(candidate))
            norms = self._norms(counts)
            total = 0.0
            for ngram, count in counts.items():
                worth = self._mean_worth.get(self._number.get(ngram), 0.0)
                total += count * worth / norms[len(ngram) - 1] if worth else 0.0
            scores.append(10 * total / MAX_N)
        return np.array(scores, np.float64)

    def _analyse(self, key: Hashable, captions: Sequence[Tokens]) -> tuple[list[int], dict[int, tuple]]:
        """Bigrams of every reference, and by n-gram what a match with each reference that holds it is worth."""
        if not captions:
            raise ValueError(f"image {key!r} has no reference")
        bigrams, matches = [], {}
        for reference, caption in enumerate(captions):
            counts = Counter(_ngrams(caption))
            norms = self._norms(counts)
            bigrams.append(max(0, len(caption) - 1))
            for ngram, count in counts.items():
                number = self._number.setdefault(ngram, len(self._idf))
                if number == len(self._idf):
                    self._idf.append(self._rarest)
                if self._idf[number]:
                    worth = self._idf[number] ** 2 * count / norms[len(ngram) - 1]
                    matches[number] = (*matches.get(number, ()), (reference, count, worth))
        return bigrams, matches

    def _norms(self, counts: Mapping[tuple, int]) -> list[float]:
        """Euclidean length of the tf-idf vector for n = 1..4."""
        squares = [0.0] * MAX_N
        for ngram, count in counts.items():
            number = self._number.get(ngram)
            idf = self._rarest if number is None else self._idf[number]
            squares[len(ngram) - 1] += (count * idf) ** 2
        return [math.sqrt(square) for square in squares]

    def _score(self, key: Hashable, candidate: Tokens) -> float:
        bigrams, matches = self._images[key]
        counts = Counter(_ngrams(candidate))
        norms = self._norms(counts)
        similarity = [0.0] * len(bigrams)
        for ngram, count in counts.items():
            for reference, reference_count, worth in matches.get(self._number.get(ngram), ()):
                similarity[reference] += min(count, reference_count) * worth / norms[len(ngram) - 1]
        # coco-caption measures lengths in bigrams, which are one fewer than the words unless there is no word.
        own = max(0, len(candidate) - 1)
        total = sum(
            value * math.exp(-((own - other) ** 2) / (2 * CIDER_SIGMA**2))
            for value, other in zip(similarity, bigrams, strict=True)
        )
        return 10 * total / (MAX_N * len(bigrams))


def _ngrams(tokens: Tokens) -> list[tuple]:
    """All n-grams for n = 1..4, with repetitions."""
    tokens = tuple(tokens.tolist() if isinstance(tokens, np.ndarray) else tokens)
    ngrams = []
    for n in range(1, MAX_N + 1):
        ngrams += zip(*(tokens[offset:] for offset in range(n)), strict=False)
    return ngrams


def _common(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for column, other in enumerate(second, 1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


def _check(references: Mapping[Hashable, Sequence[Tokens]], candidates: Mapping[Hashable, Tokens]) -> None:
    if references.keys() != candidates.keys():
        odd = next(iter(references.keys() ^ candidates.keys()))
        raise ValueError(f"references and candidates must have the same keys; {odd!r} is on one side only")
    if not candidates:
        raise ValueError("there is no caption to score")
    if empty := [key for key, captions in references.items() if not captions]:
        raise ValueError(f"image {empty[0]!r} has no reference")
