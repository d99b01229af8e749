"""Segments as subtitles: SubRip (.srt) and WebVTT (.vtt) that players accept whatever the captions hold."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from captioner.names import printable
from captioner.outputs.records import Record

if TYPE_CHECKING:
    from captioner.results import Segment  # not at run time: it brings NumPy, and the command line starts without

# SubRip has no way to escape. Players take <...> and {...} for formatting and "-->" for the time line, so the
# characters that would start those are replaced by their nearest look-alikes.
_SRT_LOOKALIKES = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})


UNSURE = ("keep", "mark", "drop")
"""What can be done with unsure captions: keep them as they are, end them with "(unsure)", or leave them out."""


def to_srt(segments: Iterable[Segment | Record], *, unsure: str = "mark") -> str:
    """Segments as a SubRip file: numbered cues, ``00:01:02,500 --> 00:01:04,000``.

    Cues are in order of time, never overlap and last at least a millisecond; a segment without a caption gives none.

    Args:
        segments: `Segment` objects or their records; times in seconds.
        unsure: One of `UNSURE`.

    Returns:
        The text of the file; empty where no segment has a caption.
    """
    cues = (
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text.translate(_SRT_LOOKALIKES)}\n"
        for number, (start, end, text) in enumerate(_cues(segments, unsure), 1)
    )
    return "\n".join(cues)


def to_vtt(segments: Iterable[Segment | Record], *, unsure: str = "mark") -> str:
    """Segments as a WebVTT file (W3C WebVTT: The Web Video Text Tracks Format), ``&``, ``<`` and ``>`` escaped.

    Cues are as in `to_srt`.

    Args:
        segments: `Segment` objects or their records; times in seconds.
        unsure: One of `UNSURE`.
    """
    cues = (
        f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _cues(segments, unsure)
    )
    return "WEBVTT\n" + "".join(cues)


def _cues(segments: Iterable[Segment | Record], unsure: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, text) in milliseconds, in order, not overlapping, none empty in time or text."""
    cues = []
    for segment in segments:
        record = segment.to_dict() if hasattr(segment, "to_dict") else segment
        text = printable(" ".join((record["caption"] or "").split()))
        if record.get("unsure") and unsure != "keep":
            text = f"{text} (unsure)" if text and unsure == "mark" else ""
        if text:
            cues.append((max(0, round(record["start"] * 1000)), round(record["end"] * 1000), text))
    cues.sort(key=lambda cue: cue[:2])
    previous = 0
    for (start, end, text), following in itertools.zip_longest(cues, cues[1:]):
        start = max(start, previous)
        if following and start < following[0] < end:
            end = following[0]
        previous = max(end, start + 1)
        yield start, previous, text


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"
