"""What a captioner says of its own captions: calibrated words, familiarity of photos, and how both are fitted."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from tiny_models import rewrite

from captioner.captions.confidence import WordCalibration
from captioner.captions.familiarity import Familiarity
from captioner.errors import CaptionerError, DatasetError
from captioner.evaluation.calibration import fit_platt
from captioner.training.captions.calibration import calibrate_model, cross_validated, fit_calibration
from captioner.training.captions.mixture import read_mixture
from captioner.training.captions.tags import fit_tags


def pooled(generator: np.random.Generator, photos: int, usual: int, channels: int = 20) -> np.ndarray:
    """Pooled grids of photos, each with one strong channel of those from ``usual`` to ``usual`` + 4."""
    values = generator.uniform(0, 1, (photos, channels)).astype(np.float32)
    values[np.arange(photos), usual + generator.integers(0, 5, photos)] += 8
    return values


class TestWordCalibration:
    def test_the_defaults_change_nothing(self):
        given = WordCalibration()(np.log([0.01, 0.3, 0.99]), [1, 50, 2000], 0.2)
        np.testing.assert_allclose(given, [0.01, 0.3, 0.99], rtol=1e-6)

    def test_it_is_the_logistic_function_of_its_inputs(self):
        calibration = WordCalibration(slope=0.5, offset=0.3, rank=-0.2, rank_squared=0.01, unfamiliar=-0.4)
        given = calibration(np.log([0.25, 0.8]), [1, 90], [0.5, 0.0])
        for value, probability, rank, familiarity in zip(given, (0.25, 0.8), (1, 90), (0.5, 0.0), strict=True):
            odds = 0.5 * math.log(probability / (1 - probability)) + 0.3
            odds += -0.2 * math.log(rank) + 0.01 * math.log(rank) ** 2 + 0.4 * math.log(familiarity + 0.01)
            assert value == pytest.approx(1 / (1 + math.exp(-odds)))

    def test_a_word_is_surer_where_its_tag_is(self):
        calibration = WordCalibration(slope=0.5, tag=0.4, tagged=-0.3)
        given = calibration(np.log([0.25, 0.25, 0.25]), [9, 9, 9], 1.0, [0.8, 0.5, np.nan])
        odds = 0.5 * math.log(1 / 3) + np.array([0.4 * math.log(4) - 0.3, -0.3, 0])
        np.testing.assert_allclose(given, 1 / (1 + np.exp(-odds)), rtol=1e-6)

    def test_certain_words_stay_below_one(self):
        given = WordCalibration()(np.array([0.0, -50.0]), [1, 1])
        assert 0 < given[1] < given[0] < 1

    def test_away_from_home_it_is_less_sure(self):
        calibration = WordCalibration(unfamiliar=-0.3)
        assert calibration([-0.5], [9], 0.0)[0] < calibration([-0.5], [9], 0.1)[0] < calibration([-0.5], [9], 1.0)[0]


class TestFamiliarity:
    def test_photos_like_those_of_the_training_are_spread_evenly(self):
        generator = np.random.default_rng(0)
        model = Familiarity.fit(pooled(generator, 2000, 0), prototypes=8)
        given = model(pooled(generator, 2000, 0))
        assert given.min() >= 0 and given.max() <= 1
        np.testing.assert_allclose(np.quantile(given, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.07)

    def test_other_photos_are_unfamiliar(self):
        generator = np.random.default_rng(1)
        model = Familiarity.fit(pooled(generator, 500, 0))
        assert model(pooled(generator, 200, 10)).max() < 0.01

    def test_the_distance_is_that_of_the_nearest_direction(self):
        generator = np.random.default_rng(2)
        model = Familiarity.fit(pooled(generator, 40, 0), prototypes=6)
        shown = pooled(generator, 5, 8).astype(np.float64)
        for row, found in zip(shown, model.distance(shown), strict=True):
            cosines = [row @ one / np.linalg.norm(row) / np.linalg.norm(one) for one in model.prototypes]
            assert found == pytest.approx(1 - max(cosines), abs=1e-3)
        np.testing.assert_allclose(model.distance(3 * shown), model.distance(shown), atol=1e-6)

    def test_prototypes_are_where_the_photos_are(self):
        """As far as those of scikit-learn's k-means on the same directions, for the same number."""
        cluster = pytest.importorskip("sklearn.cluster")
        generator = np.random.default_rng(3)
        shown = pooled(generator, 600, 0)
        directions = shown / np.linalg.norm(shown, axis=1, keepdims=True)
        peer = cluster.KMeans(5, n_init=1, random_state=0).fit(directions).cluster_centers_
        peer /= np.linalg.norm(peer, axis=1, keepdims=True)
        ours = Familiarity.fit(shown, prototypes=16).distance(shown).mean()
        assert ours < 1.05 * (1 - (directions @ peer.T).max(axis=1)).mean()

    def test_without_photos_there_is_nothing_to_learn(self):
        with pytest.raises(ValueError, match="no photo"):
            Familiarity.fit(np.zeros((0, 3)))


def words(generator, photos, calibration: WordCalibration, familiarity=None) -> np.ndarray:
    """Eight words a photo that are as often right as a calibration says, as `word_table` gives them."""
    logprobs = np.log(generator.uniform(0.02, 0.98, 8 * photos))
    ranks = np.round(np.exp(generator.uniform(0, 7, 8 * photos)))
    familiar = np.repeat(generator.random(photos) if familiarity is None else np.full(photos, familiarity), 8)
    right = generator.random(8 * photos) < calibration(logprobs, ranks, familiar)
    return np.stack(
        [np.repeat(np.arange(photos), 8), logprobs, ranks, familiar, right, np.full(8 * photos, np.nan)], axis=1
    )


class TestFit:
    def test_known_weights_are_found(self):
        true = WordCalibration(slope=0.6, offset=1.8, rank=-0.6, rank_squared=0.04, unfamiliar=-0.3)
        table = words(np.random.default_rng(0), 8000, true)
        found = fit_calibration([table])
        assert found.slope == pytest.approx(0.6, abs=0.03)
        assert found.unfamiliar == pytest.approx(-0.3, abs=0.05)
        given = [one(*table[:, 1:4].T) for one in (found, true)]
        assert np.abs(given[0] - given[1]).max() < 0.05

    def test_with_words_of_one_rank_and_photos_alike_it_agrees_with_platt(self):
        table = words(np.random.default_rng(1), 2000, WordCalibration(slope=0.6, offset=0.8), familiarity=0.99)
        table[:, 2] = 1
        slope, offset = fit_platt(table[:, 1], table[:, 4])
        found = fit_calibration([table])
        assert (found.slope, found.offset) == pytest.approx((slope, offset), abs=0.02)

    def test_every_table_weighs_the_same(self):
        generator = np.random.default_rng(2)
        tables = [
            words(generator, 4000, WordCalibration(offset=1.0), familiarity=0.99),
            words(generator, 800, WordCalibration(offset=-1.0), familiarity=0.99),
        ]
        assert fit_calibration(tables)([math.log(0.5)], [30], 0.99)[0] == pytest.approx(0.5, abs=0.03)

    @pytest.mark.parametrize("right", [0.0, 1.0])
    def test_words_that_are_all_alike_give_finite_numbers(self, right):
        table = words(np.random.default_rng(3), 50, WordCalibration())
        table[:, 4] = right
        given = fit_calibration([table])(*table[:, 1:4].T)
        assert np.isfinite(given).all()
        np.testing.assert_allclose(given, right, atol=0.01)

    def test_the_report_tells_good_calibration_from_bad(self):
        table = words(np.random.default_rng(4), 3000, WordCalibration(slope=0.5, offset=1.0, rank=-0.2))
        report = cross_validated({"dev": table})["dev"]
        assert report["calibration_error"] < 0.02 < 0.1 < report["uncalibrated_error"]
        assert report["caption_calibration_error"] < 0.03
        assert sum(count for _, _, count in report["reliability"]) == len(table)
        assert report["right"]["low"] < table[:, 4].mean() < report["right"]["high"]
        coverage, risk = np.transpose(report["risk"])
        assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - table[:, 4].mean(), abs=1e-3)
        assert risk[0] < risk[-1] - 0.05

    def test_a_caption_promises_the_share_of_its_words_that_are_right(self, monkeypatch):
        import captioner.training.captions.calibration as module

        monkeypatch.setattr(module, "fit_calibration", lambda tables: WordCalibration())  # which changes nothing
        given = [(0, 0.9, 1), (0, 0.7, 0), (1, 0.5, 0), (1, 0.3, 0)]  # photo, probability, right
        rows = [(photo, math.log(probability), 30, 0.99, right, math.nan) for photo, probability, right in given]
        table = np.array(rows)
        # 0.8 where half the words are right, 0.4 where none is.
        assert cross_validated({"dev": table})["dev"]["caption_calibration_error"] == pytest.approx((0.3 + 0.4) / 2)

    def test_photos_are_judged_by_what_others_taught(self, monkeypatch):
        import captioner.training.captions.calibration as module

        table = words(np.random.default_rng(6), 30, WordCalibration())
        taught = []
        monkeypatch.setattr(
            module,
            "fit_calibration",
            lambda tables: taught.append(set(tables[0][:, 0])) or fit_calibration(tables),
        )
        cross_validated({"dev": table})
        assert len(taught) == 2
        assert not taught[0] & taught[1]
        assert taught[0] | taught[1] == set(range(30))


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory):
    """Twelve photos of one colour each, with captions and splits."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    lines = []
    for number in range(12):
        name = f"{number}.png"
        Image.new("RGB", (80, 60), (20 * number, 255 - 20 * number, 90)).save(folder / name)
        split = "train" if number < 8 else "dev"
        lines.append(
            json.dumps({"file_name": name, "captions": ["A dog runs on the sand.", "Two red dogs"], "split": split})
        )
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    shutil.copytree(folder, folder.parent / "other")
    return folder


class TestCalibrateModel:
    def test_a_model_learns_about_itself_and_keeps_its_weights(
        self, tiny_captioner, photo_folder, tmp_path, monkeypatch
    ):
        from captioner.loading import load
        from captioner.models.saving import read_model

        quick = partial(fit_tags, min_photos=2, epochs=2000)
        monkeypatch.setattr("captioner.training.captions.calibration.fit_tags", quick)
        folder = tmp_path / "model"
        shutil.copytree(tiny_captioner, folder)
        before = read_model(folder)
        plain = load(folder).caption(photo_folder / "0.png")
        assert plain.familiarity is None and plain.tags == ()
        data = read_mixture([photo_folder], [photo_folder.parent / "other"])
        record = calibrate_model(folder, data, threads=1)
        after = read_model(folder)
        assert after.encoder_sha256 == before.encoder_sha256
        for name, value in after.part("encoder").items():
            np.testing.assert_array_equal(value, before.part("encoder")[name])
        assert set(before.part("encoder")) - set(after.part("encoder")) == {"class_scores/kernel", "class_scores/bias"}
        assert after.part("decoder").keys() == before.part("decoder").keys()
        assert after.metadata["scores"] == before.metadata["scores"]
        assert (folder / "README.md").read_text() == (tiny_captioner / "README.md").read_text()
        assert after.metadata["calibration"] == record
        assert record["photos"] == {"photos": 4, "other": 12}
        assert set(record["words"]) == set(record["tags"]) == {"photos", "other"}
        assert set(after.config["calibration"]) == set(asdict(WordCalibration()))
        caption = load(folder).caption(photo_folder / "9.png")
        assert 0 <= caption.familiarity <= 1
        assert caption.to_dict()["familiarity"] == round(caption.familiarity, 4)
        assert caption.text == load(before.folder).caption(photo_folder / "9.png").text
        # every photo has the same captions: all of their words are as good as certain
        assert {tag for tag, _ in caption.tags} == {"dog", "red", "running", "sand"}
        assert all(p > 0.9 for _, p in caption.tags)

        assert calibrate_model(folder, data, threads=1) == record
        again = read_model(folder)
        assert again.texts == after.texts and again.sha256 == after.sha256

    def test_a_calibrated_model_can_be_computed_with_8_bit_integers(self, tiny_captioner, photo_folder, tmp_path):
        from captioner.loading import load
        from captioner.models.saving import read_model

        folder, photos = tmp_path / "model", tmp_path / "photos"
        shutil.copytree(tiny_captioner, folder)
        with pytest.raises(CaptionerError, match="no ranges of its activations"):
            load(folder, precision="int8")
        shutil.copytree(photo_folder, photos)
        data = read_mixture([photos])
        data.images[data.train[0]].write_bytes(b"no photo")
        calibrate_model(folder, data, threads=1)
        assert load(folder, precision="int8").caption(photos / "9.png").words
        assert load(folder).tagger is None and read_model(folder).metadata["calibration"]["tags"] == {}
        for file in data.train:
            data.images[file].write_bytes(b"no photo")
        with pytest.raises(DatasetError, match="none of the 8 photos can be read"):
            calibrate_model(folder, data, threads=1)

    def test_confidence_is_the_mean_of_the_words(self, tiny_captioner, photo_folder, tmp_path):
        from captioner.loading import load

        folder = tmp_path / "model"
        shutil.copytree(tiny_captioner, folder)
        rewrite(folder, lambda config: config.update(calibration={"slope": 0.5, "offset": 0.2, "rank": -0.3}))
        model = load(folder, threads=1)
        caption = model.caption(photo_folder / "3.png", max_length=6)
        expected = 0.0
        for word in caption.words:
            rank = model.tokenizer.encode([word.text])[0] - 3
            odds = 0.5 * math.log(word.probability / (1 - word.probability)) + 0.2 - 0.3 * math.log(rank)
            assert word.confidence == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-3)
            expected += word.confidence
        assert caption.confidence == pytest.approx(expected / len(caption.words))
