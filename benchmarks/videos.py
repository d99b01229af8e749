"""Videos: how many times faster than they play, and how time and memory grow with their length."""

from __future__ import annotations

import time

import cv2

import captioner
from benchmarks.material import video
from benchmarks.measuring import Setup, Table, in_new_process, rates

MINUTES = (1, 5, 20, 60)

_ONE = """
import sys, time, captioner
analyzer = captioner.VideoAnalyzer(sys.argv[1] or None)
start = time.perf_counter()
analysis = analyzer.analyze(sys.argv[2])
result = {"analysis_s": time.perf_counter() - start, "duration": analysis.duration, "segments": len(analysis.segments)}
"""


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    return [_speed(setup), _growth(setup)]


def _speed(setup: Setup) -> Table:
    seconds = setup.size(60, 8)
    model = captioner.load(setup.model)
    analyzers = {
        "captions": captioner.VideoAnalyzer(model, classifier=None, forecaster=None),
        "captions, labels, novelty": captioner.VideoAnalyzer(model),
    }
    programs = {}
    for width, height in ((320, 240), (640, 480), (1280, 720)):
        path = video(setup.folder, seconds, width, height)
        programs[f"{width}x{height}|decoding alone"] = lambda path=path: _decode(path) * 0 + seconds
        for name, analyzer in analyzers.items():
            programs[f"{width}x{height}|{name}"] = lambda path=path, analyzer=analyzer: round(
                analyzer.analyze(path).duration
            )
    measured = rates(programs, setup.repeats)
    return Table(
        "Video",
        ["frame", "what", "times real time", "lower quarter", "upper quarter"],
        [[*name.split("|"), rate.median, rate.low, rate.high] for name, rate in measured.items()],
        [f"{seconds} s of MPEG-4 at 25 frames a second, sampled once a second. Aim at 320x240: 60 times real time."],
    )


def _decode(path: str) -> int:
    capture = cv2.VideoCapture(path)
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    return frames


def _growth(setup: Setup) -> Table:
    rows = []
    for minutes in MINUTES:
        minutes = minutes / 20 if setup.quick else minutes
        path = video(setup.folder, minutes * 60)
        start = time.perf_counter()
        result = in_new_process(_ONE, str(setup.model or ""), path)
        rows.append(
            [minutes, result["analysis_s"], result["duration"] / result["analysis_s"], result["segments"],
             round(result["peak_mb"]), time.perf_counter() - start]
        )  # fmt: skip
    columns = ["minutes", "seconds", "times real time", "segments", "peak MB", "seconds with start"]
    return Table(
        "Longer videos", columns, rows, ["320x240, each in a process of its own: time per minute and memory stay flat."]
    )
