"""Subwords: the model of sentencepiece that is put together here, what is put aside, and files of strangers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_models import SENTENCES

from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.translation.subwords import END, SLOTS, Subwords, normalize


@pytest.fixture(scope="module")
def subwords():
    return Subwords.learn(SENTENCES, 335)


def test_pieces_are_as_many_as_asked_for_and_spell_the_sentences(subwords):
    assert len(subwords) == 335 and subwords.languages == ("de", "fr")
    for text in (text for lines in SENTENCES.values() for text in lines[:3]):
        numbers = subwords.encode(text)
        assert numbers[-1] == END and subwords.decode(numbers) == text
        pieces = dict(subwords.pieces)
        assert all(piece in pieces for piece in subwords.pieces_of(numbers[:-1]))


def test_a_sentence_is_cut_where_its_pieces_are_likeliest(subwords):
    """As Kudo 2018 has it, found here by trying all ways to cut."""
    scores = dict(subwords.pieces)

    def best(text):
        if not text:
            return 0.0, []
        cuts = [(scores[text[:n]], text[:n], *best(text[n:])) for n in range(1, len(text) + 1) if text[:n] in scores]
        return max(((first + rest, [piece, *pieces]) for first, piece, rest, pieces in cuts), default=(-np.inf, []))

    for word in ("singing", "Wasser", "chiens", "Fahrrad"):
        assert subwords.pieces_of(subwords.encode(word)[:-1]) == best("\u2581" + word)[1]


def test_characters_that_were_never_seen_come_back(subwords):
    text = "日本 ☃ ñandú"
    assert subwords.decode(subwords.encode(text)) == text


def test_a_language_is_written_in_its_own_pieces(subwords):
    for language in ("de", "fr"):
        written = subwords.written[language]
        assert written[0] == subwords.start_of(language) and written[1] == END
        used = {number for text in SENTENCES[language] for number in subwords.encode(text)}
        assert used == set(written.tolist()) - {written[0], *subwords.slots}
    with pytest.raises(CaptionerError, match=r"unknown language 'es'.*de, fr"):
        subwords.start_of("es")


def test_what_was_never_read_is_put_aside(subwords):
    aside, kept = subwords.put_aside("A man, Zaphod Beeblebrox, rides the Heart-of-Gold ☃.")
    # "the" is known in whatever case, "the" and "The" alike; a comma is not, as no sentence has one.
    assert kept == [", Zaphod Beeblebrox,", "Heart-of-Gold ☃"]
    assert aside == f"A man{SLOTS[0]} rides the {SLOTS[1]}."
    assert subwords.put_aside("TWO DOGS.") == ("TWO DOGS.", [])
    slots = [number for number in subwords.encode(aside) if number in subwords.slots]
    assert slots == list(subwords.slots[:2])


def test_more_unknown_words_than_slots_lose_nothing(subwords):
    text = " in ".join(f"w{i}" for i in range(12))
    aside, kept = subwords.put_aside(text)
    assert len(kept) == len(SLOTS) and kept[-1] == " in ".join(f"w{i}" for i in range(7, 12))
    for slot, words in zip(SLOTS, kept, strict=True):
        aside = aside.replace(slot, words)
    assert aside == text


def test_characters_that_mean_something_here_are_no_way_in():
    assert normalize(f"  a{SLOTS[0]}b \u2581c\n d ") == "ab _c d"


def test_too_little_text_is_refused():
    with pytest.raises(DatasetError, match="too little text for 3000 pieces"):
        Subwords.learn({"en": ["a dog"], "de": ["ein Hund"]}, 3000)


def test_files(subwords):
    text = subwords.to_json()
    again = Subwords.from_json(text)
    sentence = "A man and 日本."
    assert again.encode(sentence) == subwords.encode(sentence) and again.known == subwords.known
    assert {k: v.tolist() for k, v in again.written.items()} == {k: v.tolist() for k, v in subwords.written.items()}
    for change, said in (
        ({"format": 2}, "format"),
        ({"languages": {"de": [10**6]}}, "pieces that are not there"),
        ({"languages": {"de": [2]}}, "pieces that are not there"),
        ({"languages": {"../x": []}}, "languages"),
        ({"pieces": [["a b", -1.0]]}, "pieces"),
        ({"pieces": [["a", -1.0], ["a", -2.0]]}, "no vocabulary"),
        ({"pieces": [["a", 5.0]]}, "pieces"),
    ):
        with pytest.raises(ModelLoadError, match=said):
            Subwords.from_json(json.dumps(json.loads(text) | change), "tokenizer.json")
