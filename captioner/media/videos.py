"""Video files to RGB frames with their times: one sequential pass, bounded memory, clear errors."""

from __future__ import annotations

import math
import os
import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from captioner.errors import VideoReadError
from captioner.media import containers
from captioner.media.clock import FrameClock
from captioner.media.files import check_pixels, explained_access
from captioner.media.images import MAX_PIXELS, name_of, read_image

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts"}
    | {".flv", ".f4v", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".mxf"}
)
"""Extensions, in lower case, of the files that a folder scan takes for videos."""

_USUAL_FPS = 25.0

Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: Number of the frame in the file, from 0; frames that were skipped count.
        time: Seconds from the start of the video at which it is shown, from the container.
        image: uint8 (H, W, 3), RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


class VideoReader:
    """Iterates once over the frames of a video; a context manager.

    The file is read from front to back and never sought, since seeking is inexact in many containers. Frames that are
    not asked for are decoded (later ones depend on them) but not converted.

    Args:
        path: The file.
        every: Seconds between frames: of the times ``start + k * every`` the first frame at or after each; None is
            every frame. A slower video gives each of its frames once.
        start: Frames before this time, in seconds, are left out.
        end: Frames at or after this time, in seconds, are left out; None reads to the end.
        size: Side of the square into which frames are squashed, as `captioner.media.images.read_image` does.
        max_pixels: Limit on width x height of a frame.

    Attributes:
        name: The path for messages.
        width: Width of the frames in the file, in pixels, after rotation.
        height: Height of the frames in the file, in pixels, after rotation.
        fps: Frames per second that the container states, 0 where it states none; a hint, not a promise.
        expected_frames: Number of frames that the container states, 0 where it states none; a hint too.
        duration: Seconds up to the end of the last frame that was read so far.
        truncated: Whether the file ended clearly before the container said it would; known after the last frame, and
            False while ``end`` stops the reading.

    Raises:
        VideoReadError: ``missing``, ``not_a_file``, ``permission``, ``empty``, ``not_a_video``, ``no_video_stream``,
            ``truncated`` (its index is lost, so that no frame can be found), ``no_frames`` or ``too_large``.
    """

    def __init__(
        self, path: str | os.PathLike, *, every: float | None = None, start: float = 0.0, end: float | None = None,
        size: int | None = None, max_pixels: int = MAX_PIXELS,
    ):  # fmt: skip
        if every is not None and not (every > 0 and math.isfinite(every)):
            raise ValueError(f"every must be a positive number of seconds, not {every}")
        if not start >= 0 or (end is not None and not end > start):
            raise ValueError(f"start must be 0 or more and end after it, not {start} and {end}")
        if size is not None and size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        self.name = name_of(path)
        self.every, self.start, self.end, self.size = every, start, end, size
        self.duration = 0.0
        self.truncated = False
        self._index = -1
        self._time = 0.0
        self._clock = FrameClock(every, start)
        self._lock = threading.Lock()  # closing while another thread decodes would crash the process
        container = _check_file(path, self.name)
        self._capture = _open(path)
        try:
            self._read_header(path, container, max_pixels)
        except BaseException:
            self.close()
            raise

    def _read_header(self, path, container: str, max_pixels: int) -> None:
        import cv2

        if not self._capture.isOpened():
            kind, reason = containers.why_unreadable(path, container)
            raise VideoReadError(f"{self.name}: {reason}", kind=kind)
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if math.isfinite(fps) and fps > 0 else 0.0
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.expected_frames = int(frames) if math.isfinite(frames) and 0 < frames < 2**40 else 0
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        check_pixels(self.width, self.height, max_pixels, self.name, "video")
        # The first frame is fetched at once, so that a file without any is an error before anything depends on it.
        self._pending = self._grab()
        if not self._pending:
            raise VideoReadError(
                f"{self.name}: has a header but no frame that can be decoded; it is damaged, or it was cut off right "
                "after its header",
                kind="no_frames",
            )

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; reading on ends the iteration."""
        with self._lock:
            self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        with self._lock:
            while self._pending or self._grab():
                self._pending = False
                if self.end is not None and self._time >= self.end:
                    self._capture.release()
                    raise StopIteration
                if not self._clock.due(self._time):
                    continue
                ok, image = self._capture.retrieve()
                if not ok or image is None:
                    continue  # damaged; the next frame takes its place
                self._clock.take(self._time)
                return Frame(self._index, self._time, self._to_rgb(image))
            if self._capture.isOpened():
                self.truncated = self._ended_early()
                self._capture.release()
            raise StopIteration

    def _grab(self) -> bool:
        import cv2

        if not self._capture.grab():
            return False
        self._index += 1
        usual = 1 / self.fps if 1 <= self.fps <= 1000 else 1 / _USUAL_FPS
        time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._index == 0:
            self._time = max(0.0, time) if math.isfinite(time) else 0.0
        else:  # raw streams carry no times
            self._time = time if math.isfinite(time) and time > self._time else self._time + usual
        self.duration = self._time + usual
        return True

    def _to_rgb(self, image: np.ndarray) -> np.ndarray:
        import cv2

        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return rgb if self.size is None else read_image(rgb, size=self.size, max_pixels=rgb.size)

    def _ended_early(self) -> bool:
        """By frames and by time: either of the two hints alone is often wrong in an intact file."""
        missing = self.expected_frames - (self._index + 1)
        if missing <= max(2, 0.02 * self.expected_frames) or not self.fps:
            return False
        return self.duration < 0.98 * self.expected_frames / self.fps - 0.05


def prefetch(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Lets another thread produce the items, ``depth`` of them ahead at most.

    What the other thread raises is raised here, after the items that came before it. Closing the generator, or leaving
    a loop over it, stops the thread.

    Args:
        items: What to iterate over; only the other thread touches it.
        depth: How many finished items may wait, 1 or more.

    Yields:
        The items, in order.
    """
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, not {depth}")
    waiting: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value) -> None:
        while not stop.is_set():
            try:
                return waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put("item", item)
                if stop.is_set():
                    return
        except BaseException as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()


def _check_file(path: str | os.PathLike, name: str) -> str:
    """Name of the container; the decoder alone could not say why it refuses a file."""
    with explained_access(path, name, "video") as status:
        if status.st_size == 0:
            raise VideoReadError(f"{name}: is empty (0 bytes)", kind="empty")
        with open(path, "rb") as file:
            head = file.read(4096)
    container = containers.container_of(head)
    if container is None:
        raise VideoReadError(f"{name}: {containers.what_instead(head)}", kind="not_a_video")
    if container in containers.SOUND:
        raise VideoReadError(f"{name}: is a sound file ({container}), without a picture", kind="no_video_stream")
    return container


def _open(path: str | os.PathLike):
    """An OpenCV capture, opened or not."""
    # Both are read when OpenCV starts. Its complaints would stand between our own messages, which say the same.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    absolute = os.path.abspath(os.fsdecode(path))  # else "a:b.mp4" would be taken for the protocol "a"
    try:
        absolute.encode()
    except UnicodeEncodeError:  # OpenCV takes UTF-8 only
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "video" + os.path.splitext(absolute)[1].encode("ascii", "ignore").decode())
            link.symlink_to(absolute)
            return cv2.VideoCapture(str(link), cv2.CAP_FFMPEG)
    return cv2.VideoCapture(absolute, cv2.CAP_FFMPEG)
