"""Sliding windows and the classifier around the networks: every window, short and long videos, nothing known."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from clip_makers import CHANNELS, SIZE, FakeCaptioner, save_classifier
from media_makers import grey_frames, index_first, write_video
from tiny_models import rewrite

import captioner
from captioner.clips.classifier import ClipClassifier, captioner_encode
from captioner.clips.frames import View
from captioner.clips.local_motion import LocalMotionMeter, mirrored_cells
from captioner.clips.motion import MotionMeter
from captioner.clips.windows import Sample, WindowCutter, WindowOptions, WindowSampler, measure_window
from captioner.errors import CaptionerError, ImageReadError, ModelLoadError, VideoReadError
from captioner.media.videos import VideoReader
from captioner.models.saving import model_names, read_model
from captioner.outputs.records import record_of
from captioner.outputs.writers import clip_text

HEADS = [pytest.param({"cell": "gru"}, id="gru"), pytest.param({"cell": "ridge", "members": 1}, id="ridge")]


def patch_frames(count: int) -> list[np.ndarray]:
    """A patch that moves back and forth, ever faster, over a ground that rests."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8), (7, 7), 0)
    frames = []
    for step in range(count):
        frame = noise[40:].copy()
        left = round(50 + 40 * np.sin(step**1.5 / 20))
        frame[40:80, left : left + 40] = noise[:40, :40]
        frames.append(frame)
    return frames


def load(folder) -> ClipClassifier:
    return ClipClassifier(read_model(folder), FakeCaptioner())


@pytest.fixture
def classifier(tmp_path):
    return load(save_classifier(tmp_path / "model"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "two seconds.mp4", grey_frames(44), fps=20.0)


def test_what_is_missing_or_damaged_is_told(classifier, video, tmp_path):
    path = tmp_path / "cut.mp4"
    data = bytearray(index_first(video.read_bytes()))
    data[-2000:] = bytes(2000)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert list(reader) and reader.truncated and reader.warnings
    prediction = classifier.classify(path)
    assert prediction.truncated and prediction.warnings == tuple(reader.warnings)
    first, *notes = clip_text(record_of(path, prediction)).split("\n")
    assert first.endswith(", cut short") and notes == [f"    note: {warning}" for warning in reader.warnings]
    assert not classifier.classify(video).truncated


def cut(times, *, window=1.0, stride=0.5, duration=None):
    cutter = WindowCutter(WindowOptions(0.1, window, stride))
    windows = [window for time in times for window in cutter.push(Sample(time))]
    windows += cutter.finish(times[-1] if duration is None else duration)
    return [(round(start, 6), round(end, 6), [sample.time for sample in samples]) for start, end, samples in windows]


def slow_cut(times, window, stride, duration):
    """All windows from the definition, looking at all frames each time."""
    spans, start = [], 0.0
    while start + window <= duration + 1e-9:
        spans.append((start, start + window))
        start += stride
    if not spans or spans[-1][1] < max(times) + 1e-9:
        spans.append((max(0.0, duration - window), duration))
    return [(round(a, 6), round(b, 6), [t for t in times if a - 1e-6 <= t < b - 1e-6]) for a, b in spans]


@pytest.mark.parametrize(("window", "stride"), [(1.0, 0.5), (1.0, 1.0), (2.0, 0.3), (0.7, 0.7)])
@pytest.mark.parametrize("frames", [1, 7, 10, 11, 25, 40, 61])
def test_windows_are_those_of_the_definition(window, stride, frames):
    times = [round(0.1 * k, 6) for k in range(frames)]
    duration = frames * 0.1
    got = cut(times, window=window, stride=stride, duration=duration)
    # Online, a window is complete when a frame after it arrives; the one that the end completes is the last.
    expected = slow_cut(times, window, stride, duration)
    assert [w[:2] for w in got] == [w[:2] for w in expected]
    assert [w[2] for w in got] == [w[2] for w in expected]
    assert {t for *_, inside in got for t in inside} == set(times)


def test_memory_is_bounded():
    cutter = WindowCutter(WindowOptions(0.1, 1.0, 0.5))
    most = 0
    for k in range(2000):
        list(cutter.push(Sample(0.1 * k)))
        most = max(most, len(cutter.samples))
    assert most <= 12


def test_gap_in_the_video():
    times = [0.0, 0.1, 50.0, 50.1, 50.2]
    windows = cut(times, duration=50.3)
    assert {t for *_, inside in windows for t in inside} == set(times)
    assert all(inside for *_, inside in windows) and len(windows) < 8


def test_video_that_starts_late():
    windows = cut([30.0, 30.1, 30.2], duration=30.3)
    assert [inside for *_, inside in windows] == [[30.0, 30.1, 30.2]]


@pytest.mark.parametrize(
    "wrong",
    [{"window": 0}, {"stride": -1.0}, {"interval": float("nan")}, {"stride": 2.0}, {"threshold": 1.5}, {"window": "1"}],
)
def test_wrong_options(wrong):
    with pytest.raises(CaptionerError) as caught:
        WindowOptions(**{"interval": 0.1, "window": 1.0, "stride": 0.5, "threshold": 0.5, **wrong})
    assert caught.value.kind == "usage"


def test_prediction(classifier, video):
    prediction = classifier.classify(video)
    assert set(prediction.probabilities) == {"walk", "run", "jump"}
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
    assert prediction.probability == prediction.probabilities[prediction.label]
    spans = [(window.start, window.end) for window in prediction.windows]
    assert spans[:3] == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)] and spans[3] == pytest.approx((1.2, 2.2))
    rows = np.array([list(window.probabilities.values()) for window in prediction.windows])
    np.testing.assert_allclose(rows.mean(axis=0), list(prediction.probabilities.values()), atol=1e-6)
    record = prediction.to_dict()
    assert list(record) == ["label", "probability", "probabilities", "known", "truncated", "warnings", "windows"]
    assert set(record["windows"][0]) == {"start", "end", "label", "probability", "known"}
    json.dumps(record, allow_nan=False)


def test_list_in_list_out(classifier, video, tmp_path):
    other = write_video(tmp_path / "other.mp4", grey_frames(20)[::-1], fps=20.0)
    both = classifier.classify([video, str(other)])
    assert both == [classifier.classify(video), classifier.classify(other)]
    assert both[0] != both[1]
    assert classifier.classify([]) == []


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_each_frame_is_encoded_once_without_regions(tmp_path, video, region, head):
    folder = save_classifier(tmp_path / "m", region=region, **head)
    model = ClipClassifier(read_model(folder), captioner := FakeCaptioner())
    prediction = model.classify(video)
    frames = 22
    assert captioner.encoded == (10 * len(prediction.windows) if region else frames)


def test_frames_encoded_already_give_the_same(classifier, video):
    from captioner.media.videos import VideoReader

    with VideoReader(video, every=classifier.interval, size=SIZE) as reader:
        frames = list(reader)
    meter = MotionMeter()
    motion = np.stack([meter.push(frame.time, frame.image) for frame in frames])
    features = FakeCaptioner().encode(np.stack([frame.image for frame in frames]))
    prediction = classifier.classify_frames(
        [frame.time for frame in frames], features.pooled, features.grid, motion, duration=reader.duration
    )
    expected = classifier.classify(video)
    assert prediction.label == expected.label
    assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert [w.start for w in prediction.windows] == [w.start for w in expected.windows]


def test_stream_takes_known_embeddings_and_ignores_frames_between(classifier, video):
    from captioner.media.videos import VideoReader

    stream = classifier.stream()
    encoder = FakeCaptioner()
    with VideoReader(video, size=SIZE) as reader:  # every frame, twice as many as are looked at
        for frame in reader:
            features = encoder.encode(frame.image[None])
            stream.push(frame.time, frame.image, (features.grid[0], features.pooled[0]))
        prediction = stream.finish(reader.duration)
    assert prediction.probabilities == pytest.approx(classifier.classify(video).probabilities, abs=1e-6)


@pytest.mark.parametrize("region", [False, True])
def test_a_ridge_regression_gets_the_pictures_through_the_stream(tmp_path, region):
    from captioner.media.videos import VideoReader

    model = load(save_classifier(tmp_path / "m", cell="ridge", members=1, region=region))
    moving = write_video(tmp_path / "moving.mp4", patch_frames(30), fps=20.0)
    expected = model.classify(moving)
    assert len({window.probability for window in expected.windows}) == len(expected.windows) > 1
    stream = model.stream()
    with VideoReader(moving) as reader:
        for frame in reader:
            stream.push(frame.time, frame.image)
        prediction = stream.finish(reader.duration)
    assert prediction.label == expected.label
    assert prediction.probabilities == pytest.approx(expected.probabilities, abs=0.02 if not region else 1e-6)
    with pytest.raises(CaptionerError, match=r"feed the frames to stream\(\)"):
        model.classify_frames([0.0], np.zeros((1, CHANNELS)), np.zeros((1, 4, CHANNELS)), np.zeros((1, 49)))


@pytest.mark.parametrize("region", [False, True])
def test_local_motion_is_of_the_whole_frame_in_every_view(region):
    sampler = WindowSampler(WindowOptions(0.1, 1.0, 1.0), ["change", "local_motion"], region)
    frames = [np.pad(frame, ((0, 0), (0, 60), (0, 0))) if region else frame[:SIZE, :SIZE] for frame in patch_frames(8)]
    for step, frame in enumerate(frames):
        assert not sampler.push(0.1 * step, np.ascontiguousarray(frame))
    ((_, _, samples),) = sampler.finish(0.8)
    meter = LocalMotionMeter()
    cells = np.stack([meter.push(0.1 * step, frame) for step, frame in enumerate(frames)])[1:]
    for flip in (False, True):
        settings = {"streams": ["change", "local_motion"], "region": region, "image_size": SIZE}
        inputs = measure_window(samples, captioner_encode(FakeCaptioner()), view=View(flip=flip), **settings)
        expected = mirrored_cells(cells) if flip else cells
        np.testing.assert_allclose(inputs["local_motion"], expected, rtol=1e-4, atol=1e-6)
        assert inputs["change"].shape == (8, CHANNELS) and cells.any()


def test_missing_measurements(classifier):
    with pytest.raises(ValueError, match="grid_change"):
        classifier.classify_frames([0.0], np.zeros((1, CHANNELS)), motion=np.zeros((1, 49)))
    with pytest.raises(ValueError, match="same length"):
        classifier.classify_frames([0.0, 0.1], np.zeros((1, CHANNELS)))


def test_no_frame(classifier):
    with pytest.raises(CaptionerError, match="no frame"):
        classifier.stream().finish()
    with pytest.raises(CaptionerError, match="no frame"):
        classifier.classify_frames([], np.zeros((0, CHANNELS)), np.zeros((0, 4, CHANNELS)), np.zeros((0, 49)))


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("head", HEADS)
def test_clip_shorter_than_the_window(tmp_path, frames, region, head):
    model = load(save_classifier(tmp_path / "m", region=region, **head))
    short = write_video(tmp_path / "short.mp4", grey_frames(frames), fps=20.0)
    prediction = model.classify(short)
    (window,) = prediction.windows
    assert window.start == 0 and window.end == pytest.approx(frames / 20) and prediction.label == window.label
    assert np.isfinite(list(prediction.probabilities.values())).all()


@pytest.mark.parametrize("region", [False, True])
def test_still_picture(tmp_path, region):
    from PIL import Image

    model = load(save_classifier(tmp_path / "m", region=region))
    Image.fromarray(grey_frames(1)[0]).save(tmp_path / "still.png")
    with pytest.raises(VideoReadError, match=r"still\.png: is a still picture.*--still"):
        model.classify(tmp_path / "still.png")
    prediction = model.classify(tmp_path / "still.png", still=True)
    assert len(prediction.windows) == 1 and sum(prediction.probabilities.values()) == pytest.approx(1)


def test_nothing_known(classifier, video):
    prediction = classifier.classify(video, threshold=1.0)
    assert prediction.label is None and all(window.label is None for window in prediction.windows)
    assert prediction.probability == max(prediction.probabilities.values())
    assert prediction.probabilities == classifier.classify(video).probabilities
    assert prediction.to_dict()["label"] is None


def test_windows_can_be_chosen(classifier, video):
    assert len(classifier.classify(video, window=2.0).windows) == 2  # 0 to 2, and the last 2 seconds
    assert len(classifier.classify(video, window=0.4).windows) == 6  # the stride shrinks with the window
    assert len(classifier.classify(video, stride=1.0).windows) == 3
    for wrong in ({"window": -1.0}, {"stride": 5.0}, {"stride": 1e-9}, {"threshold": 2}):
        with pytest.raises(CaptionerError) as caught:
            classifier.classify(video, **wrong)
        assert caught.value.kind == "usage"


def test_unreadable(classifier, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    (tmp_path / "bad.png").write_bytes(b"no picture at all")
    with pytest.raises(VideoReadError, match=r"bad\.mp4"):
        classifier.classify(tmp_path / "bad.mp4")
    with pytest.raises(ImageReadError, match=r"bad\.png"):
        classifier.classify(tmp_path / "bad.png", still=True)
    with pytest.raises(VideoReadError, match="absent"):
        classifier.classify(tmp_path / "absent.mp4")


def test_members_are_averaged_and_the_temperature_softens(tmp_path, video):
    both = load(save_classifier(tmp_path / "both", members=2)).classify(video)
    first = load(save_classifier(tmp_path / "first", members=1)).classify(video)
    warm = load(save_classifier(tmp_path / "warm", members=1, temperature=50.0)).classify(video)
    assert both.probabilities != first.probabilities
    assert max(warm.probabilities.values()) < max(first.probabilities.values())
    assert max(warm.probabilities.values()) == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": 0}, "config.json"),
        ({"temperature": "hot"}, "config.json"),
        ({"window": -1}, "config.json"),
        ({"members": 0}, "config.json"),
        ({"members": 1}, "weights.npz"),
        ({"members": 3}, "weights.npz"),
        ({"members": 10**9}, "config.json: members"),
        ({"network": {"classes": 3}}, "config.json asks for"),
        ({"network": {"classes": 3, "cell": []}}, r"config.json: network\.cell"),
        ({"network": {"classes": 3, "streams": ["sound"]}}, r"config.json: network\.streams"),
        ({"network": {"classes": 3, "streams": []}}, r"config.json: network\.streams"),
        ({"network": {"classes": 3, "streams": ["motion"] * 2}}, "streams holds one twice"),
        ({"network": {"classes": 5000}}, r"config.json: network\.classes"),
        ({"network": None}, "either network or ridge"),
        ({"ridge": {"classes": 3}}, "either network or ridge"),
        ({"encoder": {}}, "config.json: encoder lacks model"),
        ({"encoder": {"model": "a", "sha256": 3}}, r"config.json: encoder\.sha256"),
        ({"region": "yes"}, "config.json: region"),
        ({"interval": 1e-9}, "config.json: interval"),
        ({"interval": 1e300}, "config.json: interval"),
        ({"interval": 1e-3, "window": 10.0}, "at most 1000 frames"),
        ({"window": 1.0, "stride": 0.005}, "at least a 100th of window"),
        ({"stride": 3.0}, "must not exceed window"),
        ({"threshold": 2}, "config.json: threshold"),
        ({"wings": 2}, "config.json: wings is a setting"),
    ],
)
def test_damaged_config(tmp_path, changes, named):
    folder = save_classifier(tmp_path / "model")
    rewrite(folder, lambda config: config.update(changes))
    with pytest.raises(ModelLoadError, match=named):
        load(folder)


@pytest.mark.parametrize("changes", [{"members": 2}, {"ridge": {"classes": 3}}])
def test_damaged_config_of_a_ridge_regression(tmp_path, changes):
    folder = save_classifier(tmp_path / "model", cell="ridge", members=1)
    rewrite(folder, lambda config: config.update(changes))
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    "labels",
    [
        '["walk", "run"]',
        '["walk", "run", ""]',
        '["a", "b", "\\u001b[2J"]',
        "[" * 100_000,
        '["walk", "run", "run"]',
        '{"walk": 1}',
        "[1, 2, 3]",
        "walk",
    ],
)
def test_damaged_labels(tmp_path, labels):
    folder = save_classifier(tmp_path / "model")
    (folder / "labels.json").write_text(labels)
    rewrite(folder)
    with pytest.raises(ModelLoadError, match=r"labels\.json: .*; get the folder again"):
        load(folder)


def test_captioner_of_another_version(tmp_path, tiny_captioner):
    """The folder names the captioner; its present weights are not those of the training."""
    named = tmp_path / "captioner"
    shutil.copytree(tiny_captioner, named)
    folder = save_classifier(tmp_path / "model", encoder={"model": str(named), "sha256": "old"})
    with pytest.raises(ModelLoadError, match="another version"):
        ClipClassifier(read_model(folder))


@pytest.mark.parametrize("source", [None, 3, 0.5, [None], object()])
def test_what_is_no_path_is_refused(classifier, source):
    with pytest.raises(VideoReadError, match="is not the path of a video file"):
        classifier.classify(source)


def test_paths_may_come_from_a_generator(classifier, video):
    assert classifier.classify(path for path in [video, video]) == [classifier.classify(video)] * 2


def test_a_classifier_is_pickled_by_name_and_settings(classifier, video):
    classifier.options = replace(classifier.options, threshold=0.0)
    data = pickle.dumps(classifier)
    assert pickle.loads(data).classify(video) == classifier.classify(video) and len(data) < 2000


def test_a_shipped_classifier_is_pickled_with_its_own_encoder(video):
    if "actions" not in model_names():
        pytest.skip("the shipped classifier is absent")
    model = captioner.load("actions", precision="f32")
    data = pickle.dumps(model)
    assert pickle.loads(data).classify(video) == model.classify(video) and len(data) < 2000


def test_captioner_kind_is_refused(tiny_captioner):
    with pytest.raises(ModelLoadError, match="not a clip classifier"):
        ClipClassifier(read_model(tiny_captioner), FakeCaptioner())
