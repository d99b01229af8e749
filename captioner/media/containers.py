"""What FFmpeg does not say of a video file: what else it is, and whether an MP4, AVI or WMV file has lost its end."""

from __future__ import annotations

from typing import BinaryIO

HEAD = 4096
"""Bytes at the start of a file by which it is told what it is."""

_STILL_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_MP4_BOXES = frozenset(b"ftyp moov mdat wide free skip pnot styp moof sidx mfra uuid meta emsg".split())
_ASF_OBJECTS = (  # header and data
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"),
)
_MISCOUNTED = 16  # bytes by which some programs state too great a length
_JPEG_BYTES = 2**23  # some frames of a camera
_TS_PACKETS = (188, 192, 204)  # bytes: plain, with a clock (M2TS), with error correction


def raw_format(file: BinaryIO) -> str | None:
    """FFmpeg's name for what a file without a container holds, where FFmpeg itself may take it for something else.

    Args:
        file: At its start.

    Returns:
        ``mpegts``: cut before its tables, it may pass for raw H.264. ``mjpeg``: with large frames, it may pass for one
        image; a few frames must be there. None for all others.
    """
    head = file.read(HEAD)
    if any(head[offset::size][:8] == b"\x47" * 8 for size in _TS_PACKETS for offset in range(size)):
        return "mpegts"
    if head.startswith(b"\xff\xd8\xff") and (head + file.read(_JPEG_BYTES)).count(b"\xff\xd9\xff\xd8\xff") >= 2:
        return "mjpeg"
    return None


def is_no_video(head: bytes) -> str | None:
    """What a file is that is certainly no video, as the end of a sentence; None of all others."""
    if head.startswith((b"\x89PNG", b"GIF8")) or head[8:12] in (b"WEBP", *_STILL_PICTURES):
        return "is an image, not a video; use the image command for images"
    if head.startswith(b"#EXTM3U"):
        return "is a playlist, not a video; give the videos that it names"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a video; perhaps a download went wrong"
    return None


def why_refused(file: BinaryIO) -> tuple[str, str]:
    """Why a file that may be a video cannot be opened.

    Args:
        file: Wherever it stands.

    Returns:
        ``(kind, reason)``: the kind of the `captioner.errors.VideoReadError` and the end of its sentence.
    """
    if lost_end(file) == "index":
        return "truncated", (
            "was cut off: its index, which such files mostly keep at their end, is missing, so that no frame can "
            "be found; copy it again, or repair the recording"
        )
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(b"\xff\xd8\xff"):  # many of them are a video, motion JPEG
        return "not_a_video", "is an image, not a video; use the image command for images"
    if not any(head):
        return "not_a_video", "holds zeros where a video begins; perhaps a download or a copy was interrupted"
    return "not_a_video", (
        "is not a video in a known container (MP4, MOV, AVI, Matroska, WebM, MPEG, FLV, WMV, Ogg, MXF), or its header "
        "is damaged"
    )


def lost_end(file: BinaryIO) -> str | None:
    """What an MP4, AVI or WMV file has lost with its end, by the lengths of its outermost parts.

    Args:
        file: Wherever it stands.

    Returns:
        ``"frames"``; ``"index"``, without which no frame can be found; ``"nothing"``; None for another file.
    """
    size = file.seek(0, 2)
    position, names = 0, set()
    while position < size:
        file.seek(position)
        name, length = _outer_part(file.read(24), size - position)
        if not name or (name == b"moov" and position + length > size):
            break
        names.add(name)
        position += length
    if names & {b"ftyp", b"mdat"} and not names & {b"moov", b"moof"}:
        return "index"
    if not names:
        return None
    return "frames" if position > size + _MISCOUNTED else "nothing"


def _outer_part(header: bytes, rest: int) -> tuple[bytes | None, int]:
    """Name and length of what begins there, with ``rest`` bytes of the file to come; no name for what is unknown."""
    if header[:4] == b"RIFF":
        name, length, least = header[:4], 8 + int.from_bytes(header[4:8], "little"), 9
    elif header[:16] in _ASF_OBJECTS:
        name, length, least = header[:16], int.from_bytes(header[16:], "little"), 25
    else:
        name, length, least = header[4:8], int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = rest
        name = name if name in _MP4_BOXES else None
    return (name if length >= least else None), length  # a length of nothing: the writer was stopped, or streams
