"""Encoder outputs of many images, kept on disk as float16 arrays so that every later epoch reads instead of computing.

A cache belongs to one encoder (its weights' hash), one list of files (path, size, time of change) and one view; when
any of them changes, another cache is built. It is filled in order, and how far it got is written down only after the
data are on the disk, so a killed run goes on where it was and never trusts a row that was not finished.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from captioner.atomic import write_atomic
from captioner.errors import CaptionerError, DatasetError, ImageReadError
from captioner.media.ahead import run_ahead
from captioner.media.images import read_image

_FLUSH_EVERY = 16
_READERS = 2


@dataclass(frozen=True)
class View:
    """A way to look at a photo, applied after it is squashed to a square.

    Attributes:
        name: Part of the cache's key and of its file name.
        flip: Whether left and right change places.
        crop: Share of the side that is cut off, 0 is none; see ``corner``.
        corner: Where the crop lies: (down, right), each 0..1.
    """

    name: str = "plain"
    flip: bool = False
    crop: float = 0.0
    corner: tuple[float, float] = (0.5, 0.5)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Image (S, S, 3) uint8 to the same shape."""
        if self.crop:
            import cv2

            side = image.shape[0]
            cut = round(side * self.crop)
            top, left = (round(cut * share) for share in self.corner)
            image = image[top : top + side - cut, left : left + side - cut]
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(image[:, ::-1]) if self.flip else image


PLAIN = View()
FLIPPED = View("flipped", flip=True)


@dataclass(frozen=True)
class Features:
    """Cached encoder outputs, row i belonging to ``files[i]``.

    Attributes:
        files: The photos that could be read.
        arrays: Output name to float16 memory map: ``grid`` (N, positions, C), ``pooled`` (N, C).
        rows: Row in the arrays of every file.
        failures: The photos that could not be read, with the reason.
    """

    files: tuple[str, ...]
    arrays: dict[str, np.ndarray] = field(repr=False)
    rows: np.ndarray = field(repr=False)
    failures: dict[str, str]


def cached_features(
    folder: str | Path,
    files: Sequence[str],
    paths: Sequence[Path],
    encode: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    key: str,
    image_size: int,
    outputs: Sequence[str] = ("grid",),
    view: View = PLAIN,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Encoder outputs of photos, from the cache where they are there.

    Args:
        folder: Where caches lie.
        files: Names of the photos.
        paths: Their paths.
        encode: Images (N, S, S, 3) uint8 to a dict of arrays.
        key: Says which encoder it is, for example `captioner.models.saving.weights_hash`.
        image_size: S.
        outputs: Which of the encoder's outputs to keep.
        view: How to look at the photos.
        batch_size: Photos per call of ``encode``; the last batch is padded, so ``encode`` always sees this many.
        progress: Called with (done, total).

    Raises:
        DatasetError: No photo can be read.
        CaptionerError: The disk is full or not writable.
    """
    identity = hashlib.sha256(f"{key} {image_size} {view} {sorted(outputs)}".encode())
    for path in paths:
        identity.update(f"{path.resolve()}\0{_version(path)}\n".encode("utf-8", "surrogateescape"))
    home = Path(folder) / f"{view.name}-{identity.hexdigest()[:20]}"
    state = _read_state(home, outputs, len(paths))
    arrays = {name: np.load(home / f"{name}.npy", mmap_mode="r+") for name in outputs} if state["done"] else {}
    starts = range(state["done"], len(paths), batch_size)
    with closing(_read_ahead(paths, starts, batch_size, image_size, view)) as batches:
        for number, (start, (images, errors)) in enumerate(zip(starts, batches, strict=True)):
            count = len(errors)
            encoded = encode(_padded(images, batch_size))
            for name in outputs:
                values = np.asarray(encoded[name])[:count]
                if values.ndim == 4:
                    values = values.reshape(count, -1, values.shape[-1])
                if name not in arrays:
                    arrays[name] = _new_array(home / f"{name}.npy", (len(paths), *values.shape[1:]))
                arrays[name][start : start + count] = values
            state["failures"].update({files[start + i]: reason for i, reason in enumerate(errors) if reason})
            state["done"] = start + count
            if number % _FLUSH_EVERY == _FLUSH_EVERY - 1 or state["done"] == len(paths):
                for array in arrays.values():
                    array.flush()
                write_atomic(home / "state.json", json.dumps(state))
            if progress:
                progress(state["done"], len(paths))
    kept = _readable(files, state["failures"])
    return Features(
        files=tuple(files[row] for row in kept),
        arrays={name: np.load(home / f"{name}.npy", mmap_mode="r") for name in outputs},
        rows=np.array(kept),
        failures=state["failures"],
    )


def _new_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A float16 memory map with its space on the disk reserved: writing to a full disk would kill the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        size = 2 * math.prod(shape)
        kind = "disk_full" if error.errno == errno.ENOSPC else "write"
        raise CaptionerError(
            f"{path}: cannot be written ({error.strerror}); features of {shape[0]} photos take {size / 1e9:.1f} GB",
            kind=kind,
        ) from error
    return array


def _version(path: Path) -> str:
    """Changes when the file does."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"  # reading it will say so
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def _read_state(home: Path, outputs: Sequence[str], total: int) -> dict:
    """How far a cache got; from the beginning where anything about it is doubtful."""
    fresh = {"done": 0, "failures": {}}
    try:
        state = json.loads((home / "state.json").read_text())
        arrays = [np.load(home / f"{name}.npy", mmap_mode="r") for name in outputs]
        intact = isinstance(state["failures"], dict) and state["done"] in range(total + 1)
        intact &= all(array.dtype == np.float16 and array.shape[0] == total for array in arrays)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError):
        return fresh
    return state if intact else fresh


def _readable(files: Sequence[str], failures: Mapping[str, str]) -> list[int]:
    kept = [row for row, file in enumerate(files) if file not in failures]
    if not kept:
        example = next(iter(failures.values()), "there are none")
        raise DatasetError(f"none of the {len(files)} photos can be read, for example: {example}")
    return kept


def _read_ahead(paths, starts, batch_size: int, image_size: int, view: View):
    """Batches of photos, a few of them ahead in other threads."""
    readings = (partial(_read_batch, paths[start : start + batch_size], image_size, view) for start in starts)
    return run_ahead(readings, threads=_READERS, ahead=_READERS + 1)


def _read_batch(paths, image_size: int, view: View):
    """Images (N, S, S, 3), black where unreadable, and per image None or the reason."""
    images = np.zeros((len(paths), image_size, image_size, 3), np.uint8)
    errors: list[str | None] = [None] * len(paths)
    for i, path in enumerate(paths):
        try:
            images[i] = view.apply(read_image(path, size=image_size))
        except ImageReadError as error:
            errors[i] = str(error)
    return images, errors


def _padded(images: np.ndarray, batch_size: int) -> np.ndarray:
    return np.concatenate([images, np.zeros((batch_size - len(images), *images.shape[1:]), np.uint8)])


def encode_photos(
    files: Sequence[str],
    paths: Sequence[Path],
    encode: Callable[[np.ndarray], dict[str, np.ndarray]],
    image_size: int,
    batch_size: int = 32,
) -> Features:
    """Grids of photos in memory, for an encoder that is about to change; see `cached_features`."""
    grids, failures = [], {}
    starts = range(0, len(paths), batch_size)
    with closing(_read_ahead(paths, starts, batch_size, image_size, PLAIN)) as batches:
        for start, (images, errors) in zip(starts, batches, strict=True):
            grid = np.asarray(encode(_padded(images, batch_size))["grid"])[: len(errors)]
            grids.append(grid.reshape(len(errors), -1, grid.shape[-1]).astype(np.float16))
            failures.update({files[start + i]: reason for i, reason in enumerate(errors) if reason})
    kept = _readable(files, failures)
    return Features(tuple(files[row] for row in kept), {"grid": np.concatenate(grids)}, np.array(kept), failures)
