"""Objects that the encoder is sure of: the table, the rule, and captions searched for again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from captioner.captions.captioner import ImageCaptioner
from captioner.captions.concepts import Concept, Concepts, GroundingOptions, ground
from captioner.captions.familiarity import Familiarity
from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.runtime import Features
from captioner.models.saving import SavedModel
from captioner.models.search import Hypothesis, SearchOptions, search
from captioner.models.tokenizer import Tokenizer

SHIPPED = Path(__file__).parents[2] / "saved_models" / "flickr8k" / "concepts.json"
WORDS = (
    "a",
    "an",
    "the",
    "dog",
    "puppy",
    "cat",
    "kitty",
    "horse",
    "elephant",
    "runs",
    "sits",
    "in",
    "bathroom",
    "with",
)
TOKENIZER = Tokenizer(WORDS)
CAT, DOG, BATHROOM, ZEBRA, ELEPHANT = (
    Concept("cat", (0, 1), also=("kitty",)),
    Concept("dog", (2,), also=("puppy",), certain=True),
    Concept("bathroom", (3,)),
    Concept("zebra", (4,), like="horse"),
    Concept("elephant", (5,)),
)
CONCEPTS = Concepts([CAT, DOG, BATHROOM, ZEBRA, ELEPHANT])


def hypothesis(text: str, score: float = -1.0, finished: bool = True) -> Hypothesis:
    tokens = tuple(TOKENIZER.encode(text))
    return Hypothesis(tokens, np.full(len(tokens), -0.5, np.float32), -0.5, score, finished, np.ones((len(tokens), 4)))


def logits(**shares: float) -> np.ndarray:
    """Class scores (1, 1000) of one image; the rest goes to two classes that have no word."""
    names = {"cat": 0, "dog": 2, "bathroom": 3, "zebra": 4, "elephant": 5}
    values = np.full(1000, 1e-9)
    values[6:8] = (1 - sum(shares.values())) / 2
    for name, share in shares.items():
        values[names[name]] = share
    return np.log(values)[None].astype(np.float32)


class Searcher:
    """Stands for the search: notes what it is asked for and answers with a given score."""

    def __init__(self, *answers: Hypothesis):
        self.answers = list(answers)
        self.asked = []
        self.searches = 0

    def __call__(self, rows, constraints):
        self.searches += 1
        for row, (must_include, avoid) in zip(rows.tolist(), constraints, strict=True):
            words = [TOKENIZER.decode(phrase) for phrase in must_include]
            self.asked.append(([row], words, set(TOKENIZER.decode(avoid))))
        return [[self.answers.pop(0)] for _ in rows]


def grounded(text: str, scores: np.ndarray, *answers: Hypothesis, familiarity: float = 0.0, **options):
    search_again = Searcher(*answers)
    settings = GroundingOptions(
        **{"required": 0.3, "familiarity": 0.1, "absent": 0.05, "margin": 0.5, "most": 1, **options}
    )
    found, asked = ground(
        [[hypothesis(text)]], scores, np.array([familiarity]), CONCEPTS, TOKENIZER, search_again, settings
    )
    return " ".join(TOKENIZER.decode(found[0][0].tokens)), asked[0], search_again.asked


class TestTable:
    def test_ranges_and_numbers_are_read(self):
        table = Concepts.from_json(
            '{"format": 1, "concepts": [{"word": "dog", "classes": [[151, 153], 273],'
            ' "also": ["puppy"], "certain": true}]}'
        )
        assert table.concepts == (Concept("dog", (151, 152, 153, 273), ("puppy",), "", True),)
        assert table.concepts[0].names == {"dog", "puppy"}

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"format": 2, "concepts": []}',
            '{"format": 1, "concepts": [{"word": "dog"}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": []}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [-1]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1000]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [[0, 100000000]]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [[3, 2]]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [[1, 2, 3]]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [[1, "2"]]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1.5]}]}',
            '{"format": 1, "concepts": [{"word": ["dog"], "classes": [1]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1], "also": "puppy"}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1], "also": [[]]}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1], "like": 3}]}',
            '{"format": 1, "concepts": [{"word": "dog", "classes": [1], "certain": "no"}]}',
            '{"format": 1, "concepts": [{"word": "\\u001b[31m", "classes": [1]}]}',
            '{"format": 1, "concepts": {}}',
            "[" * 100_000,
            '{"format": 1, "concepts": [{"word": "dog", "classes": "all"}]}',
            '{"format": 1, "concepts": [{"word": "!", "classes": [1]}]}',
            '{"format": 1, "concepts": [{"word": "polar bear", "classes": [1], "like": "dog"}]}',
        ],
    )
    def test_other_texts_are_refused(self, text):
        with pytest.raises(ModelLoadError, match="table of concepts"):
            Concepts.from_json(text)

    def test_probability_is_the_sum_of_the_softmax_over_the_classes(self):
        scores = np.random.default_rng(0).normal(0, 3, (4, 8)).astype(np.float32)
        given = CONCEPTS.probabilities(scores)
        for row, image in enumerate(scores):
            total = sum(math.exp(value) for value in image)
            for column, concept in enumerate(CONCEPTS.concepts):
                expected = sum(math.exp(image[number]) for number in concept.classes) / total
                assert given[row, column] == pytest.approx(expected, rel=1e-4)

    def test_only_words_of_the_vocabulary_can_be_asked_for(self):
        table = Concepts([CAT, Concept("llama", (6,)), ZEBRA])
        assert table.writable(TOKENIZER).concepts == (CAT, ZEBRA)

    def test_a_word_stands_in_for_one_that_is_unknown(self):
        assert ZEBRA.written(["a", "horse", "runs"]) == ["a", "zebra", "runs"]
        assert ZEBRA.written(["a", "dog", "runs"]) == ["a", "dog", "runs"]

    def test_the_article_fits(self):
        assert ELEPHANT.written(["a", "elephant", "sits"]) == ["an", "elephant", "sits"]
        assert CAT.written(["an", "cat", "sits"]) == ["a", "cat", "sits"]
        assert ELEPHANT.written(["the", "elephant"]) == ["the", "elephant"]
        assert Concept("books", (9,), many=True).written(["a", "books", "in"]) == ["some", "books", "in"]

    def test_the_shipped_table_names_classes_as_people_do(self):
        table = Concepts.from_json(SHIPPED.read_text())
        words = [concept.word for concept in table.concepts]
        assert len(set(words)) == len(words) > 100
        of_class = {}
        for concept in table.concepts:
            assert set(concept.classes) <= set(range(1000))
            for number in concept.classes:
                of_class.setdefault(number, set()).add(concept.word)
        for number, word in (
            (207, "dog"),
            (281, "cat"),
            (340, "zebra"),
            (386, "elephant"),
            (861, "toilet"),
            (963, "pizza"),
        ):
            assert word in of_class[number]
        assert of_class[861] == {"toilet", "bathroom"}


class TestRule:
    def test_an_object_that_the_caption_lacks_is_required(self):
        text, asked, calls = grounded("a dog runs", logits(cat=0.5, dog=0.2), hypothesis("a cat runs", -1.4))
        assert (text, asked) == ("a cat runs", (CAT,))
        assert calls == [([0], [["cat"]], set())]

    @pytest.mark.parametrize("caption", ["a cat sits", "the kitty runs"])
    def test_not_where_the_caption_names_it(self, caption):
        assert grounded(caption, logits(cat=0.9)) == (caption, (), [])

    def test_not_where_the_encoder_is_unsure(self):
        assert grounded("a dog runs", logits(cat=0.29, dog=0.2)) == ("a dog runs", (), [])

    def test_not_in_familiar_photos(self):
        assert grounded("a dog runs", logits(cat=0.5, dog=0.2), familiarity=0.11) == ("a dog runs", (), [])

    @pytest.mark.parametrize("answer", [hypothesis("a cat", -1.51), hypothesis("a cat", -0.9, finished=False)])
    def test_not_at_any_price(self, answer):
        text, asked, calls = grounded("a dog runs", logits(cat=0.5, dog=0.2), answer)
        assert (text, asked) == ("a dog runs", ())
        assert len(calls) == 1

    def test_a_second_object_is_added_to_the_first(self):
        answers = hypothesis("a cat sits", -1.2), hypothesis("a cat in the bathroom", -1.4)
        text, asked, calls = grounded("the horse sits", logits(cat=0.5, bathroom=0.4), *answers, most=2)
        assert (text, asked) == ("a cat in the bathroom", (CAT, BATHROOM))
        assert calls == [([0], [["cat"]], set()), ([0], [["cat"], ["bathroom"]], set())]

    def test_a_second_object_may_fail_alone(self):
        answers = hypothesis("a cat sits", -1.2), hypothesis("a cat in the bathroom", -1.6)
        text, asked, _ = grounded("the horse sits", logits(cat=0.5, bathroom=0.4), *answers, most=2)
        assert (text, asked) == ("a cat sits", (CAT,))

    def test_an_object_that_is_not_there_is_avoided_even_in_familiar_photos(self):
        answer = hypothesis("a horse runs", -1.2)
        text, asked, calls = grounded("a puppy runs", logits(dog=0.01), answer, familiarity=1.0)
        assert (text, asked) == ("a horse runs", ())
        assert calls == [([0], [], {"dog", "puppy"})]

    def test_what_is_avoided_stays_avoided_when_another_thing_is_required(self):
        answers = hypothesis("a horse runs", -1.2), hypothesis("a cat runs", -1.3)
        text, _, calls = grounded("a dog runs", logits(dog=0.01, cat=0.6), *answers)
        assert text == "a cat runs"
        assert calls[1] == ([0], [["cat"]], {"dog", "puppy"})

    def test_the_absence_of_what_the_classes_do_not_cover_says_nothing(self):
        assert grounded("a cat runs", logits(cat=0.001, dog=0.2))[2] == []

    def test_a_stand_in_counts_as_what_it_stands_for(self):
        _, asked, calls = grounded("a horse runs", logits(zebra=0.9), hypothesis("a horse runs", -1.0), most=2)
        assert asked == (ZEBRA,)
        assert len(calls) == 1

    def test_all_images_share_a_search_each_with_its_own_wish(self):
        again = Searcher(hypothesis("a cat runs"), hypothesis("a dog in the bathroom"), hypothesis("a cat runs"))
        scores = np.concatenate([logits(cat=0.6), logits(bathroom=0.6), logits(dog=0.9), logits(cat=0.7)])
        found = [[hypothesis(text)] for text in ("a horse runs", "a horse runs", "a dog runs", "a horse runs")]
        _, asked = ground(found, scores, np.zeros(4), CONCEPTS, TOKENIZER, again, GroundingOptions(most=1))
        assert again.searches == 1
        assert again.asked == [([0], [["cat"]], set()), ([1], [["bathroom"]], set()), ([3], [["cat"]], set())]
        assert asked == [(CAT,), (BATHROOM,), (), (CAT,)]


class Bigrams:
    """A runtime whose next word depends on the last alone, by random logits; images differ in nothing."""

    image_size = 64
    positions = 4
    channels = 1280
    encode_batch = 1

    def __init__(self, seed: int = 0):
        self.table = np.random.default_rng(seed).normal(0, 1.5, (len(TOKENIZER), len(TOKENIZER))).astype(np.float32)
        self.table[:, TOKENIZER.end] += 2.5
        self.table[np.diag_indices(len(TOKENIZER))] -= 4.0
        self.table[:, TOKENIZER.encode("cat horse")] -= 1.5

    def initial_state(self, features):
        return (np.zeros((len(features.grid), 1), np.float32),), (features.grid,)

    def step(self, tokens, state, memory):
        return self.table[tokens].copy(), state, np.full((len(tokens), 4), 0.25, np.float32)


def captioner_with(concepts: bool = True) -> ImageCaptioner:
    """A captioner on `Bigrams` to which a photo full of cats is unusual."""
    usual = np.concatenate([logits(dog=share) for share in np.linspace(0.8, 0.99, 20)])
    texts = {"tokenizer.json": TOKENIZER.to_json()}
    if concepts:
        texts["concepts.json"] = json.dumps(
            {
                "format": 1,
                "concepts": [{"word": "cat", "classes": [0, 1]}, {"word": "zebra", "classes": [4], "like": "horse"}],
            }
        )
        texts["familiarity.json"] = Familiarity.fit(usual).to_json()
    config = {
        "encoder": {"name": "lite0", "image_size": 64},
        "decoder": {"vocabulary_size": len(TOKENIZER)},
        "grounding": {"margin": 9.0},
    }
    metadata = {"weights_sha256": "", "encoder_sha256": "0"}
    return ImageCaptioner(SavedModel(Path("x"), "x", "captioner", config, metadata, None, texts), Bigrams())


def features(*scores: np.ndarray) -> Features:
    return Features(np.zeros((len(scores), 4, 2), np.float32), np.zeros((len(scores), 2)), np.concatenate(scores))


class TestCaptions:
    def test_unfamiliar_photos_get_the_word_and_others_do_not(self):
        model = captioner_with()
        shown = features(logits(cat=0.9), logits(dog=0.9), logits(zebra=0.9))
        cat, plain, zebra = model.caption_features(shown)
        assert "cat" in cat.text.split()
        assert "cat" not in plain.text.split() and "zebra" not in plain.text.split()
        assert "zebra" in zebra.text.split() and "horse" not in zebra.text.split()
        assert cat.familiarity < 0.05 < plain.familiarity
        assert len(zebra.words) == len(zebra.text.split())

    def test_the_caption_is_that_of_a_search_with_the_word(self):
        model = captioner_with()
        shown = features(logits(cat=0.9))
        by_hand = model.caption_features(shown, SearchOptions(beam_size=8), must_include=["cat"])[0]
        assert model.caption_features(shown)[0].text == by_hand.text
        assert model.caption_features(shown)[0].score == pytest.approx(by_hand.score)

    def test_it_can_be_switched_off_and_gives_way_to_words_of_the_user(self):
        model = captioner_with()
        shown = features(logits(cat=0.9))
        plain = model.caption_features(shown, require_objects=False)[0].text
        assert "cat" not in plain.split()
        asked = model.caption_features(shown, must_include=["dog"])[0].text.split()
        assert "dog" in asked and "cat" not in asked
        assert "cat" in model.caption_features(shown, must_include=["dog"], require_objects=True)[0].text.split()
        assert model.caption_features(shown, SearchOptions(strategy="greedy"))[0].text

    def test_models_without_a_table_say_so_when_it_is_demanded(self):
        model = captioner_with(concepts=False)
        assert model.caption_features(features(logits(cat=0.9)))[0].familiarity is None
        with pytest.raises(CaptionerError, match="no table of objects"):
            model.caption_features(features(logits(cat=0.9)), require_objects=True)

    @pytest.mark.parametrize(("wish", "options"), [("yes", SearchOptions()), (True, SearchOptions(strategy="sample"))])
    def test_wishes_that_make_no_sense(self, wish, options):
        with pytest.raises(CaptionerError) as caught:
            captioner_with().caption_features(features(logits(cat=0.9)), options, require_objects=wish)
        assert caught.value.kind == "usage"


class TestAvoid:
    def found(self, avoid=(), **options):
        runtime = Bigrams(3)
        state, memory = runtime.initial_state(features(logits(cat=0.5)))
        return search(
            runtime.step, state, memory, SearchOptions(**options), start=TOKENIZER.start, end=TOKENIZER.end,
            forbidden=(0, 1, 3), avoid=avoid,
        )[0]  # fmt: skip

    @pytest.mark.parametrize(
        "options", [{"beam_size": 3, "n_best": 3}, {"strategy": "greedy"}, {"strategy": "sample", "n_best": 20}]
    )
    def test_avoided_words_do_not_occur_and_the_others_keep_their_probability(self, options):
        first = self.found(**options)[0].tokens[0]
        for one in self.found(avoid=[first], **options):
            assert first not in one.tokens
            before = TOKENIZER.start
            for token, logprob in zip(one.tokens, one.logprobs, strict=True):
                row = Bigrams(3).table[before].astype(np.float64)
                row[[0, 1, 3]] = -np.inf
                assert logprob == pytest.approx(row[token] - np.log(np.exp(row).sum()), abs=1e-4)
                before = token

    def test_every_image_avoids_its_own(self):
        runtime = Bigrams(3)
        state, memory = runtime.initial_state(features(*[logits(cat=0.5)] * 3))
        first = self.found()[0].tokens[0]
        each = [((), (first,)), ((), ()), ((), (first,))]
        found = search(
            runtime.step, state, memory, SearchOptions(), start=TOKENIZER.start, end=TOKENIZER.end,
            forbidden=(0, 1, 3), each=each,
        )  # fmt: skip
        assert [first in one[0].tokens for one in found] == [False, True, False]

    def test_a_word_cannot_be_both_wanted_and_avoided(self):
        runtime = Bigrams()
        state, memory = runtime.initial_state(features(logits(cat=0.5)))
        with pytest.raises(CaptionerError, match="same word"):
            search(runtime.step, state, memory, SearchOptions(), start=1, end=2, must_include=[5], avoid=[5])
