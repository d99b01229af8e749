"""The film in a video file, decoded by FFmpeg's libraries: frames in order, with what is damaged left out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from captioner.errors import VideoReadError
from captioner.media import containers
from captioner.media.clock import Timeline
from captioner.media.files import check_pixels, explained_access

if TYPE_CHECKING:
    import av

# FFmpeg also reads pictures, and playlists and scripts, which name other files and addresses: none of those. Sound is
# among these so that an error can call it by its name.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,h263,vc1,dv,flv,live_flv,kux,asf,asf_o,"
    "ogg,mxf,gxf,nut,rm,wtv,dhav,nsv,yuv4mpegpipe,wav,w64,mp3,flac,aac,aiff,ac3,amr,caf"
)
_USUAL_FPS = 25.0
LONGEST_GAP = 3600.0
"""Seconds without a frame that are believed where nothing is heard: a slide may stand for long."""

# In formats made for broadcasting, where joined recordings, whose timestamps leap, are usual.
_LONGEST_GAP_BROADCAST = 10.0
_MOST_FAILURES = 1000  # in a row; after so many nothing more is to be had
_MOST_BETWEEN = 4096  # bytes between two pieces that belong to the container
_HOLE = 2**16
_READ_SIZE = 2**18
_SMALL = 320 * 240  # pixels; to hand such frames from thread to thread takes half as long as to decode them


class _Source:
    """The open file as FFmpeg gets it, which has no means to open another.

    Args:
        file: The file.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.read, self.tell, self.name = file.read, file.tell, file.name

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seeks; a damaged file may lead anywhere, which FFmpeg wants to be told by a number."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


class Film:
    """The stream of a video file that a player shows.

    Args:
        path: The file.
        name: The file for messages.
        max_pixels: Limit on width x height of a frame; those that exceed it midway are left out.
        threads: Threads that decode; None is as many as there are cores, or one for small frames.

    Attributes:
        codec: Name of the decoder.
        fps: Frames per second that the container states, 0 where it states none.
        step: Seconds from a frame to the next, usually.
        stated_duration: Seconds that the container states, 0 where it states none.
        stated_end: Timestamp at which the film ends by the container, or else the file; 0 where it only guesses.
        read_end: Timestamp up to which the file was read, whatever its streams hold.
        film_end: Timestamp up to which the film was read, decoded or not.
        lost_end: See `captioner.media.containers.lost_end`.
        losses: Pieces that could not be read or decoded so far.
        holes: Times that many bytes were passed over, damaged or filled up.
        skips: Times that bytes were passed over between two pieces, as most containers do it where they are damaged.
        timeline: Where its frames are to be placed; knows what was heard.

    Raises:
        VideoReadError: See `captioner.media.videos.VideoReader`; all but ``no_frames``.
    """

    def __init__(self, path: str | os.PathLike, name: str, max_pixels: int, threads: int | None):
        self._name = name
        self._max_pixels = max_pixels
        # The decoder's own limit counts the padding of lines and blocks.
        self._options = {"max_pixels": str(max_pixels + max_pixels // 16 + 2**16)}
        self.read_end = self.film_end = -math.inf
        self._position = 0  # in the file
        self.losses = 0
        self.skips = self.holes = 0
        self._files = ExitStack()
        try:
            self._open(path)
            self._read_header(threads)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str | os.PathLike) -> None:
        import av

        with explained_access(path, self._name, "video") as status:
            if status.st_size == 0:
                raise VideoReadError(f"{self._name}: is empty (0 bytes)", kind="empty")
            file = self._files.enter_context(open(path, "rb"))  # noqa: SIM115 - closed with the others
            head = file.read(containers.HEAD)
            reason = containers.is_no_video(head)
            if reason is not None:
                raise VideoReadError(f"{self._name}: {reason}", kind="not_a_video")
            self.lost_end = containers.lost_end(file)
            file.seek(0)
            raw_format = containers.raw_format(file)
            file.seek(0)
            try:
                container = av.open(
                    _Source(file),
                    format=raw_format,
                    options=self._options,
                    container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"},
                    metadata_errors="replace",
                    buffer_size=_READ_SIZE,
                )
            except MemoryError as error:
                raise VideoReadError(f"{self._name}: not enough memory to open it", kind="too_large") from error
            except av.FFmpegError as error:
                kind, reason = containers.why_refused(file)
                raise VideoReadError(f"{self._name}: {reason}", kind=kind) from error
            self._container = self._files.enter_context(container)

    def _read_header(self, threads: int | None) -> None:
        self._stream = self._film()
        self._ticks = [float(stream.time_base) for stream in self._container.streams]  # seconds; fractions are slow
        context = self._stream.codec_context
        if context is None:
            raise VideoReadError(
                f"{self._name}: its codec, {self._codec_name()}, cannot be decoded here; convert it to H.264 with the "
                "program that made it",
                kind="unknown_codec",
            )
        check_pixels(context.width, context.height, self._max_pixels, self._name, "video")
        context.thread_type = "AUTO"
        is_small = context.width * context.height <= _SMALL
        context.thread_count = threads or (1 if is_small else 0)
        context.options = self._options
        self.codec = context.name
        rates = [float(rate or 0) for rate in (self._stream.guessed_rate, self._stream.average_rate)]
        rates = [rate for rate in rates if 0 < rate <= 1000]  # more is the clock's rate, where frames are rare
        usual = [rate for rate in rates if rate >= 1]
        self.fps = (usual or rates or [0.0])[0]
        self.step = 1 / (usual or [_USUAL_FPS])[0]
        self.stated_duration = max(0, self._container.duration or 0) / 1e6
        guesses = self._has("ts_discont") or self._has("no_timestamps")
        if guesses or not self._stream.duration:
            self.stated_end = 0.0 if guesses else self.stated_duration
        else:
            self.stated_end = self.seconds((self._stream.start_time or 0) + self._stream.duration)
        gap = _LONGEST_GAP_BROADCAST if self._has("ts_discont") else LONGEST_GAP
        self.timeline = Timeline((self._container.start_time or 0) / 1e6, gap)

    def _film(self) -> av.VideoStream:
        from av.stream import Disposition

        stills = Disposition.attached_pic | Disposition.timed_thumbnails  # covers and previews
        films = [stream for stream in self._container.streams.video if not stream.disposition & stills]
        if not films:
            raise VideoReadError(
                f"{self._name}: holds no moving picture, only sound ({self._container.format.long_name})",
                kind="no_video_stream",
            )
        best = self._container.streams.best("video")
        return best if best in films else films[0]

    def _codec_name(self) -> str:
        """Name of a codec that has no decoder; FFmpeg tells it in its log only."""
        import av

        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text = self._container.dumps_format()
        finally:
            av.logging.set_level(level)
        found = re.search(rf"Stream #0:{self._stream.index}\b.*?: Video: (\w+)(?: \((\S+) /)?", text)
        name, tag = found.groups() if found else ("none", None)
        return name if name != "none" else f"'{tag}'" if tag else "which has no name"

    def _has(self, flag: str) -> bool:
        """Whether the container's format has one of FFmpeg's flags."""
        from av.format import Flags

        return bool(self._container.format.flags & Flags[flag].value)

    def close(self) -> None:
        """Closes the file. Nothing of the film may be read afterwards: that would crash the process."""
        self._files.close()

    @property
    def reached_end(self) -> bool:
        """Whether what was read lies up to about the end of the file; the rest may be an index."""
        return self._position > 0.9 * self._container.size

    def seconds(self, ticks: int) -> float:
        """A time in the units of the stream, as in its frames, in seconds."""
        return ticks * self._ticks[self._stream.index]

    def frames(self) -> Iterator[av.VideoFrame]:
        """Frames in the order in which they are shown, once; what cannot be read or decoded is left out and counted."""
        import av

        for packet in self._packets():
            try:
                frames = self._stream.codec_context.decode(packet)
            except MemoryError as error:
                raise VideoReadError(f"{self._name}: not enough memory to decode it", kind="too_large") from error
            except av.FFmpegError:
                self.losses += 1
                continue
            for frame in frames:
                if frame.width * frame.height <= self._max_pixels:
                    yield frame
                else:
                    self.losses += 1

    def _packets(self) -> Iterator[av.Packet | None]:
        """Encoded pieces of the film, and None at the end, for which the decoder gives the frames that it still has."""
        import av

        failures = 0
        in_sequence = self._container.format.name in ("matroska,webm", "flv")  # others leave room between the pieces
        packets = self._container.demux()
        while failures < _MOST_FAILURES:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):
                self.losses += 1
                failures += 1
                packets = self._container.demux()
                continue
            if packet is None:
                break
            failures = 0
            if packet.pos is not None:
                hole = packet.pos - self._position if self._position else 0
                self.skips += in_sequence and hole > _MOST_BETWEEN
                self.holes += hole > _HOLE
                self._position = max(self._position, packet.pos + packet.size)
            if not packet.size:  # the decoder would take it for the end
                continue
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                tick = self._ticks[packet.stream_index]
                start, end = stamp * tick, (stamp + (packet.duration or 0)) * tick
                self.read_end = max(self.read_end, end)
                if packet.stream_index == self._stream.index:
                    back = end < self.film_end - _LONGEST_GAP_BROADCAST  # where recordings were joined
                    self.film_end = end if back else max(self.film_end, end)
                elif packet.stream.type == "audio":
                    self.timeline.hear(start, end)
            if packet.stream_index == self._stream.index:
                yield packet
        yield None
