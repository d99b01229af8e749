"""Videos to timed captions, labels and novelty: one pass, each frame encoded once, bounded memory."""

from __future__ import annotations

import io
import itertools
import threading
from dataclasses import replace

import media_makers as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.errors import CaptionerError, ModelLoadError, VideoReadError
from captioner.media.shots import ShotDetector, split_long
from captioner.media.videos import VideoReader
from captioner.models.runtime import Features
from captioner.models.search import SearchOptions
from captioner.results import Caption, ClipPrediction, Segment, Window, Word
from captioner.videos import analyzer as video_analysis
from captioner.videos.analyzer import VideoAnalyzer
from captioner.videos.forecaster import Forecaster, ForecasterConfig, weight_shapes
from captioner.videos.segments import EncodedFrame, SegmentBuilder, labels_between, merged

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 40, 210), "grey": (128, 128, 128)}


def caption_of(text: str, confidence: float = 0.5) -> Caption:
    words = tuple(Word(word, -0.5) for word in text.split())
    return Caption(text, words, -0.5, confidence, True, model="colours")


class ColourCaptioner:
    """Says which colour its features have; keeps what it was given."""

    name = "colours"
    encoder_sha256 = "c0"
    image_size = 16
    channels = 3

    def __init__(self):
        self.encoded: list[np.ndarray] = []
        self.searched: list[Features] = []

    def search_options(self, **options) -> SearchOptions:
        return SearchOptions(**options)

    def encode(self, images: np.ndarray) -> Features:
        assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
        self.encoded += list(images)
        grid = images.reshape(len(images), 2, 8, 2, 8, 3).mean(axis=(2, 4)).reshape(len(images), 4, 3).astype("f4")
        return Features(grid, grid.mean(axis=1))

    def caption_features(self, features: Features, options: SearchOptions, *, attention: bool) -> list[Caption]:
        assert isinstance(options, SearchOptions) and features.grid.dtype == np.float32 and not attention
        self.searched += [features[row : row + 1] for row in range(len(features))]
        return [self.say(grid.mean(axis=0)) for grid in features.grid]

    def say(self, colour: np.ndarray) -> Caption:
        return caption_of(f"a {min(COLOURS, key=lambda name: np.abs(colour - COLOURS[name]).sum())} picture")


class CountingCaptioner(ColourCaptioner):
    """Says something else each time."""

    said = 0

    def say(self, colour: np.ndarray) -> Caption:
        self.said += 1
        return caption_of(f"picture {self.said}")


class FakeClassifier:
    """Keeps what it is fed and labels windows of a second."""

    name = "clips"
    labels = ("run", "rest")
    region = False
    image_size = 16

    def __init__(self, interval: float = 0.5, sha256: str | None = "c0", region: bool = False, threshold: float = 0.0):
        self.interval = interval
        self.encoder_sha256 = sha256
        self.region = region
        self.options = type("Options", (), {"threshold": threshold})
        self.pushed: list[tuple] = []

    def stream(self):
        return self

    def push(self, time, image, encoded=None):
        self.pushed.append((time, image, encoded))
        return []

    def finish(self, duration):
        self.duration = duration
        windows = tuple(Window(t, t + 1, "run", 0.7, {"run": 0.7, "rest": 0.3}) for t in range(int(duration)))
        return ClipPrediction("run", 0.7, {"run": 0.7, "rest": 0.3}, windows)


def scenes(*parts: tuple[str, int], width: int = 64, height: int = 48) -> list[np.ndarray]:
    frames = []
    for colour, count in parts:
        frames += [np.broadcast_to(np.uint8(COLOURS[colour]), (height, width, 3))] * count
    return frames


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """2 s red, 3 s green, 1 s blue, 2.4 s red at 25 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "colours.mp4"
    return make.write_video(path, scenes(("red", 50), ("green", 75), ("blue", 25), ("red", 60)))


def random_forecaster(**encoder) -> Forecaster:
    config = ForecasterConfig(channels=3, components=3, units=4, unusual_value=1e-6)
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(0, 1, shape) for name, shape in weight_shapes(config).items()}
    return Forecaster(config, weights, encoder=encoder)


def analyzer(captioner=None, classifier=None, forecaster=None, **options) -> VideoAnalyzer:
    return VideoAnalyzer(captioner or ColourCaptioner(), classifier, forecaster=forecaster, **options)


@pytest.mark.parametrize("source", [None, 3, ["clip.mp4"]])
def test_what_is_no_path_is_refused(source):
    with pytest.raises(VideoReadError, match="is not the path of a video file"):
        analyzer().analyze(source)


class TestAnalyze:
    def test_captions_with_times(self, colours):
        captioner = ColourCaptioner()
        analysis = analyzer(captioner).analyze(colours)
        assert [segment.caption.text for segment in analysis.segments] == [
            "a red picture", "a green picture", "a blue picture", "a red picture",
        ]  # fmt: skip
        assert [segment.start for segment in analysis.segments] == [0, 2, 5, 6]
        assert [segment.end for segment in analysis.segments] == [2, 5, 6, pytest.approx(8.4)]
        assert (analysis.width, analysis.height, analysis.fps) == (64, 48, 25.0)
        assert analysis.duration == pytest.approx(8.4) and not analysis.truncated
        assert analysis.model == "colours" and analysis.classifier is None and analysis.label is None
        assert analysis.labels == () and analysis.novelty == ()

    def test_each_frame_is_decoded_once_and_encoded_once(self, colours, monkeypatch):
        opened = []

        class Counting(VideoReader):
            def __init__(self, *args, **kwargs):
                opened.append(self)
                super().__init__(*args, **kwargs)

        monkeypatch.setattr(video_analysis, "VideoReader", Counting)
        captioner, classifier = ColourCaptioner(), FakeClassifier(0.5)
        analyzer(captioner, classifier, random_forecaster()).analyze(colours)
        assert len(opened) == 1
        assert len(captioner.encoded) == 17  # every half second from 0 to 8.0; whole seconds serve for captions too
        assert [time for time, _, _ in classifier.pushed] == pytest.approx(np.arange(17) / 2, abs=0.021)
        assert all(image.shape == (16, 16, 3) for _, image, _ in classifier.pushed)
        assert all(grid.shape == (4, 3) and pooled.shape == (3,) for _, _, (grid, pooled) in classifier.pushed)

    def test_caption_is_made_from_all_frames_of_the_segment(self, colours):
        captioner = ColourCaptioner()
        analyzer(captioner, interval=0.5).analyze(colours)
        places = sorted(features.grid.shape[1] for features in captioner.searched)
        assert places == [2 * 4, 4 * 4, 5 * 4, 6 * 4]
        captioner = ColourCaptioner()
        analyzer(captioner, interval=0.5, frames_per_segment=3).analyze(colours)
        assert sorted(features.grid.shape[1] for features in captioner.searched) == [8, 12, 12, 12]

    def test_features_of_a_segment_are_those_of_its_frames(self, tmp_path):
        shades = [np.full((48, 64, 3), 60 + k, np.uint8) for k in range(100)]
        path = make.write_video(tmp_path / "shades.mp4", shades)
        captioner = ColourCaptioner()
        analyzer(captioner).analyze(path)
        (features,) = captioner.searched
        alone = ColourCaptioner().encode(np.stack(captioner.encoded))
        assert len(alone) == 4
        np.testing.assert_allclose(features.grid[0], alone.grid.reshape(16, 3), rtol=1e-3)
        np.testing.assert_allclose(features.pooled[0], alone.pooled.mean(axis=0), rtol=1e-5)

    def test_long_shots_are_divided(self, tmp_path):
        path = make.write_video(tmp_path / "long.mp4", scenes(("red", 185), ("blue", 60)), fps=5)
        captioner = CountingCaptioner()
        analysis = analyzer(captioner).analyze(path)
        spans = [(segment.start, segment.end) for segment in analysis.segments]
        np.testing.assert_allclose(spans, split_long([(0.0, 37.0), (37.0, 49.0)], 10.0))
        spans = [(s.start, s.end) for s in analyzer(CountingCaptioner(), longest_segment=4).analyze(path).segments]
        np.testing.assert_allclose(spans, split_long([(0.0, 37.0), (37.0, 49.0)], 4.0))

    def test_neighbours_that_say_the_same_are_merged(self, tmp_path):
        path = make.write_video(tmp_path / "long.mp4", scenes(("red", 185), ("blue", 60)), fps=5)
        analysis = analyzer().analyze(path)
        assert [s.caption.text for s in analysis.segments] == ["a red picture", "a blue picture"]
        np.testing.assert_allclose([(s.start, s.end) for s in analysis.segments], [(0, 37), (37, 49)])

    def test_short_shots_are_seen_at_any_interval(self, colours):
        analysis = analyzer(interval=30.0, forecaster=random_forecaster()).analyze(colours)
        assert [segment.caption.text.split()[1] for segment in analysis.segments] == ["red", "green", "blue", "red"]
        assert [point.time for point in analysis.novelty] == [0.0]  # forecasts need even intervals

    def test_last_shot_may_be_as_short_as_can_be(self, tmp_path):
        """It is certain only when the video has ended."""
        path = make.write_video(tmp_path / "end.mp4", scenes(("red", 50), ("green", 15)))
        segments = analyzer().analyze(path).segments
        assert [(s.start, s.caption.text) for s in segments] == [(0, "a red picture"), (2, "a green picture")]

    @pytest.mark.parametrize("interval", [0.04, 0.3, 1.0, 2.5, 7.0])
    def test_segments_cover_the_video(self, colours, interval):
        segments = analyzer(CountingCaptioner(), interval=interval).analyze(colours).segments
        assert segments[0].start == 0 and segments[-1].end == pytest.approx(8.4)
        assert all(a.end == b.start for a, b in itertools.pairwise(segments))
        assert all(segment.start < segment.end for segment in segments)

    def test_batches_change_nothing(self, colours, monkeypatch):
        forecaster = random_forecaster()
        whole = analyzer(forecaster=forecaster, interval=0.2).analyze(colours)
        for size in (1, 3):
            monkeypatch.setattr(video_analysis, "_BATCH_SIZE", size)
            assert analyzer(forecaster=forecaster, interval=0.2).analyze(colours).to_dict() == whole.to_dict()

    def test_novelty_is_the_error_of_the_forecasts(self, colours):
        captioner, forecaster = ColourCaptioner(), random_forecaster()
        analysis = analyzer(captioner, forecaster=forecaster, interval=0.4).analyze(colours)
        assert [point.time for point in analysis.novelty] == pytest.approx(np.arange(21) * 0.4, abs=0.021)
        frames = [frame.image for frame in VideoReader(colours, every=0.4, size=16)]
        expected = forecaster.values(ColourCaptioner().encode(np.stack(frames)).pooled)
        assert [point.value for point in analysis.novelty] == pytest.approx(expected.tolist(), rel=1e-5)

    def test_labels(self, colours):
        classifier = FakeClassifier()
        analysis = analyzer(classifier=classifier).analyze(colours)
        assert analysis.label == "run" and len(analysis.labels) == 8 and analysis.classifier == "clips"
        assert analysis.segments[0].labels == (("run", pytest.approx(0.7)), ("rest", pytest.approx(0.3)))
        assert classifier.duration == pytest.approx(8.4)
        analysis = analyzer(classifier=FakeClassifier(threshold=0.5)).analyze(colours)
        assert analysis.segments[0].labels == (("run", pytest.approx(0.7)),)

    @pytest.mark.parametrize("classifier", [FakeClassifier(sha256="other"), FakeClassifier(region=True)])
    def test_classifier_with_an_encoder_or_regions_of_its_own_gets_whole_frames(self, colours, classifier):
        captioner = ColourCaptioner()
        analyzer(captioner, classifier).analyze(colours)
        assert len(captioner.encoded) == 9
        assert len(classifier.pushed) == 17
        assert all(image.shape == (48, 64, 3) and encoded is None for _, image, encoded in classifier.pushed)

    def test_thumbnails(self, tmp_path):
        frames = scenes(("red", 30), ("blue", 30), width=800, height=400)
        path = make.write_video(tmp_path / "wide.avi", frames, codec="MJPG")
        for segment, colour in zip(analyzer().analyze(path).segments, ("red", "blue"), strict=True):
            image = Image.open(io.BytesIO(segment.thumbnail))
            assert image.format == "JPEG" and image.size == (320, 160)
            assert np.abs(np.asarray(image)[80, 160].astype(int) - COLOURS[colour]).max() < 12
        assert all(segment.thumbnail is None for segment in analyzer(thumbnails=False).analyze(path).segments)

    def test_progress(self, colours):
        told = []
        analyzer(interval=0.1).analyze(colours, told.append)
        assert told == sorted(told) and told[-1] == 1.0 and len(told) > 3 and told[0] > 0

    def test_truncated_video(self, tmp_path):
        path = make.write_video(tmp_path / "whole.avi", make.grey_frames(50), codec="MJPG")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        analysis = analyzer().analyze(path)
        assert analysis.truncated and 0.5 < analysis.duration < 1.5
        assert analysis.segments[-1].end == analysis.duration

    @pytest.mark.parametrize("name", ["late.mp4", "late.ts"])
    def test_picture_later_than_sound(self, tmp_path, name):
        """Cues come when a player shows the picture."""
        path = make.write_film(tmp_path / name, scenes(("red", 50), ("green", 75)), sound=10.0, delay=5.0)
        classifier = FakeClassifier()
        analysis = analyzer(classifier=classifier, forecaster=random_forecaster()).analyze(path)
        spans = [(segment.start, segment.end) for segment in analysis.segments]
        np.testing.assert_allclose(spans, [(5, 7), (7, 10)], atol=0.03)
        assert [s.caption.text for s in analysis.segments] == ["a red picture", "a green picture"]
        assert analysis.novelty[0].time == pytest.approx(5, abs=0.03) and len(analysis.novelty) == 5
        assert [time for time, _, _ in classifier.pushed] == pytest.approx(5 + np.arange(10) / 2, abs=0.05)
        assert not analysis.truncated and not analysis.warnings

    def test_leap_costs_nothing_and_is_told(self, tmp_path):
        film = make.write_film(tmp_path / "film.mp4", scenes(("red", 50), ("green", 50)), bf="0")
        path = make.copied(film, tmp_path / "leap.mkv", shift=lambda number: 1.7e9 if number >= 50 else 0.0)
        analysis = analyzer(classifier=FakeClassifier()).analyze(path)
        np.testing.assert_allclose([(s.start, s.end) for s in analysis.segments], [(0, 2), (2, 4)], atol=1e-3)
        (warning,) = analysis.warnings
        assert "leap" in warning and analysis.to_dict()["warnings"] == [warning]

    @pytest.mark.parametrize("sound", [0.0, 240.0])
    def test_slides(self, tmp_path, sound):
        """Each is captioned for as long as it stands."""
        slides = scenes(("red", 1), ("green", 1), ("blue", 1), ("red", 1))
        path = make.write_film(tmp_path / "slides.mp4", slides, times=[0, 100, 200, 240], sound=sound)
        analysis = analyzer().analyze(path)
        assert [segment.caption.text.split()[1] for segment in analysis.segments][:3] == ["red", "green", "blue"]
        spans = [(segment.start, segment.end) for segment in analysis.segments][:3]
        np.testing.assert_allclose(spans, [(0, 100), (100, 200), (200, 240)], atol=0.05)

    def test_one_frame(self, tmp_path):
        path = make.write_video(tmp_path / "one.mp4", scenes(("blue", 1)))
        analysis = analyzer(classifier=FakeClassifier(), forecaster=random_forecaster()).analyze(path)
        assert [(s.start, s.end, s.caption.text) for s in analysis.segments] == [(0, 0.04, "a blue picture")]
        assert len(analysis.novelty) == 1 and not analysis.novelty[0].unusual

    def test_record(self, colours):
        record = analyzer(classifier=FakeClassifier()).analyze(colours).to_dict()
        assert {"duration", "width", "height", "fps", "segments", "label", "truncated", "model", "classifier"} <= set(
            record
        )
        keys = {"start", "end", "caption", "confidence", "familiarity", "unsure", "labels", "tags"}
        assert set(record["segments"][0]) == keys
        assert set(record["segments"][0]["labels"][0]) == {"label", "probability"}

    def test_bad_file(self, tmp_path):
        (tmp_path / "text.mp4").write_text("text")
        with pytest.raises(VideoReadError, match=r"text\.mp4"):
            analyzer().analyze(tmp_path / "text.mp4")

    @pytest.mark.parametrize("where", ["encode", "caption_features", "decode"])
    def test_error_ends_the_thread(self, colours, monkeypatch, where):
        def fail(*args, **kwargs):
            raise RuntimeError("broken")

        captioner = ColourCaptioner()
        if where == "decode":
            monkeypatch.setattr(ShotDetector, "push", fail)
        else:
            setattr(captioner, where, fail)
        before = threading.active_count()
        with pytest.raises(RuntimeError, match="broken"):
            analyzer(captioner, interval=0.04).analyze(colours)
        assert threading.active_count() == before

    def test_memory_is_bounded(self, tmp_path, monkeypatch):
        path = make.write_video(tmp_path / "long.avi", scenes(("red", 3000), width=32, height=32), codec="MJPG")
        held = []
        original = SegmentBuilder.add

        def add(self, frame):
            original(self, frame)
            held.append(len(self._frames))

        monkeypatch.setattr(SegmentBuilder, "add", add)
        analysis = analyzer(interval=0.1, thumbnails=False).analyze(path)
        assert analysis.duration == pytest.approx(120)
        assert len(held) == 1200 and max(held) <= 64 + 10


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [{"interval": 0}, {"interval": float("nan")}, {"longest_segment": -1}, {"shortest_shot": -1},
         {"frames_per_segment": 0}, {"beam_size": 0}],
    )  # fmt: skip
    def test_senseless_values(self, options):
        with pytest.raises(CaptionerError) as caught:
            analyzer(**options)
        assert caught.value.kind == "usage"

    def test_search_options(self):
        assert analyzer(beam_size=5, max_length=7).options == SearchOptions(beam_size=5, max_length=7)

    def test_forecaster_of_other_embeddings(self, tmp_path):
        from captioner.models.saving import save_model

        config = ForecasterConfig(4, 2, 2)
        weights = {f"forecaster/{name}": np.ones(shape) for name, shape in weight_shapes(config).items()}
        folder = save_model(
            tmp_path / "odd", kind="forecaster", config={"forecaster": config.to_dict()}, weights=weights, texts={},
            metadata={}, card="",
        )  # fmt: skip
        with pytest.raises(ModelLoadError, match=r"config\.json: channels must be 3 for this captioner, not 4"):
            analyzer(forecaster=folder)

    def test_forecaster_of_another_encoder(self):
        with pytest.raises(ModelLoadError, match="another encoder"):
            analyzer(forecaster=random_forecaster(model="m", sha256="other"))
        assert analyzer(forecaster=random_forecaster(model="m", sha256="c0")).forecaster is not None

    def test_unknown_models(self):
        for arguments in (
            {"captioner": "no-such-model"},
            {"classifier": "no-such-model"},
            {"forecaster": "no-such-model"},
        ):
            with pytest.raises(ModelLoadError, match="no-such-model"):
                analyzer(**arguments)


def segment(start, end, text, confidence=0.5, picture=None):
    return Segment(start, end, caption_of(text, confidence), thumbnail=picture)


class TestMerged:
    def test_function_words_make_no_difference(self):
        found = merged(
            [segment(0, 2, "a dog runs on the beach", 0.4, b"a"), segment(2, 3, "the dog runs on a beach", 0.6, b"b")]
        )
        assert [(s.start, s.end, s.caption.text, s.thumbnail) for s in found] == [
            (0, 3, "the dog runs on a beach", b"b")
        ]

    def test_what_differs_stays(self):
        parts = [segment(0, 1, "a dog"), segment(1, 2, "a cat"), segment(2, 3, "a dog"), segment(4, 5, "a dog")]
        assert merged(parts) == parts
        assert merged([]) == []

    def test_many(self):
        found = merged([segment(k, k + 1, "a dog", confidence=k / 10) for k in range(5)])
        assert [(s.start, s.end, s.caption.confidence) for s in found] == [(0, 5, 0.4)]


class TestLabels:
    windows = (
        Window(0, 4, "a", 0.9, {"a": 0.9, "b": 0.08, "c": 0.02}),
        Window(4, 8, "b", 0.6, {"a": 0.2, "b": 0.6, "c": 0.2}),
    )

    def test_average_by_overlap(self):
        assert labels_between(self.windows, 0, 4, 0.05) == (("a", pytest.approx(0.9)), ("b", pytest.approx(0.08)))
        (first, p), (second, q), (third, r) = labels_between(self.windows, 3, 6, 0.0)
        assert (first, second, third) == ("b", "a", "c") or (first, second) == ("a", "b")
        assert {first: p, second: q, third: r} == pytest.approx({"a": 1.3 / 3, "b": 1.28 / 3, "c": 0.42 / 3})
        assert p >= q >= r

    def test_none(self):
        assert labels_between((), 0, 1, 0.0) == ()
        unlikely = [replace(window, known=0.5) for window in self.windows]
        assert labels_between(unlikely, 0, 4, 0.05) == (("a", pytest.approx(0.45)),)
        assert labels_between(self.windows, 8, 9, 0.0) == ()
        assert labels_between(self.windows, 0, 4, 0.95) == ()


class TestSegmentBuilder:
    features = Features(np.zeros((1, 2, 3), "f4"), np.zeros((1, 3), "f4"))

    @settings(max_examples=100, deadline=None)
    @given(
        lengths=st.lists(st.floats(0.7, 40), min_size=1, max_size=5),
        longest=st.floats(1.0, 12.0),
        step=st.floats(0.1, 0.5),
        frames=st.integers(1, 8),
    )
    def test_equals_division_of_the_whole(self, lengths, longest, step, frames):
        edges = [0.0, *itertools.accumulate(lengths)]
        builder = SegmentBuilder(longest, frames)
        pieces, cuts = [], edges[1:-1]
        for time in np.arange(0, edges[-1], step):
            while cuts and cuts[0] + 0.6 <= time:  # cuts are known some time after they are over
                pieces += builder.cut(cuts.pop(0))
            builder.add(EncodedFrame(float(time), self.features))
            pieces += builder.advance(min(time - 0.2, cuts[0] if cuts else time))
        for cut in cuts:
            pieces += builder.cut(cut)
        pieces += builder.finish(edges[-1])
        expected = split_long(list(itertools.pairwise(edges)), longest)
        np.testing.assert_allclose([(piece.start, piece.end) for piece in pieces], expected)
        for piece in pieces:
            times = [frame.time for frame in piece.frames]
            assert 1 <= len(times) <= frames and times == sorted(times)
            assert piece.start - 2e-3 <= times[0] and times[-1] < piece.end

    def test_piece_without_frames_belongs_to_the_one_before(self):
        builder = SegmentBuilder(10.0, 4)
        builder.add(EncodedFrame(0.0, self.features))
        pieces = builder.advance(35.0)
        builder.add(EncodedFrame(38.0, self.features))
        pieces += builder.finish(40.0)
        assert [(piece.start, piece.end) for piece in pieces] == [(0, 10), (38, 40)]

    def test_shot_without_frames_joins_the_next(self):
        builder = SegmentBuilder(10.0, 4)
        builder.add(EncodedFrame(0.0, self.features))
        pieces = [*builder.cut(3.0), *builder.cut(5.0)]
        builder.add(EncodedFrame(6.0, self.features))
        pieces += builder.finish(8.0)
        assert [(piece.start, piece.end) for piece in pieces] == [(0, 3), (3, 8)]

    def test_frames_are_spread_evenly(self):
        builder = SegmentBuilder(10.0, 5)
        for k in range(41):
            builder.add(EncodedFrame(k / 5, self.features))
        (piece,) = builder.finish(8.2)
        times = np.array([frame.time for frame in piece.frames])
        assert len(times) == 5 and times[0] == 0 and times[-1] > 7 and np.ptp(np.diff(times)) <= 0.81

    def test_a_new_shot_is_not_thinned_by_the_one_before(self):
        builder = SegmentBuilder(100.0, 2)
        for k in range(100):
            builder.add(EncodedFrame(k / 10, self.features))
        builder.cut(10.0)
        for time in (10.0, 10.1):
            builder.add(EncodedFrame(time, self.features))
        (piece,) = builder.finish(10.2)
        assert [frame.time for frame in piece.frames] == [10.0, 10.1]

    def test_grids_take_half_the_memory(self):
        builder = SegmentBuilder(10.0, 5)
        builder.add(replace(EncodedFrame(0.0, self.features), picture=b"x"))
        (piece,) = builder.finish(1.0)
        assert piece.frames[0].features.grid.dtype == np.float16 and piece.frames[0].picture == b"x"


def test_with_a_real_model(tmp_path, colours, tiny_captioner):
    """The decoder itself attends over the grids of several frames."""
    from captioner.loading import load

    captioner = load(tiny_captioner, precision="f32")
    watching = VideoAnalyzer(captioner, None, forecaster=None, interval=0.5)
    first = watching.analyze(colours)
    assert first.model == "tiny" and len(first.segments) >= 1
    for one in first.segments:
        assert one.caption.text and 0 < one.caption.confidence < 1
    assert watching.analyze(colours).to_dict() == first.to_dict()
    still = make.write_video(tmp_path / "still.mp4", scenes(("green", 50)))
    (segment,) = watching.analyze(still).segments
    frame = next(iter(VideoReader(still, size=captioner.image_size))).image
    assert segment.caption.text == captioner.caption(frame).text  # equal frames say what one of them says
