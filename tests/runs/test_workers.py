"""Whom a crash is blamed on: the file, the worker, or neither; with workers that only pretend."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import deque
from types import ModuleType, SimpleNamespace

import pytest
from batch_tasks import make, results, run

from captioner.errors import CaptionerError
from captioner.runs import workers
from captioner.runs.ray import process_with_ray
from captioner.runs.workers import MOST_DEATHS, process_isolated


class Pretends:
    """A worker that answers by the name of the file: crash, hang, full, refuse, anything else succeeds."""

    def __init__(self, task):
        self._sent = deque()

    def send(self, path):
        if path is not None:
            self._sent.append(path)

    def receive(self, time_limit, report):
        path = self._sent.popleft()
        if path.startswith("crash"):
            return "failed", {"type": "E", "kind": "crash", "message": "died"}
        if path.startswith("hang"):
            return "failed", {"type": "E", "kind": "timeout", "message": "took long"}
        if path.startswith("full"):
            return "stopped", CaptionerError("the disk is full", kind="disk_full")
        return "record", {"error": {"kind": "refused", "message": ""}} if path.startswith("refuse") else {"text": path}

    def kill(self):
        self._sent.clear()


class Task:
    def __init__(self, ahead):
        self.ahead = ahead


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", Pretends)


def answers(*names, ahead=1):
    return dict(process_isolated(Task(ahead), names, time_limit=1))


def named(kind, count):
    return [f"{kind}{i}" for i in range(count)]


@pytest.mark.parametrize("ahead", [1, 7, 64])
@pytest.mark.parametrize("bad", ["crash", "hang"])
def test_a_row_of_bad_files_before_good_ones(ahead, bad):
    records = answers(*named(bad, 3 * MOST_DEATHS), *named("good", 200), ahead=ahead)
    assert len(records) == 3 * MOST_DEATHS + 200
    assert {name[:4] for name, record in records.items() if "error" not in record} == {"good"}


@pytest.mark.parametrize("ahead", [1, 64])
def test_a_row_of_bad_files_after_a_good_one(ahead):
    assert len(answers("good", *named("crash", 100), ahead=ahead)) == 101


@pytest.mark.parametrize("ahead", [1, 64])
@pytest.mark.parametrize("seed", range(5))
def test_a_good_one_among_a_few_bad_ones(ahead, seed):
    names = [*named("crash", 25), "good", *named("hang", 3), *named("refuse", 3)]
    random.Random(seed).shuffle(names)
    records = answers(*names, ahead=ahead)
    assert set(records) == set(names) and "error" not in records["good"]


@pytest.mark.parametrize("ahead", [1, 64])
def test_where_nothing_succeeds_the_worker_is_to_blame(ahead):
    answered = []
    with pytest.raises(CaptionerError, match=f"{MOST_DEATHS} worker processes in a row died") as caught:
        for answer in process_isolated(Task(ahead), [*named("refuse", 5), *named("crash", 100)], time_limit=1):
            answered.append(answer)
    assert caught.value.kind == "worker"
    assert all(path.startswith("refuse") for path, _ in answered), "no file is blamed for a crash"


def test_a_few_files_that_all_crash_are_to_blame():
    assert len(answers(*named("crash", MOST_DEATHS))) == MOST_DEATHS


def test_files_that_all_take_too_long_are_to_blame():
    assert len(answers(*named("hang", 10 * MOST_DEATHS), ahead=64)) == 10 * MOST_DEATHS


@pytest.mark.parametrize("ahead", [1, 64])
def test_what_stops_everything_is_nobodys_fault(ahead):
    answered = []
    with pytest.raises(CaptionerError, match="the disk is full"):
        for answer in process_isolated(Task(ahead), ["good0", "good1", "full", "good2"], time_limit=1):
            answered.append(answer)
    assert [path for path, _ in answered] == ["good0", "good1"]


# --- Ray, pretended: the real one is in test_ray ---------------------------------------------------------------------


class PretendedRay(ModuleType):
    """Ray as far as `process_with_ray` uses it; like the real one it takes SIGTERM for itself when it starts."""

    def __init__(self, wait):
        super().__init__("ray")
        self._wait = wait
        self.killed = []
        self.is_down = False
        self.exceptions = SimpleNamespace(RayError=RuntimeError)

    def is_initialized(self):
        return False

    def init(self, **options):
        signal.signal(signal.SIGTERM, lambda number, frame: pytest.fail("Ray ended the process"))

    def cluster_resources(self):
        return {"CPU": 1}

    def remote(self, **options):
        def decorate(actor):
            def start(*arguments):
                started = actor(*arguments)
                return SimpleNamespace(work=SimpleNamespace(remote=lambda portion: (started.work, tuple(portion))))

            return SimpleNamespace(remote=start)

        return decorate

    def wait(self, futures, timeout):
        self._wait()
        return futures[:1], []

    def get(self, future):
        work, portion = future
        return work(list(portion))

    def kill(self, actor):
        self.killed.append(actor)

    def shutdown(self):
        self.is_down = True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_ray_a_signal_ends_a_run_as_without(tmp_path, number):
    """In a process of its own: signals reach every library that a long test run has loaded."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['end_with_ray'](Path({str(tmp_path)!r}), {int(number)})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def end_with_ray(folder, number):
    """A run on a pretended cluster that a signal ends after two of five files."""
    waits = []

    def wait():
        waits.append(0)
        if len(waits) == 3:
            signal.raise_signal(number)

    sys.modules["ray"] = ray = PretendedRay(wait)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    make(folder / "in", *(f"{i}.mp4" for i in range(5)))
    summary = run(folder / "in", folder / "out", engine=process_with_ray)
    assert (summary.done, summary.interrupted, summary.exit_status) == (2, True, 130)
    assert "The same command again goes on from here." in str(summary)
    assert len(results(folder / "out")) == 2 and ray.is_down and ray.killed
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert run(folder / "in", folder / "out", engine=process_with_ray).done == 3


def test_with_ray_what_stops_everything_is_nobodys_fault(tmp_path, monkeypatch):
    class Full:
        ahead = 1

        def start(self):
            def process(paths, report):
                for path in paths:
                    if path.endswith("2.mp4"):
                        raise CaptionerError("the disk is full", kind="disk_full")
                    yield {"text": path, "duration": 1.0}

            return process

    monkeypatch.setitem(sys.modules, "ray", PretendedRay(lambda: None))
    make(tmp_path / "in", *(f"{i}.mp4" for i in range(4)))
    summary = run(tmp_path / "in", tmp_path / "out", Full(), engine=process_with_ray)
    assert (summary.done, summary.failed, summary.stopped.kind) == (2, 0, "disk_full")
