"""Normalisation, vocabulary, encoding and its inverse, and the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import CaptionerError, ModelLoadError
from captioner.evaluation.ptb import tokenize
from captioner.models.tokenizer import SPECIAL, Tokenizer, join_words, normalize

CAPTIONS = ("A dog runs .", "a dog jumps!", "The dog, a brown one, runs", "cat")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Dog runs .", "a dog runs"),
        ("the man's dog", "the man 's dog"),
        ("the man\u2019s dog", "the man 's dog"),
        ("It isn't, can't; won\u2019t", "it is n't ca n't wo n't"),
        ("the dogs' bowl 'so'", "the dogs bowl so"),
        ("T-shirt, AT&T, black & white -- yes", "t-shirt at&t black white yes"),
        ("3,000 people_in Z\u00fcrich \u5317\u4eac", "3 000 people in z\u00fcrich \u5317\u4eac"),
        ("x-", "x"),
        (" \n.,!?\t", ""),
        ("", ""),
    ],
)
def test_normalize(text, words):
    assert normalize(text) == words.split()


@pytest.mark.parametrize(
    "text", ["A man's dog isn't here .", "Two boys don't play, they run!", "A T-shirt that can't fit"]
)
def test_normalize_agrees_with_the_metrics(text):
    assert normalize(text) == tokenize(text)


@given(st.text())
def test_normalize_again_changes_nothing(text):
    words = normalize(text)
    assert normalize(" ".join(words)) == words
    assert all(word and word == word.lower() and not any(character.isspace() for character in word) for word in words)


@pytest.mark.parametrize("sentence", ["a man's dog isn't here", "it can't", "", "dog", "'s dog"])
def test_join_is_the_inverse(sentence):
    assert join_words(normalize(sentence)) == sentence


def test_vocabulary_is_in_order_of_frequency_then_alphabet():
    tokenizer = Tokenizer.from_captions(CAPTIONS, min_count=1)
    # by hand: a 3, dog 3, runs 2, then once each: brown, cat, jumps, one, the
    assert tokenizer.words == (*SPECIAL, "a", "dog", "runs", "brown", "cat", "jumps", "one", "the")
    assert Tokenizer.from_captions(CAPTIONS, min_count=2).words == (*SPECIAL, "a", "dog", "runs")
    assert Tokenizer.from_captions(reversed(CAPTIONS), min_count=1).words == tokenizer.words
    assert len(Tokenizer.from_captions(CAPTIONS, min_count=9)) == len(SPECIAL)


def test_special_tokens_are_the_first():
    tokenizer = Tokenizer(["dog"])
    assert [tokenizer.pad, tokenizer.start, tokenizer.end, tokenizer.unknown] == [0, 1, 2, 3]
    assert "dog" in tokenizer and "cat" not in tokenizer and "<end>" not in tokenizer
    assert tokenizer.encode("<end> <pad>") == [tokenizer.unknown, tokenizer.unknown]


def test_encode_and_decode():
    tokenizer = Tokenizer(["a", "dog", "'s"])
    assert tokenizer.encode("A dog's cat") == [4, 5, 6, 3]
    assert tokenizer.encode(["dog", "cat"], end=True) == [5, 3, 2]
    assert tokenizer.decode([1, 4, 5, 0, 3, 6, 2, 4]) == ["a", "dog", "'s"]
    assert tokenizer.decode(np.array([4, 5])) == ["a", "dog"]


def test_batch_pads_and_cuts():
    tokenizer = Tokenizer(["a", "dog", "runs"])
    batch = tokenizer.encode_batch(["a dog", "a dog runs", "a dog runs a dog", ""], max_length=3)
    assert batch.dtype == np.int32
    # a caption that was cut has no end: the model must not learn to end there
    assert batch.tolist() == [[1, 4, 5, 2, 0], [1, 4, 5, 6, 2], [1, 4, 5, 6, 0], [1, 2, 0, 0, 0]]
    assert tokenizer.encode_batch([], max_length=3).shape == (0, 5)


WORDS_OF_ANY_SCRIPT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=100)


@given(st.lists(WORDS_OF_ANY_SCRIPT, unique=True).filter(lambda words: not set(words) & set(SPECIAL)))
def test_json_round_trip(words):
    tokenizer = Tokenizer(words)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.words == tokenizer.words
    assert again.encode(words) == tokenizer.encode(words) == list(range(4, 4 + len(words)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 2, "words": ["a"]}',
        '{"format": 1, "words": "dog"}',
        '{"format": 1, "words": {"dog": 1}}',
        '{"format": 1, "words": [1]}',
        '{"format": 1, "words": [""]}',
        '{"format": 1, "words": ["a", "a"]}',
        '{"format": 1, "words": ["<end>"]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_vocabulary_is_refused(text):
    with pytest.raises(ModelLoadError, match="vocabulary"):
        Tokenizer.from_json(text)


def test_the_file_holds_the_words_in_plain_text():
    record = json.loads(Tokenizer(["dog", "z\u00fcrich"]).to_json())
    assert record == {"format": 1, "words": ["dog", "z\u00fcrich"]}
    assert "z\u00fcrich" in Tokenizer(["z\u00fcrich"]).to_json()


@pytest.mark.data
def test_agrees_with_the_metrics_on_real_captions(shared):
    lines = (shared / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t", 1)[1] for line in lines]
    same = sum(normalize(text) == tokenize(text) for text in texts)
    assert same / len(texts) > 0.98


def test_styles_are_start_tokens_after_the_words():
    tokenizer = Tokenizer(["dog", "runs"], ["short", "long"])
    assert len(tokenizer) == 8 and tokenizer.start_of("") == tokenizer.start
    assert [tokenizer.start_of(style) for style in tokenizer.styles] == [6, 7]
    assert tokenizer.encode_batch(["dog runs"], 3, "long").tolist() == [[7, 4, 5, 2, 0]]
    assert tokenizer.forbidden == (0, 1, 3, 6, 7)
    assert tokenizer.decode([7, 4, 6, 5, 2]) == ["dog", "runs"]
    assert "<short>" not in tokenizer and "runs" in tokenizer
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.words, again.styles) == (tokenizer.words, tokenizer.styles)
    with pytest.raises(CaptionerError, match=r"unknown style 'loud'.*short, long"):
        tokenizer.start_of("loud")
    with pytest.raises(CaptionerError, match="the general one alone"):
        Tokenizer(["dog"]).start_of("short")
