"""The forecaster: NumPy equals Keras, training without labels, and what it finds in real videos."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.videos.forecaster import (
    Forecaster,
    ForecasterConfig,
    novelty_curve,
    standardised,
    weight_shapes,
)


def random_forecaster(config=None, seed=0) -> Forecaster:
    config = config or ForecasterConfig(channels=12, components=6, units=5)
    generator = np.random.default_rng(seed)
    return Forecaster(config, {name: generator.normal(0, 0.5, shape) for name, shape in weight_shapes(config).items()})


def scenes(count: int, frames: int, channels: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Embeddings of videos: a point of their own each, around which the frames wander."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 1, (count, channels))
    return [
        (centre + np.cumsum(generator.normal(0, 0.05, (frames, channels)), axis=0)).astype("f4") for centre in centres
    ]


def with_foreign(own: np.ndarray, foreign: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """A video with frames of another put in, and which frames these are."""
    video = np.concatenate([own[:at], foreign, own[at:]])
    return video, (np.arange(len(video)) >= at) & (np.arange(len(video)) < at + len(foreign))


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive frame has a larger value than another (ties count half)."""
    differences = values[positive][:, None] - values[~positive][None]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


class TestInference:
    def test_step_against_the_equations(self):
        forecaster = random_forecaster()
        weights = forecaster.weights
        generator = np.random.default_rng(1)
        x, h = generator.normal(0, 1, 6), generator.normal(0, 1, 5)
        columns = {name: slice(5 * k, 5 * k + 5) for k, name in enumerate("zrn")}
        pre = {n: x @ weights["cell/kernel"][:, c] + weights["cell/bias"][c] for n, c in columns.items()}
        rec = {
            n: h @ weights["cell/recurrent_kernel"][:, c] + weights["cell/recurrent_bias"][c]
            for n, c in columns.items()
        }
        z, r = (1 / (1 + np.exp(-(pre[n] + rec[n]))) for n in "zr")
        expected = z * h + (1 - z) * np.tanh(pre["n"] + r * rec["n"])
        forecast, state = forecaster.step(x.astype("f4"), h.astype("f4"))
        np.testing.assert_allclose(state, expected, atol=1e-5)
        np.testing.assert_allclose(forecast, expected @ weights["output/kernel"] + weights["output/bias"], atol=1e-5)

    def test_equals_keras(self):
        from captioner.training.forecaster import ForecasterNetwork

        config = ForecasterConfig(channels=12, components=6, units=5)
        network = ForecasterNetwork(config, name="forecaster")
        generator = np.random.default_rng(2)
        for variable in network.weights:
            variable.assign(generator.normal(0, 0.6, variable.shape))
        basis = generator.normal(0, 1, (12, 6)).astype("f4")
        mean = generator.normal(0, 0.1, 12).astype("f4")
        weights = {"components/mean": mean, "components/basis": basis, **network.numpy_weights()}
        forecaster = Forecaster(config, weights)
        embeddings = generator.normal(0, 1, (9, 12)).astype("f4")
        components = standardised(embeddings, mean, basis)
        expected = np.asarray(network(components[None]))[0]
        state = forecaster.start()
        for t in range(9):
            forecast, state = forecaster.step(components[t], state)
            np.testing.assert_allclose(forecast, expected[t], atol=1e-5)

    def test_values_are_cosine_errors_of_the_forecasts(self):
        forecaster = random_forecaster(ForecasterConfig(12, 6, 5, usual_error=0.25))
        embeddings = np.random.default_rng(3).normal(0, 1, (4, 12)).astype("f4")
        values = forecaster.values(embeddings)
        components = standardised(
            embeddings, forecaster.weights["components/mean"], forecaster.weights["components/basis"]
        )
        assert values[0] == 0
        state = forecaster.start()
        for t in range(3):
            forecast, state = forecaster.step(components[t], state)
            cosine = forecast @ components[t + 1] / np.linalg.norm(forecast) / np.linalg.norm(components[t + 1])
            assert values[t + 1] == pytest.approx((1 - cosine) / 0.25, rel=1e-4)

    def test_length_of_an_embedding_does_not_matter(self):
        forecaster = random_forecaster()
        embeddings = np.random.default_rng(4).normal(0, 1, (6, 12)).astype("f4")
        lengths = np.array([1, 5, 0.2, 3, 10, 1], "f4")[:, None]
        np.testing.assert_allclose(forecaster.values(embeddings), forecaster.values(embeddings * lengths), rtol=1e-4)
        assert np.isfinite(forecaster.values(np.zeros((3, 12), "f4"))).all()

    def test_streams_do_not_share_a_state(self):
        forecaster = random_forecaster()
        a, b = np.random.default_rng(5).normal(0, 1, (2, 5, 12)).astype("f4")
        one, two = forecaster.stream(), forecaster.stream()
        mixed = [(one.push(x), two.push(y)) for x, y in zip(a, b, strict=True)]
        np.testing.assert_array_equal([x for x, _ in mixed], forecaster.values(a))
        np.testing.assert_array_equal([y for _, y in mixed], forecaster.values(b))

    def test_weights_are_checked(self):
        forecaster = random_forecaster()
        for change in ("missing", "extra", "shape"):
            weights = dict(forecaster.weights)
            if change == "missing":
                del weights["cell/bias"]
            elif change == "extra":
                weights["cell/other"] = np.zeros(3)
            else:
                weights["output/bias"] = np.zeros(7)
            with pytest.raises(ModelLoadError, match=r"(cell|output)/"):
                Forecaster(forecaster.config, weights)


class TestNoveltyCurve:
    def test_marks_what_stands_out(self):
        values = np.array([0, 1.0, 1.1, 0.9, 1.0, 9.0, 1.0, 1.2, 0.8])
        curve = novelty_curve(np.arange(9) / 2, values, least=3.0)
        assert [point.unusual for point in curve] == [False] * 5 + [True] + [False] * 3
        assert [(point.time, point.value) for point in curve] == list(zip(np.arange(9) / 2, values, strict=True))
        assert not any(point.unusual for point in novelty_curve(np.arange(9), values, least=10.0))

    def test_a_restless_video_has_a_higher_limit(self):
        values = np.array([0, *np.tile([2.0, 8.0, 5.0], 6)])
        assert not any(point.unusual for point in novelty_curve(range(19), values, least=3.0))

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_short_videos(self, count):
        curve = novelty_curve(range(count), [0.0, 50.0][:count], least=3.0)
        assert len(curve) == count and not any(point.unusual for point in curve)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from captioner.training.forecaster import ForecasterTraining, fit_forecaster

    folder = tmp_path_factory.mktemp("models") / "forecaster"
    options = ForecasterTraining(components=16, units=24, steps=150, batch_size=16, length=16, learning_rate=5e-3)
    told = []
    encoder = {"model": "m", "sha256": "x"}
    forecaster = fit_forecaster(
        scenes(40, 12), folder, encoder=encoder, options=options, progress=lambda *now: told.append(now)
    )
    return folder, forecaster, told


class TestTraining:
    def test_loss_falls_and_progress_is_told(self, trained):
        _, _, told = trained
        assert [step for step, _, _ in told] == list(range(1, 151)) and {steps for _, steps, _ in told} == {150}
        losses = [loss for _, _, loss in told]
        assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])

    def test_foreign_frames_stay_surprising(self, trained):
        _, forecaster, _ = trained
        generator = np.random.default_rng(7)
        videos = scenes(20, 14, seed=9)
        by_forecast, by_difference = [], []
        for own, foreign in zip(videos[::2], videos[1::2], strict=True):
            video, positive = with_foreign(own, foreign[:4], int(generator.integers(4, 10)))
            difference = np.linalg.norm(np.diff(video, axis=0, prepend=video[:1]), axis=1)
            by_forecast.append(area_under_curve(forecaster.values(video), positive))
            by_difference.append(area_under_curve(difference, positive))
        assert np.mean(by_forecast) > 0.8 > np.mean(by_difference) + 0.1

    def test_model_folder(self, trained):
        from captioner.models.saving import read_model

        folder, forecaster, _ = trained
        again = Forecaster.from_saved(read_model(folder))
        video = scenes(1, 8, seed=3)[0]
        np.testing.assert_array_equal(again.values(video), forecaster.values(video))
        assert again.encoder == {"model": "m", "sha256": "x"}
        config = json.loads((folder / "config.json").read_text())
        assert config["kind"] == "forecaster" and config["forecaster"]["units"] == 24
        assert "16 principal components" in (folder / "README.md").read_text()
        typical = np.concatenate([forecaster.values(video)[1:] for video in scenes(40, 12)])
        assert np.median(typical) == pytest.approx(1, abs=0.02)
        assert (typical > forecaster.config.unusual_value).mean() == pytest.approx(0.01, abs=0.01)

    def test_same_seed_same_model(self, tmp_path):
        from captioner.training.forecaster import ForecasterTraining, fit_forecaster

        options = ForecasterTraining(components=8, units=6, steps=4, batch_size=4, length=6)
        a, b = (fit_forecaster(scenes(6, 8), tmp_path / name, options=options) for name in "ab")
        for name, value in a.weights.items():
            np.testing.assert_array_equal(value, b.weights[name])

    def test_batches_hold_one_foreign_stretch(self):
        from captioner.training.forecaster import ForecasterTraining, training_batch

        options = ForecasterTraining(batch_size=200, length=12, changes=0.25, longest_foreign=5, slowest=3)
        sequences = [np.stack([np.full(20, k), np.arange(20)], axis=1).astype("f4") for k in range(5)]
        inputs, targets = training_batch(sequences, options, np.random.default_rng(0))
        changed = 0
        for given, wanted in zip(inputs, targets, strict=True):
            own = given[0, 0]
            foreign = given[:, 0] != own
            edges = np.flatnonzero(np.diff(foreign.astype(int)))
            assert not foreign[:2].any() and foreign.any() and len(edges) <= 2
            if (wanted[:, 0] == own).all():
                assert foreign.sum() <= 5
            else:  # a change for good is to be forecast as soon as it is seen
                changed += 1
                assert len(edges) == 1 and (wanted[foreign, 0] != own).all()
            mine = ~foreign[1:]
            np.testing.assert_array_equal(given[1:][mine], wanted[:-1][mine])
        assert 30 < changed < 75

    def test_principal_components(self):
        from captioner.training.forecaster import principal_components

        generator = np.random.default_rng(0)
        videos = [
            (generator.normal(0, 1, (30, 3)) @ generator.normal(0, 1, (3, 10)) + 4).astype("f4") for _ in range(4)
        ]
        mean, basis = principal_components(videos, 10)
        components = standardised(np.concatenate(videos), mean, basis)
        np.testing.assert_allclose(components.mean(axis=0), 0, atol=1e-4)
        assert (components**2).sum(axis=1).mean() == pytest.approx(1, rel=0.02)
        covariance = components.T @ components / len(components)
        np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-4)
        assert principal_components(videos, 4)[1].shape == (10, 4)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
            ({"length": 3}, "length must be at least 4: .*, not 3"),
            ({"changes": 1.5}, "changes must be 0..1, not 1.5"),
            ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
            ({"seed": -1}, "seed must be at least 0, not -1"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, wrong, message):
        from captioner.training.forecaster import ForecasterTraining

        with pytest.raises(CaptionerError, match=message) as caught:
            ForecasterTraining(**wrong)
        assert caught.value.kind == "usage"

    def test_the_shortest_sequences_can_be_trained_on(self, tmp_path):
        from captioner.training.forecaster import ForecasterTraining, fit_forecaster

        options = ForecasterTraining(components=2, units=2, steps=1, batch_size=1, length=4, slowest=1)
        assert np.isfinite(fit_forecaster(scenes(4, 8), tmp_path / "model", options=options).config.unusual_value)

    def test_bad_data(self, tmp_path):
        from captioner.training.forecaster import fit_forecaster

        for videos in ([], scenes(3, 8), scenes(8, 1), [*scenes(5, 8), scenes(1, 8, channels=7)[0]]):
            with pytest.raises(DatasetError):
                fit_forecaster(videos, tmp_path / "model")
        broken = scenes(6, 8)
        broken[2][3, 1] = np.nan
        with pytest.raises(DatasetError, match="not numbers"):
            fit_forecaster(broken, tmp_path / "model")
        assert not (tmp_path / "model").exists()


@pytest.mark.data
@pytest.mark.slow
def test_finds_foreign_segments_in_real_clips(shared, tmp_path):
    """Trained on clips without their labels, it beats the difference of frames at finding what does not belong."""
    from captioner.media.videos import VideoReader
    from captioner.models.encoder import EncoderConfig, build_encoder
    from captioner.models.runtime import CLASSES, make_encoder
    from captioner.models.saving import named_weights
    from captioner.training.forecaster import ForecasterTraining, fit_forecaster
    from captioner.training.imagenet_weights import load_into, package_weights

    config = EncoderConfig("lite0", 128)  # small and fast; the shipped encoder does better
    encoder = build_encoder(config)
    load_into(encoder, package_weights("lite0"))
    weights = {name.split("/", 1)[1]: value for name, value in named_weights(encoder, "encoder").items()}
    weights = {name: value for name, value in weights.items() if not name.startswith(CLASSES)}
    encoder_runtime = make_encoder(config.to_dict(), weights, precision="f32")
    rows = list(csv.DictReader((shared / "clips" / "ucf101" / "labels.csv").open()))

    def read(row) -> tuple[np.ndarray, np.ndarray]:
        with VideoReader(shared / "clips" / "ucf101" / row["clip"], every=0.25, size=128) as reader:
            images = np.stack([frame.image for frame in reader])
        return images.astype("f4"), encoder_runtime.encode(images).pooled

    training = [read(row)[1] for row in rows if row["split"] == "train"][::3]
    forecaster = fit_forecaster(training, tmp_path / "model", options=ForecasterTraining(steps=400))
    checked = [(row["label"], *read(row)) for row in rows if row["split"] == "val"][::2]
    generator = np.random.default_rng(0)
    areas, found = {"forecast": [], "difference": []}, {"forecast": [], "difference": []}
    while len(areas["forecast"]) < 100:
        (a, own, seen), (b, other, strange) = (checked[k] for k in generator.choice(len(checked), 2, replace=False))
        if a == b:
            continue
        at, length = int(generator.integers(3, len(own) - 2)), int(generator.integers(2, 6))
        images, positive = with_foreign(own, other[:length], at)
        embeddings, _ = with_foreign(seen, strange[:length], at)
        difference = np.concatenate([[0], np.abs(np.diff(images, axis=0)).mean(axis=(1, 2, 3))])
        for name, values in (("forecast", forecaster.values(embeddings)), ("difference", difference)):
            areas[name].append(area_under_curve(values, positive))
            found[name].append(positive[values.argmax()])
    print({name: (np.mean(areas[name]), np.mean(found[name])) for name in areas})
    assert np.mean(areas["forecast"]) > max(0.85, np.mean(areas["difference"]) + 0.15)
    assert np.mean(found["forecast"]) > max(0.85, np.mean(found["difference"]) + 0.15)
