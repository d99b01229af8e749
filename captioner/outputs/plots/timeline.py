"""A video as a timeline: what happens when."""

from __future__ import annotations

import os
import textwrap

from matplotlib.ticker import FuncFormatter, PercentFormatter

from captioner.names import printable
from captioner.outputs.plots.picture import COLOURS, TEXT_SIZE, Picture, heading, new_picture, style_axes
from captioner.outputs.plots.settings import fixed_settings
from captioner.outputs.records import Record
from captioner.outputs.writers import certainty, clock
from captioner.results import VideoAnalysis

_CAPTIONED_SEGMENTS = 25


@fixed_settings()
def timeline_figure(video: VideoAnalysis | Record) -> Picture:
    """What happens when in a video: captions, action labels and novelty over one axis of time.

    Up to 25 segments are drawn one a row with their captions; more are drawn in one strip.

    Args:
        video: The analysis or its record; lanes without data are left out.
    """
    record = video.to_dict() if isinstance(video, VideoAnalysis) else video
    segments, windows, novelty = record["segments"], record.get("windows") or [], record.get("novelty") or []
    listed = 0 < len(segments) <= _CAPTIONED_SEGMENTS
    heights = [max(0.8, 0.42 * len(segments)) if listed else 0.8]
    heights += [0.9] * bool(windows) + [1.7] * bool(novelty)
    picture = new_picture(11, sum(heights) + 1.5 + 0.4 * len(heights))
    lanes = list(picture.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    lane = lanes.pop(0)
    for row, segment in enumerate(segments):
        width = segment["end"] - segment["start"]
        colour = COLOURS[row % 2 * 5]
        lane.barh(row if listed else 0, width, left=segment["start"], height=0.8, color=colour)
    if listed:
        captions = [textwrap.shorten(printable(one["caption"]), 46, placeholder=" …") for one in segments]
        lane.set_yticks(range(len(segments)), captions, fontsize=TEXT_SIZE - 1, parse_math=False)
        lane.invert_yaxis()
    else:
        lane.set_yticks([])
    style_axes(lane, y="segment")
    if windows:
        lane = lanes.pop(0)
        names = sorted({window["label"] for window in windows if window["label"] is not None})
        for window in windows:
            if window["label"] is None:  # empty where nothing known happens
                continue
            lane.bar(
                window["start"],
                certainty(window),
                width=window["end"] - window["start"],
                align="edge",
                color=COLOURS[names.index(window["label"]) % len(COLOURS)],
                edgecolor="white",
                label=printable(window["label"]),
            )
        lane.set_ylim(0, 1)
        lane.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        style_axes(lane, y="label\nprobability")
        handles = dict(zip(*reversed(lane.get_legend_handles_labels()), strict=True))
        if handles:
            lane.legend(
                handles.values(),
                handles,
                fontsize=TEXT_SIZE - 2,
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=6,
                frameon=False,
            )
    if novelty:
        lane = lanes.pop(0)
        times, values = [one["time"] for one in novelty], [one["value"] for one in novelty]
        lane.plot(times, values, color=COLOURS[0], linewidth=2)
        unusual = [one for one in novelty if one["unusual"]]
        if unusual:
            lane.plot(
                [one["time"] for one in unusual],
                [one["value"] for one in unusual],
                "o",
                color=COLOURS[3],
                label="unusual",
            )
            lane.legend(fontsize=TEXT_SIZE - 1, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))
        style_axes(lane, y="novelty\n(forecast error)")
    last = picture.axes[-1]
    last.set_xlim(0, max(record["duration"], 1e-3))
    last.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    style_axes(last, x=f"time ({'hours:' * (record['duration'] >= 3600)}minutes:seconds)")
    name = os.path.basename(record["file"]) if "file" in record else "The video"
    heading(picture, f"{textwrap.shorten(printable(name), 60)}: what happens when")
    return picture
