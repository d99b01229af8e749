"""Films as people have them: codecs, clocks that leap, damage, slides, raw and cut streams, hostile files."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import media_makers as make
import numpy as np
import pytest

from captioner.errors import VideoReadError
from captioner.media.clock import Timeline
from captioner.media.videos import VIDEO_EXTENSIONS, Frame, VideoReader

KEYS = {"g": "10", "sc_threshold": "0"}  # a key frame every ten frames: damage does not reach far


def read(path: Path, **options) -> tuple[VideoReader, list[Frame]]:
    with VideoReader(path, **options) as reader:
        frames = list(reader)
    assert all(b.time > a.time for a, b in itertools.pairwise(frames))
    return reader, frames


def assert_shows(frames: list[Frame], expected) -> None:
    """That the grey values tell these frames; encoders change them a little."""
    found = [(float(frame.image.mean()) - 22) / 4 for frame in frames]
    assert len(found) == len(expected) and np.abs(np.array(found) - expected).max() < 1.5


def refused(path: Path) -> VideoReadError:
    with pytest.raises(VideoReadError) as caught:
        VideoReader(path)
    return caught.value


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two seconds of H.264 whose grey values tell the frames."""
    return make.write_film(tmp_path_factory.mktemp("films") / "film.mp4", make.grey_frames(50), **KEYS)


@pytest.fixture(scope="module")
def stream(film) -> Path:
    """The same as a transport stream."""
    return make.copied(film, film.with_name("film.ts"))


class TestCodecs:
    @pytest.mark.parametrize(
        ("codec", "name"),
        [
            ("libsvtav1", "av1.mp4"),
            ("libsvtav1", "av1.mkv"),
            ("libsvtav1", "av1.webm"),
            ("libvpx-vp9", "vp9.webm"),
            ("libx265", "hevc.mp4"),
            ("mpeg2video", "mpeg2.mpg"),
            ("wmv2", "wmv2.wmv"),
            ("flv", "sorenson.flv"),
            ("ffv1", "ffv1.mkv"),
            ("prores_ks", "prores.mov"),
        ],
    )
    def test_decoded(self, tmp_path, codec, name):
        pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        reader, frames = read(make.write_film(tmp_path / name, make.grey_frames(30), codec=codec, pixels=pixels))
        assert_shows(frames, range(30))
        assert reader.duration == pytest.approx(1.2, abs=0.01) and not reader.truncated and not reader.warnings

    @pytest.mark.parametrize(("tag", "name"), [(b"evc1", "evc"), (b"xyz9", "'xyz9'")])
    def test_missing_codec_is_named_with_the_remedy(self, film, tmp_path, tag, name):
        path = tmp_path / "other.mp4"
        path.write_bytes(film.read_bytes().replace(b"avc1\0\0\0\0", tag + bytes(4)))
        error = refused(path)
        assert error.kind == "unknown_codec"
        assert f"its codec, {name}, cannot be decoded here" in str(error) and "convert it" in str(error)

    @pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p", "yuva444p10le", "gray", "yuv410p"])
    def test_kinds_of_pixels(self, tmp_path, pixels):
        picture = make.smooth_picture(64, 48)
        codec = "prores_ks" if pixels.startswith("yuva") else "ffv1"
        (frame,) = read(make.write_film(tmp_path / "film.mov", [picture], codec=codec, pixels=pixels, form="matroska"))[
            1
        ]
        expected = picture if pixels != "gray" else np.repeat(picture @ [0.299, 0.587, 0.114], 3).reshape(48, 64, 3)
        assert np.abs(frame.image.astype(float) - expected).mean() < 4


class TestSameAsOpenCV:
    """Models were trained on the frames that OpenCV gives, so these must not change."""

    @staticmethod
    def compare(path: Path, tolerance: float = 0.0) -> int:
        import cv2

        capture = cv2.VideoCapture(str(path))
        _, frames = read(path)
        for frame in frames:
            ok, bgr = capture.read()
            assert ok
            assert np.abs(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(int) - frame.image).mean() <= tolerance
            width, height = 40, 30
            small = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA).astype(int)
            assert np.abs(small - frame.resized(width, height)).mean() < 6
        assert not capture.grab()
        return len(frames)

    @pytest.mark.parametrize(
        ("name", "codec", "pixels"),
        [
            ("film.mp4", "libx264", "yuv420p"),
            ("film.avi", "mjpeg", "yuvj420p"),
            ("film.mkv", "mpeg4", "yuv420p"),
            ("film.webm", "libvpx", "yuv420p"),
            ("ten.mp4", "libx265", "yuv420p10le"),
            ("film.mov", "libx264", "yuv444p"),
        ],
    )
    def test_made(self, tmp_path, name, codec, pixels):
        images = [np.roll(make.smooth_picture(160, 120), 4 * k, axis=1) for k in range(20)]
        path = make.write_film(tmp_path / name, images, codec=codec, pixels=pixels)
        assert self.compare(path, tolerance=1.5 if pixels == "yuv420p10le" else 0.0) == 20

    @pytest.mark.parametrize("space", ["bt709", "smpte170m"])
    def test_colour_spaces(self, tmp_path, space):
        path = tmp_path / "film.mp4"
        make.write_film(path, [make.smooth_picture(64, 48)] * 3, colorspace=space, color_range="tv")
        assert self.compare(path) == 3

    @pytest.mark.parametrize("curve", ["smpte2084", "arib-std-b67", "bt2020-10"])
    def test_high_dynamic_range_and_wide_gamut(self, tmp_path, curve):
        import cv2

        if int(cv2.__version__.split(".")[0]) < 5:
            pytest.skip("earlier versions do not bring them to the usual range")
        params = f"log-level=none:colorprim=bt2020:transfer={curve}:colormatrix=bt2020nc:range=limited"
        images = [make.smooth_picture(160, 120)] * 3
        path = tmp_path / "hdr.mp4"
        make.write_film(path, images, codec="libx265", pixels="yuv420p10le", **{"x265-params": params})
        assert self.compare(path, tolerance=1.5) == 3

    @pytest.mark.data
    def test_real_clips(self, shared):
        clips = sorted((shared / "clips").rglob("*.mp4"))[::40] + sorted((shared / "more-clips").rglob("*.mp4"))[::40]
        assert len(clips) > 8
        for clip in clips:
            assert self.compare(clip) > 0


class TestLength:
    @pytest.mark.parametrize("name", ["slides.mp4", "slides.mkv", "slides.ts", "slides.mov"])
    def test_slides_with_sound(self, tmp_path, name):
        images = [make.smooth_picture(64, 48)] * 4
        path = make.write_film(tmp_path / name, images, times=[0, 100, 200, 240], sound=240.0)
        reader, frames = read(path)
        np.testing.assert_allclose([frame.time for frame in frames], [0, 100, 200, 240], atol=0.05)
        assert reader.duration == pytest.approx(240, abs=0.1) and not reader.truncated and not reader.warnings

    @pytest.mark.parametrize("name", ["slides.mp4", "slides.mkv", "slides.webm"])
    def test_silent_slides(self, tmp_path, name):
        codec = "libvpx" if name.endswith("webm") else "libx264"
        path = make.write_film(tmp_path / name, make.grey_frames(5), codec=codec, times=[0, 600, 700, 1400, 3000])
        reader, frames = read(path)
        assert [frame.time for frame in frames] == pytest.approx([0, 600, 700, 1400, 3000])
        assert reader.duration == pytest.approx(3000, abs=0.1) and not reader.truncated and not reader.warnings

    def test_last_slide_lasts_as_long_as_the_file(self, tmp_path):
        path = make.write_film(tmp_path / "slides.mkv", make.grey_frames(3), times=[0, 30, 60], sound=85.0)
        reader, _ = read(path)
        assert reader.duration == pytest.approx(85, abs=0.1) and not reader.truncated

    @pytest.mark.parametrize("name", ["screen.mp4", "screen.mkv", "screen.ts"])
    def test_lively_still_lively(self, tmp_path, name):
        times = [k / 25 for k in range(100)] + [110 + k / 25 for k in range(100)]
        images = make.grey_frames(50) * 4
        reader, frames = read(make.write_film(tmp_path / name, images, times=times, sound=114.0))
        np.testing.assert_allclose([frame.time for frame in frames], times, atol=0.05)
        assert reader.duration == pytest.approx(114, abs=0.1) and not reader.truncated and not reader.warnings

    @pytest.mark.parametrize(
        ("name", "codec", "sound"),
        [
            ("film.mkv", "libx264", "aac"),
            ("film.ts", "libx264", "aac"),
            ("film.flv", "libx264", "aac"),
            ("film.wmv", "wmv2", "wmav2"),
            ("film.avi", "mpeg4", "mp2"),
            ("film.mov", "libx264", "aac"),
        ],
    )
    def test_sound_longer_than_the_picture(self, tmp_path, name, codec, sound):
        path = make.write_film(tmp_path / name, make.grey_frames(50), codec=codec, sound=6.0, sound_codec=sound)
        reader, frames = read(path)
        assert len(frames) == 50 and not reader.truncated and not reader.warnings
        assert reader.duration == pytest.approx(2.0, abs=0.05)

    @pytest.mark.parametrize("name", ["edit.mp4", "edit.mov", "edit.mkv"])
    @pytest.mark.parametrize("start", [0.5, 1.3])
    def test_cut_without_encoding(self, film, tmp_path, name, start):
        reader, frames = read(make.copied(film, tmp_path / name, start=start))
        assert_shows(frames[-1:], [49])
        assert not reader.truncated and not reader.warnings
        if not name.endswith("mkv"):  # an edit list hides what comes before
            assert_shows(frames[:1], [np.ceil(start * 25)])

    @pytest.mark.parametrize(
        ("name", "codec", "sound"),
        [
            ("film.mkv", "libx264", "aac"),
            ("film.flv", "libx264", "aac"),
            ("film.wmv", "wmv2", "wmav2"),
            ("film.avi", "mpeg4", "mp2"),
        ],
    )
    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_both_streams_end_early(self, tmp_path, name, codec, sound, share):
        path = make.write_film(tmp_path / name, make.grey_frames(50) * 2, codec=codec, sound=4.0, sound_codec=sound)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        assert read(path)[0].truncated

    @pytest.mark.parametrize("share", [0.5, 0.95])
    def test_bytes_end_early(self, film, tmp_path, share):
        path = tmp_path / "film.mp4"
        data = make.index_first(film.read_bytes())
        path.write_bytes(data[: int(share * len(data))])
        reader, frames = read(path)
        assert reader.truncated and len(frames) < 50


class TestTimes:
    @pytest.mark.parametrize("name", ["late.mp4", "late.ts", "late.mkv", "late.flv"])
    def test_picture_later_than_sound(self, tmp_path, name):
        reader, frames = read(make.write_film(tmp_path / name, make.grey_frames(50), sound=7.0, delay=5.0))
        assert len(frames) == 50 and reader.first_time == frames[0].time == pytest.approx(5, abs=0.05)
        assert reader.duration == pytest.approx(7, abs=0.05) and not reader.truncated and not reader.warnings
        _, sampled = read(tmp_path / name, every=0.2)  # counted from the first frame
        assert [frame.index for frame in sampled] == list(range(0, 50, 5))

    @pytest.mark.parametrize("offset", [80_000.0, 300.0, 15.0, -1.0])
    def test_joined_transport_streams(self, stream, tmp_path, offset):
        second = make.copied(stream, tmp_path / "second.ts", shift=lambda number: offset)
        path = tmp_path / "joined.ts"
        path.write_bytes(stream.read_bytes() + second.read_bytes())
        reader, frames = read(path)
        assert_shows(frames, [*range(50), *range(50)])
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(100) / 25, atol=1e-3)
        assert reader.duration == pytest.approx(4.0, abs=1e-3) and not reader.truncated
        (warning,) = reader.warnings
        assert "timestamps leap" in warning and "at 2.0 s" in warning

    @pytest.mark.parametrize("name", ["leap.mkv", "leap.flv", "leap.mp4"])
    @pytest.mark.parametrize("seconds", [1.7e9, 1e5])
    def test_clock_that_is_set(self, film, tmp_path, name, seconds):
        if seconds > 1e9 and not name.endswith("mkv"):
            pytest.skip("more than the container can say")
        path = make.copied(film, tmp_path / name, shift=lambda number: seconds if number >= 20 else 0.0)
        reader, frames = read(path)
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=2e-3)
        assert len(frames) == 50 and not reader.truncated
        assert len(reader.warnings) >= 1 and all("leap" in warning for warning in reader.warnings)

    def test_clock_that_wraps(self, film, tmp_path):
        """Broadcasting has 33 bits for it: 26.5 hours."""
        path = make.copied(film, tmp_path / "wrap.ts", shift=lambda number: 2**33 / 90_000 - 1.0)
        reader, frames = read(path)
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=1e-3)
        assert not reader.truncated

    def test_many_leaps_are_told_briefly(self, stream, tmp_path):
        path = tmp_path / "joined.ts"
        path.write_bytes(stream.read_bytes() * 15)
        reader, frames = read(path)
        assert len(frames) == 750 and reader.duration == pytest.approx(30, abs=0.01)
        assert len(reader.warnings) == 10 and "more" in reader.warnings[-1]


class TestTimeline:
    def place(self, timeline: Timeline, stamps) -> list[float]:
        leaps = []
        for stamp in stamps:
            leaps.append(timeline.place(stamp, 0.04))
            yield timeline.time
        self.leaps = [leap for leap in leaps if leap]

    def test_without_timestamps(self):
        assert list(self.place(Timeline(0.0, 10.0), [None] * 3)) == pytest.approx([0, 0.04, 0.08])

    def test_from_the_start_of_the_file(self):
        assert list(self.place(Timeline(100.0, 10.0), [102.0, 102.04])) == pytest.approx([2, 2.04])

    def test_wavering_timestamps_neither_stop_nor_run_away(self):
        times = list(self.place(Timeline(0.0, 10.0), [0.0, 0.08, 0.04, 0.12, 0.12, 0.2, 0.16, 0.24]))
        assert all(b > a for a, b in itertools.pairwise(times)) and times[-1] == pytest.approx(0.24)
        assert not self.leaps

    def test_gap_with_and_without_sound(self):
        silent, loud = Timeline(0.0, 10.0), Timeline(0.0, 10.0)
        for start in range(0, 60):
            loud.hear(start, start + 1)
        assert list(self.place(loud, [0.0, 60.0])) == [0, 60] and not self.leaps
        assert list(self.place(silent, [0.0, 60.0])) == pytest.approx([0, 0.04]) and self.leaps == pytest.approx(
            [59.96]
        )

    def test_sound_that_leaps_too(self):
        timeline = Timeline(0.0, 10.0)
        for start in (*range(5), *range(500, 510)):
            timeline.hear(start, start + 1)
        assert list(self.place(timeline, [4.96, 505.0])) == pytest.approx([4.96, 5.0])


class TestDamage:
    @pytest.mark.parametrize(
        ("name", "codec"),
        [("film.mp4", "libx264"), ("film.mov", "mpeg4"), ("film.mkv", "libx264"), ("film.avi", "mpeg4")],
    )
    def test_zeroed_quarter(self, tmp_path, name, codec):
        options = KEYS if codec == "libx264" else {"g": "10"}
        data = bytearray(
            make.write_film(
                tmp_path / "whole",
                make.grey_frames(50, 160, 120) * 6,
                codec=codec,
                form={"mp4": "mp4", "mov": "mov", "mkv": "matroska", "avi": "avi"}[name[-3:]],
                **options,
            ).read_bytes()
        )
        start, end = (int(share * len(data)) for share in (0.35, 0.6))
        data[start:end] = bytes(end - start)
        path = tmp_path / name
        path.write_bytes(data)
        reader, frames = read(path)
        assert 150 <= len(frames) < 300 and not reader.truncated
        assert "damaged" in " ".join(reader.warnings)
        if not name.endswith("avi"):  # whose frames have no times but their number
            assert frames[-1].time == pytest.approx(11.96, abs=0.01)
            assert reader.duration == pytest.approx(12, abs=0.01)
        if codec == "libx264":
            assert any("nothing can be decoded from 4." in warning for warning in reader.warnings)

    @pytest.mark.parametrize(
        ("name", "codec"), [("film.ts", "libx264"), ("film.mpg", "mpeg2video"), ("film.wmv", "wmv2")]
    )
    def test_hole_where_no_index_tells_it(self, tmp_path, name, codec):
        """It takes time, unlike a leap where two recordings were joined, and is told."""
        images = [make.noisy_picture(160, 120, seed) for seed in range(50)] * 6
        options = {"preset": "ultrafast", **KEYS} if codec == "libx264" else {"g": "10"}
        path = make.write_film(tmp_path / name, images, codec=codec, **options)
        data = bytearray(path.read_bytes())
        start, end = (int(share * len(data)) for share in (0.2, 0.8))
        data[start:end] = bytes(end - start)
        path.write_bytes(data)
        reader, frames = read(path)
        assert frames[-1].time == pytest.approx(11.96, abs=0.01) and len(frames) > 75
        (warning,) = reader.warnings
        assert "nothing can be decoded from 2." in warning

    def test_one_bad_packet(self, film, tmp_path):
        import av

        with av.open(str(film)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        data = bytearray(film.read_bytes())
        broken = packets[20]  # a key frame
        data[broken.pos : broken.pos + broken.size] = bytes(broken.size)
        path = tmp_path / "film.mp4"
        path.write_bytes(data)
        reader, frames = read(path)
        assert frames[-1].time == pytest.approx(1.96) and len(frames) >= 39
        assert_shows(frames[-15:], range(35, 50))
        assert "damaged" in " ".join(reader.warnings) and not reader.truncated

    def test_nothing_but_zeros_towards_the_end(self, film, tmp_path):
        """As a download leaves it that was stopped."""
        data = bytearray(make.index_first(film.read_bytes()))
        middle = len(data) // 2
        data[middle:] = bytes(len(data) - middle)
        path = tmp_path / "film.mp4"
        path.write_bytes(data)
        reader, frames = read(path)
        assert reader.truncated and 10 < len(frames) < 40
        assert "to its end" in reader.warnings[-1]

    def test_a_file_that_fails_while_it_is_read(self, film, tmp_path, monkeypatch):
        import io

        class Failing(io.BufferedReader):
            reads = 0

            def read(self, size=-1):
                Failing.reads += 1
                if Failing.reads == 9:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        path = make.write_film(tmp_path / "long.mkv", make.grey_frames(50) * 4, codec="mjpeg", pixels="yuvj420p")
        monkeypatch.setattr("captioner.media.film._READ_SIZE", 16_384)
        monkeypatch.setattr("builtins.open", lambda name, mode: Failing(io.FileIO(name)))
        reader, frames = read(path)
        assert len(frames) > 20 and (reader.warnings or reader.truncated)


class TestRawAndCut:
    @pytest.mark.parametrize("lost", [1, 101, 188, 1000, 5000])
    def test_transport_stream_cut_in_the_middle(self, stream, tmp_path, lost):
        path = tmp_path / "cut.ts"
        path.write_bytes(stream.read_bytes()[lost:])
        _, frames = read(path)
        assert_shows(frames[-29:], range(21, 50))

    @pytest.mark.parametrize("lost", [1, 500, 5001])
    def test_programme_stream_cut_in_the_middle(self, tmp_path, lost):
        path = make.write_film(tmp_path / "film.vob", make.grey_frames(50), codec="mpeg2video", g="5")
        path.write_bytes(path.read_bytes()[lost:])
        _, frames = read(path)
        assert_shows(frames[-30:], range(20, 50))

    @pytest.mark.parametrize("name", ["film.vob", "film.dav", "film.mp4"])
    @pytest.mark.parametrize("junk", [b"IMKH" + bytes(36), bytes(range(256)) * 4])
    def test_junk_before_a_programme_stream(self, tmp_path, name, junk):
        path = make.write_film(tmp_path / name, make.grey_frames(50), codec="mpeg2video", form="vob")
        path.write_bytes(junk + path.read_bytes())
        assert_shows(read(path)[1], range(50))

    @pytest.mark.parametrize(
        ("codec", "name", "form"),
        [
            ("libx264", "raw.h264", "h264"),
            ("libx265", "raw.hevc", "hevc"),
            ("mjpeg", "raw.mjpeg", "mjpeg"),
            ("mpeg4", "raw.m4v", "m4v"),
            ("mpeg4", "raw.bin", "m4v"),
            ("mjpeg", "raw.avi", "mjpeg"),
            ("mpeg2video", "raw.m2v", "mpeg2video"),
        ],
    )
    def test_raw_streams(self, tmp_path, codec, name, form):
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        path = make.write_film(tmp_path / name, make.grey_frames(50), codec=codec, form=form, pixels=pixels)
        reader, frames = read(path)
        assert_shows(frames, range(50))
        assert not reader.truncated
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=0.041)

    def test_raw_jpegs_larger_than_what_ffmpeg_looks_at(self, tmp_path):
        jpeg = make.encoded(make.noisy_picture(320, 240), "JPEG")
        path = tmp_path / "raw.mjpg"
        path.write_bytes(jpeg * 4)
        assert len(read(path)[1]) == 4
        path.write_bytes(jpeg)
        assert refused(path).kind == "not_a_video"

    def test_start_codes_of_three_bytes(self, tmp_path):
        path = make.write_film(tmp_path / "raw.h264", make.grey_frames(50))
        path.write_bytes(path.read_bytes().replace(b"\0\0\0\1", b"\0\0\1"))
        assert_shows(read(path)[1], range(50))

    def test_extensions(self):
        assert {".dav", ".mod", ".tod", ".dv", ".h264", ".mjpeg"} <= VIDEO_EXTENSIONS


class TestStreams:
    @pytest.mark.parametrize(
        ("name", "codec"), [("song.mp3", "libmp3lame"), ("song.flac", "flac"), ("song.m4a", "aac")]
    )
    def test_sound(self, tmp_path, name, codec):
        error = refused(make.write_sound(tmp_path / name, codec))
        assert error.kind == "no_video_stream" and "sound" in str(error)

    def test_a_cover_is_no_film(self, tmp_path):
        path = make.write_sound(tmp_path / "song.mp3", "libmp3lame", cover=make.smooth_picture(64, 48))
        assert refused(path).kind == "no_video_stream"

    def test_the_film_beside_a_cover(self, film, tmp_path):
        import av

        path = tmp_path / "covered.mp4"
        with av.open(str(film)) as read_, av.open(str(path), "w") as write:
            cover = write.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            out = write.add_stream_from_template(read_.streams.video[0])
            image = av.VideoFrame.from_ndarray(make.smooth_picture(640, 480), format="rgb24").reformat(
                format="yuvj420p"
            )
            packets = [*cover.encode(image), *cover.encode(None)]
            for packet in read_.demux(video=0):
                if packet.size:
                    packet.stream = out
                    packets.append(packet)
            for packet in packets:
                write.mux(packet)
        reader, frames = read(path)
        assert (reader.width, reader.height, len(frames)) == (64, 48, 50)

    @pytest.mark.parametrize("threads", [1, 2, None])
    def test_threads_change_nothing(self, film, threads):
        assert_shows(read(film, threads=threads)[1], range(50))

    def test_several_intervals(self, film):
        _, frames = read(film, every={"often": 0.2, "seldom": 0.5})
        assert [frame.index for frame in frames if "often" in frame.due] == list(range(0, 50, 5))
        assert [frame.index for frame in frames if "seldom" in frame.due] == [0, 13, 25, 38]
        assert {frame.index for frame in frames} == {*range(0, 50, 5), 0, 13, 25, 38}

    def test_resized_is_upright(self, tmp_path):
        picture = make.smooth_picture(128, 96)
        path = make.write_video(tmp_path / "turned.mp4", [picture] * 3)
        path.write_bytes(make.with_rotation(path.read_bytes(), 90))
        frame = read(path)[1][0]
        small = frame.resized(24, 32)
        assert small.shape == (32, 24, 3)
        assert np.abs(small.astype(int) - np.rot90(make.smooth_picture(32, 24), -1)).mean() < 6

    def test_frames_outlive_their_reader(self, film):
        _, frames = read(film)
        assert frames[7].image.shape == (48, 64, 3) and frames[7].image is frames[7].image
        frames[7].image[:] = 0  # its own
        assert make.grey_index(frames[8].image) == 8


class TestHostile:
    @pytest.mark.parametrize(
        "text",
        [
            "ffconcat version 1.0\nfile 'film.mp4'\n",
            "#EXTM3U\n#EXTINF:2,\nfilm.ts\n#EXT-X-ENDLIST\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 4444 RTP/AVP 96\n",
            '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period></Period></MPD>\n',
        ],
    )
    @pytest.mark.parametrize("name", ["list.mp4", "list.ffconcat", "list.m3u8", "list.sdp", "list.mpd"])
    def test_lists_of_other_files(self, film, tmp_path, text, name):
        for source in (film, film.with_name("film.ts")):
            if source.exists():
                (tmp_path / source.name).write_bytes(source.read_bytes())
        (tmp_path / name).write_text(text)
        assert refused(tmp_path / name).kind == "not_a_video"

    def test_another_file_named_in_a_film(self, film, tmp_path, monkeypatch):
        """A QuickTime film may leave its frames in another file."""
        data = bytearray(film.read_bytes())
        at = data.index(b"url \0\0\0\1")
        data[at : at + 8] = b"url \0\0\0\0"  # no longer "in this file"
        path = tmp_path / "film.mov"
        path.write_bytes(data)
        opened = []
        real = open
        monkeypatch.setattr("builtins.open", lambda *args, **kwargs: opened.append(args[0]) or real(*args, **kwargs))
        with contextlib.suppress(VideoReadError):
            read(path)
        assert opened == [path]

    def test_an_index_that_leads_out_of_the_file(self, film, tmp_path):
        data = bytearray(film.read_bytes())
        at = data.index(b"stco") + 12
        data[at : at + 4] = b"\xff\xff\xff\xf0"
        path = tmp_path / "film.mp4"
        path.write_bytes(data)
        with contextlib.suppress(VideoReadError):
            assert read(path)[0].warnings or read(path)[0].truncated

    def test_size_that_changes_midway(self, tmp_path):
        small = make.write_film(tmp_path / "small.ts", make.grey_frames(50), **KEYS).read_bytes()
        large = make.write_film(tmp_path / "large.ts", make.grey_frames(25, 640, 480), **KEYS).read_bytes()
        path = tmp_path / "both.ts"
        path.write_bytes(small + large + small)
        _, frames = read(path)
        assert {frame.image.shape for frame in frames} == {(48, 64, 3), (480, 640, 3)}
        reader, frames = read(path, max_pixels=10_000)
        assert {frame.image.shape for frame in frames} == {(48, 64, 3)} and len(frames) > 60
        assert reader.warnings

    @pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
    def test_too_large_for_the_decoder_too(self, tmp_path, monkeypatch, codec):
        """Opening a stream already decodes a frame or two."""
        import av

        path = make.write_film(tmp_path / "film.ts", [np.zeros((1200, 1200, 3), np.uint8)] * 2, codec=codec)
        limits = []
        real = av.open
        monkeypatch.setattr(
            av, "open", lambda *args, **kwargs: limits.append(kwargs["options"]["max_pixels"]) or real(*args, **kwargs)
        )
        with pytest.raises(VideoReadError, match="1,000,000") as caught:
            VideoReader(path, max_pixels=1_000_000)
        assert caught.value.kind in ("too_large", "no_frames") and int(limits[0]) < 1_200_000

    def test_claimed_size(self, film, tmp_path):
        data = film.read_bytes()
        at = data.index(b"avc1\0\0\0\0") + 28
        path = tmp_path / "huge.mp4"
        path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
        try:
            assert read(path)[1][0].image.shape == (48, 64, 3)  # what the stream itself says counts
        except VideoReadError as error:
            assert error.kind == "too_large"
