"""Tags: which words they are, how they are learnt and calibrated, and how a folder keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from captioner.captions.captioner import ImageCaptioner
from captioner.captions.familiarity import Familiarity
from captioner.captions.tags import Tagger
from captioner.errors import ModelLoadError
from captioner.loading import load
from captioner.models.runtime import Features
from captioner.models.saving import read_model, save_model
from captioner.models.tokenizer import Tokenizer
from captioner.training.captions.calibration import calibrated_tags
from captioner.training.captions.tags import _slopes, choose_things, choose_words, fit_tags, used_tags

THINGS = {"dog": "a dog", "grass": "grass"}


def tagger(threshold=0.6) -> Tagger:
    return Tagger(
        ["dog", "grass", "running"], {"dogs": "dog", "runs": "running"}, THINGS, np.eye(3) * 2, [0, -1, 1], threshold
    )


class TestTagger:
    def test_probabilities_are_the_logistic_function_of_the_layer(self):
        given = tagger().probabilities([[1.0, 0.5, -1.0]])
        np.testing.assert_allclose(given, 1 / (1 + np.exp(-np.array([[2.0, 0.0, -1.0]]))), rtol=1e-6)

    def test_likely_ones_are_shown_the_likeliest_first(self):
        assert tagger().shown(np.array([0.7, 0.5, 0.9])) == (("running", 0.9), ("dog", 0.7))
        assert tagger(0.95).shown(np.array([0.7, 0.5, 0.9])) == ()

    def test_the_likeliest_thing(self):
        assert tagger().likeliest_thing(np.array([0.4, 0.5, 0.9]), 0.5) == "grass"
        assert tagger().likeliest_thing(np.array([0.6, 0.5, 0.9]), 0.5) == "a dog"
        assert tagger().likeliest_thing(np.array([0.4, 0.4, 0.9]), 0.5) is None

    def test_words_are_weighed_by_how_much_likelier_they_are_here(self):
        given = Tagger(["a", "b"], {}, {}, np.eye(2), [0, 0], 0.5, prior=[0.1, 0.2], weight=0.5)
        found = given.lift(np.array([[0.4, 0.01], [0.1, 0.999]]), np.array([-1, 1, 0, 1]))
        expected = 0.5 * np.log(np.array([[0.013 / 0.203, 0.403 / 0.103], [1.002 / 0.203, 1.0]]))
        np.testing.assert_allclose(found, np.stack([[0, 0], *expected[:, [0, 1, 0]].T], axis=1), rtol=1e-5, atol=1e-6)
        assert np.abs(given.lift(np.array([[1.0, 0.0]]), np.array([0, 1]))).max() <= 1.5

    def test_probabilities_of_words(self):
        found = tagger().of_words(["a", "dogs", "running"], np.array([0.7, 0.5, 0.9]))
        np.testing.assert_array_equal(found, [np.nan, 0.7, 0.9])

    def test_forms_of_a_word(self):
        assert [tagger().number(word) for word in ("dog", "dogs", "runs", "cat")] == [0, 0, 2, None]

    @pytest.mark.parametrize(
        "changes",
        [
            {"words": ["dog", "grass"]},
            {"things": {"cat": "a cat"}},
            {"words": ["dog", "dog", "run"]},
            {"bias": [0, 1]},
            {"kernel": np.zeros(3)},
        ],
    )
    def test_what_does_not_fit(self, changes):
        arguments = {
            "words": ["a", "b", "c"],
            "forms": {},
            "things": {},
            "kernel": np.eye(3),
            "bias": np.zeros(3),
            "threshold": 0.5,
        }
        with pytest.raises(ValueError, match=r"words, kernel|twice|no tag"):
            Tagger(**{**arguments, **changes})


CAPTIONS = [
    ("a dog runs", "two dogs are running", "the dog ran"),
    ("a man in glasses with a glass", "men and two women ride horses"),
    ("children ride", "a boy is riding a bus", "glasses and more glasses"),
]


class TestWords:
    def test_plurals_and_forms_of_verbs_are_folded(self):
        words, forms = choose_words(CAPTIONS * 10, min_photos=10)
        assert {"dogs": "dog", "runs": "running", "men": "man", "ride": "riding", "horses": "horses"}.items() <= {
            **forms, "horses": "horses"
        }.items()  # fmt: skip
        assert {"dog", "running", "man", "woman", "child", "boy", "bus", "riding", "glass"} <= set(words)
        assert not {"a", "two", "and", "in", "is", "ride", "men", "dogs"} & set(words)

    def test_a_plural_that_is_a_word_of_its_own_stays(self):
        words, forms = choose_words([("skis", "skis and skis")] * 30 + [("a bus", "grass")] * 30, min_photos=5)
        assert {"skis", "bus", "grass"} <= set(words) and not forms.keys() & {"skis", "bus", "grass"}

    def test_the_most_frequent_ones_come_first_and_rare_ones_are_left_out(self):
        captions = [("a dog",)] * 9 + [("a cat",)] * 5 + [("a cow",)] * 5 + [("a yak",)]
        assert choose_words(captions, min_photos=2)[0] == ["dog", "cat", "cow"]
        assert choose_words(captions, most=2, min_photos=2)[0] == ["dog", "cat"]

    def test_things_have_the_article_that_people_give_them(self):
        captions = [("a dog on grass", "an apple, red grass", "the dogs are riding")]
        found = choose_things(["dog", "grass", "apple", "red", "riding"], captions)
        assert found == {"dog": "a dog", "grass": "grass", "apple": "an apple"}

    def test_a_photo_has_the_words_that_anybody_used(self):
        used = used_tags(tagger(), [("Dogs!", "a cat"), ("it runs on grass",), ()])
        np.testing.assert_array_equal(used, [[1, 0, 0], [0, 1, 1], [0, 0, 0]])


class TestFit:
    @pytest.mark.parametrize("share", [0.2, 0.4, 1.0])
    def test_slopes_are_those_of_the_likelihood(self, share):
        odds = np.array([[-2.0, 0.3, 1.5]])

        def loss(odds, used):
            p = 1 / (1 + np.exp(-odds))
            somebody = 1 - (1 - p) ** share
            return -np.log(somebody if used else 1 - somebody)

        for used in (False, True):
            found = _slopes(odds, np.full(odds.shape, used), np.array([[share]]))
            expected = (loss(odds + 1e-5, used) - loss(odds - 1e-5, used)) / 2e-5
            np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_what_photos_show_is_learnt_from_one_caption_as_from_five(self, monkeypatch):
        """A third of the photos show a cat, which each person names with probability 0.3: one of five does in 83 %."""
        monkeypatch.setattr("captioner.training.captions.tags._LEARNING_RATE", 0.02)
        generator = np.random.default_rng(0)
        cats = generator.random(6000) < 1 / 3
        pooled = np.where(cats[:, None], [1.0, 0.0], [0.0, 1.0]) + generator.normal(0, 0.05, (6000, 2))
        counts = generator.choice([1, 2, 5], 6000)
        captions = [
            tuple("a cat" if cat and generator.random() < 0.3 else "a day" for _ in range(count))
            for cat, count in zip(cats, counts, strict=True)
        ]
        learnt = fit_tags(pooled.astype(np.float32), captions, epochs=30)
        given = learnt.probabilities(np.eye(2))[:, learnt.number("cat")]
        assert given[0] == pytest.approx(1 - 0.7**5, abs=0.05) and given[1] < 0.03
        again = fit_tags(pooled.astype(np.float32), captions, epochs=30)
        np.testing.assert_array_equal(again.kernel, learnt.kernel)


class TestCalibration:
    def judged(self, generator, photos, slope, offset, words=40):
        odds = generator.normal(-1.5, 2, (photos, words)).astype(np.float32)
        used = generator.random(odds.shape) < 1 / (1 + np.exp(-(slope * odds + offset)))
        return odds, used

    def test_probabilities_are_put_right_and_four_in_five_shown_are_right(self):
        generator = np.random.default_rng(0)
        raw = Tagger([f"w{i}" for i in range(40)], {}, {}, np.eye(40), np.zeros(40), 0.5)
        judged = {name: self.judged(generator, photos, 0.5, -0.4) for name, photos in (("a", 1200), ("b", 600))}
        given, report = calibrated_tags(raw, judged)
        odds, used = self.judged(generator, 4000, 0.5, -0.4)
        probabilities = given.probabilities(odds)
        np.testing.assert_allclose(given.kernel[0, 0], 0.5, atol=0.03)
        assert np.abs(probabilities - 1 / (1 + np.exp(-(0.5 * odds - 0.4)))).max() < 0.03
        shown = probabilities >= given.threshold
        assert 0.78 < used[shown].mean() < 0.86
        assert used[probabilities >= given.threshold - 0.1].mean() < 0.8
        for row in report.values():
            assert row["calibration_error"] < 0.02 and row["precision"] > 0.77 and row["shown"] > 0.3
            assert sum(count for _, _, count in row["reliability"]) in (48000, 24000)

    def test_the_data_set_that_is_hardest_decides(self):
        generator = np.random.default_rng(1)
        raw = Tagger([f"w{i}" for i in range(40)], {}, {}, np.eye(40), np.zeros(40), 0.5)
        easy, hard = self.judged(generator, 800, 1, 1), self.judged(generator, 800, 1, -1)
        given, _ = calibrated_tags(raw, {"easy": easy, "hard": hard})
        assert hard[1][given.probabilities(hard[0]) >= given.threshold].mean() > 0.795

    def test_where_nothing_is_right_often_enough_nothing_is_shown(self):
        generator = np.random.default_rng(2)
        raw = Tagger([f"w{i}" for i in range(40)], {}, {}, np.eye(40), np.zeros(40), 0.5)
        odds, used = self.judged(generator, 200, 0, -1)
        given, report = calibrated_tags(raw, {"a": (odds, used)})
        assert given.probabilities(odds).max() < given.threshold and report["a"]["shown"] == 0


class TestFolder:
    @pytest.fixture
    def tagged(self, tiny_captioner, tmp_path):
        """The tiny captioner with tags for what is bright or dark."""
        saved = read_model(tiny_captioner)
        kernel = np.random.default_rng(0).normal(0, 3, (1280, 3))
        arrays, texts = Tagger(
            ["dog", "grass", "wok"], {"dogs": "dog"}, {"dog": "a dog"}, kernel, np.zeros(3), 0.4
        ).saved()
        return save_model(
            tmp_path / "tagged", kind="captioner", config=saved.config, weights={**saved.weights, **arrays},
            texts={**saved.texts, **texts}, metadata=saved.metadata, card="",
        )  # fmt: skip

    def test_a_caption_carries_the_tags_of_its_photo(self, tagged):
        model = load(tagged)
        photos = list(np.random.default_rng(1).integers(0, 256, (4, 65, 65, 3)).astype(np.uint8))
        captions = model.caption(photos, n_best=2)
        for photo, caption in zip(photos, captions, strict=True):
            probabilities = model.tagger.probabilities(model.encode(photo[None]).pooled)[0]
            expected = {word: p for word, p in zip(model.tagger.words, probabilities, strict=True) if p >= 0.4}
            assert dict(caption.tags) == pytest.approx(expected)
            assert [p for _, p in caption.tags] == sorted(expected.values(), reverse=True)
            assert caption.alternatives[0].tags == caption.tags
            assert caption.to_dict()["tags"] == [{"tag": tag, "probability": round(p, 4)} for tag, p in caption.tags]

    def test_a_folder_keeps_them(self, tagged):
        again = load(tagged).tagger
        assert (again.words, again.forms, again.threshold) == (("dog", "grass", "wok"), {"dogs": "dog"}, 0.4)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 2}, "format"),
            ({"words": ["dog", "grass"]}, "has shape"),
            ({"words": ["dog", "dog", "wok"]}, r"tags\.json: a word is there twice"),
            ({"threshold": 1.5}, "threshold must be"),
            ({"words": ["dog", "grass", "\x1b[31m"]}, "words"),
        ],
    )
    def test_other_tables_are_refused(self, tagged, changes, message):
        saved = read_model(tagged)
        table = {**json.loads(saved.texts["tags.json"]), **changes}
        saved.texts["tags.json"] = json.dumps(table)
        with pytest.raises(ModelLoadError, match=message):
            ImageCaptioner(saved, load(tagged).runtime)


class ReadingRuntime:
    """A decoder that would say "a dog" of everything."""

    image_size, positions, channels, vocabulary_size, encode_batch = 64, 4, 1280, 14, 1

    def initial_state(self, features):
        return (np.zeros((len(features), 2), np.float32),), (np.zeros((len(features), 1), np.float32),)

    def step(self, tokens, state, memory):
        logits = np.zeros((len(tokens), 14), np.float32)
        logits[np.arange(len(tokens)), np.select([tokens == 1, tokens == 4], [4, 5], 2)] = 5
        return logits, state, np.full((len(tokens), 4), 0.25, np.float32)


class TestPlainSentence:
    @pytest.fixture
    def model(self, tmp_path):
        """Knows photos of one direction alone, and a dog by another."""
        words = ["a", "dog", "picture", "of", "that", "is", "hard", "to", "make", "out"]
        kernel = np.zeros((1280, 1))
        kernel[1] = 10
        arrays, texts = Tagger(["dog"], {}, {"dog": "a dog"}, kernel, [-5], 0.6).saved()
        known, more = Familiarity.fit(np.eye(1, 1280) + np.eye(50, 1280) * 0.2, prototypes=1).saved()
        save_model(
            tmp_path / "model", kind="captioner", weights={**arrays, **known},
            config={"encoder": {"name": "lite0", "image_size": 64}, "decoder": {"vocabulary_size": 14}},
            texts={**texts, **more, "tokenizer.json": Tokenizer(words).to_json()}, metadata={}, card="",
        )  # fmt: skip
        return ImageCaptioner(read_model(tmp_path / "model"), ReadingRuntime())

    def features(self, *channels):
        pooled = np.eye(1280, dtype=np.float32)[list(channels)]
        return Features(np.repeat(pooled[:, None], 4, axis=1), pooled)

    def test_a_photo_far_from_everything_gets_a_plain_sentence(self, model):
        home, dog, strange = model.caption_features(self.features(0, 1, 2), model.search_options(n_best=2))
        assert (home.text, home.unsure) == ("a dog", None)
        assert (dog.text, dog.unsure, dog.tags[0][0]) == ("a picture of a dog", "unfamiliar", "dog")
        assert (strange.text, strange.unsure, strange.tags) == ("a picture that is hard to make out", "unfamiliar", ())
        for caption in (dog, strange):
            assert caption.finished
            assert [word.text for word in caption.words] == caption.text.split()
            assert all(word.attention.shape == (2, 2) and 0 < word.confidence < 1 for word in caption.words)
            assert len(caption.alternatives) == 1 and caption.alternatives[0].text == home.text
        # read, not searched for: "of" is no likelier than the decoder says, but for what the tags add to "dog"
        lift = model.tagger.lift(model.tagger.probabilities(self.features(1).pooled), np.array([0]))[0, 0]
        others = 9  # without pad, start, unknown, "dog" and the end, which the decoder expects
        assert dog.words[2].logprob == pytest.approx(-np.log(np.exp(5) + np.exp(lift) + others), abs=1e-4)

    @pytest.mark.parametrize("asked", [{"plain": False}, {"prefix": "a"}, {"must_include": ["dog"]}])
    def test_who_asks_for_something_else_gets_it(self, model, asked):
        assert [one.text for one in model.caption_features(self.features(1, 2), **asked)] == ["a dog", "a dog"]
        greedy = model.caption_features(self.features(1, 2), model.search_options(strategy="greedy"))
        assert [one.text for one in greedy] == ["a dog", "a dog"]
