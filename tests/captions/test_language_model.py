"""The decoder as a language model: probabilities that are those of the search, and sum to one."""

import itertools

import numpy as np
import pytest

import captioner
from captioner.captions.language_model import END, LanguageModel
from captioner.errors import CaptionerError

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tiny_captioner):
    return captioner.load(tiny_captioner, threads=1)


@pytest.fixture(scope="module", params=[None, PHOTO], ids=["no photo", "photo"])
def language(model, request):
    return LanguageModel(model, request.param)


def test_probabilities_of_the_next_word_sum_to_one(language):
    listed = language.next_words("a dog", n=1000)
    assert sum(p for _, p in listed) == pytest.approx(1)
    assert len(listed) == len(language.captioner.tokenizer.words)
    assert [p for _, p in listed] == sorted((p for _, p in listed), reverse=True)
    assert {word for word, p in listed if p == 0} == {"<pad>", "<start>", "<unk>"}


def test_a_sentence_is_as_likely_as_its_words_one_after_the_other(language):
    words = ["a", "dog", "plays", "in", "water"]
    expected = [
        np.log(dict(language.next_words(" ".join(words[:i]), n=1000))[word]) for i, word in enumerate([*words, END])
    ]
    np.testing.assert_allclose(language.logprobs("A dog plays in water."), expected, atol=1e-5)
    assert language.perplexity("a dog plays in water") == pytest.approx(np.exp(-np.mean(expected)))


def test_the_search_gives_the_same_probabilities(model):
    caption = model.caption(PHOTO)
    measured = LanguageModel(model, PHOTO).logprobs(caption.text)
    np.testing.assert_allclose(measured[:-1], [word.logprob for word in caption.words], atol=1e-4)


def test_completions_are_the_best_that_there_are(model):
    language = LanguageModel(model)
    found = language.complete("a dog", n=3, max_length=4, length_penalty=0.0, beam_size=500)
    words = [word for word, _ in language.next_words(n=1000) if not word.startswith("<") and word != END]
    sentences = [" ".join(["a", "dog", *rest]) for n in range(3) for rest in itertools.product(words, repeat=n)]
    scores = dict(zip(sentences, map(np.sum, language.logprobs(sentences)), strict=True))
    ranked = sorted(sentences, key=lambda text: -scores[text])[:3]
    finished = [caption.text for caption in found if caption.finished]
    assert finished == ranked[: len(finished)]
    assert finished


def test_a_photo_changes_what_is_likely(model):
    without, with_photo = LanguageModel(model), LanguageModel(model, PHOTO)
    assert not np.allclose(without.logprobs("a dog runs"), with_photo.logprobs("a dog runs"))


def test_perplexity_of_several_sentences_counts_each_word_once(language):
    texts = ["a dog", "two black dog runs in the red water on sand"]
    values = np.concatenate([language.logprobs(text) for text in texts])
    assert np.isnan(values).sum() == 1  # "the" is not in the vocabulary
    assert language.perplexity(texts) == pytest.approx(np.exp(-np.nanmean(values)))
    with pytest.raises(ValueError, match="no sentence"):
        language.perplexity([])


def test_the_method_of_the_captioner(model):
    completions = model.complete("a dog is", n=4)
    assert [c.text for c in completions] == [c.text for c in LanguageModel(model).complete("a dog is", 4)]
    assert len(completions) == 4
    assert all(c.text.startswith("a dog is") for c in completions)
    with_photo = model.complete("a dog is", n=2, image=PHOTO)
    assert with_photo[0].text == model.caption(PHOTO, prefix="a dog is", n_best=2).text


def test_temperature_makes_sentences_more_varied(model):
    def sampled(temperature):
        drawn = model.complete(n=20, strategy="sample", temperature=temperature, max_length=6)
        return len({caption.text for caption in drawn})

    assert sampled(0.01) == 1 < sampled(2.0)


def test_unknown_words_are_named(model):
    with pytest.raises(CaptionerError, match="'zebra'"):
        model.complete("a zebra")
