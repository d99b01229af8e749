"""Many images to captions with reading, encoding and search at the same time, in order and in bounded memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import CaptionerError
from captioner.media.ahead import run_ahead
from captioner.media.images import read_image
from captioner.media.videos import prefetch

if TYPE_CHECKING:
    from captioner.captioning import ImageCaptioner
    from captioner.models.search import SearchOptions
    from captioner.results import Caption

BATCHES_AHEAD = 2
"""Encoded batches that may wait for the search; more would cost memory and gain nothing."""


def caption_many(
    model: ImageCaptioner,
    sources: Iterable[Any],
    options: SearchOptions | None = None,
    *,
    batch_size: int = 16,
    threads: int | None = None,
    **words: Any,
) -> Iterator[Caption | CaptionerError]:
    """Captions of many images, in the order of the sources, while later images are read and encoded.

    Files are read in ``threads`` threads, a further thread encodes, and the search runs in the caller's thread, so the
    slowest of the three sets the pace. At most a few batches are in memory however many sources there are, and a source
    is taken from the iterable only when there is room for it. Closing the generator stops the threads.

    Args:
        model: What has ``image_size``, ``encode`` and ``caption_features``.
        sources: What `captioner.media.images.read_image` takes: paths, bytes, PIL images, arrays.
        options: Search options; None for the defaults.
        batch_size: Images encoded and searched at once; results do not depend on it.
        threads: Threads that read; None for one per core that this process may use.
        **words: Passed to ``model.caption_features``: ``prefix``, ``must_include``, ``attention``.

    Yields:
        For every source a `Caption`, or the `CaptionerError` that says why it could not be read.

    Raises:
        ValueError: ``batch_size`` or ``threads`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    threads = available_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    return _captions(model, sources, options, batch_size, threads, words)


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _captions(model, sources, options, batch_size, threads, words) -> Iterator[Caption | CaptionerError]:
    readings = (_reading(source, model.image_size) for source in sources)
    images = run_ahead(readings, threads=threads, ahead=batch_size + threads)
    encoded = prefetch(_encoded(model, images, batch_size), depth=BATCHES_AHEAD)
    try:
        for outcomes, features in encoded:
            captions = iter(() if features is None else model.caption_features(features, options, **words))
            for error in outcomes:
                yield next(captions) if error is None else error
    finally:
        encoded.close()
        images.close()


def _encoded(model, images, batch_size: int) -> Iterator[tuple[list[CaptionerError | None], Any]]:
    """Batches as (one entry per source: its error, or None where it was read; features of those that were)."""
    for batch in _batches(images, batch_size):
        pixels = [image for image in batch if isinstance(image, np.ndarray)]
        features = model.encode(np.stack(pixels)) if pixels else None
        yield [None if isinstance(image, np.ndarray) else image for image in batch], features


def _batches(images: Iterable[np.ndarray | CaptionerError], batch_size: int) -> Iterator[Sequence]:
    """Groups with ``batch_size`` readable images; the unreadable ones between them do not count."""
    batch: list[np.ndarray | CaptionerError] = []
    readable = 0
    for image in images:
        batch.append(image)
        readable += isinstance(image, np.ndarray)
        # The second limit keeps a long row of broken files from piling up unreported.
        if readable == batch_size or len(batch) >= 4 * batch_size:
            yield batch
            batch, readable = [], 0
    if batch:
        yield batch


def _reading(source: Any, size: int) -> Callable[[], np.ndarray | CaptionerError]:
    """What reads a source in another thread."""
    if isinstance(source, (str, os.PathLike, bytes, np.ndarray)):
        return functools.partial(_read, source, size)
    # PIL images and file objects have a position: the same one given twice must not be read by two threads at once.
    image = _read(source, size)
    return lambda: image


def _read(source: Any, size: int) -> np.ndarray | CaptionerError:
    try:
        return read_image(source, size=size)
    except CaptionerError as error:
        return error
