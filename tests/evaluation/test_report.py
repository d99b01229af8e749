"""Reports of caption scores: what is in them, the table, the results file, diversity and METEOR."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from captioner.errors import CaptionerError, DatasetError
from captioner.evaluation.coco_metrics import bleu, cider_d, rouge_l
from captioner.evaluation.diversity import diversity, grammar_slips, is_dangling, repeated_words
from captioner.evaluation.meteor import meteor_1_5, meteor_nltk
from captioner.evaluation.ptb import tokenize
from captioner.evaluation.report import coco_results, compare_reports, evaluate_captions, format_table, word_outcomes
from captioner.results import Caption, Word

REFERENCES = {
    "one.jpg": ["A brown dog runs on the grass .", "The dog is running across a field ."],
    "two.jpg": ["Two girls play in the water .", "Children splash in a pool .", "Girls playing ."],
    "three.jpg": ["A man rides a red bike .", "A cyclist on a hill ."],
    "four.jpg": ["A woman is reading a book .", "Someone reads ."],
}
CANDIDATES = {
    "two.jpg": "two girls play in the",
    "one.jpg": "a brown dog runs on the grass",
    "four.jpg": "a man and a man",
    "three.jpg": "a man rides a red bike",
}


def caption(text: str, probability: float = 0.5, confidence: float | None = None) -> Caption:
    words = tuple(Word(word, float(np.log(probability))) for word in text.split())
    return Caption(text, words, -1.0, probability if confidence is None else confidence, True)


class TestReport:
    def test_scores_are_those_of_the_metrics_times_100(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=50)
        people = {file: [tokenize(text) for text in texts] for file, texts in REFERENCES.items()}
        words = {file: tokenize(text) for file, text in CANDIDATES.items()}
        scores = report["scores"]
        assert list(scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
        for n, score in enumerate(bleu(people, words)[0]):
            assert scores[f"BLEU-{n + 1}"]["estimate"] == pytest.approx(100 * score)
        assert scores["ROUGE-L"]["estimate"] == pytest.approx(100 * rouge_l(people, words)[0])
        assert scores["CIDEr-D"]["estimate"] == pytest.approx(100 * cider_d(people, words)[0])
        for interval in scores.values():
            assert interval["low"] <= interval["estimate"] <= interval["high"] and interval["level"] == 0.95
        assert (report["photos"], report["references"]) == (4, 9)

    def test_single_captions_keep_their_photo(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=10)
        assert [entry["file"] for entry in report["captions"]] == list(CANDIDATES)
        best = max(report["captions"], key=lambda entry: entry["CIDEr-D"])
        assert best["file"] in ("one.jpg", "three.jpg") and best["caption"] == CANDIDATES[best["file"]]
        mean = np.mean([entry["CIDEr-D"] for entry in report["captions"]])
        assert report["scores"]["CIDEr-D"]["estimate"] == pytest.approx(mean, abs=1e-3)

    def test_diversity_with_intervals(self):
        found = evaluate_captions(REFERENCES, CANDIDATES, samples=10)["diversity"]
        assert found["dangling"]["estimate"] == pytest.approx(1 / 4)  # "in the"
        assert found["repeated"]["estimate"] == pytest.approx(1 / 4)  # "man and a man"
        assert found["slips"]["estimate"] == pytest.approx(2 / 4)  # and "a man and a man"
        assert found["distinct_captions"] == 4

    def test_invented_words_with_intervals(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=10)
        # Girls; brown, dog, grass; man, man; man, red, bike: only the men at the book are made up.
        assert [entry["invented"] for entry in report["captions"]] == [[], [], ["man", "man"], []]
        assert report["invented"]["words"]["estimate"] == pytest.approx(2 / 9)
        assert report["invented"]["captions"]["estimate"] == pytest.approx(1 / 4)
        assert report["invented"]["words"]["low"] < 2 / 9 < report["invented"]["words"]["high"]

    def test_text_and_caption_objects_score_the_same(self):
        plain = evaluate_captions(REFERENCES, CANDIDATES, samples=10)
        rich = evaluate_captions(REFERENCES, {f: caption(text) for f, text in CANDIDATES.items()}, samples=10)
        assert rich["scores"] == plain["scores"] and "confidence" not in plain
        json.dumps(rich, allow_nan=False)

    def test_confidence_of_captions(self):
        candidates = {
            "one.jpg": caption("a brown dog runs", 0.9),  # every word is used by someone
            "two.jpg": caption("girls play in water", 0.9),
            "three.jpg": caption("purple elephants fly", 0.3),  # none is
            "four.jpg": caption("green elephants sleep", 0.3),
        }
        found = evaluate_captions(REFERENCES, candidates, samples=10)["confidence"]
        assert found["word_calibration_error"] == pytest.approx((8 * 0.1 + 6 * 0.3) / 14)
        assert found["caption_calibration_error"] == pytest.approx((2 * 0.1 + 2 * 0.3) / 4)
        # Nothing wrong in the surer half, all wrong in the other: risk 0 up to 0.5, then half.
        assert found["risk"] == pytest.approx(0.5 * 0 + 0.5 * 0.5)
        selected = found["selected"]
        assert [entry["coverage"] for entry in selected] == [0.5, 1.0]
        assert [entry["confidence"] for entry in selected] == [0.9, 0.3]
        assert selected[0]["CIDEr-D"] == pytest.approx(2 * selected[1]["CIDEr-D"]) and selected[0]["CIDEr-D"] > 0

    def test_empty_captions_are_scored_as_the_failures_they_are(self):
        report = evaluate_captions(REFERENCES, {file: caption("", 0.5, 0.0) for file in REFERENCES}, samples=10)
        assert report["scores"]["CIDEr-D"]["estimate"] == 0
        assert report["diversity"]["dangling"]["estimate"] == 1
        assert report["confidence"]["word_calibration_error"] is None
        json.dumps(report, allow_nan=False)

    def test_idf_of_other_captions(self):
        alone = {"one.jpg": REFERENCES["one.jpg"]}
        candidate = {"one.jpg": CANDIDATES["one.jpg"]}
        assert evaluate_captions(alone, candidate, samples=10)["scores"]["CIDEr-D"]["estimate"] == 0
        report = evaluate_captions(alone, candidate, idf_from=REFERENCES, samples=10)
        assert report["scores"]["CIDEr-D"]["estimate"] > 100

    def test_bad_input(self):
        with pytest.raises(DatasetError, match="no caption to score"):
            evaluate_captions({}, {})
        with pytest.raises(DatasetError, match=r"1 photos have no captions to be judged, for example three\.jpg"):
            evaluate_captions(REFERENCES, {file: text for file, text in CANDIDATES.items() if file != "three.jpg"})
        with pytest.raises(DatasetError, match=r"no captions of people, for example five\.jpg"):
            evaluate_captions(REFERENCES, {**CANDIDATES, "five.jpg": "a"})
        with pytest.raises(DatasetError, match=r"a\.jpg has no caption of people"):
            evaluate_captions({"a.jpg": []}, {"a.jpg": "x"})
        with pytest.raises(ValueError, match=r"meteor must be one of nltk, 1\.5"):
            evaluate_captions(REFERENCES, CANDIDATES, meteor="2.0")


def test_word_outcomes_say_which_words_people_used():
    people = [[tokenize(text) for text in REFERENCES[file]] for file in ("two.jpg", "one.jpg")]
    captions = [caption("girls swim in a lake", 0.5), caption("dog", 0.25)]
    logprobs, used = word_outcomes(captions, people)
    np.testing.assert_allclose(np.exp(logprobs), [0.5] * 5 + [0.25])
    assert used.tolist() == [True, False, True, True, False, True]


def test_the_calibrated_probabilities_of_words_are_judged_where_there_are_some():
    candidates = {file: caption("dog girls bike book", 0.9) for file in REFERENCES}  # one word in four is right
    raw = evaluate_captions(REFERENCES, candidates, samples=10)["confidence"]
    assert raw["word_calibration_error"] == pytest.approx(0.9 - 0.25)
    calibrated = {
        file: replace(one, words=tuple(replace(word, confidence=0.25) for word in one.words))
        for file, one in candidates.items()
    }
    assert evaluate_captions(REFERENCES, calibrated, samples=10)["confidence"]["word_calibration_error"] == 0


class TestComparison:
    def test_better_on_every_photo(self):
        worse = evaluate_captions(REFERENCES, dict.fromkeys(REFERENCES, "a zebra"), samples=10)
        better = evaluate_captions(REFERENCES, {f: texts[0] for f, texts in REFERENCES.items()}, samples=10)
        gain, doubt = compare_reports(worse, better, samples=200)
        assert doubt == 0 and 0 < gain.low <= gain.estimate <= gain.high
        expected = better["scores"]["CIDEr-D"]["estimate"] - worse["scores"]["CIDEr-D"]["estimate"]
        assert gain.estimate == pytest.approx(expected, abs=1e-3)
        assert compare_reports(better, worse, "ROUGE-L", samples=200)[1] == 1

    def test_order_of_photos_does_not_matter(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=10)
        turned = {**report, "captions": report["captions"][::-1]}
        gain, _ = compare_reports(report, turned, samples=50)
        assert (gain.low, gain.high) == (0, 0)

    def test_other_photos(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=10)
        with pytest.raises(DatasetError, match=r"differ in 1 photos, for example two\.jpg"):
            compare_reports(report, {**report, "captions": report["captions"][1:]})


class TestTable:
    def test_models_side_by_side(self):
        first = evaluate_captions(REFERENCES, CANDIDATES, samples=20)
        second = evaluate_captions(REFERENCES, {file: texts[0] for file, texts in REFERENCES.items()}, samples=20)
        lines = format_table({"first": first, "people": second}).splitlines()
        assert len({len(line) for line in lines}) == 1
        assert lines[0].split() == ["|", "|", "first", "|", "people", "|"]
        assert set(lines[1]) <= set("|-: ")
        row = next(line for line in lines if "CIDEr-D" in line)
        assert f"{first['scores']['CIDEr-D']['estimate']:.1f} (" in row
        assert any(line.startswith("| dangling endings") and "25.0%" in line for line in lines)
        assert any(line.startswith("| invented words") and "22.2%" in line and "0.0%" in line for line in lines)
        assert any(line.startswith("| grammar slips") and "50.0%" in line for line in lines)

    def test_a_measure_that_one_model_lacks(self):
        report = evaluate_captions(REFERENCES, CANDIDATES, samples=20)
        other = {**report, "scores": {**report["scores"], "METEOR 1.5": report["scores"]["BLEU-1"]}}
        row = next(line for line in format_table({"a": report, "b": other}).splitlines() if "METEOR" in line)
        assert row.split("|")[2].strip() == "-" and "(" in row.split("|")[3]


class TestCocoResults:
    def test_names_of_coco_become_numbers(self):
        results = coco_results({"COCO_val2014_000000000285.jpg": "a bear", "train/000000581921.jpg": caption("a man")})
        assert results == [{"image_id": 285, "caption": "a bear"}, {"image_id": 581921, "caption": "a man"}]

    def test_other_names_stay_and_ids_can_be_given(self):
        names = {"1000268201_693b08cb0e.jpg": "a girl", "1234567890123.jpg": "b"}
        assert [entry["image_id"] for entry in coco_results(names)] == list(names)
        assert coco_results({"a.jpg": "x"}, {"a.jpg": 7}) == [{"image_id": 7, "caption": "x"}]


class TestDiversity:
    @pytest.mark.parametrize("text", ["a dog runs with a", "a man is", "two boys in", "a man and", ""])
    def test_dangling(self, text):
        assert is_dangling(text.split())

    @pytest.mark.parametrize(
        "text", ["a dog runs", "a man looks up", "a boy with a ball behind him", "a man stands by"]
    )
    def test_complete(self, text):
        assert not is_dangling(text.split())

    def test_repeated_content_words(self):
        assert repeated_words(tokenize("a dog and a dog on the red and red grass")) == ["dog", "red"]
        assert repeated_words(tokenize("the man in the hat and the boy in the water")) == []

    @pytest.mark.parametrize(
        ("text", "slips"),
        [
            ("a man in a black hat and hat", ["hat and hat"]),
            ("a woman and a woman are sitting on a bench", ["woman and a woman"]),
            ("a brown dog and a brown dog play", ["brown dog and a brown dog"]),
            (
                "a group of people standing in front of a group of people",
                ["group of people standing in front of a group of people"],
            ),
            ("a bench on a bench in a park", ["a bench on a bench"]),
            ("a car in front of a car", ["a car in front of a car"]),
            ("a a dog runs in in the grass", ["a a", "in in"]),
            ("a dog with a in its mouth", ["a in"]),
            ("a plate of with food", ["of with"]),
            ("a man and or a dog", ["and or"]),
            ("a orange on an table", ["a orange", "an table"]),
            ("a hour in an uniform near an university", ["a hour", "an uniform", "an university"]),
            ("a men with two woman", ["a men", "two woman"]),
            ("two dog running", ["two dog"]),
            ("a boy runs with a", ["a"]),
            ("a man stands next to his", ["his"]),
        ],
    )
    def test_grammar_slips(self, text, slips):
        assert grammar_slips(text.split()) == slips

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a black dog and a brown dog play in the grass",
            "a man in a red shirt and a woman in a red shirt",
            "a man and another man shake hands",
            "a cat in front of a tv on a tv stand",
            "a train on a train track",
            "an empty wall and wall socket",
            "an hour with an honest european in a uniform and an umbrella",
            "a one way street and an suv",
            "a unicycle near an uninhabited house",
            "a children 's book and two person kayaks",
            "two man made lakes",
            "a couple people talk on and off",
            "a man looks up and up at her in the rain",
            "a man with his hood on",
            "rows and rows of very very old books",
            "a group of people near a group of horses",
            "a near miss with a t-shirt",
            "a dog running from under a table",
        ],
    )
    def test_right_english(self, text):
        assert grammar_slips(text.split()) == []

    def test_counts(self):
        found = diversity([["a", "dog"], ["a", "dog"], ["a", "dog", "runs", "with"], []])
        assert (found.captions, found.distinct_captions, found.distinct_words) == (4, 3, 4)
        assert found.distinct_bigrams == pytest.approx(3 / 5)
        assert found.mean_length == pytest.approx(2)
        assert (found.dangling, found.repeated) == (0.5, 0)
        with pytest.raises(ValueError, match="no caption"):
            diversity([])


class TestMeteor:
    def test_nltk_by_hand_with_an_empty_wordnet(self, monkeypatch):
        corpus = pytest.importorskip("nltk.corpus")

        class Empty:
            ensure_loaded = staticmethod(lambda: None)
            synsets = staticmethod(lambda word: [])

        monkeypatch.setattr(corpus, "wordnet", Empty)
        # Four words in one chunk: F = 1, penalty 0.5 * (1 / 4) ** 3; the better reference counts.
        words = ["two", "girls", "play", "football"]
        score, photos = meteor_nltk({1: [["no"], words], 2: [["cats"]]}, {1: words, 2: ["dogs"]})
        np.testing.assert_allclose(photos, [1 - 0.5 / 64, 0])
        assert score == pytest.approx(photos.mean())

    def test_missing_wordnet_says_what_to_do(self, monkeypatch):
        corpus = pytest.importorskip("nltk.corpus")

        class Absent:
            @staticmethod
            def ensure_loaded():
                raise LookupError

        monkeypatch.setattr(corpus, "wordnet", Absent)
        with pytest.raises(CaptionerError, match=r"python -m nltk\.downloader wordnet") as caught:
            evaluate_captions(REFERENCES, CANDIDATES, meteor="nltk", samples=10)
        assert caught.value.kind == "missing"

    def test_missing_java_says_what_to_do(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(CaptionerError, match="needs Java"):
            meteor_1_5({1: [["a"]]}, {1: ["a"]})

    @pytest.mark.slow
    def test_1_5_is_the_corpus_score_of_the_original(self):
        pytest.importorskip("pycocoevalcap")
        if shutil.which("java") is None:
            pytest.skip("METEOR 1.5 needs Java")
        report = evaluate_captions(REFERENCES, CANDIDATES, meteor="1.5", samples=50)
        found = report["scores"]["METEOR 1.5"]
        assert 20 < found["estimate"] < 60
        assert found["low"] < found["estimate"] < found["high"]
