"""Foreign examples: clips in which none of the classes happens, and photos made to look like frames of clips."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.atomic import write_atomic
from captioner.clips.frames import PLAIN, Encode
from captioner.clips.known import SCENE, SCENE_FRAMES, looks
from captioner.clips.windows import WindowOptions
from captioner.errors import CaptionerError, DatasetError
from captioner.media.images import IMAGE_EXTENSIONS, read_image
from captioner.media.videos import VIDEO_EXTENSIONS
from captioner.training.clips.data import OTHER, Clip, measured_clips

MOST_STILLS = 500
"""Photos of a folder at most, drawn at random: more take time, and change next to nothing."""
_SHORTER_SIDES = (120, 144, 180, 240, 240, 360)  # in pixels, of the clips that people have and that are trained on
_QUALITIES = (20, 80)
_ZOOMS = (0.65, 1.0)


@dataclass(frozen=True)
class ForeignExample:
    """A clip or a photo in which none of the classes happens.

    Attributes:
        name: For people.
        path: Where it lies.
        kind: What it is of, roughly: heads are judged on kinds that they have not seen.
        still: Whether it is a photo.
    """

    name: str
    path: Path
    kind: str
    still: bool


def read_foreign(
    folder: str | Path, *, leave_out: Sequence[str] = (), captions: Mapping[Path, Iterable[str]] | None = None
) -> list[ForeignExample]:
    """The clips and photos below a folder; at most `MOST_STILLS` photos.

    Args:
        folder: All in it is of one kind, named after the folder, but for what lies in a folder ``Other`` of it.
        leave_out: Beginnings of words that say that a class may happen after all, such as ``surf``: what has one in its
            name or in a caption is left out.
        captions: Of the photos. Where words are left out, photos without captions are as well.

    Raises:
        DatasetError: There is nothing of the kind.
    """
    folder = Path(folder)
    pattern = _pattern(leave_out)
    clips, stills = [], []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        extension = path.suffix.lower()
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        kind = _kind(path) if OTHER in inside.parts[:-1] else folder.resolve().name
        if extension in VIDEO_EXTENSIONS and not pattern.search(path.name):
            clips.append(ForeignExample(f"{folder.name}/{inside.as_posix()}", path, kind, False))
        elif extension in IMAGE_EXTENSIONS:
            said = (captions or {}).get(path)
            if leave_out and (said is None or any(pattern.search(text) for text in said)):
                continue
            stills.append(ForeignExample(f"{folder.name}/{inside.as_posix()}", path, kind, True))
    if not clips and not stills:
        raise DatasetError(f"{folder}: no clip and no photo found that nothing known happens in")
    order = np.random.default_rng(0).permutation(len(stills))[:MOST_STILLS]
    return clips + [stills[number] for number in sorted(order)]


def foreign_clips(clips: Iterable[Clip], leave_out: Sequence[str] = ()) -> list[ForeignExample]:
    """Clips with the label `OTHER` as foreign examples; the letters that a name begins with are its kind."""
    pattern = _pattern(leave_out)
    return [
        ForeignExample(clip.name, clip.path, _kind(clip.path), False)
        for clip in clips
        if clip.label == OTHER and not pattern.search(clip.path.name)
    ]


def parts_of(examples: Sequence[ForeignExample], parts: int) -> np.ndarray:
    """The part (N,) in which each is judged: all of a kind in the same, where there are at least three kinds."""
    kinds = sorted({one.kind for one in examples}, key=lambda kind: (-sum(one.kind == kind for one in examples), kind))
    if len(kinds) < 3:
        return np.arange(len(examples)) % parts
    number = {kind: index % parts for index, kind in enumerate(kinds)}
    return np.array([number[one.kind] for one in examples])


def foreign_looks(
    examples: Sequence[ForeignExample],
    encode: Encode,
    *,
    cache: str | Path,
    key: str,
    image_size: int,
    options: WindowOptions,
    region: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What the windows of foreign examples look like, measured as those of known clips are.

    Args:
        examples: Which.
        encode: The encoder.
        cache: Folder; see `captioner.training.clips.data.measured_clips`.
        key: Likewise.
        image_size: Likewise.
        options: Windows of the classifier.
        region: Whether it looks at regions, and thus encodes few whole frames of a window.
        progress: Called with (done, total).

    Returns:
        Name to `captioner.clips.known.looks` (windows, C), and name to the reason where one cannot be read.
    """
    clips = [Clip(one.name, one.path, one.kind, one.kind) for one in examples if not one.still]
    interval = options.window / SCENE_FRAMES if region else options.interval
    measured, failures = measured_clips(
        cache,
        clips,
        encode,
        key=key,
        image_size=image_size,
        options=WindowOptions(interval, options.window, options.stride),
        streams=(SCENE,),
        region=False,
        views=(PLAIN,),
        progress=progress,
    )
    found = {name: looks(views[0].inputs) for name, views in measured.items()}
    stills = [one for one in examples if one.still]
    pictured, unread = _still_looks(stills, encode, Path(cache), key, image_size, progress)
    return found | pictured, failures | unread


def like_a_frame(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A photo as a frame of a clip would show it: a part of it, small, compressed, squashed to the encoder's square.

    Photos are sharper than clips; a head that could tell them by that would learn nothing else.

    Args:
        image: RGB uint8 (H, W, 3).
        rng: Chooses the part, the resolution and the compression.
        size: S, the side of the square.

    Returns:
        RGB uint8 (S, S, 3).
    """
    import cv2

    height, width = image.shape[:2]
    zoom = rng.uniform(*_ZOOMS)
    wide, high = max(1, round(width * zoom)), max(1, round(height * zoom))
    left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
    scale = rng.choice(_SHORTER_SIDES) / min(wide, high)
    shape = (max(8, round(wide * scale)), max(8, round(high * scale)))
    part = np.ascontiguousarray(image[top : top + high, left : left + wide])
    small = cv2.resize(part, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_QUALITIES))]
    worn = cv2.imdecode(cv2.imencode(".jpg", small[:, :, ::-1], quality)[1], cv2.IMREAD_COLOR)[:, :, ::-1]
    return read_image(np.ascontiguousarray(worn), size=size)


def _still_looks(stills, encode, cache: Path, key: str, image_size: int, progress):
    if not stills:
        return {}, {}
    settings = json.dumps([key, image_size, [os.fspath(one.path.resolve()) for one in stills]])
    path = cache / "stills" / f"{hashlib.sha256(settings.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            rows, failures = kept["rows"].astype(np.float32), json.loads(str(kept["failures"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        rows, failures = _encode_stills(stills, encode, image_size, progress)
        buffer = io.BytesIO()
        np.savez(buffer, rows=rows.astype(np.float16), failures=json.dumps(failures))
        write_atomic(path, buffer.getvalue())
        rows = rows.astype(np.float16).astype(np.float32)
    readable = [one.name for one in stills if one.name not in failures]
    return {name: row[None] for name, row in zip(readable, rows, strict=True)}, failures


def _encode_stills(stills, encode, image_size: int, progress, batch: int = 16):
    rows, failures, waiting = [], {}, []
    for number, one in enumerate(stills):
        try:
            image = read_image(one.path)
            waiting.append(like_a_frame(image, np.random.default_rng(number), image_size))
        except CaptionerError as error:
            failures[one.name] = str(error)
        if len(waiting) == batch:
            rows.append(encode(np.stack(waiting))[1])
            waiting = []
        if progress:
            progress(number + 1, len(stills))
    if waiting:
        rows.append(encode(np.stack(waiting))[1])
    return (np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)), failures


def _kind(path: Path) -> str:
    """The letters that a name begins with."""
    letters = re.match(r"[^\W\d_]+", path.stem)
    return f"{OTHER}/{letters[0] if letters else path.stem}"


def _pattern(words: Sequence[str]) -> re.Pattern:
    return re.compile("|".join(rf"(?<![^\W\d_]){re.escape(word)}" for word in words) or r"(?!)", re.IGNORECASE)
