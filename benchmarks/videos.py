"""Videos: how many times faster than they play, where the time goes, and how time and memory grow with their length."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import cv2

import captioner
from benchmarks.material import video
from benchmarks.measuring import Setup, Table, in_new_process, rates
from captioner.clips.motion import MotionMeter
from captioner.clips.windows import WindowSampler
from captioner.media.shots import reduced_size
from captioner.media.videos import VideoReader

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
    return [_speed(setup), _shares(setup), _classification(setup), _folder(setup), _growth(setup)]


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
        programs[f"{width}x{height}|decoding, small pictures for cuts"] = lambda path=path: _decode(path) * 0 + seconds
        programs[f"{width}x{height}|the same by OpenCV"] = lambda path=path: _decode_by_opencv(path) * 0 + seconds
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
    with VideoReader(path) as reader:
        small = reduced_size(reader.width, reader.height)
        return sum(1 for frame in reader if frame.resized(*small) is not None)


def _decode_by_opencv(path: str) -> int:
    """As the analysis did it before: every frame whole."""
    capture = cv2.VideoCapture(path)
    frames = 0
    while True:
        ok, image = capture.read()
        if not ok:
            capture.release()
            return frames
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        cv2.resize(image, reduced_size(image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
        frames += 1


def _shares(setup: Setup) -> Table:
    """Time in the parts of an analysis; decoding and the search for cuts run beside the others."""
    seconds = setup.size(120, 8)
    path = video(setup.folder, seconds)
    analyzer = captioner.VideoAnalyzer(captioner.load(setup.model))
    model = analyzer.captioner
    parts = {
        "encoding": (model, "encode"),
        "search": (model, "caption_features"),
        "labels": (analyzer.classifier, "label_windows"),
    }
    total, spent = _timed(parts, lambda: analyzer.analyze(path))
    rows = [[name, 100 * value / total] for name, value in spent.items()]
    rows.append(["waiting for frames, and the rest", 100 * (1 - sum(spent.values()) / total)])
    return Table(
        "Where the time goes",
        ["part", "% of the whole"],
        rows,
        [
            f"320x240, {seconds} s, captions, labels and novelty: {seconds / total:.1f} times real time. Decoding, the "
            "search for cuts and resizing run in another thread."
        ],
    )


def _classification(setup: Setup) -> Table:
    """What networks or regression, and measuring motion, cost beside the encoding of the frames looked at."""
    seconds = setup.size(60, 8)
    path = video(setup.folder, seconds)
    rows = []
    for name in ("actions", "fights"):
        model = captioner.load(name)
        parts = {
            "encoding": (model, "encode"),
            "heads": (model, "probabilities"),
            "whole frames": (WindowSampler, "push"),
            "region": (MotionMeter, "push"),
        }
        total, spent = _timed(parts, lambda model=model: model.classify(path))
        costs = [spent["heads"], spent["whole frames"], spent["region"]]
        rows.append([name, len(model.heads), seconds / total, *(100 * cost / spent["encoding"] for cost in costs)])
    return Table(
        "Classification",
        [
            "classifier",
            "heads",
            "times real time",
            "heads, % of encoding",
            "motion in whole frames, %",
            "in the region, %",
        ],
        rows,
        [
            f"`classify` of {seconds} s, 320x240. Heads are networks, or one ridge regression; aim: at most 10 % of "
            "the encoding. Motion is measured on one core, in whole frames while the encoder works on all."
        ],
    )


def _timed(parts, run) -> tuple[float, dict[str, float]]:
    """Seconds of a second run, and those of it spent in some methods: name to (object or class, method)."""
    spent = {}

    def timed(name, function):
        def call(*arguments, **options):
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    run()
    with ExitStack() as patches:
        for name, (owner, method) in parts.items():
            spent[name] = 0.0
            patches.enter_context(mock.patch.object(owner, method, timed(name, getattr(owner, method))))
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, spent


def _folder(setup: Setup) -> Table:
    """A folder of short clips in one run beside one run for each clip."""
    clips, alone = setup.size(200, 4), setup.size(10, 2)
    folder = setup.folder / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(video(setup.folder, 2))
    for number in range(clips):
        shutil.copyfile(source, folder / f"{number:03}.mp4")
    options = ["--model", setup.model] if setup.model else []
    output = setup.folder / "clips-output"
    command = [sys.executable, "-m", "captioner", "video"]

    def run(paths, name) -> float:
        shutil.rmtree(output, ignore_errors=True)
        start = time.perf_counter()
        for number, path in enumerate(paths):
            arguments = [*command, str(path), "--output", str(output / f"{name}{number}"), *options]
            subprocess.run(arguments, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[1])
        return time.perf_counter() - start

    together = run([folder], "all") / clips
    single = run(sorted(folder.iterdir())[:alone], "one") / alone
    return Table(
        "Many short clips",
        ["how", "seconds a clip", "times one run"],
        [["one run for the folder", together, 1.0], ["one run for each clip", single, single / together]],
        [f"{clips} clips of 2 s, 320x240, all outputs; one run for each clip measured on {alone}. Aim: 5 times."],
    )


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
