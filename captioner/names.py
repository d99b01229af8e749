"""File names as text: names are any bytes, and what people read must neither crash nor deceive."""

from __future__ import annotations

# Joiners belong to emoji and to several scripts; `str.isprintable` counts them as invisible.
JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Text with everything invisible written as an escape, so that it stays on one line.

    Control characters (also those that steer a terminal), line separators, marks that turn the
    direction of writing, and bytes that are no UTF-8 (Python keeps them as surrogates) become
    ``\n``, ``\x1b``, ``\u202e``, ``\xff``. For people to read; the JSON formats keep names exactly.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in JOINERS else _escape(char) for char in text)


def encodable(text: str) -> str:
    r"""Text that UTF-8 can carry: bytes that are no UTF-8 become ``\xff``, all else stays."""
    return "".join(_escape(char) if "\ud800" <= char <= "\udfff" else char for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode stores the byte 0xNN as the code point U+DCNN
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
