"""Many images to captions with reading, encoding and search at the same time, in order and in bounded memory."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import CaptionerError
from captioner.media.ahead import run_ahead
from captioner.media.images import read_image
from captioner.models.runtime import Features, available_cores

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner
    from captioner.models.search import SearchOptions
    from captioner.results import Caption

BATCH_SIZE = 16
"""Images encoded and searched together by default; results do not depend on it."""

BATCHES_AHEAD = 2
"""Encoded batches that may wait for the search; more would cost memory and gain nothing."""

MORE_THREADS = 2
"""Threads beyond one for every core, so that none is idle while a thread waits for the disk or for Python."""


def caption_stream(
    model: ImageCaptioner,
    sources: Iterable[Any],
    options: SearchOptions | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
    **words: Any,
) -> Iterator[Caption | CaptionerError]:
    """Captions of many images, in the order of the sources, while later images are read and encoded.

    Some threads each read images and encode them; the search runs in the caller's thread. So the cores always have
    something to do, whatever takes longest. At most a few batches are in memory however many sources there are, and a
    source is taken from the iterable only when there is room for it. Closing the generator stops the threads.

    Args:
        model: What has ``image_size``, ``encode_batch``, ``encode`` and ``caption_features``.
        sources: What `captioner.media.images.read_image` takes: paths, bytes, PIL images, arrays.
        options: Search options; None for the defaults.
        batch_size: Images searched at once; results do not depend on it.
        threads: Cores to keep busy with reading and encoding; None for all that this process may use.
        **words: Passed to ``model.caption_features``: ``prefix``, ``must_include``, ``style``, ``plain`` and so on.

    Yields:
        For every source a `Caption`, or the `CaptionerError` that says why it could not be read.

    Raises:
        CaptionerError: ``batch_size`` or ``threads`` is below 1 (``kind="usage"``).
    """
    if batch_size < 1:
        raise CaptionerError(f"batch_size must be 1 or more, not {batch_size}", kind="usage")
    threads = available_cores() if threads is None else threads
    if threads < 1:
        raise CaptionerError(f"threads must be 1 or more, not {threads}", kind="usage")
    return _captions(model, sources, options, batch_size, threads, words)


def _captions(model, sources, options, batch_size, threads, words) -> Iterator[Caption | CaptionerError]:
    threads += MORE_THREADS
    together = min(model.encode_batch, batch_size)
    jobs = (functools.partial(_encoded, model, readings) for readings in _readings(sources, model.image_size, together))
    encoded = run_ahead(jobs, threads=threads, ahead=threads + BATCHES_AHEAD * batch_size // together)
    try:
        for batch in _batches((outcome for outcomes in encoded for outcome in outcomes), batch_size):
            rows = [outcome for outcome in batch if isinstance(outcome, Features)]
            captions = iter(model.caption_features(Features.concatenate(rows), options, **words) if rows else ())
            for outcome in batch:
                yield next(captions) if isinstance(outcome, Features) else outcome
    finally:
        encoded.close()


def _readings(sources: Iterable[Any], size: int, together: int) -> Iterator[list[Callable]]:
    """What reads the sources, in groups that are encoded together."""
    sources = iter(sources)
    while group := [_reading(source, size) for source in itertools.islice(sources, together)]:
        yield group


def _encoded(model, readings: Sequence[Callable]) -> list[Features | CaptionerError]:
    """For every source its features, or why it could not be read."""
    outcomes = [read() for read in readings]
    pixels = [image for image in outcomes if isinstance(image, np.ndarray)]
    features: Any = model.encode(np.stack(pixels)) if pixels else ()
    rows = (features[row : row + 1] for row in range(len(pixels)))
    return [next(rows) if isinstance(outcome, np.ndarray) else outcome for outcome in outcomes]


def _batches(
    outcomes: Iterable[Features | CaptionerError], batch_size: int
) -> Iterator[Sequence[Features | CaptionerError]]:
    """Groups with ``batch_size`` encoded images; the unreadable ones between them do not count."""
    batch: list[Features | CaptionerError] = []
    readable = 0
    for outcome in outcomes:
        batch.append(outcome)
        readable += isinstance(outcome, Features)
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
