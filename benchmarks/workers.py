"""Several workers: what one, two, ... processes on a core each get done, which is what a cluster multiplies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.material import video
from benchmarks.measuring import Rate, Setup, Table, cores

_WORKER = """
import os, sys, captioner
os.sched_setaffinity(0, {int(sys.argv[1])})
analyzer = captioner.VideoAnalyzer(captioner.load(sys.argv[2] or None, threads=1))
print("ready", flush=True)
for line in sys.stdin:
    analyzer.analyze(line.strip())
    print("done", flush=True)
"""


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    path = video(setup.folder, setup.size(60, 8))
    videos, counts = setup.size(4, 1), sorted({1, 2, cores()} & set(range(1, cores() + 1)))
    minutes: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(setup.repeats):
        for count in counts:
            seconds = _seconds(setup, count, [path] * videos)
            minutes[count].append(count * videos * setup.size(60, 8) / 60 / (seconds / 3600))
    rates = {count: Rate.of(values) for count, values in minutes.items()}
    alone = rates[1].median
    rows = [[n, r.median, r.low, r.high, r.median / alone, r.median / alone / n] for n, r in rates.items()]
    columns = ["workers", "minutes of video/hour", "lower quarter", "upper quarter", "times one", "share of ideal"]
    return [Table("Workers", columns, rows, ["320x240, one core and one thread for each worker, models loaded."])]


def _seconds(setup: Setup, count: int, paths: list[str]) -> float:
    """Time in which every worker does all the paths, from the moment at which all of them are ready."""
    available = sorted(os.sched_getaffinity(0))
    root = Path(__file__).resolve().parents[1]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(core), str(setup.model or "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root,
        )
        for core in available[:count]
    ]  # fmt: skip
    for worker in workers:
        if worker.stdout.readline().strip() != "ready":
            raise RuntimeError("a worker did not start")
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.write("\n".join(paths) + "\n")
        worker.stdin.close()
    answers = [worker.stdout.read().split() for worker in workers]
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.wait()
    if not np.all([len(answer) == len(paths) for answer in answers]):
        raise RuntimeError("a worker did not finish")
    return seconds
