"""The output folder of a run: its lock, the results and their names, and ``results.jsonl``, safe against kills.

Every input has one file ``NAME.json`` that mirrors its place under the input folder. It appears whole or not at all,
and it alone says that the input is done: it starts with what it was made from. All else, the sidecars (subtitles,
pages) and ``results.jsonl``, is made from these files and can be made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from captioner.atomic import remove_leftovers, replacing, write_atomic, write_error
from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.outputs.records import Record, json_line, without_thumbnails
from captioner.runs.inputs import Input, natural_key

RESULTS = "results.jsonl"
LOCK = ".captioner-lock"
RESERVED = (RESULTS, "results.csv", "index.html", "index.sqlite")
"""Names at the top of an output folder that belong to the run."""

EXTENSIONS = ("json", "srt", "vtt", "csv", "txt", "html")
"""All that may lie beside a result. A name is taken if one of them is there, also where it was not asked for: a later
run may ask, and must not hit a file of somebody else's."""

FORMAT = 1
_MARK = '{"run": '
_HEADER_BYTES = 16384  # more than the header of the longest path
_NAME_BYTES = 255  # what Linux and most disks allow
_LONGEST_SUFFIX = 16

Sidecars = Mapping[str, Callable[[Record], str]]
"""Extension without its dot to the function that makes the file from the record."""


@dataclass(frozen=True)
class Stored:
    """A result that lies in the folder.

    Attributes:
        stem: Its path relative to the folder, without ``.json``; sidecars have other extensions after the same stem.
        source: What it was made from; see `identity_of`.
        settings: Fingerprint of the settings that it was made with.
        failed: Whether it holds an error.
    """

    stem: str
    source: dict
    settings: str
    failed: bool


def identity_of(path: str) -> dict:
    """What tells an input from another, and from itself after a change: ``{"path", "size", "mtime_ns"}``.

    Raises:
        OSError: It is not there.
    """
    status = os.stat(path)
    return {"path": os.path.abspath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def fingerprint(settings: Mapping) -> str:
    """SHA-256 of settings (JSON types): equal exactly where they are, whatever the order of the keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """An output folder that this process alone works on; a context manager.

    Args:
        path: The folder; made if absent.
        sidecars: Files to make beside each result, by extensions among `EXTENSIONS`.

    Raises:
        CaptionerError: The folder cannot be written, or ``kind="locked"``: another process works on it.
    """

    def __init__(self, path: str | os.PathLike, sidecars: Sidecars | None = None):
        self.path = Path(path)
        self.sidecars = dict(sidecars or {})
        self.stored: dict[str, Stored] = {}  # by the absolute path of the input
        self._extras: list[dict] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> RunFolder:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(self.path))
            try:
                remove_leftovers(self.path)
            except OSError as error:
                raise write_error(self.path, error) from error
            self.stored = {one.source["path"]: one for one in _scan(self.path)}
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exc_info) -> None:
        self._exit.close()

    def plan(self, inputs: Iterable[Input]) -> dict[str, str]:
        """Where the results of inputs go: absolute path to stem; no two are the same, none hits a foreign file.

        An input keeps the stem that it already has. A new one mirrors its place in the input tree, its extension kept,
        so that ``a.mp4`` and ``a.avi`` differ; a number or a checksum is added where the name is taken or too long.
        """
        inputs = list(inputs)
        stems = {one.absolute: self.stored[one.absolute].stem for one in inputs if one.absolute in self.stored}
        taken = {_folded(one.stem) for one in self.stored.values()}
        folders = {_folded(str(parent)) for one in inputs for parent in Path(one.relative).parents}
        for one in inputs:
            if one.absolute not in stems:
                stem = next(name for name in _names(one) if self._is_free(name, taken, folders))
                stems[one.absolute] = stem
                taken.add(_folded(stem))
        return stems

    def _is_free(self, stem: str, taken: set[str], folders: set[str]) -> bool:
        outputs = [f"{stem}.{extension}" for extension in EXTENSIONS]
        return (
            _folded(stem) not in taken
            and not any(_folded(output) in folders or output.casefold() in RESERVED for output in outputs)
            and not any(os.path.lexists(self.path / output) for output in outputs)
        )

    def save(self, stem: str, source: dict, settings: str, record: Record) -> None:
        """Writes the result of one input and its sidecars.

        Raises:
            CaptionerError: A file cannot be written.
        """
        # Old sidecars go first: after a kill, those that are there fit the result that is there.
        for extension in self.sidecars:
            self._unlink(f"{stem}.{extension}")
        failed = "error" in record
        header = {"format": FORMAT, "source": source, "settings": settings, "failed": failed}
        write_atomic(self.path / f"{stem}.json", json_line({"run": header, **record}) + "\n")
        self.stored[source["path"]] = Stored(stem, source, settings, failed)
        if not failed:
            for extension, make in self.sidecars.items():
                write_atomic(self.path / f"{stem}.{extension}", make(record))

    def complete(self, stored: Stored) -> None:
        """Makes the sidecars of a result that are not there.

        Raises:
            CaptionerError: A file cannot be written.
        """
        missing = [e for e in self.sidecars if not os.path.lexists(self.path / f"{stored.stem}.{e}")]
        if missing and not stored.failed and (record := self._read(stored)):
            for extension in missing:
                write_atomic(self.path / f"{stored.stem}.{extension}", self.sidecars[extension](record))

    def note(self, record: Record) -> None:
        """Adds the record of something that has no file of its own, such as a folder that cannot be read."""
        self._extras.append(dict(record))

    def results(self) -> Iterator[tuple[str | None, dict]]:
        """(stem, record with its pictures) of everything in the folder, sorted by the path of the input.

        The stem is None for what has no files of its own.
        """
        for path in sorted(self.stored, key=natural_key):
            record = self._read(self.stored[path])
            if record:
                yield self.stored[path].stem, record
        yield from ((None, record) for record in self._extras)

    def records(self) -> Iterator[dict]:
        """The records of `results` alone."""
        return (record for _, record in self.results())

    def write_results(self) -> None:
        """Writes ``results.jsonl`` anew from the results.

        Raises:
            CaptionerError: It cannot be written.
        """
        with replacing(self.path / RESULTS) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for record in self.records():
                file.write(json_line(without_thumbnails(record)) + "\n")

    def _read(self, stored: Stored) -> dict | None:
        try:
            with open(self.path / f"{stored.stem}.json", encoding="utf-8") as file:
                record = json.load(file)
            del record["run"]
            return record
        except (OSError, ValueError, KeyError, TypeError):  # somebody removed or changed it while the run goes on
            return None

    def _unlink(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path / name, error) from error


def _names(one: Input) -> Iterator[str]:
    """Names for the results of an input, the best first."""
    folder, name = os.path.split(one.relative)
    stem, extension = os.path.splitext(name)
    room = _NAME_BYTES - _LONGEST_SUFFIX
    if len(os.fsencode(name)) > room:
        mark = "~" + hashlib.sha256(os.fsencode(one.absolute)).hexdigest()[:8]
        extension = extension if len(os.fsencode(extension)) <= 16 else ""
        room -= len(mark) + len(os.fsencode(extension))
        while len(os.fsencode(stem)) > room:
            stem = stem[:-1]
        stem += mark
    yield os.path.join(folder, stem + extension)
    number = 2
    while True:
        yield os.path.join(folder, f"{stem}~{number}{extension}")
        number += 1


def _folded(name: str) -> str:
    """Equal for names that some disks take for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _scan(folder: Path) -> Iterator[Stored]:
    """The results in a folder and below, from the beginnings of the files."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".json"):
                path = os.path.join(parent, name)
                header = _read_header(path)
                if header:
                    stem = os.path.relpath(path, folder).removesuffix(".json")
                    yield Stored(stem, header["source"], header["settings"], header["failed"])


def _read_header(path: str) -> dict | None:
    try:
        with open(path, "rb") as file:
            text = file.read(_HEADER_BYTES).decode("utf-8", "replace")
        if not text.startswith(_MARK):
            return None
        header, _ = json.JSONDecoder().raw_decode(text, len(_MARK))
        is_ours = (
            header["format"] == FORMAT
            and {type(header["source"][key]) for key in ("size", "mtime_ns")} == {int}
            and isinstance(header["source"]["path"], str)
            and isinstance(header["settings"], str)
            and isinstance(header["failed"], bool)
        )
        return header if is_ours else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. The system lets go of it when the process dies, however it dies."""
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = _open_locked(path)
            stack.callback(os.close, handle)
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError as error:
            raise CaptionerError(
                f"{printable(str(folder))}: {_owner(path)} is working on this folder; wait until it is done, "
                "or choose another folder",
                kind="locked",
            ) from error
        except OSError as error:
            raise write_error(path if folder.is_dir() else folder, error) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _open_locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
            # The run before may have removed the file after we opened it and before we locked it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _owner(path: Path) -> str:
    try:
        return printable(path.read_text(encoding="utf-8", errors="replace")[:200].strip()) or "another process"
    except OSError:
        return "another process"


def _lock(handle: int) -> None:
    """Takes the lock or raises `BlockingIOError`."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, "locked") from error
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
