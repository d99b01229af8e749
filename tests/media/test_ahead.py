"""Reading ahead: order, errors in their turn, how far ahead, an end before the last job."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from captioner.media.ahead import run_ahead


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
def test_results_are_in_order_whichever_job_is_done_first(ahead):
    def job(number):
        time.sleep(0.002 * (number % 3 == 0))
        return number, threading.current_thread().name

    results = list(run_ahead((partial(job, number) for number in range(30)), threads=3, ahead=ahead))
    assert [number for number, _ in results] == list(range(30))
    assert threading.current_thread().name not in {name for _, name in results}


def test_an_error_comes_in_its_turn():
    results = run_ahead([lambda: 1, lambda: 1 / 0, lambda: 3], threads=2, ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_jobs_are_taken_only_when_there_is_room():
    taken = []
    results = run_ahead((partial(int, taken.append(number) or number) for number in range(100)), threads=2, ahead=4)
    for number in range(3):
        assert next(results) == number and len(taken) == number + 5
    results.close()


def test_what_has_not_begun_when_it_is_closed_never_runs():
    begun = []

    def job(number):
        begun.append(number)
        time.sleep(number)  # the second job lasts until the run is closed

    results = run_ahead([partial(job, number) for number in (0, 1, 0, 0)], threads=1, ahead=3)
    next(results)
    results.close()
    assert begun in ([0], [0, 1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("captioner-read")]
