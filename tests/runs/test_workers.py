"""Whom a crash is blamed on: the file, the worker, or neither; with workers that only pretend."""

from __future__ import annotations

import random
from collections import deque

import pytest

from captioner.errors import CaptionerError
from captioner.runs import workers
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
