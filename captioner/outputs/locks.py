"""One process at a time works on a folder: runs and trainings, which keep in it where they are."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from captioner.atomic import refuse_links, write_error
from captioner.errors import CaptionerError
from captioner.files import open_regular
from captioner.names import printable

LOCK = ".captioner-lock"

_MARK = b"process "
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[bool]:
    """Holds the folder's lock. The system lets go of it when the process dies, however it dies.

    Args:
        folder: Made if absent, and removed if nothing is in it at the end.

    Yields:
        Whether there is a lock to hold: some disks know none.

    Raises:
        CaptionerError: Another process works on the folder (``kind`` is ``locked``), or it cannot be written.
    """
    folder = Path(folder)
    path = folder / LOCK
    made = not folder.exists()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(path, folder)
            handle, has_locks = _open_locked(path)
            stack.callback(os.close, handle)
            is_lock = _is_lock(handle)
            if is_lock:
                os.ftruncate(handle, 0)
                os.lseek(handle, 0, os.SEEK_SET)
                os.write(handle, _MARK + f"{os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError as error:
            raise CaptionerError(
                f"{printable(str(folder))}: {_owner(path)} is working on this folder; wait until it is done, "
                "or choose another folder",
                kind="locked",
            ) from error
        except OSError as error:
            raise write_error(path if folder.is_dir() else folder, error) from error
        try:
            yield has_locks
        finally:
            if is_lock:  # else it is somebody else's file, of which only the name serves
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    if made:
                        os.rmdir(folder)  # nothing came of it


def exclusive(function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Decorates a function with an argument ``output``, a folder: it holds the folder's lock while it works."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        with locked(signature.bind(*args, **kwargs).arguments["output"]):
            return function(*args, **kwargs)

    return call


def refuse_nested(folder: Path) -> None:
    """Refuses a folder inside that of a run that goes on, or around it: each would take the other's files for its own.

    Called with the folder's own lock held, so that of two runs that start at the same time one at least sees the other.

    Raises:
        CaptionerError: There is one (``kind`` is ``locked``).
    """
    top = folder.resolve()
    below = (Path(parent) for parent, _, names in os.walk(top) if LOCK in names and Path(parent) != top)
    for other in (*top.parents, *below):
        if _is_held(other / LOCK):
            where = "which holds this folder" if other in top.parents else "inside this folder"
            raise CaptionerError(
                f"{printable(str(folder))}: {_owner(other / LOCK)} is working on {printable(str(other))}, {where}; "
                "wait until it is done, or choose another folder",
                kind="locked",
            )


def _open_locked(path: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        handle = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            try:
                _lock(handle)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return handle, False
            # The run before may have removed the file after we opened it and before we locked it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False)):
                    return handle, True
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_lock(handle: int) -> bool:
    """Whether an open file is a run's lock, of this one or an earlier one that was killed."""
    return os.fstat(handle).st_nlink == 1 and os.read(handle, len(_MARK)) in (b"", _MARK)


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with open_regular(path, follow_links=False) as file:
            _lock(file.fileno(), shared=True)  # closing it lets go again
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the disk knows no locks
        return False
    return False


def _owner(path: Path) -> str:
    try:
        with open_regular(path, follow_links=False) as file:
            return printable(file.read(200).decode("utf-8", "replace").strip()) or "another process"
    except OSError:
        return "another process"


def _lock(handle: int, *, shared: bool = False) -> None:
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
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
