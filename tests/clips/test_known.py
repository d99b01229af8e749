"""How likely anything known happens: distances by hand, what windows look like, the probability in a prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_makers import CHANNELS, FakeCaptioner, known_head, save_classifier
from media_makers import grey_frames, write_video

from captioner.clips.classifier import ClipClassifier
from captioner.clips.known import SCENE, KnownConfig, KnownHead, known_shapes, looks, mahalanobis
from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.saving import read_model

KINDS = [pytest.param({"cell": "gru"}, id="gru"), pytest.param({"cell": "ridge", "members": 1}, id="ridge")]


def test_distances_are_those_of_the_whole_covariance():
    rng = np.random.default_rng(0)
    channels, components, residual = 7, 3, 0.4
    axes = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:, :components]
    variances = np.array([3.0, 2.0, 0.9])
    covariance = axes @ np.diag(variances) @ axes.T + residual * (np.eye(channels) - axes @ axes.T)
    rows, centres = rng.normal(size=(5, channels)), rng.normal(size=(2, channels))
    inverse = np.linalg.inv(covariance)
    expected = [[(row - centre) @ inverse @ (row - centre) for centre in centres] for row in rows]
    np.testing.assert_allclose(mahalanobis(rows, centres, axes, variances, residual), expected, rtol=1e-9)


@pytest.mark.parametrize("background", [False, True])
def test_the_probability_is_a_logistic_function_of_distance_and_regression(background):
    head = known_head(2, background=background)
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, CHANNELS)).astype(np.float32)
    for value, probability in zip(values, head(values), strict=True):
        row = np.clip((value - head.weights["mean"]) * head.weights["scale"], -5, 5)
        parts = (head.weights["centres"], head.weights["axes"], head.weights["variances"], head.config.residual)
        logit = head.config.offset - head.config.slopes[0] * np.log(mahalanobis(row[None], *parts).min() / CHANNELS)
        if background:
            *classes, other = row @ head.weights["kernel"] + head.weights["bias"]
            logit += head.config.slopes[1] * max(classes) - head.config.slopes[2] * other
        assert probability == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)


def test_a_window_looks_like_the_mean_of_its_frames():
    windows = [{SCENE: np.arange(6.0).reshape(3, 2)}, {SCENE: np.ones((1, 2))}]
    np.testing.assert_array_equal(looks(windows), [[2, 3], [1, 1]])


@pytest.mark.parametrize(
    "wrong",
    [{"residual": 0.0}, {"slopes": (1.0,)}, {"offset": float("nan")}, {"components": 0}, {"components": 99}],
)
def test_wrong_settings(wrong):
    config = known_head(2).config
    with pytest.raises(CaptionerError) as caught:
        replace(config, **wrong)
    assert caught.value.kind == "usage"


def test_missing_weights():
    head = known_head(2)
    with pytest.raises(ModelLoadError, match="lacks axes"):
        KnownHead(head.config, {name: value for name, value in head.weights.items() if name != "axes"})
    assert set(known_shapes(head.config)) == set(head.weights)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", grey_frames(44), fps=20.0)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_label_needs_that_something_known_happens(tmp_path, video, region, kind):
    folder = save_classifier(tmp_path / "model", region=region, known=known_head(3), **kind)
    model = ClipClassifier(read_model(folder), FakeCaptioner())
    prediction = model.classify(video)
    assert 0 < prediction.known < 1 and prediction.label is not None
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    weights = [window.end - window.start for window in prediction.windows]
    assert prediction.known == pytest.approx(np.average([one.known for one in prediction.windows], weights=weights))
    for label, probability in prediction.probabilities.items():
        joint = [one.known * one.probabilities[label] for one in prediction.windows]
        assert prediction.known * probability == pytest.approx(np.average(joint, weights=weights))
    certainty = prediction.known * prediction.probability
    assert model.classify(video, threshold=certainty - 1e-6).label == prediction.label
    assert model.classify(video, threshold=certainty + 1e-6).label is None
    record = prediction.to_dict()
    assert record["known"] == round(prediction.known, 6) and "known" in record["windows"][0]


def test_whole_frames_are_encoded_once(tmp_path, video):
    model = ClipClassifier(
        read_model(save_classifier(tmp_path / "m", known=known_head(3))), captioner := FakeCaptioner()
    )
    model.classify(video)
    assert captioner.encoded == 22


def test_frames_encoded_already_give_the_same(tmp_path, video):
    from captioner.media.videos import VideoReader

    folder = save_classifier(tmp_path / "m", known=known_head(3), streams=("appearance", "change"))
    model = ClipClassifier(read_model(folder), FakeCaptioner())
    with VideoReader(video, every=model.interval, size=model.image_size) as reader:
        frames = list(reader)
    pooled = FakeCaptioner().encode(np.stack([frame.image for frame in frames])).pooled
    prediction = model.classify_frames([frame.time for frame in frames], pooled, duration=reader.duration)
    assert prediction.known == pytest.approx(model.classify(video).known, abs=1e-6)


def test_a_head_for_other_classes_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="known is of 2 classes, the head of 3"):
        ClipClassifier(read_model(save_classifier(tmp_path / "m", known=known_head(2))), FakeCaptioner())


def test_settings_from_a_folder_are_checked():
    with pytest.raises(CaptionerError, match="3 slopes are needed"):
        KnownConfig(2, 4, 1, True, 1.0, (1.0,), 0.0)
