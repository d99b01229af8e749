"""Video containers told apart by their first bytes, and why one of them cannot be played."""

from __future__ import annotations

import os
import re

SOUND = frozenset({"MP3", "WAV", "FLAC", "AAC", "AIFF", "Ogg sound"})
"""Names of the containers that hold sound only."""

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
_STILL_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_STARTS = {
    b"\x1aE\xdf\xa3": "Matroska",
    b"\0\0\x01\xba": "MPEG",
    b"\0\0\x01\xb3": "MPEG",
    b"\0\0\0\x01": "raw video",
    b"FLV": "Flash video",
    b"0&\xb2u\x8ef\xcf\x11": "Windows Media",
    b"\x06\x0e+4\x02\x05\x01\x01": "MXF",
    b"YUV4MPEG2": "raw video",
    b"DKIF": "IVF",
    b"ID3": "MP3",
    b"fLaC": "FLAC",
    b"FORM": "AIFF",
}
_MOOV_LIMIT = 2**28


def container_of(head: bytes) -> str | None:
    """Name of the container by the first bytes of the file, or None.

    Only these are given to the decoder: it also understands playlists and scripts, which name other files and
    addresses.
    """
    if head[4:8] in _MP4_BOXES:
        return None if head[8:12] in _STILL_PICTURES else "MP4"
    if head[:4] == b"RIFF":
        return {b"AVI ": "AVI", b"WAVE": "WAV"}.get(head[8:12])
    if head[:4] == b"OggS":
        return "Ogg" if b"theora" in head or b"BBCD" in head else "Ogg sound"
    for step, offset in ((188, 0), (192, 4)):
        if len(head) > 2 * step and all(head[offset + step * k] == 0x47 for k in range(3)):
            return "MPEG-TS"
    if (
        head[:1] == b"\xff"
        and len(head) > 1
        and head[1] & 0xE0 == 0xE0
        and head[1] != 0xFF
        and head[:3] != b"\xff\xd8\xff"
    ):
        return "AAC" if head[1] & 0xF6 == 0xF0 else "MP3"
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


def what_instead(head: bytes) -> str:
    """What a file that is no video seems to be, as the end of a sentence."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")) or head[8:12] in (b"WEBP", *_STILL_PICTURES):
        return "is an image, not a video; use the image command for images"
    if head.startswith(b"#EXTM3U"):
        return "is a playlist, not a video; give the videos that it names"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a video; perhaps a download went wrong"
    if not any(head[:512]):
        return "holds zeros where a video begins; perhaps a download or a copy was interrupted"
    return "is not a video in a known container (MP4, MOV, AVI, Matroska, WebM, MPEG, FLV, WMV, Ogg, MXF)"


def why_unreadable(path: str | os.PathLike, container: str) -> tuple[str, str]:
    """Why the decoder refuses a file of a known container.

    Args:
        path: The file.
        container: Its name from `container_of`.

    Returns:
        ``(kind, reason)``: the kind of the `captioner.errors.VideoReadError` and the end of its sentence.
    """
    if container == "MP4":
        moov = _moov(path)
        if moov is None:
            return "truncated", (
                "was cut off: its index, which such files mostly keep at their end, is missing, so that no frame can "
                "be found; copy it again, or repair the recording"
            )
        tracks = set(re.findall(rb"hdlr.{8}(vide|soun)", moov, re.DOTALL))
    else:
        with open(path, "rb") as file:
            head = file.read(2**16)
        pattern = {"AVI": rb"strh.{4}(vids|auds)", "Matroska": rb"\x86.([VA]_)"}.get(container)
        tracks = set(re.findall(pattern, head, re.DOTALL)) if pattern else set()
    if tracks and not tracks & {b"vide", b"vids", b"V_"}:
        return "no_video_stream", "holds no picture, only sound"
    return "not_a_video", f"{container} file that cannot be decoded: it is damaged, or its codec is unknown"


def _moov(path: str | os.PathLike) -> bytes | None:
    """Content of the box that says what an MP4 file holds, or None where it is missing or cut off."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:
                length = size - position
            if length < 8:
                return None
            if header[4:8] == b"moov":
                if position + length > size or length > _MOOV_LIMIT:
                    return None
                file.seek(position)
                return file.read(length)
            position += length
    return None
