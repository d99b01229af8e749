"""Labelled clips from the layouts that people already have, their groups and splits, and their cached measurements."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from captioner.atomic import write_atomic
from captioner.clips.frames import Encode, View
from captioner.clips.known import SCENE
from captioner.clips.local_motion import LOCAL_MOTION
from captioner.clips.windows import WindowOptions, WindowSampler, measure_window
from captioner.errors import DatasetError, VideoReadError
from captioner.files import MAX_TABLE_BYTES, read_regular
from captioner.media.videos import VIDEO_EXTENSIONS, VideoReader

COLUMNS = ("clip", "label", "group", "split")
"""Columns of the table; the first two must be there."""
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
"""Names of the splits in a table, and what they mean."""
OTHER = "Other"
"""Label of clips in which none of the classes happens; no class itself."""
SMALLEST_CLASS = 4
"""Fewest clips of a class that can be trained on."""


@dataclass(frozen=True)
class Clip:
    """A labelled clip.

    Attributes:
        name: As the table gives it, or the path below the folder.
        path: Where it lies.
        label: What happens in it.
        group: The recording that it was cut from; clips of one group stay in one split.
        split: ``train``, ``val``, ``test``, or None where nobody said.
    """

    name: str
    path: Path
    label: str
    group: str
    split: str | None = None


@dataclass(frozen=True)
class ClipDataset:
    """Clips with labels.

    Attributes:
        source: The folder or table.
        clips: The clips that exist.
        labels: Their labels, sorted.
        warnings: What was left out, in sentences.
    """

    source: Path
    clips: tuple[Clip, ...] = field(repr=False)
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Clip, ...]:
        """Clips of a split; ``all`` is every clip.

        Raises:
            DatasetError: The split is empty.
        """
        clips = tuple(clip for clip in self.clips if name == "all" or clip.split == SPLITS.get(name, name))
        if not clips:
            known = Counter(clip.split for clip in self.clips if clip.split)
            there = ", ".join(f"{split} ({count})" for split, count in known.items()) or "none"
            raise DatasetError(f"{self.source}: the split {name!r} has no clips; there are: {there}; all also works")
        return clips

    def known(self) -> ClipDataset:
        """The same without the clips in which none of the classes happens."""
        clips = tuple(clip for clip in self.clips if clip.label != OTHER)
        return replace(self, clips=clips, labels=tuple(label for label in self.labels if label != OTHER))


def read_all_clips(sources: Sequence[str | Path]) -> ClipDataset:
    """Reads labelled clips of several sources together; names and groups are told apart by the names of the sources.

    Args:
        sources: See `read_clips`; at least one.

    Raises:
        DatasetError: One cannot be read, or two have the same name.
    """
    datasets = [read_clips(source) for source in sources]
    if len(datasets) == 1:
        return datasets[0]
    names = [dataset.source.resolve().stem for dataset in datasets]
    if len(set(names)) < len(names):
        raise DatasetError(f"{sources[0]}, ...: two data sets are called {Counter(names).most_common(1)[0][0]!r}")
    clips = tuple(
        replace(clip, name=f"{name}/{clip.name}", group=f"{name}/{clip.group}")
        for name, dataset in zip(names, datasets, strict=True)
        for clip in dataset.clips
    )
    warnings = tuple(warning for dataset in datasets for warning in dataset.warnings)
    return ClipDataset(datasets[0].source, clips, tuple(sorted({clip.label for clip in clips})), warnings)


def read_clips(source: str | Path) -> ClipDataset:
    """Reads labelled clips.

    Understands a table (a CSV file, or ``labels.csv`` in the folder) with the columns ``clip,label[,group][,split]``,
    where ``clip`` is a path relative to the table, and a folder with one folder per class. In a folder, and in a table
    without groups, every clip is a group of its own.

    Args:
        source: The folder or the CSV file.

    Raises:
        DatasetError: There is nothing of the kind, a column is unknown or missing, a clip stands there twice, a field
            is empty, a group is in two splits, or no clip exists.
    """
    source = Path(source)
    table = source / "labels.csv" if source.is_dir() else source
    if table.is_file():
        clips, missing = _read_table(table)
    elif source.is_dir():
        clips, missing = _read_folders(source), []
    else:
        raise DatasetError(f"{source}: no such folder or table; give a folder with one folder per class, or a CSV file")
    if not clips:
        some = f"; none of the {len(missing)} clips of the table exists, for example {missing[0]}" if missing else ""
        raise DatasetError(f"{source}: no clips found{some}")
    warnings = []
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        warnings.append(f"{table}: {len(missing)} clips do not exist and are left out: {shown}")
    _check_groups(table if table.is_file() else source, clips)
    return ClipDataset(source, tuple(clips), tuple(sorted({clip.label for clip in clips})), tuple(warnings))


def _read_table(table: Path) -> tuple[list[Clip], list[str]]:
    try:
        text = read_regular(table, MAX_TABLE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{table}: cannot be read as UTF-8 text ({error})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns, rows = reader.fieldnames or [], [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DatasetError(f"{table}, line {reader.line_num + 1}: cannot be read as CSV ({error})") from error
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or not {"clip", "label"} <= set(columns) or len(set(columns)) < len(columns):
        reason = (
            f"unknown column {unknown[0][:50]!r}" if unknown else "the columns clip and label must each be there once"
        )
        raise DatasetError(f"{table}: {reason}; the columns are {', '.join(COLUMNS)}, the last two optional")
    clips, missing, lines = [], [], {}
    for number, row in rows:
        where = f"{table}, line {number}"
        if None in row or None in row.values():
            raise DatasetError(f"{where}: {len(columns)} fields expected; quote fields that hold a comma")
        if any("\n" in value for value in row.values()):
            raise DatasetError(f"{where}: a quote was opened on a line before and is closed here only; close it there")
        row = {key: value.strip() for key, value in row.items()}
        if not row["clip"] or not row["label"]:
            raise DatasetError(f"{where}: clip and label must not be empty")
        if "\0" in row["clip"]:
            raise DatasetError(f"{where}: {row['clip'][:50]!r} holds a null character, which no name of a file does")
        path = table.parent / row["clip"]
        key = path.resolve()
        if key in lines:
            raise DatasetError(f"{where}: {row['clip']} stands there already, in line {lines[key]}; keep one of them")
        lines[key] = number
        split = row.get("split") or None
        if split is not None and split.lower() not in SPLITS:
            raise DatasetError(f"{where}: unknown split {split!r}; known: {', '.join(SPLITS)}")
        if not path.is_file():
            missing.append(row["clip"])
            continue
        group = row.get("group") or row["clip"]
        clips.append(Clip(row["clip"], path, row["label"], group, split and SPLITS[split.lower()]))
    return clips, missing


def _read_folders(source: Path) -> list[Clip]:
    clips = []
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        hidden = any(part.startswith(".") for part in inside.parts)
        if len(inside.parts) > 1 and not hidden and path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file():
            clips.append(Clip(inside.as_posix(), path, inside.parts[0], inside.as_posix()))
    return clips


def _check_groups(where: Path, clips: Sequence[Clip]) -> None:
    split_of: dict[str, Clip] = {}
    for clip in clips:
        first = split_of.setdefault(clip.group, clip)
        if first.split != clip.split:
            raise DatasetError(
                f"{where}: the group {clip.group!r} is in the splits {first.split or 'none'} ({first.name}) and "
                f"{clip.split or 'none'} ({clip.name}); a group may be in one only"
            )


def assign_splits(dataset: ClipDataset, *, val_share: float = 0.2, seed: int = 0) -> ClipDataset:
    """Gives clips without a split one: whole groups go to ``val`` until it has its share of every class.

    Args:
        dataset: From `read_clips`. Where it has a validation split already, everything without a split is for training.
        val_share: Share of the clips, 0..1.
        seed: Of the order in which groups are tried.

    Raises:
        DatasetError: A class has all its clips in one group, so that it cannot be trained and validated on both.
    """
    if any(clip.split == "val" for clip in dataset.clips):
        return replace(dataset, clips=tuple(replace(clip, split=clip.split or "train") for clip in dataset.clips))
    free = [clip for clip in dataset.clips if clip.split in (None, "train")]
    chosen = grouped_share(free, val_share, seed)
    clips = [
        replace(clip, split="val" if clip.group in chosen else "train") if clip in free else clip
        for clip in dataset.clips
    ]
    return replace(dataset, clips=tuple(clips))


def grouped_share(clips: Sequence[Clip], share: float, seed: int) -> set[str]:
    """Groups that together hold about a share of the clips of every class."""
    groups: dict[str, Counter] = {}
    for clip in clips:
        groups.setdefault(clip.group, Counter())[clip.label] += 1
    total = Counter(clip.label for clip in clips)
    spread = Counter(label for counts in groups.values() for label in counts)
    for label, count in spread.items():
        if count < 2:
            raise DatasetError(
                f"all clips of {label!r} are of one group; validation needs another recording: add clips, or name "
                "the recordings in the column group"
            )
    wanted = {label: share * count for label, count in total.items()}
    order = sorted(groups)
    np.random.default_rng(seed).shuffle(order)
    chosen, held = set(), Counter()
    left = Counter(spread)
    for group in order:
        counts = groups[group]
        gain = sum(min(n, max(0.0, wanted[label] - held[label])) for label, n in counts.items())
        surplus = sum(max(0.0, held[label] + n - wanted[label]) for label, n in counts.items())
        needed = any(not held[label] for label in counts)
        if all(left[label] > 1 for label in counts) and (gain > surplus or needed):
            chosen.add(group)
            held.update(counts)
            left.subtract(counts.keys())
    return chosen


def check_trainable(dataset: ClipDataset) -> None:
    """Refuses what no classifier can be trained on.

    Raises:
        DatasetError: There is a single class, a class has fewer than `SMALLEST_CLASS` clips, or one has none in
            ``train`` or in ``val``.
    """
    if len(dataset.labels) < 2:
        raise DatasetError(f"{dataset.source}: a single class, {dataset.labels[0]!r}; a classifier needs at least two")
    total = Counter(clip.label for clip in dataset.clips)
    label, count = min(total.items(), key=lambda item: item[1])
    if count < SMALLEST_CLASS:
        raise DatasetError(
            f"{dataset.source}: the class {label!r} has {count} clips; every class needs at least {SMALLEST_CLASS}"
        )
    for split in ("train", "val"):
        absent = set(dataset.labels) - {clip.label for clip in dataset.clips if clip.split == split}
        if absent:
            raise DatasetError(f"{dataset.source}: the split {split} has no clip of {sorted(absent)[0]!r}")


@dataclass(frozen=True)
class ClipWindows:
    """The measurements of one clip in one view.

    Attributes:
        spans: (start, end) of the windows in seconds.
        inputs: Per window, what `captioner.clips.head.pad` takes.
    """

    spans: tuple[tuple[float, float], ...]
    inputs: tuple[dict[str, np.ndarray], ...] = field(repr=False)


def measured_clips(
    folder: str | Path,
    clips: Sequence[Clip],
    encode: Encode,
    *,
    key: str,
    image_size: int,
    options: WindowOptions,
    streams: Sequence[str],
    region: bool,
    views: Sequence[View],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, list[ClipWindows]], dict[str, str]]:
    """Measures clips exactly as they are measured when they are classified, or takes it from the cache.

    Args:
        folder: Where the cache lies: one file a clip, named after the clip, the encoder and the settings.
        clips: Which clips.
        encode: The encoder.
        key: Hash of the encoder's weights.
        image_size: Its input size.
        options: Windows.
        streams: What to measure.
        region: Whether to look at the region where something moves.
        views: How to look at each clip; the first one is as it is.
        progress: Called with (done, total).

    Returns:
        Clip name to its views, and clip name to the reason where a clip cannot be read. The first view alone
        has ``local_motion`` and ``scene``.
    """
    settings = json.dumps(
        [
            key,
            image_size,
            options.interval,
            options.window,
            options.stride,
            sorted(streams),
            region,
            [str(v) for v in views],
        ]
    )
    measured, failures = {}, {}
    for number, clip in enumerate(clips):
        stat = clip.path.stat()
        identity = f"{settings}\0{clip.path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        path = Path(folder) / "clips" / f"{digest}.npz"
        cached = _load_windows(path, len(views))
        if cached is None:
            try:
                _store_windows(path, _measure_clip(clip.path, encode, image_size, options, streams, region, views))
                cached = _load_windows(path, len(views))  # as it will be read the next time: rounded
            except VideoReadError as error:
                failures[clip.name] = str(error)
        if cached is not None:
            measured[clip.name] = cached
        if progress:
            progress(number + 1, len(clips))
    return measured, failures


def _measure_clip(path, encode, image_size, options, streams, region, views) -> list[ClipWindows]:
    sampler = WindowSampler(options, streams, region)
    with VideoReader(path, every=options.interval, size=None if region else image_size) as reader:
        cut = [window for frame in reader for window in sampler.push(frame.time, frame.image)]
        cut += sampler.finish(reader.duration)
    spans = tuple((start, end) for start, end, _ in cut)
    settings: Mapping = {"streams": streams, "region": region, "image_size": image_size}
    measured = []
    for view in views:
        measured.append(ClipWindows(spans, tuple(measure_window(s, encode, view=view, **settings) for *_, s in cut)))
        # The same in every view, but for left and right.
        settings = {**settings, "streams": [name for name in streams if name not in (LOCAL_MOTION, SCENE)]}
    return measured


def _store_windows(path: Path, views: Sequence[ClipWindows]) -> None:
    arrays = {"spans": np.array(views[0].spans)}
    for i, view in enumerate(views):
        for j, inputs in enumerate(view.inputs):
            arrays |= {f"{i}/{j}/{name}": value.astype(np.float16) for name, value in inputs.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def _load_windows(path: Path, views: int) -> list[ClipWindows] | None:
    """The views of a cache file, or None where it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            spans = tuple((float(start), float(end)) for start, end in arrays["spans"])
            loaded: list[list[dict[str, np.ndarray]]] = [[{} for _ in spans] for _ in range(views)]
            for name in arrays.files:
                if name != "spans":
                    i, j, stream = name.split("/")
                    loaded[int(i)][int(j)][stream] = arrays[name].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return [ClipWindows(spans, tuple(inputs)) for inputs in loaded]
