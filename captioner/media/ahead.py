"""Reading ahead: jobs and iterators that run in threads while their results are taken in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_ahead(jobs: Iterable[Callable[[], Result]], *, threads: int, ahead: int) -> Generator[Result]:
    """Results of jobs, in order, while later jobs run in other threads.

    A job is taken from the iterable only when there is room for it, by the thread that asks for results. What a job
    raises is raised here, in its turn. Closing the generator cancels what has not begun and waits for the rest.

    Args:
        jobs: Functions without arguments.
        threads: How many run at once.
        ahead: How many jobs may be running or done beyond the one whose result comes next.

    Yields:
        What the jobs return.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="captioner-read") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetch(items: Iterable[Item], depth: int = 4) -> Generator[Item]:
    """Lets another thread produce the items, ``depth`` of them ahead at most.

    What the other thread raises is raised here, after the items that came before it. Closing the generator, or leaving
    a loop over it, stops the thread.

    Args:
        items: What to iterate over; only the other thread touches it.
        depth: How many finished items may wait, 1 or more.

    Yields:
        The items, in order.
    """
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, not {depth}")
    waiting: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value) -> None:
        while not stop.is_set():
            try:
                return waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put("item", item)
                if stop.is_set():
                    return
        except BaseException as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()


class Epoch:
    """An iterable of known length that is produced ahead in another thread."""

    def __init__(self, length: int, batches: Iterator):
        self._length = length
        self._batches = batches

    def __len__(self) -> int:
        return self._length

    def __iter__(self):
        return prefetch(self._batches, depth=3)
