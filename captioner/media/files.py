"""What images and videos are refused for alike: a file that cannot be opened or read, and too many pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from captioner.errors import ImageReadError, VideoReadError
from captioner.files import irregular

_ERRORS = {"image": ImageReadError, "video": VideoReadError}


def is_path(source: object) -> bool:
    """Whether something names a file: text, bytes or a ``pathlib`` path."""
    return isinstance(source, str | bytes | os.PathLike)


@contextmanager
def explained_access(path: str | os.PathLike, name: str, medium: str) -> Iterator[os.stat_result]:
    """A context in which a file is read: what the operating system objects to becomes an error that names the file.

    Args:
        path: The file.
        name: The file for messages; see `captioner.media.images.name_of`.
        medium: What it should hold: ``image`` or ``video``.

    Yields:
        The status of the file, which is neither a folder nor a device nor a pipe.

    Raises:
        ImageReadError: An image is ``missing``, ``not_a_file`` or without ``permission`` (the error's ``kind``).
        VideoReadError: A video is.
    """
    error_type = _ERRORS[medium]
    wanted = f"{'an' if medium[0] in 'aeiou' else 'a'} {medium} file"
    if not is_path(path):  # a number would be taken for an open file
        raise error_type(f"{name}: is not the path of {wanted}", kind="not_a_file")
    try:
        status = os.stat(path)
        if other := irregular(status):
            raise error_type(f"{name}: is {other}, not {wanted}", kind="not_a_file")
        yield status
    except PermissionError as error:
        raise error_type(f"{name}: no permission to read it", kind="permission") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, OSError) and os.path.lexists(path):
            reason = "a link to a file that does not exist" if os.path.islink(path) else f"cannot be read ({error})"
        elif "://" in name:
            reason = f"addresses are not fetched; download the {medium} and give its path"
        else:
            reason = "no such file"
        raise error_type(f"{name}: {reason}", kind="missing") from error


def check_pixels(width: int, height: int, max_pixels: int, name: str, medium: str) -> None:
    """Refuses what would take too much memory.

    Args:
        width: In pixels.
        height: In pixels.
        max_pixels: Limit on their product.
        name: See `explained_access`.
        medium: See there.

    Raises:
        ImageReadError: An image is ``too_large`` (the error's ``kind``).
        VideoReadError: A video is.
    """
    if width * height > max_pixels:
        raise _ERRORS[medium](
            f"{name}: {width} x {height} pixels is more than the limit of {max_pixels:,}; "
            "make it smaller, or raise max_pixels if you trust it",
            kind="too_large",
        )
