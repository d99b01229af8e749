"""Image formats told apart by their bytes: which one a file has, what else it is, and whether its end is missing."""

from __future__ import annotations


def format_of(data: bytes) -> str | None:
    """Name of the format by the first bytes, or None. Files of a few bytes count as the format that they begin."""
    if data[:3] == b"\xff\xd8\xff"[: len(data)]:
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n"[: len(data)]:
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP"[: max(0, len(data) - 8)]:
        return "WebP"
    if data[:2] == b"BM" and data[6:10] in (b"\0\0\0\0", b""):
        return "BMP"
    if data[:8] == b"\0\0\0\x0cjP  " or data[:4] == b"\xff\x4f\xff\x51":
        return "JPEG 2000"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data[:1] == b"P" and data[1:2] in b"123456f" and data[2:3].isspace():
        return "PNM"
    if data[:4] == b"qoif":
        return "QOI"
    return None


def what_instead(data: bytes) -> str:
    """What a file that is no image seems to be, and the remedy, as the end of a sentence."""
    head = data[:1024].lstrip().lower()
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return "is a HEIC photo, which cannot be decoded here; convert it to JPEG"
    if data[4:8] == b"ftyp" or data[:4] == b"RIFF" or data[:4] == b"\x1aE\xdf\xa3":
        return "is a video or a sound file, not an image; use the video command for videos"
    if head.startswith(b"%pdf"):
        return "is a PDF file, not an image; export its pages as PNG"
    if b"<svg" in head:
        return "is an SVG drawing, not an image of pixels; export it as PNG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; perhaps a download went wrong"
    return "is not an image in a known format (JPEG, PNG, GIF, WebP, BMP, TIFF, JPEG 2000, AVIF, PNM, QOI)"


def lacks_end(data: bytes, kind: str) -> bool:
    """Whether the mark that ends the file is missing: decoders accept some files that lost only their last bytes."""
    if kind == "JPEG":
        return _jpeg_lacks_end(data)
    if kind == "PNG":
        return _png_lacks_end(data)
    if kind == "GIF":
        return _gif_lacks_end(data)
    if kind == "WebP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if kind == "AVIF" or (kind == "JPEG 2000" and data[:1] == b"\0"):
        return _boxes_lack_end(data)
    if kind == "JPEG 2000":
        return not data.rstrip(b"\0").endswith(b"\xff\xd9")
    return False


def _jpeg_lacks_end(data: bytes) -> bool:
    """An embedded thumbnail has an end mark too, so only what follows the start of scan counts."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] == 0xFF:
            position += 1
        elif data[position + 1] == 0xDA:
            return data.find(b"\xff\xd9", position) < 0
        elif data[position + 1] == 0x01 or 0xD0 <= data[position + 1] <= 0xD8:
            position += 2  # markers without content
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


def _png_lacks_end(data: bytes) -> bool:
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IEND":
            return False
        position += 12 + length
    return True


def _gif_lacks_end(data: bytes) -> bool:
    position = 13 + _colour_table_bytes(data[10])
    while position < len(data):
        mark = data[position]
        if mark == 0x3B:
            return False
        if mark == 0x21:
            position += 2
        elif mark == 0x2C and position + 10 <= len(data):
            position += 11 + _colour_table_bytes(data[position + 9])
        else:
            position += 1  # bytes between blocks, which decoders skip
            continue
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return True


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _boxes_lack_end(data: bytes) -> bool:
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # 0: the box reaches to the end of the file
            return data[position + 4 : position + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        position += length
    return position > len(data)


def without_metadata(png: bytes) -> bytes:
    """A PNG file without its texts and colour profile.

    They are not needed, and Pillow refuses the whole picture if one of them is huge or damaged. Orientation stays,
    also where ImageMagick wrote it as text.
    """
    kept = [png[:8]]
    position = 8
    while position < len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4], "big")
        name = png[position + 4 : position + 8]
        needed = png[position + 8 : position + 24] == b"Raw profile type" and end - position < 2**17
        if name not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") or needed:
            kept.append(png[position:end])
        position = end
    return b"".join(kept)
