"""Files that are either complete or not there: written beside the target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.names import printable

# The name does not contain the target's: a name of 250 bytes would leave no room for more.
TEMPORARY_PREFIX = ".captioner-"
TEMPORARY_SUFFIX = ".tmp"

_REASONS = {
    "disk_full": (
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "the disk is full; free some space or choose another folder, then start again",
    ),
    "permission": (
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "the folder or file may not be written; change its permissions or choose another folder",
    ),
    "not_a_folder": (
        (errno.ENOTDIR, errno.EEXIST, errno.ENOENT),
        "its folder is not a folder; choose another place",
    ),
    "not_a_file": ((errno.EISDIR,), "a folder has this name; remove it or choose another name"),
    "name_too_long": ((errno.ENAMETOOLONG,), "the name is too long for this disk; choose a shorter one"),
}


def write_atomic(path: str | os.PathLike, data: str | bytes, *, within: str | os.PathLike | None = None) -> None:
    r"""Writes a file so that readers see the old content or the new, never a part.

    The data go to a temporary file in the same folder, are flushed to the disk, and take the
    target's name in one step. After an error, or Ctrl-C, the target is as before and the
    temporary file is gone. Missing folders are made.

    Args:
        path: The file to write.
        data: Its content. Text is written as UTF-8 with its line ends as they are; a lone surrogate
            is written as ``\udcff``, which is how JSON spells it.
        within: A folder that holds the file and that the writing must not leave: a symbolic link on the way from there
            to the file, or in its place, is refused. Without it links are followed.

    Raises:
        CaptionerError: The file cannot be written; ``kind`` is ``disk_full`` (also for a quota or a file-size limit),
            ``permission``, ``not_a_folder``, ``not_a_file``, ``name_too_long``, ``link`` or ``write``.
    """
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path, within=within) as temporary, open(temporary, "r+b") as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, within: str | os.PathLike | None = None) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` when the block ends without an error; see `write_atomic`.

    Args:
        path: The file to write.
        within: As in `write_atomic`.

    Yields:
        The temporary file, which exists and is empty.

    Raises:
        CaptionerError: As `write_atomic`.
    """
    if within is not None:
        refuse_links(path, within)
    target = Path(os.path.realpath(path) if within is None else path)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            open(temporary, "xb").close()
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise write_error(path, error) from error


def check_writable(folder: str | os.PathLike) -> None:
    """Makes a folder if need be, and sees whether files can be made in it.

    Raises:
        CaptionerError: They cannot; see `write_atomic` for ``kind``.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(folder, error) from error


def refuse_links(path: str | os.PathLike, within: str | os.PathLike) -> None:
    """Refuses a path that a symbolic link leads out of a folder.

    Args:
        path: A file or folder, there or not.
        within: A folder above it, which may itself be reached by a link.

    Raises:
        CaptionerError: The path, or a folder between the two, is a link (``kind`` is ``link``).
    """
    place = Path(within)
    for part in Path(os.path.relpath(path, within)).parts:
        place /= part
        if os.path.islink(place):
            raise CaptionerError(
                f"{printable(os.fspath(path))}: {printable(str(place))} is a link, which may lead out of the folder; "
                "remove it",
                kind="link",
            )


def write_error(path: str | os.PathLike, error: OSError) -> CaptionerError:
    """The error for a file that could not be written, with the reason and the remedy in words."""
    for kind, (codes, remedy) in _REASONS.items():
        if error.errno in codes:
            return CaptionerError(f"cannot write {printable(os.fspath(path))}: {remedy}", kind=kind)
    reason = error.strerror or str(error)
    return CaptionerError(f"cannot write {printable(os.fspath(path))}: {reason}; choose another folder", kind="write")


def remove_leftovers(folder: str | os.PathLike) -> int:
    """Removes, in a folder and below, the temporary files of a process that was killed while writing.

    Only to be called when no other process writes there.

    Returns:
        How many files were removed.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX):
                with contextlib.suppress(OSError):  # in a folder that may not be written any more it can stay
                    os.unlink(os.path.join(parent, name))
                    removed += 1
    return removed


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power cut, where the system can sync a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
