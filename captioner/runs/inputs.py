"""Finding the files to work on: paths and folders to a sorted list, whatever the folders hold."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.outputs.marks import is_ours

SYSTEM_FOLDERS = re.compile(
    r"@eadir|@tmp|@recycle|@recently-snapshot|@sharebin|@transcode|#recycle|#snapshot|\$recycle\.bin|recycler|recycled"
    r"|system volume information|lost\+found|found\.\d{3}|__macosx|network trash folder|temporary items",
    re.IGNORECASE,
)
"""Names of folders in which network disks and systems keep thumbnails, deleted files and what they rescued."""


STANDARD_INPUT = "-"
"""The path that means the photo on standard input."""


@dataclass(frozen=True)
class Input:
    """One file to work on, or a path that cannot be worked on.

    Attributes:
        file: Its path as results name it: what the user gave, or that plus the way down from it.
        relative: Where its results go, relative to the output folder: the same way down, without an extension added.
        error: Why there is nothing to work on (missing, unreadable folder), or None.
    """

    file: str
    relative: str
    error: CaptionerError | None = None

    @property
    def absolute(self) -> str:
        """Absolute path; symbolic links are kept."""
        return os.path.abspath(self.file)


class Inputs(list[Input]):
    """What was found, in order.

    Attributes:
        passed_over: Files of the kind that is looked for which nothing here can decode: extension to their number.
    """

    def __init__(self, remedy: str) -> None:
        super().__init__()
        self.passed_over: Counter[str] = Counter()
        self._remedy = remedy

    @property
    def passed_over_text(self) -> str:
        """``12 files passed over: 10 .heic, 2 .dng (cannot be decoded here; convert to JPEG)``, or nothing."""
        if not self.passed_over:
            return ""
        kinds = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        total = self.passed_over.total()
        return (
            f"{total} file{'s' if total > 1 else ''} passed over: "
            + ", ".join(f"{count} {extension}" for extension, count in kinds)
            + f" (cannot be decoded here; {self._remedy})"
        )


def find_inputs(
    paths: Sequence[str | os.PathLike],
    extensions: Collection[str],
    *,
    exclude: Iterable[str | os.PathLike] = (),
    patterns: Collection[str] = (),
    undecodable: Collection[str] = (),
    remedy: str = "convert them",
    standard_input: bool = False,
    may_be_empty: bool = False,
) -> Inputs:
    """Every file to work on, in the order of the paths; folders are searched to the bottom and sorted as people count.

    A file that is named is taken whatever its extension and name. In folders, files count by extension in any case,
    hidden files and folders, `SYSTEM_FOLDERS` and pictures that this package drew are passed over, links are followed,
    and a folder that can be reached twice (also by a link to a folder above it) is searched once. What cannot be found
    or opened is in the list with its error.

    Args:
        paths: Files and folders.
        extensions: Extensions in lower case with their dot, for example ``{".jpg"}``.
        exclude: Folders that are not searched, such as an output folder inside an input folder; naming one of them, or
            a folder below, as a path overrides this.
        patterns: Shell patterns (``*``, ``?``, ``[...]``) of files and folders to pass over, named ones too: of a name
            (``thumb*``), of the way down from one of the paths (``2019/raw*``) or of a whole path.
        undecodable: Extensions of files that would belong to the inputs if anything here could decode them; they are
            counted.
        remedy: What to do with those.
        standard_input: Whether `STANDARD_INPUT` may be among the paths.
        may_be_empty: Whether folders without a file are no error.

    Raises:
        CaptionerError: ``kind="usage"``: no path was given, or there is nothing under the paths and no error to report.
    """
    if not paths:
        raise CaptionerError("no files given; name files or folders", kind="usage")
    names = [os.fsdecode(path) for path in paths]
    seen = {identity for folder in exclude if (identity := _identity(folder))}
    seen -= {identity for name in names if (identity := _identity(name))}
    found = Inputs(remedy)
    for name in names:
        if name == STANDARD_INPUT:
            if not standard_input or names.count(name) > 1:
                raise CaptionerError("- can be one photo, with results that go to no folder", kind="usage")
            found.append(Input(name, "standard input"))
            continue
        try:
            is_folder = stat.S_ISDIR(os.stat(name).st_mode)
        except (OSError, ValueError) as error:
            found.append(Input(name, _output_name(name), _unreachable(name, error)))
            continue
        if is_folder:
            # One folder alone is mirrored directly; several get a folder each.
            below = "" if len(names) == 1 else _output_name(name)
            search = _Search(extensions, undecodable, patterns, seen)
            found += sorted(search.below(name, below), key=lambda one: natural_key(one.file))
            found.passed_over += search.passed_over
        elif not _matches(patterns, os.path.basename(name), name):
            found.append(Input(name, _output_name(name)))
    if not found and not may_be_empty:
        raise CaptionerError(
            f"nothing found in {', '.join(map(printable, names))}: no file there, hidden ones aside, ends in one of "
            + " ".join(sorted(extensions))
            + (f"; {found.passed_over_text}" if found.passed_over else ""),
            kind="usage",
        )
    return found


def natural_key(path: str) -> tuple:
    """Sorting key by which ``clip2`` comes before ``clip10``; case does not count, a folder's files stay together."""
    return tuple(
        (tuple(_run_key(run) for run in runs), part)
        for part in path.split(os.sep)
        for runs in [re.findall("[0-9]+|[^0-9]+", part.casefold())]
    )


def _run_key(run: str) -> tuple[int, int, str]:
    """Key of digits by their value, or of other characters; a longer number is the larger one."""
    if run[0] in "0123456789":
        value = run.lstrip("0")
        return (0, len(value), value)
    return (1, 0, run)


class _Search:
    """A search of folders; ``seen`` holds those that are not to be searched, or not again."""

    def __init__(self, extensions: Collection[str], undecodable: Collection[str], patterns: Collection[str], seen: set):
        self.passed_over: Counter[str] = Counter()
        self._extensions = extensions
        self._undecodable = undecodable
        self._patterns = patterns
        self._seen = seen

    def below(self, root: str, below: str) -> list[Input]:
        """Files under a folder. Linked folders come last, so that one is found under its own name where it has one."""
        found: list[Input] = []
        real, linked = [(root, below)], []
        while real or linked:
            folder, relative = real.pop() if real else linked.pop(0)
            identity = _identity(folder)
            if identity in self._seen:
                continue
            self._seen.add(identity)
            try:
                with os.scandir(folder) as scan:
                    entries = sorted(scan, key=lambda entry: natural_key(entry.name))
            except OSError as error:
                found.append(Input(folder, relative or _output_name(folder), _unreachable(folder, error)))
                continue
            for entry in entries:
                place = (os.path.join(folder, entry.name), os.path.join(relative, entry.name))
                way = os.path.relpath(place[0], root)
                if entry.name.startswith(".") or _matches(self._patterns, entry.name, way, place[0]):
                    continue
                if _is_folder(entry):
                    if not SYSTEM_FOLDERS.fullmatch(entry.name):
                        (linked if entry.is_symlink() else real).append(place)
                    continue
                extension = os.path.splitext(entry.name)[1].lower()
                if extension in self._extensions:
                    if not (extension == ".png" and _is_drawn(place[0])):
                        found.append(Input(*place))
                elif extension in self._undecodable:
                    self.passed_over[extension] += 1
        return found


def _matches(patterns: Collection[str], *names: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern.rstrip("/") or "/") for pattern in patterns for name in names)


def _is_drawn(path: str) -> bool:
    """Whether a picture is one of ``--attention-dir``; an empty file is none, and fails as the photo that it is not."""
    return is_ours(path) and os.path.getsize(path) > 0


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)


def _output_name(path: str) -> str:
    return Path(os.path.abspath(path)).name or "root"


def _unreachable(path: str, error: OSError | ValueError) -> CaptionerError:
    name = printable(path)
    if "://" in path:
        return CaptionerError(f"{name}: addresses are not fetched; download the file and give its path", kind="missing")
    if isinstance(error, PermissionError):
        return CaptionerError(f"{name}: may not be read; change its permissions", kind="permission")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return CaptionerError(f"{name}: no such file or folder; check the spelling", kind="missing")
    reason = error.strerror if isinstance(error, OSError) else str(error)  # ValueError: a zero byte in the name
    return CaptionerError(f"{name}: cannot be read: {reason}", kind="unreadable")
