"""Self-contained HTML pages of a video, of a run over videos and of a run over photos, made from their records.

A page is one file that asks for nothing from the network: pictures are data URIs, curves are inline SVG, and a content
security policy forbids everything else but its own script, known by its checksum, and the film, which is named relative
to the page. Without scripts everything is there but search and jumps. File names and captions are hostile: whatever a
template prints is escaped, and what is invisible is shown (see `captioner.names.printable`).
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
from captioner.outputs.subtitles import to_vtt
from captioner.outputs.thumbnails import smaller
from captioner.outputs.writers import certainty, clock
from captioner.results import LOW_CONFIDENCE, NOTHING_KNOWN

COLOURS = 8
"""Colours for labels that the templates' style sheet has, as classes ``c0`` to ``c7``."""

_CURVE_POINTS = 1500
_MANY_PICTURES = 300  # from here on a page's pictures are made smaller, and from _MOST_PICTURES on left out
_MOST_PICTURES = 6000
_SMALL, _TINY = 160, 120
_SHORT = 60.0  # videos up to so many seconds have their times to a tenth
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def video_page(record: Record, film: str | None = None) -> str:
    """The page of one video: a player, its segments with pictures and times, labels and novelty over time.

    Args:
        record: Record of a video, with its pictures where there are any (`records.with_thumbnails`); a failed video's
            record gives a page that says so.
        film: Path of the film relative to the page; None leaves the player out.

    Returns:
        The HTML text.
    """
    if "error" in record:
        return _render("video.html", title=_name(record), record=record, error=record["error"])
    duration = max(float(record["duration"]), 1e-3)
    segments, windows = record["segments"], record.get("windows") or []
    width = _SMALL if len(segments) > _MANY_PICTURES else None
    return _render(
        "video.html",
        title=_name(record),
        record=record,
        label=_label(record),
        error=None,
        film=_link(film),
        cues="data:text/vtt;base64," + base64.b64encode(to_vtt(segments).encode()).decode("ascii"),
        poster=_picture(next((one for one in segments if one.get("thumbnail")), {}), None, 0),
        unsure=_count_unsure(segments),
        decimals=int(duration <= _SHORT),
        segments=[
            {**one, **_place(one, duration), **_marked(one), "number": number, "picture": _picture(one, width, number)}
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
                    {
                        "number": number,
                        **{name: one.get(name) for name in ("start", "caption", "tags")},
                        **_place(one, duration),
                        **_marked(one),
                    }
                    for number, one in enumerate(segments, 1)
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
        unsure=sum(_count_unsure(video["segments"]) for video in videos),
    )


def images_page(entries: Iterable[tuple[Record, str | None]], *, title: str = "Photos") -> str:
    """The page of a run over photos: each with its caption, its confidence and the alternatives, and the failures.

    Args:
        entries: Each photo's record, with its picture where there is one (`records.with_thumbnail`), and the path of
            the photo itself relative to this page (None: no link).
        title: Heading.

    Returns:
        The HTML text.
    """
    photos, failures = [], []
    for record, photo in entries:
        if "error" in record:
            failures.append(record)
            continue
        photos.append({**record, **_marked(record), "link": _link(photo)})
        if len(photos) > _MANY_PICTURES:  # the page has to open quickly
            for one in photos if len(photos) == _MANY_PICTURES + 1 else photos[-1:]:
                one["thumbnail"] = smaller(one.get("thumbnail") or "", _SMALL)
    for number, one in enumerate(photos):
        one["picture"] = _picture(one, None, number)
    return _render("images.html", title=title, photos=photos, failures=failures, unsure=_count_unsure(photos))


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
    environment.globals["low_confidence"] = LOW_CONFIDENCE
    environment.filters.update(
        clock=clock,
        percent=lambda share: f"{share:.0%}",
        csp_hash=lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode("ascii"),
        folder=os.path.dirname,
        name=os.path.basename,
    )
    return environment


def _marked(one: Record) -> dict[str, str | None]:
    """Why a photo's or segment's caption is unsure, if it is; records of earlier versions do not say."""
    return {"unsure": one.get("unsure")}


def _count_unsure(captions: Iterable[Record]) -> int:
    return sum(bool(one.get("unsure")) for one in captions)


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
