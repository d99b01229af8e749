"""The caption metrics against coco-caption's own code, against plain definitions, and by hand."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from captioner.evaluation.coco_metrics import (
    CiderD,
    bleu,
    bleu_from_statistics,
    bleu_statistics,
    cider_d,
    rouge_l,
)


def words(text: str) -> list[str]:
    return text.split()


WORDS = words("a the dog cat man woman red blue runs sits on in with ball grass and of two")


def random_captions(images: int, references: int, *, seed: int = 0, shortest: int = 0):
    """Captions with repetitions and common n-grams, of 0 to 14 words."""
    rng = random.Random(seed)

    def caption():
        return rng.choices(WORDS, k=rng.randint(shortest, 14))

    every = {f"image {n}": [caption() for _ in range(rng.randint(1, references))] for n in range(images)}
    candidates = {}
    for key, captions in every.items():
        candidate = list(rng.choice(captions)) if rng.random() < 0.7 else caption()
        if candidate and rng.random() < 0.5:
            candidate[rng.randrange(len(candidate))] = rng.choice(["unseen", *WORDS])
        candidates[key] = candidate if len(candidate) >= shortest else caption()
    return every, candidates


def joined(references, candidates):
    return (
        {key: [" ".join(caption) for caption in captions] for key, captions in references.items()},
        {key: [" ".join(caption)] for key, caption in candidates.items()},
    )


@pytest.fixture(params=[0, 1, 2])
def corpus(request):
    return random_captions(60, 5, seed=request.param)


class TestAgainstCocoCaption:
    def test_bleu(self, corpus, capsys):
        scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
        expected, expected_images = scorer.compute_score(*joined(*corpus))
        scores, images = bleu(*corpus)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(images, expected_images, rtol=0, atol=1e-9)

    def test_rouge_l(self, corpus):
        scorer = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge()
        expected, expected_images = scorer.compute_score(*joined(*corpus))
        score, images = rouge_l(*corpus)
        assert score == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(images, expected_images, rtol=0, atol=1e-9)

    def test_cider_d(self, corpus):
        scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
        expected, expected_images = scorer.compute_score(*joined(*corpus))
        score, images = cider_d(*corpus)
        assert score == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(images, expected_images, rtol=0, atol=1e-9)
        assert images.max() > 1  # the example is not trivial


def plain_cider_d(references, candidate, corpus, clipped=True):
    """CIDEr-D of one candidate, written from the definition, without any cache; not clipped it is CIDEr."""

    def counts(tokens, n):
        return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))

    def weighted(tokens, n):
        vector = {}
        for ngram, count in counts(tokens, n).items():
            images = sum(any(ngram in counts(caption, n) for caption in captions) for captions in corpus.values())
            vector[ngram] = count * math.log(len(corpus) / max(1, images))
        return vector

    total = 0.0
    for n in (1, 2, 3, 4):
        own = weighted(candidate, n)
        for reference in references:
            other = weighted(reference, n)
            lengths = math.sqrt(sum(w * w for w in own.values())) * math.sqrt(sum(w * w for w in other.values()))
            if lengths:
                difference = max(0, len(candidate) - 1) - max(0, len(reference) - 1)
                product = sum(
                    (min(w, other.get(ngram, 0.0)) if clipped else w) * other.get(ngram, 0.0)
                    for ngram, w in own.items()
                )
                total += product / lengths * (math.exp(-(difference**2) / 72) if clipped else 1.0)
    return 10 * total / 4 / len(references)


class TestCiderD:
    def test_against_the_definition_with_idf_of_another_corpus(self):
        references, candidates = random_captions(12, 4, seed=7)
        training, _ = random_captions(25, 3, seed=8)
        score, images = cider_d(references, candidates, idf_from=training)
        expected = [plain_cider_d(references[key], candidate, training) for key, candidate in candidates.items()]
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-12)
        assert score == pytest.approx(np.mean(expected))
        assert score != pytest.approx(cider_d(references, candidates)[0], abs=1e-3)

    def test_token_numbers_in_arrays_score_as_words_do(self):
        references, candidates = random_captions(20, 4, seed=3)
        number = {word: index for index, word in enumerate(["unseen", *WORDS])}
        numbers = {key: [[number[word] for word in caption] for caption in value] for key, value in references.items()}
        arrays = [np.array([number[word] for word in caption], np.int32) for caption in candidates.values()]
        np.testing.assert_array_equal(
            CiderD(numbers).score(list(candidates), arrays), cider_d(references, candidates)[1]
        )

    def test_many_candidates_of_one_image_in_any_order(self):
        references, candidates = random_captions(20, 4, seed=4)
        scorer = CiderD(references)
        keys = [key for key in references for _ in range(3)]
        texts = list(candidates.values()) * 3
        scores = scorer.score(keys, texts)
        assert scores.dtype == np.float64 and scores.shape == (60,)
        order = np.random.default_rng(0).permutation(60)
        np.testing.assert_array_equal(scorer.score([keys[i] for i in order], [texts[i] for i in order]), scores[order])
        np.testing.assert_array_equal(scorer.score(keys, texts), scores)  # nothing is remembered between calls

    def test_perfect_caption_of_rare_words_scores_ten(self):
        references = {1: [words("a b c d e")], 2: [words("f g h i j")]}
        score, _ = cider_d(references, {1: words("a b c d e"), 2: words("f g h i j")})
        assert score == pytest.approx(10)

    def test_repetition_is_clipped(self):
        references = {1: [words("a b c d e f")], 2: [words("g h i j")]}
        once, again = CiderD(references).score([1, 1], [words("a b c d e f"), words("a b c a b c")])
        assert again < once / 2

    def test_single_image_scores_zero_even_for_its_own_caption(self):
        assert cider_d({1: [["a", "dog"]]}, {1: ["a", "dog"]})[0] == 0

    def test_commonness_is_the_mean_cider_with_every_image(self):
        references, candidates = random_captions(15, 4, seed=5)
        captions = [*candidates.values(), words("unseen words alone"), []]
        expected = [
            np.mean([plain_cider_d(every, caption, references, clipped=False) for every in references.values()])
            for caption in captions
        ]
        found = CiderD(references).commonness(captions)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert found.dtype == np.float64 and found[0] > 0 and found[-1] == 0

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="at least one image"):
            CiderD({})
        with pytest.raises(ValueError, match="image 2 has no reference"):
            CiderD({1: [["a"]], 2: []})
        with pytest.raises(KeyError):
            CiderD({1: [["a"]]}).score([3], [["a"]])
        with pytest.raises(ValueError):
            CiderD({1: [["a"]]}).score([1, 1], [["a"]])


class TestBleu:
    def test_by_hand(self):
        # All 4 words, 1 of 3 bigrams ("the dog"), no trigram; the reference of length 4 is closest: no penalty.
        references = {1: [words("the dog sat down"), words("a b c d e f g")]}
        scores, _ = bleu(references, {1: words("down sat the dog")})
        assert scores[0] == pytest.approx(1.0)
        assert scores[1] == pytest.approx(math.sqrt(1 / 3), abs=1e-6)
        assert scores[2] == pytest.approx(0, abs=1e-4)

    def test_clipping_and_brevity(self):
        scores, _ = bleu({1: [words("the cat is on the mat")]}, {1: words("the the the")})
        assert scores[0] == pytest.approx(2 / 3 * math.exp(1 - 6 / 3), abs=1e-6)

    def test_shorter_of_two_equally_close_lengths(self):
        statistics = bleu_statistics({1: [["a"] * 6, ["a"] * 4]}, {1: ["a"] * 5})
        assert statistics[0].tolist() == [5, 4, 3, 2, 5, 4, 3, 2, 5, 4]

    def test_corpus_scores_are_those_of_summed_counts(self, corpus):
        statistics = bleu_statistics(*corpus)
        np.testing.assert_allclose(bleu_from_statistics(statistics.sum(axis=0)), bleu(*corpus)[0])
        resampled = np.stack([statistics.sum(axis=0), 2 * statistics.sum(axis=0)])
        np.testing.assert_allclose(bleu_from_statistics(resampled)[:, 0], bleu_from_statistics(resampled)[:, 1])

    def test_empty_captions_score_zero(self):
        scores, images = bleu({1: [["a", "dog"]]}, {1: []})
        assert scores == [0, 0, 0, 0] and np.isfinite(images).all()


class TestRougeL:
    def test_by_hand(self):
        # The common subsequence "the dog runs" has 3 words, of 4 and of 5.
        score, _ = rouge_l({1: [words("the big dog runs fast")]}, {1: words("the dog runs away")})
        precision, recall = 3 / 4, 3 / 5
        assert score == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))

    def test_precision_and_recall_may_come_from_different_references(self):
        score, _ = rouge_l({1: [words("a b c d x y z w"), ["a"]]}, {1: words("a b c d")})
        assert score == pytest.approx(1.0)  # precision 1 from the first reference, recall 1 from the second

    def test_nothing_in_common(self):
        assert rouge_l({1: [["a"]]}, {1: ["b"]})[0] == 0


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
def test_bad_arguments(metric):
    with pytest.raises(ValueError, match="'b' is on one side only"):
        metric({"a": [["x"]], "b": [["x"]]}, {"a": ["x"]})
    with pytest.raises(ValueError, match="no caption to score"):
        metric({}, {})
    with pytest.raises(ValueError, match="'a' has no reference"):
        metric({"a": []}, {"a": ["x"]})
