"""Pictures and videos made by code, for tests: every frame and every damage is known exactly."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image


def smooth_picture(width: int, height: int) -> np.ndarray:
    """A colour gradient, uint8 (height, width, 3): JPEG keeps it within a few values, and no two corners are alike."""
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    planes = [40 + 170 * x + 0 * y, 30 + 190 * y + 0 * x, 60 + 120 * (x * y)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def noisy_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 (height, width, 3), which compress badly: a cut anywhere loses some of them."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Bytes of an image file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(png: bytes, *chunks: bytes) -> bytes:
    """The PNG file with more chunks after its header."""
    end = 8 + 25  # signature and IHDR
    return png[:end] + b"".join(chunks) + png[end:]


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds a few bytes of it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def write_video(path: Path, images: list[np.ndarray], fps: float = 25.0, codec: str = "mp4v") -> Path:
    """Writes RGB images (H, W, 3) as a video, in the container that the extension names."""
    import cv2

    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[:, :, ::-1]))
    writer.release()
    return path


def write_mjpeg(path: Path, images: list[np.ndarray], fps: int = 25) -> Path:
    """Writes RGB images of any size as a motion JPEG AVI; OpenCV's writer takes even and larger sizes only."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    height, width = images[0].shape[:2]
    count = len(images)
    frames = [chunk(b"00dc", encoded(image, "JPEG", quality=95)) for image in images]
    main = struct.pack("<14I", 1_000_000 // fps, 0, 0, 0x10, count, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<IHHIIIIIIIIHHHH", 0, 0, 0, 0, 1, fps, 0, count, 0, 0, 0, 0, 0, width, height)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    header = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + header)
    path.write_bytes(chunk(b"RIFF", b"AVI " + header + chunk(b"LIST", b"movi" + b"".join(frames))))
    return path


def grey_frames(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames whose mean tells their index, for at most 50 frames, with noise so that each takes some bytes."""
    noise = np.random.default_rng(0).integers(-16, 17, (count, height, width, 1))
    return [np.repeat(24 + 4 * index + noise[index], 3, axis=2).clip(0, 255).astype(np.uint8) for index in range(count)]


def grey_index(image: np.ndarray) -> int:
    """Index of a frame of `grey_frames` after lossy compression, which makes it 1 to 3 values darker."""
    return round((float(image.mean()) - 22) / 4)


def _boxes(data: bytes, start: int, end: int):
    while start + 8 <= end:
        length = int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], start, length
        start += length


def _edit_box(data: bytes, path: list[bytes], edit) -> bytes:
    """Replaces the content of the first box at a path such as moov/trak/tkhd and corrects the lengths around it."""
    for name, start, length in _boxes(data, 0, len(data)):
        if name == path[0]:
            content = data[start + 8 : start + length]
            content = edit(content) if len(path) == 1 else _edit_box(content, path[1:], edit)
            return data[:start] + struct.pack(">I", len(content) + 8) + name + content + data[start + length :]
    raise ValueError(f"no box {path[0]!r}")


def with_rotation(mp4: bytes, degrees: int) -> bytes:
    """The MP4 file with a flag that says: turn clockwise by so many degrees when shown."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = struct.pack(">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)

    def edit(header: bytes) -> bytes:
        assert header[0] == 0  # version 0: the matrix begins at byte 40
        return header[:40] + matrix + header[76:]

    return _edit_box(mp4, [b"moov", b"trak", b"tkhd"], edit)


def with_frame_durations(mp4: bytes, durations: list[float]) -> bytes:
    """The MP4 file with a duration in seconds for each frame: a variable frame rate.

    The index must lie behind the frames, as OpenCV writes it, because offsets into the file stay as they are.
    """
    scale = None

    def read_scale(header: bytes) -> bytes:
        nonlocal scale
        scale = int.from_bytes(header[12:16], "big")
        return header[:16] + struct.pack(">I", round(sum(durations) * scale)) + header[20:]

    mp4 = _edit_box(mp4, [b"moov", b"trak", b"mdia", b"mdhd"], read_scale)
    entries = b"".join(struct.pack(">II", 1, round(duration * scale)) for duration in durations)
    table = struct.pack(">II", 0, len(durations)) + entries
    mp4 = _edit_box(mp4, [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"], lambda _: table)

    def new_length(track: bytes) -> bytes:  # the edit list would cut the video to its old length
        return b"".join(
            track[start : start + length] for name, start, length in _boxes(track, 0, len(track)) if name != b"edts"
        )

    return _edit_box(mp4, [b"moov", b"trak"], new_length)


def index_first(mp4: bytes) -> bytes:
    """The MP4 file with its index before the frames ("fast start"), so that a cut file still plays."""
    boxes = {name: data for name, data in ((n, mp4[s : s + length]) for n, s, length in _boxes(mp4, 0, len(mp4)))}
    shift = len(boxes[b"moov"])

    def move(table: bytes) -> bytes:
        count = int.from_bytes(table[4:8], "big")
        offsets = struct.unpack(f">{count}I", table[8 : 8 + 4 * count])
        return table[:8] + struct.pack(f">{count}I", *(offset + shift for offset in offsets))

    moov = _edit_box(boxes[b"moov"], [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"], move)
    return boxes[b"ftyp"] + moov + b"".join(box for name, box in boxes.items() if name not in (b"ftyp", b"moov"))


def sound_only(mp4: bytes) -> bytes:
    """The MP4 file with its track declared as sound, so that no picture is left."""

    def edit(handler: bytes) -> bytes:
        return handler[:8] + b"soun" + handler[12:]

    return _edit_box(mp4, [b"moov", b"trak", b"mdia", b"hdlr"], edit)


def wav(seconds: float = 0.2, rate: int = 8000) -> bytes:
    """A sound file with silence."""
    data = bytes(2 * int(seconds * rate))
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip


def write_film(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    form: str | None = None,
    fps: int = 25,
    times: list[float] | None = None,
    sound: float = 0.0,
    sound_codec: str = "aac",
    delay: float = 0.0,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Writes RGB images (H, W, 3) as a film, with PyAV.

    Args:
        path: The file.
        images: uint8 (H, W, 3), RGB.
        codec: Encoder.
        form: FFmpeg's name of the container; None is that of the extension.
        fps: Frames per second.
        times: Seconds at which each image is shown; None is one frame after the other.
        sound: Seconds of a tone beside them.
        sound_codec: Its encoder.
        delay: Seconds by which the picture begins after the sound.
        pixels: Pixel format.
        **options: Of the encoder.
    """
    import av
    import pytest

    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format=form) as container:
        picture = container.add_stream(codec, rate=fps, options=options or None)
        picture.width, picture.height, picture.pix_fmt = width, height, pixels
        tone = container.add_stream(sound_codec, rate=44100, bit_rate=64000) if sound else None
        packets = []
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.time_base = Fraction(1, fps)
            frame.pts = round(((number / fps if times is None else times[number]) + delay) * fps)
            packets += picture.encode(frame)
        packets += picture.encode(None)
        for packet in packets:
            packet.duration = round(1 / fps / packet.time_base)
        if tone is not None:
            packets += _tone(tone, sound)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


def _tone(stream, seconds: float) -> list:
    import av

    step = stream.codec_context.frame_size or 1024
    wave = (np.sin(np.arange(int(seconds * 44100)) * 0.06) * 0.2).astype(np.float32)
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate)
    packets = []
    for start in range(0, len(wave) - step + 1, step):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + step], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        for ready in resampler.resample(frame):
            packets += stream.encode(ready)
    return packets + stream.encode(None)


def write_sound(path: Path, codec: str, cover: np.ndarray | None = None) -> Path:
    """Writes a second of a tone, with a picture on its cover or without."""
    import av

    with av.open(str(path), "w") as container:
        tone = container.add_stream(codec, rate=44100)
        packets = _tone(tone, 1.0)
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(cover, format="rgb24").reformat(format="yuvj420p")
            packets = [*picture.encode(frame), *picture.encode(None), *packets]
        for packet in packets:
            container.mux(packet)
    return path


def copied(source: Path, target: Path, *, shift=lambda number: 0.0, start: float = 0.0) -> Path:
    """The encoded picture of a film in another file.

    Args:
        source: The film.
        target: The file, in the container that its extension names.
        shift: Seconds to add to the timestamps of a packet, by its number.
        start: Seconds of the film that are cut off: as ``ffmpeg -ss START -c copy`` does it, by an edit list where the
            container has such.
    """
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = read.streams.video[0]
        if start:
            read.seek(round(start / stream.time_base), stream=stream)
        out = write.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in read.demux(stream) if packet.size):
            moved = round((shift(number) - start) / packet.time_base)
            packet.pts += moved
            packet.dts += moved
            packet.stream = out
            write.mux(packet)
    return target
