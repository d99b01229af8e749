"""Self-contained HTML pages of a video, of a run over videos and of a run over photos, made from their records.

A page is one file without scripts that asks for nothing from the network: pictures are data URIs, curves are inline
SVG, and a content security policy forbids everything else. File names and captions are hostile: whatever a template
prints is escaped, and what is invisible is shown (see `captioner.names.printable`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from captioner.names import printable
from captioner.outputs.records import Record
from captioner.outputs.thumbnails import smaller
from captioner.outputs.writers import certainty, clock
from captioner.results import NOTHING_KNOWN

COLOURS = 8
"""Colours for labels that the templates' style sheet has, as classes ``c0`` to ``c7``."""

_CURVE_POINTS = 1500
_MANY_SEGMENTS = 300  # from here on a page's pictures are made smaller, and from _MOST_PICTURES on left out
_MOST_PICTURES = 2000
_SMALL, _TINY = 160, 120
_SHORT = 60.0  # videos up to so many seconds have their times to a tenth
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def video_page(record: Record) -> str:
    """The page of one video: its segments with pictures and times, labels and novelty over time.

    Args:
        record: Record of a video, with its pictures where there are any (`records.with_thumbnails`); a failed video's
            record gives a page that says so.

    Returns:
        The HTML text.
    """
    if "error" in record:
        return _render("video.html", title=_name(record), record=record, error=record["error"])
    duration = max(float(record["duration"]), 1e-3)
    segments, windows = record["segments"], record.get("windows") or []
    width = _SMALL if len(segments) > _MANY_SEGMENTS else None
    return _render(
        "video.html",
        title=_name(record),
        record=record,
        label=_label(record),
        error=None,
        decimals=int(duration <= _SHORT),
        segments=[
            {**one, "number": number, **_place(one, duration), "picture": _picture(one, width, number)}
            for number, one in enumerate(segments, 1)
        ],
        # Nothing is drawn where nothing known happens.
        windows=[{**one, **_place(one, duration), "certainty": certainty(one)} for one in windows if one["label"]],
        colours=_colours(one["label"] for one in windows),
        novelty=_novelty(record.get("novelty") or [], duration),
        ticks=_ticks(duration),
    )


def videos_page(entries: Iterable[tuple[Record, str | None]], *, title: str = "Videos") -> str:
    """The page of a run over videos: a row for each with its captions, and the failures.

    Args:
        entries: Each video's record and the path of its own page relative to this one (None: no link), in the order to
            be shown. Taken one at a time, so that the pictures of a long run need not be in memory.
        title: Heading.

    Returns:
        The HTML text.
    """
    videos, failures, labels = [], [], Counter()
    for record, page in entries:
        if "error" in record:
            failures.append(record)
            continue
        duration = max(float(record["duration"]), 1e-3)
        segments = record["segments"]
        middle = next((one for one in segments[len(segments) // 2 :] if one.get("thumbnail")), {})
        videos.append(
            {
                "file": record["file"],
                "link": _link(page),
                "duration": duration,
                "decimals": int(duration <= _SHORT),
                "label": _label(record),
                "truncated": record.get("truncated"),
                "picture": _picture(middle, _TINY, len(videos)),
                "segments": [
                    {"start": one["start"], "caption": one["caption"], **_place(one, duration)} for one in segments
                ],
                "unusual": [one["time"] for one in record.get("novelty") or [] if one["unusual"]],
            }
        )
        labels[_label(record)] += 1
    named = [(label, labels[label]) for label, _ in labels.most_common() if label not in (None, NOTHING_KNOWN)]
    named += [(NOTHING_KNOWN, labels[NOTHING_KNOWN])] * (NOTHING_KNOWN in labels)
    return _render(
        "videos.html",
        title=title,
        videos=videos,
        failures=failures,
        labels=named,
        seconds=sum(video["duration"] for video in videos),
        segment_count=sum(len(video["segments"]) for video in videos),
    )


def images_page(records: Iterable[Record], *, title: str = "Photos") -> str:
    """The page of a run over photos: each with its caption, its confidence and the alternatives, and the failures.

    Args:
        records: Records of photos, with their pictures where there are any (`records.with_thumbnail`).
        title: Heading.

    Returns:
        The HTML text.
    """
    photos, failures = [], []
    for record in records:
        if "error" in record:
            failures.append(record)
        else:
            photos.append({**record, "picture": _picture(record, None, len(photos))})
    return _render("images.html", title=title, photos=photos, failures=failures)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Plain strings come from outside; markup that the templates themselves made passes.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters.update(
        clock=clock,
        percent=lambda share: f"{share:.0%}",
        csp_hash=lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode("ascii"),
        folder=os.path.dirname,
        name=os.path.basename,
    )
    return environment


def _label(record: Record) -> str | None:
    """Label of the whole video; None where there was no classifier."""
    return record.get("label") or (NOTHING_KNOWN if record.get("classifier") else None)


def _name(record: Record) -> str:
    return os.path.basename(record["file"]) or record["file"]


def _link(page: str | None) -> str | None:
    """A relative path as a URL; the leading ``./`` keeps a name with a colon from being taken for a scheme."""
    return None if page is None else "./" + quote(os.fsencode(page.replace(os.sep, "/")))


def _picture(record: Record, width: int | None, number: int) -> str | None:
    """The record's picture as a data URI; made smaller if ``width`` says so."""
    thumbnail = record.get("thumbnail")
    if not thumbnail or number > _MOST_PICTURES:
        return None
    if width:
        thumbnail = smaller(thumbnail, width)
    return thumbnail and "data:image/jpeg;base64," + thumbnail


def _place(stretch: Record, duration: float) -> dict[str, float]:
    """Where a stretch of time lies on an axis from 0 to ``duration``, in percent."""
    left = min(max(stretch["start"] / duration, 0.0), 1.0)
    right = min(max(stretch["end"] / duration, left), 1.0)
    return {"left": round(100 * left, 3), "width": round(100 * (right - left), 3)}


def _colours(labels: Iterable[str | None]) -> dict[str, str]:
    """Label -> class of its colour, the most frequent first."""
    counts = Counter(label for label in labels if label is not None)
    return {label: f"c{number % COLOURS}" for number, (label, _) in enumerate(counts.most_common())}


def _novelty(points: Sequence[Record], duration: float) -> dict[str, Any] | None:
    """The curve in a box of 1000 x 100 with its highest value at the top, and the unusual moments in percent."""
    if not points:
        return None
    highest = max(point["value"] for point in points) or 1.0
    step = -(-len(points) // _CURVE_POINTS)
    kept = [
        max(points[first : first + step], key=lambda point: point["value"]) for first in range(0, len(points), step)
    ]
    places = [(point["time"] / duration, point["value"] / highest) for point in kept]
    return {
        "points": " ".join(f"{1000 * x:.1f},{100 - 94 * y:.1f}" for x, y in places),
        "unusual": [
            {
                "time": point["time"],
                "x": round(100 * point["time"] / duration, 3),
                "y": 100 - 94 * point["value"] / highest,
            }
            for point in points
            if point["unusual"]
        ],
        "highest": highest,
    }


def _ticks(duration: float) -> list[dict[str, Any]]:
    """Round times along the axis: six at most, so that they are readable on a phone."""
    step = next((step for step in _TICKS if duration / step <= 6), duration)
    times = [number * step for number in range(int(duration / step + 1e-9) + 1)]
    return [{"x": round(100 * time / duration, 3), "text": clock(time, int(step < 1))} for time in times]
