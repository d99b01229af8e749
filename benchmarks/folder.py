"""A folder of many photos: time, memory and open files of a run and of its resumption; all should stay flat."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import Setup, Table

_SUMMARY = re.compile(r"(\d+) done, (\d+) skipped .*?, (\d+) failed")


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    rows = []
    for count in (2000, 20_000):
        count = min(count, 40) if setup.quick else count
        source = _photos(setup.folder / f"folder-{count}", count)
        with tempfile.TemporaryDirectory(dir=setup.folder) as output:
            for what in ("captions", "resumed"):
                rows.append([count, what, *_run(setup, source, output)])
    columns = [
        "photos",
        "run",
        "seconds",
        "photos/s",
        "done",
        "failed",
        "peak MB: run",
        "worker",
        "open files",
        "worker's",
    ]
    notes = ["`captioner image FOLDER --output FOLDER`, photos of 64 x 48 in folders of 1000; resident memory."]
    return [Table("A folder of many photos", columns, rows, notes)]


def _photos(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:02}" / f"{number:06}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
            small.resize((64, 48), Image.Resampling.BICUBIC).save(path, quality=80)
    return folder


def _run(setup: Setup, source: Path, output: str) -> list:
    command = [sys.executable, "-m", "captioner", "image", str(source), "--output", output]
    if setup.model:
        command += ["--model", str(setup.model)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1])
    memory, files = {"run": 0, "worker": 0}, {"run": 0, "worker": 0}
    while process.poll() is None:
        for who, pid in _processes(process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                memory[who] = max(memory[who], int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
                files[who] = max(files[who], len(os.listdir(f"/proc/{pid}/fd")))
            except (OSError, TypeError):  # it has ended
                continue
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    said = process.stderr.read()
    done, skipped, failed = map(int, _SUMMARY.search(said).groups())
    rate = (done + skipped) / seconds
    return [seconds, rate, done or skipped, failed, memory["run"], memory["worker"], files["run"], files["worker"]]


def _processes(pid: int) -> list[tuple[str, int]]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [("run", pid), *(("worker", int(child)) for child in children)]
