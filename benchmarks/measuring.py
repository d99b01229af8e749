"""How the benchmarks measure: alternatives in turns in one process, medians over repeats, the machine written down."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captioner.models.runtime import available_cores as cores

PACKAGES = (
    "captioner", "numpy", "openvino", "keras", "tensorflow-cpu", "tensorflow", "opencv-python-headless", "pillow",
    "torch", "transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What a run of the benchmarks was asked to do.

    Attributes:
        model: Name or folder of the captioner.
        folder: Where photos and videos are made.
        repeats: Rounds over which a median is taken.
        data: Caption data sets, for what needs real photos and captions.
        clips: A clip data set, for what needs real videos; or None.
        quick: Whether everything is made small, to see that it works; the figures mean nothing then.
    """

    model: str | None
    folder: Path
    repeats: int = 5
    data: tuple[Path, ...] = ()
    clips: Path | None = None
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """A number of photos, or whatever: the full one, or the small one of a quick run."""
        return quick if self.quick else full


@dataclass
class Table:
    """A table of results.

    Attributes:
        title: Heading.
        columns: Names, with units.
        rows: One list for each row: text or numbers.
        notes: Sentences under the table: what was measured, and what follows.
    """

    title: str
    columns: list[str]
    rows: list[list]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rate:
    """Items a second: the median over the rounds and the quarters around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rates) -> Rate:
        """The summary of several measurements."""
        low, median, high = np.percentile(list(rates), [25, 50, 75])
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"


def rates(programs: Mapping[str, Callable[[], int]], repeats: int) -> dict[str, Rate]:
    """Measures programs in turns, so that whatever else the machine does meets all of them.

    Args:
        programs: Name to a function that handles some items and returns how many.
        repeats: Rounds that count, after one that does not.
    """
    measured = {name: [] for name in programs}
    names = list(programs)
    for number in range(repeats + 1):
        for name in names if number % 2 else reversed(names):
            gc.collect()
            start = time.perf_counter()
            items = programs[name]()
            if number:
                measured[name].append(items / (time.perf_counter() - start))
    return {name: Rate.of(values) for name, values in measured.items()}


def in_new_process(code: str, *arguments: str) -> dict:
    """Runs Python code in a fresh interpreter; it prints one JSON object on its last line.

    Returns:
        That object, with ``peak_mb``, the most memory that the process had, and ``seconds``, from its start to its end.
    """
    # Not getrusage: its maximum starts at the memory of the process that started this one.
    report = (
        "\nimport json, re\n"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) / 1024\n"
        "print(json.dumps({**result, 'peak_mb': peak}))\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments], capture_output=True, text=True, check=False, cwd=_root()
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"a measured program failed:\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": seconds}


def seconds_of_command(arguments: list[str], repeats: int) -> Rate:
    """Wall time of a command, from its start to its end (median, quarters)."""
    times = []
    for number in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True, cwd=_root())
        if number:
            times.append(time.perf_counter() - start)
    return Rate.of(times)


def machine() -> dict:
    """Processor, cores that may be used, memory, versions, and what else the machine was doing."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "features": _features(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _features() -> list[str]:
    """Instructions that decide the speed of a network."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return sorted(words & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimddp", "bf16"})
