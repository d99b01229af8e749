"""Many cases in a process of their own, which may crash or hang without harm; what came of it, in numbers."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

CPU_LIMIT = 30.0
"""Seconds of computing after which a case counts as a hang; waiting is counted by `WAIT_LIMIT`, on a busy machine."""
WAIT_LIMIT = 300.0
_START_LIMIT = 600.0


@dataclass
class Report:
    """What a campaign found.

    Attributes:
        tried: Cases by target.
        accepted: Cases that could be read, by target.
        bad: Target, number of the case, and what happened: a crash, a hang or a traceback.
        peak: Greatest memory of a process, in MB.
        largest: The case that took it.
        seconds: How long it took.
    """

    tried: Counter = field(default_factory=Counter)
    accepted: Counter = field(default_factory=Counter)
    bad: list[tuple[str, int, str]] = field(default_factory=list)
    peak: float = 0.0
    largest: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = Counter(what.split("\n")[0].split(":")[0] for _, _, what in self.bad)
        lines = [
            f"{target}: {count:,} tried, {self.accepted[target]:,} accepted" for target, count in self.tried.items()
        ]
        lines.append(
            f"{sum(self.tried.values()):,} files in {self.seconds / 60:.1f} minutes; crashes {kinds['crash']}, hangs "
            f"{kinds['hang']}, tracebacks {kinds['traceback']}; peak memory {self.peak:,.0f} MB ({self.largest})"
        )
        lines += [f"{target} {number}: {what}" for target, number, what in self.bad]
        return "\n".join(lines)


def campaign(cases: Iterable[tuple[str, int]]) -> Report:
    """Tries cases, each a target and a number, one after the other."""
    report, started, worker = Report(), time.monotonic(), None
    try:
        for target, number in cases:
            worker = worker or _Worker()
            what, peak = worker.run(target, number)
            report.tried[target] += 1
            if peak > report.peak:
                report.peak, report.largest = peak, f"{target} {number}"
            if what == "accepted":
                report.accepted[target] += 1
            elif what != "refused":
                report.bad.append((target, number, what))
            if what.startswith(("crash", "hang")):
                worker.kill()
                worker = None
    finally:
        if worker:
            worker.kill()
    report.seconds = time.monotonic() - started
    return report


class _Worker:
    """A process that tries cases; it starts afresh, as a fork would inherit threads' locks."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far,), daemon=True)
        self._process.start()
        far.close()
        if not self._pipe.poll(_START_LIMIT) or self._pipe.recv() != "ready":
            raise RuntimeError("the process that tries the cases did not start")

    def run(self, target: str, number: int) -> tuple[str, float]:
        self._pipe.send((target, number))
        before, since = self._computed(), time.monotonic()
        peak = 0.0
        while not self._pipe.poll(0.5):
            with contextlib.suppress(psutil.Error):
                peak = max(peak, psutil.Process(self._process.pid).memory_info().rss / 2**20)
            if self._computed() - before > CPU_LIMIT or time.monotonic() - since > WAIT_LIMIT:
                return "hang: it did not end in time", peak
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            return f"crash: the process ended with status {self._process.exitcode}", peak

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def _computed(self) -> float:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            return times.user + times.system
        return 0.0


def _serve(pipe) -> None:
    from fuzz import seeds, targets

    for make in (seeds.images, seeds.films, seeds.models):  # which takes longer than a case may
        make()
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            pipe.send((_outcome(targets, *pipe.recv()), _peak()))


def _peak() -> float:
    """Greatest memory of this process so far, in MB.

    Not ``ru_maxrss`` where it can be helped: Linux counts the process that this one was started from as well.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _outcome(targets, target: str, number: int) -> str:
    with tempfile.TemporaryDirectory(prefix="captioner-fuzz-") as folder:
        try:
            return targets.run(target, number, Path(folder))
        except Exception:
            return f"traceback: {traceback.format_exc()}"
