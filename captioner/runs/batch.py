"""Folders of files to folders of results: resumable, one failure isolated from the rest, a summary at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from captioner.atomic import check_writable
from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.outputs.records import count_unsure
from captioner.outputs.writers import clock
from captioner.runs.folder import RESULTS, RunFolder, Sidecars, fingerprint, identity_of
from captioner.runs.inputs import Input
from captioner.runs.workers import Task, process_isolated

RESULTS_INTERVAL = 10.0
"""Seconds, at least, between two versions of ``results.jsonl`` while a run goes on."""

RESULTS_SHARE = 0.05
"""Share of the time, at most, that is spent on them."""

Engine = Callable[..., Iterator[tuple[str, dict]]]
"""`captioner.runs.workers.process_isolated` or what takes and gives the same."""


class Listener(Protocol):
    """Is told how a run goes on."""

    def started(self, files: int) -> None:
        """So many files are to be worked on."""

    def progressed(self, path: str, fraction: float) -> None:
        """So much of a file is done, 0..1."""

    def finished(self, path: str, record: Mapping) -> None:
        """A file is done, or has failed (``"error" in record``)."""


class Silence:
    """A `Listener` that does nothing."""

    def started(self, files: int) -> None:
        """Nothing."""

    def progressed(self, path: str, fraction: float) -> None:
        """Nothing."""

    def finished(self, path: str, record: Mapping) -> None:
        """Nothing."""


@dataclass
class Summary:
    """How a run went.

    Attributes:
        output: The folder with the results.
        done: Files that were worked on with success.
        skipped: Files whose results from an earlier run are complete and still right.
        failed: Files and folders that failed in this run.
        failed_before: Files that failed in an earlier run and were not tried again.
        captions: Captions that were written in this run.
        unsure: Those of them that are unsure; see ``docs/unsure.md``.
        media_seconds: Length of the videos that were done in this run.
        seconds: Length of the run.
        gone: Results of files that are not there any more.
        pruned: Results of such files that were dropped.
        interrupted: Whether Ctrl-C (or a request to end) stopped it.
        stopped: What made it impossible to go on, such as a full disk.
        warnings: What else people should know, in sentences.
    """

    output: Path
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failed_before: int = 0
    gone: int = 0
    pruned: int = 0
    captions: int = 0
    unsure: int = 0
    media_seconds: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False
    stopped: CaptionerError | None = None
    warnings: list[str] = field(default_factory=list)
    _begin: float = field(default_factory=time.monotonic, repr=False)

    @property
    def exit_status(self) -> int:
        """0: everything worked; 1: some of it failed; 130: interrupted, as shells have it."""
        if self.interrupted:
            return 130
        return 1 if self.failed or self.failed_before or self.stopped else 0

    def __str__(self) -> str:
        counts = [f"{self.done} done", f"{self.skipped} skipped (complete already)", f"{self.failed} failed"]
        text = ", ".join(counts) + f" in {self.seconds:.1f} s"
        if self.unsure:
            text += f"; {self.unsure} of {self.captions} captions are unsure"
        if self.media_seconds:
            speed = self.media_seconds / max(self.seconds, 1e-9)
            text += f"; {clock(self.media_seconds)} of video, {speed:.1f} times real time"
        lines = [text + f". Results: {printable(str(self.output))}"]
        if self.failed_before:
            lines.append(f"{self.failed_before} failed in an earlier run; --retry-failed tries them again.")
        if self.gone:
            lines.append(f"Results of files that are gone: {self.gone}; --prune drops them.")
        if self.pruned:
            lines.append(f"Results of files that are gone, dropped: {self.pruned}.")
        lines += map(printable, self.warnings)
        if self.stopped:
            lines.append(f"Stopped: {printable(str(self.stopped))}.")
        if self.interrupted or self.stopped:
            lines.append("The same command again goes on from here.")
        return "\n".join(lines)


def run_batch(
    task: Task,
    inputs: Iterable[Input],
    output: str | os.PathLike,
    *,
    settings: Mapping,
    time_limit: float,
    sidecars: Sidecars | None = None,
    look: str = "",
    also: Callable[[dict], Mapping] | None = None,
    finish: Mapping[str, Callable[[RunFolder], str]] = MappingProxyType({}),
    paths: Sequence[str | os.PathLike] = (),
    retry_failed: bool = False,
    overwrite: bool = False,
    prune: bool = False,
    listener: Listener | None = None,
    engine: Engine = process_isolated,
) -> Summary:
    """Works on files and keeps a result for each, so that the run can be stopped, killed and started again.

    A file is skipped when its result is there, made from the same file (path, size and time of change) with the same
    settings. Whatever happens to this process, the folder holds whole results only, and the next run makes the rest.

    Args:
        task: What is done to each file.
        inputs: From `captioner.runs.inputs.find_inputs`; a path that comes twice is done once.
        output: Folder of the results.
        settings: Everything that the results depend on, JSON types; results made with others are made again.
        time_limit: Seconds that a file may take.
        sidecars: Files to make beside each result, extension to function of the record.
        look: How they are made; see `captioner.runs.folder.RunFolder`.
        also: Adds to records what they lack; see there.
        finish: Files at the top of the folder that are made from all results at the end, whether the run is complete
            or not: name, among `captioner.runs.folder.RESERVED`, to a function that gives the text.
        paths: Where the inputs were looked for: results of files that are gone from there are counted.
        retry_failed: Whether files that failed in an earlier run are tried again although they have not changed.
        overwrite: Whether to make all results again.
        prune: Whether to drop the results of files that are gone.
        listener: Is told how it goes on.
        engine: What has the files worked on.

    Returns:
        The summary, also after Ctrl-C or when it could not go on after the first file.

    Raises:
        CaptionerError: Nothing could be done: the folder cannot be written or is in use (``kind="locked"``), a name
            that is needed belongs to a file of somebody else's (``foreign``, ``link``), or the task cannot start.
    """
    listener = listener or Silence()
    summary = Summary(Path(output))
    with RunFolder(output, sidecars, finish, look=look, also=also) as folder, _terminated_like_interrupted():
        try:
            jobs = _plan(inputs, folder, summary, listener)
            _look_for_gone(folder, paths, summary, prune)
            jobs = _to_do(jobs, folder, summary, fingerprint(settings), retry_failed, overwrite, listener)
            listener.started(len(jobs))
            paths = [job.file for job in jobs]
            with contextlib.closing(engine(task, paths, time_limit=time_limit, report=listener.progressed)) as answers:
                _save(answers, {job.file: job for job in jobs}, folder, summary, fingerprint(settings), listener)
        except KeyboardInterrupt:
            summary.interrupted = True
        except CaptionerError as error:
            if not summary.done and not summary.skipped:
                raise
            summary.stopped = error
        for name, make in {RESULTS: None, **finish}.items():
            try:
                folder.write(name, make(folder)) if make else folder.write_results()
            except KeyboardInterrupt:
                summary.interrupted = True
            except CaptionerError as error:
                summary.stopped = summary.stopped or error
        summary.warnings += folder.warnings
    summary.seconds = time.monotonic() - summary._begin
    return summary


@dataclass(frozen=True)
class _Job:
    """One file of a run: its path as results name it, what it is now, and where its result goes."""

    file: str
    source: dict
    stem: str


def _plan(inputs: Iterable[Input], folder: RunFolder, summary: Summary, listener: Listener) -> list[_Job]:
    """The files that can be worked on; the others are recorded as failures."""
    found: dict[str, tuple[Input, dict]] = {}
    for one in inputs:
        try:
            if one.error:
                raise one.error
            source = identity_of(one.file)
            found.setdefault(source["path"], (one, source))
        except (CaptionerError, OSError) as error:
            if isinstance(error, OSError):
                error = CaptionerError(f"{printable(one.file)}: cannot be read: {error.strerror}", kind="missing")
            record = {"file": one.file, "error": error.to_dict()}
            folder.note(record)
            summary.failed += 1
            listener.finished(one.file, record)
    stems = folder.plan(one for one, _ in found.values())
    return [_Job(one.file, source, stems[source["path"]]) for one, source in found.values()]


def _look_for_gone(folder: RunFolder, paths: Sequence[str | os.PathLike], summary: Summary, prune: bool) -> None:
    gone = folder.gone(paths)
    for stored in gone if prune else ():
        try:
            folder.drop(stored)
            summary.pruned += 1
        except CaptionerError as error:
            summary.warnings.append(str(error))
    summary.gone = len(gone) - summary.pruned


def _to_do(
    jobs: list[_Job],
    folder: RunFolder,
    summary: Summary,
    settings: str,
    retry_failed: bool,
    overwrite: bool,
    listener: Listener,
) -> list[_Job]:
    """The jobs without a result that is still right."""
    todo = []
    for job in jobs:
        stored = folder.stored.get(job.source["path"])
        is_right = stored and stored.whole and stored.source == job.source and stored.settings == settings
        if not is_right or overwrite or (stored.failed and retry_failed):
            todo.append(job)
        elif stored.failed:
            summary.failed_before += 1
        else:
            try:
                folder.complete(stored)
                summary.skipped += 1
            except CaptionerError as error:
                _note_unwritable(error, job, settings, folder, summary, listener)
    lost = sum(not one.whole for one in folder.stored.values()) - sum(
        not folder.stored[job.source["path"]].whole for job in todo if job.source["path"] in folder.stored
    )
    if lost:
        summary.warnings.append(f"Damaged results whose files are not among the inputs, left out: {lost}.")
    return todo


def _save(
    answers: Iterable[tuple[str, dict]],
    jobs: Mapping[str, _Job],
    folder: RunFolder,
    summary: Summary,
    settings: str,
    listener: Listener,
) -> None:
    """Writes each answer as it comes, and ``results.jsonl`` now and then, so that a long run can be looked into."""
    results_due = time.monotonic() + RESULTS_INTERVAL
    for file, answer in answers:
        record = {"file": file, **answer}
        try:
            folder.save(jobs[file].stem, jobs[file].source, settings, record)
        except CaptionerError as error:
            _note_unwritable(error, jobs[file], settings, folder, summary, listener)
            continue
        if "error" in record:
            summary.failed += 1
        else:
            captions, unsure = count_unsure(record)
            summary.done += 1
            summary.captions += captions
            summary.unsure += unsure
            summary.media_seconds += record.get("duration", 0.0)
        listener.finished(file, record)
        if (begin := time.monotonic()) >= results_due:
            try:
                folder.write_results()
            except CaptionerError as error:
                if not _is_local(error, folder):
                    raise
            end = time.monotonic()
            results_due = end + max(RESULTS_INTERVAL, (end - begin) / RESULTS_SHARE)


def _note_unwritable(
    error: CaptionerError, job: _Job, settings: str, folder: RunFolder, summary: Summary, listener: Listener
) -> None:
    """Counts a file whose result, or part of it, cannot be written where it belongs; the run goes on.

    Raises:
        CaptionerError: The error itself, where nothing can be written at all.
    """
    if not _is_local(error, folder):
        raise error
    record = {"file": job.file, "error": error.to_dict()}
    stored = folder.stored.get(job.source["path"])
    if not stored or (stored.source, stored.settings) != (job.source, settings):
        folder.forget(job.source)
        folder.note(record)
    summary.failed += 1
    listener.finished(job.file, record)


def _is_local(error: CaptionerError, folder: RunFolder) -> bool:
    """Whether only one place cannot be written, not the disk or the whole folder."""
    if error.kind == "disk_full":
        return False
    try:
        check_writable(folder.path)
    except CaptionerError:
        return False
    return True


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Has a request to end (SIGTERM, as job managers send it) stop the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
