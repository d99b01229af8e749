"""Reading ahead: jobs that run in threads while their results are taken in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
