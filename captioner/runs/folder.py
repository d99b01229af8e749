"""The output folder of a run: its lock, the results and their names, and ``results.jsonl``, safe against kills.

Every input has one file ``NAME.json`` that mirrors its place under the input folder. It appears whole or not at all,
and it alone says that the input is done: it starts with what it was made from. All else, the sidecars (subtitles,
pages) and ``results.jsonl``, is made from these files and can be made again. Nothing is written through a link below
the folder, and no file is replaced that a run did not write: of sidecars the result says which are its own, files at
the top carry a mark (`captioner.outputs.marks`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from captioner.atomic import refuse_links, remove_leftovers, replacing, write_atomic, write_error
from captioner.errors import CaptionerError
from captioner.files import open_regular
from captioner.names import printable
from captioner.outputs.locks import locked, refuse_nested
from captioner.outputs.marks import is_ours
from captioner.outputs.records import Record, json_line, read_record, without_thumbnails
from captioner.runs.inputs import Input, natural_key
from captioner.schema import fit

RESULTS = "results.jsonl"
RESERVED = (RESULTS, "results.csv", "index.html", "index.sqlite")
"""Names at the top of an output folder that belong to the run."""

EXTENSIONS = ("json", "srt", "vtt", "csv", "txt", "html")
"""All that may lie beside a result. A name is taken if one of them is there, also where it was not asked for: a later
run may ask, and must not hit a file of somebody else's."""

_SIDECARS = EXTENSIONS[1:]

FORMAT = 1
_MARK = '{"run": '
_HEADER_BYTES = 16384  # more than the header of the longest path
_NAME_BYTES = 255  # what Linux and most disks allow
_LONGEST_SUFFIX = 16

Sidecars = Mapping[str, Callable[[Record], str]]
"""Extension without its dot to the function that makes the file from the record, to which ``media`` has been added: the
path of what it is about, relative to the folder of the sidecar; see `RunFolder.media`."""


@dataclass(frozen=True)
class _Source:
    path: Annotated[str, Meta(min_length=1)]
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Header:
    """What a run notes at the beginning of the file of a result."""

    format: Literal[1]
    source: _Source
    settings: str
    failed: bool
    # Earlier versions do not say: all that are there.
    sidecars: tuple[Annotated[str, Meta(pattern=r"\A([a-z]{2,8}\.)?(srt|vtt|csv|txt|html)\Z")], ...] = _SIDECARS
    look: str = ""


@dataclass(frozen=True)
class Stored:
    """A result that lies in the folder.

    Attributes:
        stem: Its path relative to the folder, without ``.json``; sidecars have other extensions after the same stem.
        source: What it was made from; see `identity_of`.
        settings: Fingerprint of the settings that it was made with.
        failed: Whether it holds an error.
        sidecars: Extensions of the files beside it that are its own.
        look: How the sidecars are made; see `RunFolder`.
        whole: Whether it can be read; one that was cut or emptied has to be made again.
    """

    stem: str
    source: dict
    settings: str
    failed: bool
    sidecars: tuple[str, ...] = ()
    look: str = ""
    whole: bool = True


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
        sidecars: Files to make beside each result, by extensions among `EXTENSIONS`, perhaps with a language before
            (``de.srt``).
        look: How they are made: those that were made in another way are made again.
        names: What else, besides ``results.jsonl``, is to be written at the top, among `RESERVED`.
        also: Adds to a record what it lacks, such as translations, also to those of earlier runs; gives the same object
            where it lacks nothing.

    Attributes:
        stored: The results in the folder, by the absolute path of their input.
        warnings: What was done otherwise than asked for, in sentences.

    Raises:
        CaptionerError: The folder cannot be written; ``kind="locked"``: another process works on it, on a folder above
            or on one below; ``kind="foreign"`` or ``"link"``: a name that is needed belongs to somebody else's file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        sidecars: Sidecars | None = None,
        names: Collection[str] = (),
        *,
        look: str = "",
        also: Callable[[Record], Record] | None = None,
    ):
        self.path = Path(path)
        self.sidecars = dict(sidecars or {})
        self.look = look
        self._also = also
        self.stored: dict[str, Stored] = {}
        self.warnings: list[str] = []
        self._names = (RESULTS, *names)
        self._torn: set[str] = set()  # stems of results that were cut so short that they do not say what they were of
        self._extras: list[dict] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> RunFolder:
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(locked(self.path)):
                self.warnings.append(
                    f"{printable(str(self.path))}: this disk knows no locks; start no other run on the folder meanwhile"
                )
            refuse_nested(self.path)
            for name in self._names:
                self._refuse_foreign(name)
            remove_leftovers(self.path)
            for stem, header in _headers(self.path):
                if header is None:
                    self._torn.add(stem)
                else:
                    whole = read_record(self.path / f"{stem}.json") is not None
                    settings, failed, sidecars = header.settings, header.failed, header.sidecars
                    stored = Stored(stem, asdict(header.source), settings, failed, sidecars, header.look, whole)
                    self.stored[header.source.path] = stored
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
        outputs = [f"{stem}.{extension}" for extension in dict.fromkeys((*EXTENSIONS, *self.sidecars))]
        return (
            _folded(stem) not in taken
            and not any(_folded(output) in folders or output.casefold() in RESERVED for output in outputs)
            and (stem in self._torn or not any(os.path.lexists(self.path / output) for output in outputs))
        )

    def save(self, stem: str, source: dict, settings: str, record: Record) -> None:
        """Writes the result of one input and its sidecars.

        Raises:
            CaptionerError: A file cannot be written.
        """
        before = self.stored.get(source["path"])
        # Old sidecars go first: after a kill, those that are there fit the result that is there.
        for extension in before.sidecars if before else _SIDECARS if stem in self._torn else ():
            self._unlink(f"{stem}.{extension}")
        failed = "error" in record
        record = self._also(record) if self._also else record
        sidecars = () if failed else self._absent(stem)
        stored = Stored(stem, source, settings, failed, sidecars, self.look)
        self._store(stored, record)
        self._write_sidecars(stored, sidecars, record)

    def complete(self, stored: Stored) -> None:
        """Makes the sidecars of a result that are not there, or look otherwise, and what its record lacks.

        Raises:
            CaptionerError: A file cannot be written.
        """
        if stored.failed:
            return
        before, own = stored, stored.sidecars
        if stored.look != self.look:
            for extension in own:
                self._unlink(f"{stored.stem}.{extension}")
            own = ()
        missing = self._absent(stored.stem, own)
        stored = replace(stored, sidecars=tuple(dict.fromkeys(own + missing)), look=self.look)
        if (missing or stored != before or self._also) and (record := self._read(stored)):
            whole = self._also(record) if self._also else record
            if stored != before or whole is not record:
                self._store(stored, whole)
            self._write_sidecars(stored, missing, whole)

    def _absent(self, stem: str, own: Collection[str] = ()) -> tuple[str, ...]:
        """Extensions of sidecars that are not there; says which are there and belong to somebody else."""
        there = {extension for extension in self.sidecars if os.path.lexists(self.path / f"{stem}.{extension}")}
        for extension in sorted(there - set(own)):
            name = printable(str(self.path / f"{stem}.{extension}"))
            self.warnings.append(f"{name}: is there and was not written by a run; kept, and not written")
        return tuple(extension for extension in self.sidecars if extension not in there)

    def _store(self, stored: Stored, record: Record) -> None:
        header = {
            "format": FORMAT, "source": stored.source, "settings": stored.settings, "failed": stored.failed,
            "sidecars": stored.sidecars, **({"look": stored.look} if stored.look else {}),
        }  # fmt: skip
        self._write(f"{stored.stem}.json", json_line({"run": header, **record}) + "\n")
        self.stored[stored.source["path"]] = stored

    def _write_sidecars(self, stored: Stored, extensions: Iterable[str], record: Record) -> None:
        record = {**record, "media": self.media(stored, os.path.dirname(stored.stem))}
        for extension in extensions:
            self._write(f"{stored.stem}.{extension}", self.sidecars[extension](record))

    def media(self, stored: Stored, folder: str = "") -> str | None:
        """Path of the file that a result is about, relative to a folder of the run; None where there is none.

        Args:
            stored: The result.
            folder: The folder, relative to that of the run.
        """
        try:
            return os.path.relpath(stored.source["path"], self.path / folder)
        except ValueError:  # on another drive
            return None

    def drop(self, stored: Stored) -> None:
        """Removes a result and its sidecars.

        Raises:
            CaptionerError: A file cannot be removed.
        """
        for extension in (*stored.sidecars, "json"):
            self._unlink(f"{stored.stem}.{extension}")
        del self.stored[stored.source["path"]]

    def gone(self, paths: Iterable[str | os.PathLike]) -> list[Stored]:
        """The results of files that are not there any more, in the order of their paths.

        Args:
            paths: Files, and folders that were searched: only what lay there counts. What lies elsewhere, on a disk
                that is not plugged in for example, is no business of this run.
        """
        roots = [os.path.abspath(os.fsdecode(path)) for path in paths]
        folders = tuple(os.path.join(root, "") for root in roots if os.path.isdir(root))
        return [
            self.stored[path]
            for path in sorted(self.stored, key=natural_key)
            if (path.startswith(folders) or (path in roots and os.path.isdir(os.path.dirname(path)))) and _is_gone(path)
        ]

    def forget(self, source: dict) -> None:
        """Leaves a result out of ``results.jsonl``, although a file of it may still be there."""
        self.stored.pop(source["path"], None)

    def note(self, record: Record) -> None:
        """Adds the record of something that has no file of its own, such as a folder that cannot be read."""
        self._extras.append(dict(record))

    def results(self) -> Iterator[tuple[Stored | None, dict]]:
        """(result, record with its pictures) of everything in the folder, sorted by the path of the input.

        The result is None for what has no files of its own.
        """
        for path in sorted(self.stored, key=natural_key):
            record = self._read(self.stored[path])
            if record:
                yield self.stored[path], record
        yield from ((None, record) for record in self._extras)

    def records(self) -> Iterator[dict]:
        """The records of `results` alone."""
        return (record for _, record in self.results())

    def write(self, name: str, text: str) -> None:
        """Writes a file at the top of the folder that is made from all results.

        Args:
            name: One of `RESERVED`.
            text: Its content.

        Raises:
            CaptionerError: It cannot be written, or a file with this name is not of a run (``kind`` ``foreign``).
        """
        self._refuse_foreign(name)
        self._write(name, text)

    def write_results(self) -> None:
        """Writes ``results.jsonl`` anew from the results.

        Raises:
            CaptionerError: As `write`.
        """
        self._refuse_foreign(RESULTS)
        with (
            replacing(self.path / RESULTS, within=self.path) as temporary,
            open(temporary, "w", encoding="utf-8", newline="\n") as file,
        ):
            for record in self.records():
                file.write(json_line(without_thumbnails(record)) + "\n")

    def _refuse_foreign(self, name: str) -> None:
        path = self.path / name
        refuse_links(path, self.path)
        if os.path.lexists(path) and not is_ours(path):
            raise CaptionerError(
                f"{printable(str(path))}: is there and was not written by a run, which needs this name; move it away "
                "or choose another folder",
                kind="foreign",
            )

    def _write(self, name: str, text: str) -> None:
        write_atomic(self.path / name, text, within=self.path)

    def _read(self, stored: Stored) -> dict | None:
        record = read_record(self.path / f"{stored.stem}.json")
        if record:  # else somebody removed or changed it while the run goes on
            record.pop("run", None)
        return record

    def _unlink(self, name: str) -> None:
        refuse_links((self.path / name).parent, self.path)
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path / name, error) from error


def stored_records(folder: str | os.PathLike, files: Collection[str]) -> dict[str, tuple[str, dict]]:
    """Records with their pictures of some files of a run, which may go on meanwhile.

    Args:
        folder: Output folder of the run.
        files: Names, as results have them.

    Returns:
        Those that are there, by name: the absolute path of what each is about, and its record.
    """
    names = {os.path.basename(file) for file in files}
    found = {}
    for stem, header in _headers(Path(folder)):
        if header is not None and os.path.basename(header.source.path) in names:
            record = read_record(Path(folder) / f"{stem}.json")
            if record is not None and record["file"] in files:
                found[record["file"]] = (header.source.path, record)
    return found


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


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it may be there
        return False
    return False


def _headers(folder: Path) -> Iterator[tuple[str, _Header | None]]:
    """Stem and header of the results in a folder and below; the header is None where it was cut."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            text = _beginning(path) if name.endswith(".json") else None
            if text is not None and (text.startswith(_MARK) or _MARK.startswith(text)):
                yield os.path.relpath(path, folder).removesuffix(".json"), _header(text)


def _beginning(path: str) -> str | None:
    try:
        with open_regular(path, follow_links=False) as file:
            return file.read(_HEADER_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


def _header(text: str) -> _Header | None:
    try:
        header, _ = json.JSONDecoder().raw_decode(text, len(_MARK))
        return fit(header, _Header, "", more=True)
    except (ValueError, RecursionError, CaptionerError):
        return None
