"""Files that are either complete or not there: written beside the target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
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


def write_atomic(path: str | os.PathLike, data: str | bytes) -> None:
    r"""Writes a file so that readers see the old content or the new, never a part.

    The data go to a temporary file in the same folder, are flushed to the disk, and take the
    target's name in one step. After an error, or Ctrl-C, the target is as before and the
    temporary file is gone. A symbolic link is followed; missing folders are made.

    Args:
        path: The file to write.
        data: Its content. Text is written as UTF-8 with its line ends as they are; a lone surrogate
            is written as ``\udcff``, which is how JSON spells it.

    Raises:
        CaptionerError: The file cannot be written; ``kind`` is ``disk_full`` (also for a quota or a
            file-size limit), ``permission``, ``not_a_folder``, ``not_a_file``, ``name_too_long`` or ``write``.
    """
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path) as temporary, open(temporary, "r+b") as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` when the block ends without an error; see `write_atomic`.

    Args:
        path: The file to write.

    Yields:
        The temporary file, which exists and is empty.

    Raises:
        CaptionerError: As `write_atomic`.
    """
    target = Path(os.path.realpath(path))
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
