"""Video files to RGB frames with their times: one sequential pass, bounded memory, clear errors."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from captioner.errors import VideoReadError
from captioner.media.clock import FrameClock
from captioner.media.film import LONGEST_GAP, Film
from captioner.media.images import MAX_PIXELS, name_of, read_image

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts"}
    | {".flv", ".f4v", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".mxf", ".dav", ".mod", ".tod", ".dv", ".h264", ".mjpeg"}
    | {".264", ".265", ".h265", ".hevc", ".mjpg", ".m1v", ".mpe", ".mpv", ".m2t", ".tp", ".trp", ".3gpp", ".qt", ".ogm"}
    | {".rm", ".rmvb", ".dvr-ms", ".wtv", ".nut", ".nsv", ".gxf", ".ivf", ".obu", ".y4m"}
)
"""Extensions, in lower case, of the files that a folder scan takes for videos."""

UNDECODABLE_EXTENSIONS = frozenset({".braw", ".r3d", ".crm", ".ari", ".cine", ".swf"})
"""Extensions, in lower case, of films that nothing here can decode; a folder scan says how many there are."""

_MOST_WARNINGS = 10
_MERGED_GAPS = 1.0  # seconds between gaps that are told as one
_DECODER_DELAY = 32  # frames that a decoder holds back at most
# Colours as H.273 numbers them: primaries of film, BT.2020 and P3, transfer curves of PQ and HLG, and all curves.
_WIDE_GAMUTS = (8, 9, 11, 12)
_HDR_CURVES = (16, 18)
_CURVES = (1, *range(4, 19))
_BT709 = 1


class Frame:
    """One frame of a video. It is converted when its pixels are asked for, by the thread that asks.

    Args:
        index: See below.
        time: See below.
        due: See below.
        decoded: What the decoder gave.
        converter: Of the reader.
        size: See `VideoReader`.

    Attributes:
        index: Number of the frame in the file, from 0; frames that were skipped count.
        time: Seconds from the start of the file at which a player shows it.
        due: Names of the intervals at which it is due, where the reader was given several.
    """

    def __init__(self, index: int, time: float, due: frozenset[str], decoded, converter: _Converter, size: int | None):
        self.index = index
        self.time = time
        self.due = due
        self._decoded = decoded
        self._converter = converter
        self._size = size

    @cached_property
    def image(self) -> np.ndarray:
        """uint8 (H, W, 3), RGB, upright; (size, size, 3) where the reader was given a ``size``."""
        rgb = self._converter.rgb(self._decoded)
        # In two steps: FFmpeg's scaler weighs and rounds otherwise than that of photos; that changes a caption in five.
        return rgb if self._size is None else read_image(rgb, size=self._size, max_pixels=rgb.size)

    def resized(self, width: int, height: int) -> np.ndarray:
        """The frame, upright, squashed to uint8 (height, width, 3), RGB, by averaging; cheaper than ``image``."""
        if self._decoded.width * self._decoded.height > 4 * width * height:
            return self._converter.rgb(self._decoded, width, height)
        import cv2

        # FFmpeg has fast ways for colours alone: for a small frame two steps take half the time.
        return cv2.resize(self._converter.rgb(self._decoded), (width, height), interpolation=cv2.INTER_AREA)


class VideoReader:
    """Iterates once over the frames of a video; a context manager.

    The file is read from front to back and never sought, since seeking is inexact in many containers. Frames that are
    not asked for are decoded (later ones depend on them) but not converted. What is damaged is left out and told.

    Args:
        path: The file.
        every: Seconds between frames: of the times ``start + k * every`` the first frame at or after each; None is
            every frame. A slower video gives each of its frames once. Several intervals, by names, give the frames that
            are due at any of them, and `Frame.due` says at which.
        start: Frames before this time, in seconds, are left out; where the picture begins later, that counts.
        end: Frames at or after this time, in seconds, are left out; None reads to the end.
        size: Side of the square into which frames are squashed, as `captioner.media.images.read_image` does.
        max_pixels: Limit on width x height of a frame.
        threads: Threads that decode; None is as many as there are cores, or one for small frames.

    Attributes:
        name: The path for messages.
        width: Width of the first frame in pixels, after rotation.
        height: Height of the first frame in pixels, after rotation.
        fps: Frames per second that the container states, 0 where it states none; a hint, not a promise.
        stated_duration: Seconds that the container states, 0 where it states none; a hint too.
        first_time: Seconds at which the first frame is shown; above 0 where the sound begins before the picture.
        duration: Seconds up to the end of the last frame that was read so far.
        truncated: Whether bytes are missing at the end of the file, or picture and sound both end clearly before the
            container said they would; known after the last frame, and False while ``end`` stops the reading.
        warnings: What was left out or put right so far; a sentence each, at most ten.

    Raises:
        VideoReadError: ``missing``, ``not_a_file``, ``permission``, ``empty``, ``not_a_video``, ``no_video_stream``,
            ``unknown_codec``, ``truncated`` (its index is lost, so that no frame can be found), ``no_frames`` or
            ``too_large``.
    """

    def __init__(
        self, path: str | os.PathLike, *, every: float | Mapping[str, float] | None = None, start: float = 0.0,
        end: float | None = None, size: int | None = None, max_pixels: int = MAX_PIXELS, threads: int | None = None,
    ):  # fmt: skip
        intervals = dict(every) if isinstance(every, Mapping) else {"": every}
        for interval in intervals.values():
            if interval is not None and not (interval > 0 and math.isfinite(interval)):
                raise ValueError(f"every must be a positive number of seconds, not {interval}")
        if not start >= 0 or (end is not None and not end > start):
            raise ValueError(f"start must be 0 or more and end after it, not {start} and {end}")
        if size is not None and size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        self.name = name_of(path)
        self.every, self.start, self.end, self.size = every, start, end, size
        self.duration = 0.0
        self.truncated = False
        self.warnings: list[str] = []
        self._clocks = {name: FrameClock(interval, start) for name, interval in intervals.items()}
        self._converter = _Converter(self.name)
        self._index = -1
        self._decoded_end = -math.inf  # timestamp
        self._longest_step = 0.0
        self._gap: tuple[float, float] | None = None  # told last
        self._told = self._seen = self._doubtful = 0  # losses that were told, and seen; frames that they may concern
        self._holes_seen = self._after_hole = 0
        self._lock = threading.Lock()  # closing while another thread decodes would crash the process
        self._film = Film(path, self.name, max_pixels, threads)
        self._frames: Iterator[av.VideoFrame] | None = self._film.frames()
        self.fps, self.stated_duration = self._film.fps, self._film.stated_duration
        try:
            # The first frame is fetched at once, so that a file without any is an error before anything depends on it.
            self._pending = self._advance()
            if self._pending is None:
                raise VideoReadError(
                    f"{self.name}: has a header but no frame that can be decoded (codec {self._film.codec}); it is "
                    f"damaged, it was cut off right after its header, or its frames exceed {max_pixels:,} pixels",
                    kind="no_frames",
                )
        except BaseException:
            self.close()
            raise
        self.first_time = self._film.timeline.time or 0.0
        self.width, self.height = self._pending.width, self._pending.height
        if _quarter_turns(self._pending) % 2:
            self.width, self.height = self.height, self.width

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; reading on ends the iteration."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._frames = self._pending = None
        self._film.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        with self._lock:
            while self._frames is not None:
                decoded = self._advance() if self._pending is None else self._pending
                self._pending = None
                time = self._film.timeline.time
                if decoded is None:
                    self._finish()
                    self._close()
                elif self.end is not None and time >= self.end:
                    self._close()
                elif due := [name for name, clock in self._clocks.items() if clock.take(time)]:
                    return Frame(self._index, time, frozenset(due), decoded, self._converter, self.size)
            raise StopIteration

    def _advance(self) -> av.VideoFrame | None:
        """The next frame, whose index and time are known from then on; None at the end."""
        film, timeline = self._film, self._film.timeline
        for strays, decoded in enumerate(self._frames):
            stamp = None if decoded.pts is None else film.seconds(decoded.pts)
            self._doubtful = _DECODER_DELAY if film.losses + film.skips > self._seen else self._doubtful - 1
            self._seen = film.losses + film.skips
            self._after_hole = _DECODER_DELAY if film.holes > self._holes_seen else self._after_hole - 1
            self._holes_seen = film.holes
            # After damage, a decoder may still give what it held back before.
            stray = timeline.falls_back(stamp) and (decoded.is_corrupt or self._doubtful > 0)
            if not stray or strays == _DECODER_DELAY:
                break
        else:
            return None
        self._index += 1
        before, end = timeline.time, self.duration
        # What was damaged or filled up takes time; a film that was joined to another has nothing between.
        leap = timeline.place(stamp, film.step, LONGEST_GAP if self._after_hole > 0 else None)
        time = timeline.time
        if leap:
            self._gap = None
            self._warn(f"its timestamps leap by {leap:+,.1f} s at {time:.1f} s, where it goes on at its usual step")
        elif before is None:
            self._told = film.losses  # what was cut in the middle begins with frames that lack others
        elif time - end > film.step / 2 and (
            film.losses > self._told or self._doubtful > 0 or self._after_hole > 0 or decoded.is_corrupt
        ):
            self._tell_gap(end, time)
            self._told = film.losses
        else:
            self._longest_step = max(self._longest_step, time - before)
        shown = film.seconds(decoded.duration or 0)
        self._shown = shown if 0 < shown <= LONGEST_GAP else film.step
        self.duration = time + self._shown
        if stamp is not None:
            self._decoded_end = stamp + self._shown
        return decoded

    def _finish(self) -> None:
        """Finds out, after the last frame, whether anything is missing and how long that frame is shown."""
        film = self._film
        untold = film.losses - self._told
        damaged = untold > 0 or self._doubtful > 0  # the decoder gives what it held back after all that it lost
        slack = max(0.05 + min(0.02 * film.stated_end, 2.0), self._longest_step)
        undecoded = film.film_end - self._decoded_end if self._decoded_end > -math.inf else 0.0
        missing = film.stated_end - film.read_end if film.stated_end and film.read_end > -math.inf else 0.0
        ends_early = missing > slack and not (film.lost_end == "nothing" and film.reached_end)
        self.truncated = film.lost_end == "frames" or ends_early or (damaged and undecoded > slack)
        if damaged and undecoded > film.step / 2:
            self._warn(f"nothing can be decoded from {self.duration:.1f} s to its end, where it is damaged")
        elif missing > slack and not self.truncated:
            self._warn(f"{missing:.1f} s of it are missing, where it is damaged")
        elif untold and not self.truncated:
            self._warn(f"{untold} damaged pieces are left out")
        # How long the last slide is shown, many containers do not keep, or keep in the order of decoding.
        rest = film.stated_end - self._decoded_end
        more, less = film.step < rest <= self._longest_step, -self._shown - film.step < rest < -film.step
        if not self.truncated and (more or less):
            self.duration += max(rest, film.step - self._shown)

    def _tell_gap(self, start: float, end: float) -> None:
        if self._gap is not None and start - self._gap[1] < _MERGED_GAPS:
            start = self._gap[0]
            self.warnings.pop()
        self._gap = (start, end)
        self._warn(f"nothing can be decoded from {start:.1f} to {end:.1f} s, where it is damaged")

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(text)
        else:
            self.warnings[-1] = "there is more of the kind"


class _Converter:
    """Decoded frames to upright RGB arrays; keeps what FFmpeg's scaler works out for each size."""

    def __init__(self, name: str):
        self._name = name
        self._scalers: dict[tuple, VideoReformatter] = {}
        self._lock = threading.Lock()

    def rgb(self, decoded: av.VideoFrame, width: int | None = None, height: int | None = None) -> np.ndarray:
        import av
        from av.video.reformatter import Interpolation, VideoReformatter

        turns = _quarter_turns(decoded)
        size = (height, width) if turns % 2 else (width, height)
        method = Interpolation.BICUBIC if width is None else Interpolation.AREA
        try:
            with self._lock:
                scaler = self._scalers.get(size) or self._scalers.setdefault(size, VideoReformatter())
                converted = scaler.reformat(
                    decoded, *size, format="rgb24", threads=1, interpolation=method, **_colours(decoded)
                )
        except av.FFmpegError as error:
            raise VideoReadError(
                f"{self._name}: frames of the kind {decoded.format.name} cannot be converted to RGB; convert the film "
                "to H.264 with the program that made it",
                kind="unknown_codec",
            ) from error
        rgb = converted.to_ndarray()
        if turns:
            return np.ascontiguousarray(np.rot90(rgb, turns))
        return rgb.copy() if converted is decoded else rgb  # what was RGB before is the decoder's own


def _quarter_turns(decoded: av.VideoFrame) -> int:
    """Quarter turns to the left after which a frame is upright."""
    return round(decoded.rotation / 90) % 4


def _colours(decoded: av.VideoFrame) -> dict[str, int]:
    """What the scaler is to do about colours: HDR and wide gamuts are brought to those of BT.709, the rest stays."""
    curve = decoded.color_trc
    if curve not in _HDR_CURVES and decoded.color_primaries not in _WIDE_GAMUTS:
        return {}
    keeps = curve in _CURVES and curve not in _HDR_CURVES
    return {"dst_color_primaries": _BT709, "dst_color_trc": curve if keeps else _BT709}
