"""Regular files of bounded size: a pipe could keep a reader waiting for ever, a device feed it without end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

MAX_TABLE_BYTES = 2**30
"""Limit on tables and lists that describe data sets."""


def irregular(status: os.stat_result) -> str | None:
    """What something is that is no regular file: ``a folder``, or ``a device or a pipe``; None for a regular file."""
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    return None if stat.S_ISREG(status.st_mode) else "a device or a pipe"


def open_regular(path: str | os.PathLike, limit: int | None = None, *, follow_links: bool = True) -> BinaryIO:
    """Opens a file for reading if it is a regular one.

    Args:
        path: The file.
        limit: The greatest size in bytes; None for any.
        follow_links: Whether ``path`` may be a symbolic link.

    Raises:
        OSError: It cannot be opened, is a link (``ELOOP``), no regular file (``EINVAL``) or too large (``EFBIG``);
            ``strerror`` says so.
        ValueError: No file can have that name.
    """
    if not follow_links and os.path.islink(path):
        raise OSError(errno.ELOOP, "is a link, not a file", os.fspath(path))
    _check(os.stat(path), limit, path)  # first, as opening some devices already does something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags if follow_links else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        _check(os.fstat(handle), limit, path)  # again, as it may have been exchanged since
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike, limit: int, *, follow_links: bool = True) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; arguments and errors are those of `open_regular`."""
    with open_regular(path, limit, follow_links=follow_links) as file:
        content = file.read(limit + 1)
    if len(content) > limit:  # it has grown since
        raise _too_large(limit, path)
    return content


def _check(status: os.stat_result, limit: int | None, path: str | os.PathLike) -> None:
    if other := irregular(status):
        raise OSError(errno.EINVAL, f"is {other}, not a file", os.fspath(path))
    if limit is not None and status.st_size > limit:
        raise _too_large(limit, path)


def _too_large(limit: int, path: str | os.PathLike) -> OSError:
    return OSError(errno.EFBIG, f"larger than {limit:,} bytes", os.fspath(path))
