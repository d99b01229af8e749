"""The errors that the package raises for bad input; each message names the file and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captioner.names import printable


class CaptionerError(Exception):
    """Base class: catching it catches every error that bad input can cause.

    Names of files, folders and arrays in a message may come from strangers: what would steer a terminal is written as
    an escape.

    Attributes:
        kind: A short machine-readable reason, for example ``"missing"`` or ``"truncated"``.
    """

    def __init__(self, message: str, *, kind: str = "error"):
        super().__init__("\n".join(map(printable, message.split("\n"))))
        self.kind = kind

    def to_dict(self) -> dict[str, str]:
        """The record that stands in results files: ``{"type", "kind", "message"}``."""
        return {"type": type(self).__name__, "kind": self.kind, "message": str(self)}


class ImageReadError(CaptionerError):
    """An image is missing, empty, truncated, too large or no image at all.

    ``kind`` is one of ``missing``, ``not_a_file``, ``permission``, ``empty``, ``truncated``,
    ``not_an_image``, ``too_large`` and ``bad_array``.
    """


class VideoReadError(CaptionerError):
    """A video is missing, unreadable or without frames.

    ``kind`` is one of ``missing``, ``not_a_file``, ``permission``, ``empty``, ``not_a_video``, ``truncated``,
    ``no_video_stream``, ``unknown_codec``, ``no_frames``, ``too_large`` and ``timeout``.
    """


class ModelLoadError(CaptionerError):
    """A saved model is unknown, incomplete, altered or of another format version."""


class DatasetError(CaptionerError):
    """A training or evaluation data set is missing, inconsistent or too small."""


@contextmanager
def enough_memory(where: str) -> Iterator[None]:
    """Around what takes as much memory as a model is large: says so where there is too little.

    Args:
        where: The folder, for the message.

    Raises:
        CaptionerError: There is not enough memory (``kind`` is ``memory``).
        ModelLoadError: OpenVINO could not build the model for another reason.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1:]
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in ("alloc", "memory")):
            raise CaptionerError(
                f"{where}: not enough memory to load it; close other programs, or allow this one more", kind="memory"
            ) from error
        raise ModelLoadError(f"{where}: cannot be built ({''.join(reason)}); try runtime='keras'") from error


@contextmanager
def needs_extra(need: str, extra: str) -> Iterator[None]:
    """Around imports of what an extra installs: names the extra where they fail.

    Args:
        need: What needs what, for example ``"training needs Keras and TensorFlow"``.
        extra: Name of the extra.

    Raises:
        CaptionerError: A library is not installed; ``kind`` is ``missing``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "captioner":  # a mistake in the package itself
            raise
        raise CaptionerError(f'{need}; install it: pip install "captioner[{extra}]"', kind="missing") from error
