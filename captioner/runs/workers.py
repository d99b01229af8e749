"""Work on files in a separate process, so that a file that crashes or hangs it costs that file and nothing else."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from captioner.errors import CaptionerError
from captioner.names import printable

START_LIMIT = 600.0
"""Seconds that loading the models may take."""

MOST_DEATHS = 20
"""Workers in a row that may die, where no file has ever succeeded; then the files are not to blame."""

POLL_INTERVAL = 1.0
"""Seconds between two looks at whether a silent worker is still alive."""

REPORT_INTERVAL = 0.2
"""Seconds between two reports on how far a file is."""

Process = Callable[[Iterator[str], Callable[[float], None]], Iterator[dict]]
"""``process(paths, report)`` yields one record, without ``file``, for every path, in order; it may take several paths
before it yields. ``report(fraction)`` says how much of the current file is done, 0..1."""


class Task(Protocol):
    """What is to be done to each file; pickled, so that the worker process can have it.

    Attributes:
        ahead: How many paths the worker may be given before it has answered; a task that works in batches needs more.
    """

    ahead: int

    def start(self) -> Process:
        """Loads what is needed, once in every worker process.

        Raises:
            CaptionerError: It cannot be loaded.
        """


def process_isolated(
    task: Task,
    paths: Iterable[str],
    *,
    time_limit: float,
    report: Callable[[str, float], None] = lambda path, fraction: None,
) -> Iterator[tuple[str, dict]]:
    """Has a worker process work on files.

    When the worker crashes or takes too long it is replaced. If it had several files then, they are given to the new
    one one at a time, to find the one to blame. Crashes before any file has succeeded may be the worker's fault: files
    from elsewhere in the list are tried then, and if those crash it too, it is, and no file is blamed.

    Args:
        task: What to do.
        paths: The files.
        time_limit: Seconds that a file may take.
        report: Called with a path and the fraction of it that is done, if the task reports that.

    Yields:
        (path, record without ``file``) in the order of the paths, or nearly so after a crash.

    Raises:
        CaptionerError: The worker cannot start, dies again and again, or cannot go on (a full disk); nothing is wrong
            with the files.
    """
    waiting, sent = deque(paths), deque()
    deaths = 0
    succeeded = False
    unsettled: list[tuple[str, dict]] = []  # files that may have crashed the worker, or have found it broken
    suspects = 0  # how many of those in front have to go one at a time
    worker = None
    try:
        while waiting or sent:
            worker = worker or _Worker(task)
            limit = 1 if suspects else task.ahead
            if waiting and len(sent) < limit:
                while waiting and len(sent) < limit:
                    sent.append(waiting.popleft())
                    worker.send(sent[-1])
                if suspects or not waiting:
                    worker.send(None)  # no more for now: answer what you have
            kind, value = worker.receive(time_limit, lambda fraction: report(sent[0], fraction))
            if kind == "stopped":
                raise value
            is_death = kind == "failed" and value["kind"] != "timeout"
            if kind == "record" or len(sent) == 1:
                suspects = max(0, suspects - 1)
                path = sent.popleft()
                if is_death and not succeeded:
                    unsettled.append((path, _blamed(path, value)))
                else:
                    yield path, value if kind == "record" else _blamed(path, value)
            if kind == "record":
                if not succeeded and "error" not in value:
                    succeeded = True
                    yield from unsettled
                    unsettled.clear()
            else:
                worker.kill()
                worker = None
                suspects = max(suspects, len(sent))
                waiting.extendleft(reversed(sent))
                sent.clear()
            if is_death and not succeeded:
                deaths += 1
                if deaths >= MOST_DEATHS < len(waiting):  # the last few are soon tried
                    raise CaptionerError(
                        f"{deaths} worker processes in a row died, the last one because: {value['message']}",
                        kind="worker",
                    )
                if deaths >= MOST_DEATHS // 2:
                    waiting.rotate(-(1 + len(waiting) // 3))
        yield from unsettled
    finally:
        if worker:
            worker.kill()


def _blamed(path: str, error: dict) -> dict:
    return {"error": {**error, "message": f"{printable(path)}: {error['message']}"}}


class _Worker:
    """The near end of a worker process. Messages are pickles on its standard input and output."""

    def __init__(self, task: Task):
        # The interpreter starts afresh: a fork would inherit threads' locks, and what starts this one need not be
        # a module that can be imported again. A group of its own keeps the terminal's Ctrl-C away from it.
        code = f"import sys; sys.path[:] = {sys.path!r}; from captioner.runs.workers import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **({"process_group": 0} if os.name == "posix" else {}),
        )
        self._messages: queue.SimpleQueue = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="captioner-worker", daemon=True)
        self._listener.start()
        try:
            self.send(task)
            kind, value = self.receive(START_LIMIT)
            if kind != "ready":
                raise (
                    value
                    if isinstance(value, CaptionerError)
                    else CaptionerError(f"the worker process did not start: {value['message']}", kind="worker")
                )
        except BaseException:
            self.kill()
            raise

    def send(self, message: Any) -> None:
        """Sends a message; if the worker is dead, `receive` will say so."""
        with contextlib.suppress(OSError):
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def receive(self, time_limit: float, report: Callable[[float], None] = lambda fraction: None) -> tuple[str, Any]:
        """The next message but reports: ``("record", dict)``, ``("ready", None)``, ``("failed", error)`` or, where
        nothing is wrong with the file and no other would fare better, ``("stopped", error)``."""
        deadline = time.monotonic() + time_limit
        while True:
            left = deadline - time.monotonic()
            try:
                kind, value = self._messages.get(timeout=min(max(0.0, left), POLL_INTERVAL))
            except queue.Empty:
                if self._process.poll() is not None:
                    # A process that it forked can hold the pipe open after its death; answers may still be in there.
                    self.kill()
                    self._listener.join()
                    continue
                if left > POLL_INTERVAL:
                    continue
                reason = f"took longer than {time_limit:g} s; raise the time limit if that is too short"
                return "failed", CaptionerError(reason, kind="timeout").to_dict()
            if kind == "ended":
                return "failed", CaptionerError(self._death(), kind="crash").to_dict()
            if kind != "report":
                return kind, value
            report(value)

    def kill(self) -> None:
        """Ends the process and those that it started, whatever they are doing."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # an unsent message is flushed into nothing
            self._process.stdin.close()

    def _listen(self) -> None:
        stream = self._process.stdout
        try:
            while True:
                self._messages.put(pickle.load(stream))
        except Exception:  # the end, or a torn message
            self._messages.put(("ended", None))
        finally:
            stream.close()

    def _death(self) -> str:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the process that worked on it stopped answering"
        if status >= 0:
            return f"the process that worked on it ended with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = " (out of memory, perhaps)" if -status == getattr(signal, "SIGKILL", 9) else ""
        return f"the process that worked on it was ended by {name}{hint}"


def serve() -> None:
    """The far end: what runs in the worker process, until it is killed or the other end is gone."""
    # Streams of its own: what prints must not print into the messages, and who forks must not find standard input
    # locked by the thread that waits for messages.
    messages, output = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _die_with_parent()
    try:
        task = pickle.load(messages)
    except EOFError:  # the parent was interrupted
        return
    paths: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(messages, paths), daemon=True).start()
    try:
        process = task.start()
    except CaptionerError as error:
        return _send(output, "failed", error)
    except Exception as error:
        return _send(output, "failed", CaptionerError(f"cannot start: {type(error).__name__}: {error}", kind="worker"))
    _send(output, "ready", None)
    try:
        while True:
            for record in process(iter(paths.get, None), _Reporter(output)):
                _send(output, "record", record)
    except CaptionerError as error:  # those that are about a file are records
        _send(output, "stopped", error)
    except Exception as error:
        message = printable(f"{error}") or "no message"
        _send(output, "failed", {"type": type(error).__name__, "kind": "unexpected", "message": message})


class _Reporter:
    def __init__(self, output: BinaryIO):
        self._output = output
        self._last = 0.0

    def __call__(self, fraction: float) -> None:
        now = time.monotonic()
        if now - self._last >= REPORT_INTERVAL:
            self._last = now
            _send(self._output, "report", fraction)


def _receive(stream: BinaryIO, paths: queue.SimpleQueue) -> None:
    try:
        while True:
            paths.put(pickle.load(stream))
    except EOFError:
        os._exit(1)  # the parent is gone; nobody wants the answers


def _send(output: BinaryIO, kind: str, value: Any) -> None:
    try:
        pickle.dump((kind, value), output)
        output.flush()
    except OSError:  # the parent is gone
        os._exit(1)


def _die_with_parent() -> None:
    """Where Linux offers it; elsewhere the end of the messages does, unless the process is stuck in foreign code."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
