"""Reading ahead: order, errors in their turn, how far ahead, an end before the last job."""

from __future__ import annotations

import threading
import time
from functools import partial

import media_makers as make
import pytest

from captioner.errors import VideoReadError
from captioner.media.ahead import prefetch, run_ahead
from captioner.media.videos import VideoReader


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


class TestPrefetch:
    def test_order(self):
        assert list(prefetch(range(100), depth=3)) == list(range(100))
        assert list(prefetch([])) == []

    def test_error_reaches_the_caller_after_what_came_before(self):
        def items():
            yield 1
            yield 2
            raise VideoReadError("broken", kind="no_frames")

        received = []
        with pytest.raises(VideoReadError, match="broken"):
            for item in prefetch(items()):
                received.append(item)
        assert received == [1, 2]

    def test_runs_ahead_but_not_far(self):
        produced = []

        def items():
            for number in range(50):
                produced.append(number)
                yield number

        iterator = prefetch(items(), depth=3)
        next(iterator)
        deadline = time.monotonic() + 5
        while len(produced) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(produced) == 5  # one taken, three waiting, one in the hand of the thread
        iterator.close()

    def test_leaving_the_loop_stops_the_thread(self):
        before = threading.active_count()
        for item in prefetch(iter(range(10**9)), depth=2):
            if item == 3:
                break
        del item
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before

    def test_closing_the_reader_while_a_thread_reads(self, tmp_path):
        film = make.write_video(tmp_path / "film.mp4", make.grey_frames(50))
        for _ in range(10):
            with VideoReader(film) as reader:
                frames = prefetch(reader, depth=1)
                next(frames)
            list(frames)  # ends, without an error or a crash

    def test_depth(self):
        with pytest.raises(ValueError, match="depth"):
            next(prefetch([1], depth=0))

    def test_frames_of_a_video(self, tmp_path):
        with VideoReader(make.write_video(tmp_path / "film.mp4", make.grey_frames(50))) as reader:
            assert [make.grey_index(frame.image) for frame in prefetch(reader)] == list(range(50))
