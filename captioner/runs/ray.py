"""`captioner.runs.workers.process_isolated` on a Ray cluster: the same task, in as many processes as there is room for.

Files are read where the work is done, so that every machine has to see them under the same path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from captioner.errors import CaptionerError, needs_extra
from captioner.names import printable
from captioner.runs.workers import START_LIMIT, Task


class _Actor:
    """A process of the cluster: loads the task's models once, then works through lists of files."""

    def __init__(self, task: Task, folder: str):
        with contextlib.suppress(OSError):
            os.chdir(folder)  # relative paths mean the same here as where the run was started
        self._task = task
        self._process = None

    def work(self, paths: list[str]) -> list[dict] | CaptionerError:
        """Records of files, or why the task cannot start or go on."""
        try:
            self._process = self._process or self._task.start()
            return list(self._process(iter(paths), lambda fraction: None))
        except CaptionerError as error:
            return error


def process_with_ray(
    task: Task,
    paths: Iterable[str],
    *,
    time_limit: float,
    report: Callable[[str, float], None] = lambda path, fraction: None,
) -> Iterator[tuple[str, dict]]:
    """Has a Ray cluster work on files: the one that ``RAY_ADDRESS`` names, or one on this machine.

    A process that dies or takes too long is replaced; its files are tried again one at a time, to find the one to
    blame.

    Args:
        task: What to do.
        paths: The files.
        time_limit: Seconds that a file, or as many files as the task takes at once, may take.
        report: Not called: nothing is known of a file before it is done.

    Yields:
        (path, record without ``file``) as they come, in no order.

    Raises:
        CaptionerError: Ray is not installed, or the task cannot start or go on.
    """
    with _signals_kept(), needs_extra("--engine ray needs Ray", "ray"):
        import ray
    waiting = _portions(paths, task.ahead)
    if not waiting:
        return
    started_here = not ray.is_initialized()
    if started_here:
        with _signals_kept():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    threads = getattr(getattr(task, "computing", None), "threads", None) or 1
    actor_class = ray.remote(num_cpus=threads)(_Actor)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    idle, busy = deque(), {}
    try:
        while waiting or busy:
            while waiting and (idle or len(busy) < most):
                fresh = not idle
                actor = idle.popleft() if idle else actor_class.remote(task, os.getcwd())
                portion = waiting.popleft()
                deadline = time.monotonic() + time_limit + (START_LIMIT if fresh else 0)
                busy[actor.work.remote(portion)] = (actor, portion, deadline)
            patience = min(deadline for _, _, deadline in busy.values()) - time.monotonic()
            ready, _ = ray.wait(list(busy), timeout=max(0.0, patience))
            now = time.monotonic()
            for future in ready or [future for future, (_, _, deadline) in busy.items() if deadline <= now]:
                actor, portion, _ = busy.pop(future)
                try:
                    if not ready:
                        reason = f"took longer than {time_limit:g} s; raise the time limit if that is too short"
                        raise CaptionerError(reason, kind="timeout")
                    records = ray.get(future)
                except (CaptionerError, ray.exceptions.RayError) as error:
                    ray.kill(actor)
                    if len(portion) == 1:
                        yield portion[0], _blamed(portion[0], error)
                    else:
                        waiting.extendleft([path] for path in reversed(portion))
                    continue
                if isinstance(records, CaptionerError):
                    raise records
                idle.append(actor)
                yield from zip(portion, records, strict=True)
    finally:
        for actor in [*idle, *(actor for actor, _, _ in busy.values())]:
            ray.kill(actor)
        if started_here:
            ray.shutdown()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What requests to end do stays as it was: Ray would end this process at once, without summary and results."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _portions(paths: Iterable[str], size: int) -> deque[list[str]]:
    paths = list(paths)
    return deque(paths[start : start + size] for start in range(0, len(paths), size))


def _blamed(path: str, error: Exception) -> dict:
    if not isinstance(error, CaptionerError):
        cause = getattr(error, "cause", None)  # what the task itself raised; otherwise the process died
        if cause is not None:
            message = f"{printable(path)}: {printable(str(cause)) or 'no message'}"
            return {"error": {"type": type(cause).__name__, "kind": "unexpected", "message": message}}
        error = CaptionerError("the process that worked on it died", kind="crash")
    return {"error": {**error.to_dict(), "message": f"{printable(path)}: {error}"}}
