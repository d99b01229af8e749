"""Results to a file or to standard output, one by one as they are there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.cli.options import refuse_idle
from captioner.cli.progress import ProgressBars
from captioner.cli.terminal import is_watched, shown
from captioner.errors import CaptionerError
from captioner.files import open_regular
from captioner.names import printable
from captioner.outputs.marks import is_ours, refuse_to_replace
from captioner.outputs.records import Record, count_unsure
from captioner.outputs.writers import FORMATS, open_writer, segment_text
from captioner.runs.inputs import STANDARD_INPUT, Inputs, find_inputs
from captioner.runs.jobs import CaptionImages, ClassifyClips, DescribeFiles, WatchVideos, answers, picture_names
from captioner.runs.translations import Translations
from captioner.runs.workers import Task

if TYPE_CHECKING:
    from captioner.results import Segment


def images_to_stream(
    task: CaptionImages,
    paths: Sequence[str],
    output: str | None,
    format: str | None,
    exclude: Sequence[str] = (),
    *,
    mark_unsure: bool | None = None,
    bom: bool = False,
    overwrite: bool = False,
    also: Translations | None = None,
) -> int:
    """Captions of photos to a file or to standard output."""
    from captioner.media.images import IMAGE_EXTENSIONS

    task.check()
    inputs = find_photos(task, paths, (), exclude)
    task = replace(task, attention_names=picture_names(inputs) if task.attention_dir else {})
    format = _chosen_format(format, output)
    _check_output(output, inputs, IMAGE_EXTENSIONS, format, overwrite)
    return _to_stream(task, inputs, output, format, "image", "photos", mark_unsure, bom, also)


def clips_to_stream(
    task: ClassifyClips,
    paths: Sequence[str],
    output: str | None,
    format: str | None,
    exclude: Sequence[str] = (),
    *,
    bom: bool = False,
    overwrite: bool = False,
) -> int:
    """Labels of clips to a file or to standard output."""
    from captioner.media.images import IMAGE_EXTENSIONS
    from captioner.media.videos import VIDEO_EXTENSIONS

    extensions = VIDEO_EXTENSIONS | (IMAGE_EXTENSIONS if task.still else frozenset())
    inputs = find_films(paths, (), exclude, extensions)
    format = _chosen_format(format, output)
    _check_output(output, inputs, extensions, format, overwrite)
    return _to_stream(task, inputs, output, format, "clip", "clips", False, bom)


def films_to_stream(
    task: WatchVideos,
    paths: Sequence[str],
    format: str,
    exclude: Sequence[str] = (),
    *,
    mark_unsure: bool | None = None,
    bom: bool = False,
) -> int:
    """What happens when in videos, to standard output; text says each segment as soon as it is over."""
    from captioner.media.videos import VIDEO_EXTENSIONS

    task.check()
    inputs = find_films(paths, (), exclude, VIDEO_EXTENSIONS)
    return _to_stream(task, inputs, None, _known(format, FORMATS), "video", "videos", mark_unsure, bom)


def files_to_stream(
    task: DescribeFiles,
    paths: Sequence[str],
    format: str,
    exclude: Sequence[str] = (),
    *,
    mark_unsure: bool | None = None,
) -> int:
    """What is in photos and videos, to standard output."""
    from captioner.media import images, videos

    inputs = find_inputs(
        paths, images.IMAGE_EXTENSIONS | videos.VIDEO_EXTENSIONS, patterns=exclude, standard_input=True,
        undecodable=images.UNDECODABLE_EXTENSIONS | videos.UNDECODABLE_EXTENSIONS, remedy="convert to JPEG or MP4",
    )  # fmt: skip
    return _to_stream(task, inputs, None, _known(format, ("text", "jsonl")), None, "files", mark_unsure)


def find_photos(
    task: CaptionImages,
    paths: Sequence[str],
    outputs: Sequence[str],
    patterns: Sequence[str],
    *,
    may_be_empty: bool = False,
) -> Inputs:
    """The photos that are meant; see `captioner.runs.inputs.find_inputs`."""
    from captioner.media.images import IMAGE_EXTENSIONS, UNDECODABLE_EXTENSIONS

    if task.attention_dir is not None:
        outputs = [*outputs, task.attention_dir]
    return find_inputs(
        paths, IMAGE_EXTENSIONS, exclude=outputs, patterns=patterns, undecodable=UNDECODABLE_EXTENSIONS,
        remedy="convert to JPEG", standard_input=not outputs, may_be_empty=may_be_empty,
    )  # fmt: skip


def find_films(
    paths: Sequence[str],
    outputs: Sequence[str],
    patterns: Sequence[str],
    extensions: Collection[str],
    *,
    may_be_empty: bool = False,
) -> Inputs:
    """The videos that are meant."""
    from captioner.media.videos import UNDECODABLE_EXTENSIONS

    return find_inputs(
        paths, extensions, exclude=outputs, patterns=patterns, undecodable=UNDECODABLE_EXTENSIONS,
        remedy="convert to MP4", may_be_empty=may_be_empty,
    )  # fmt: skip


FORMAT_OF = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text", "": "text"}
"""Extension of an output to the format that it promises."""


def _chosen_format(format: str | None, output: str | None) -> str:
    """The format that was asked for, or else the one that the name of the output promises."""
    if format is None:
        extension = os.path.splitext(output or "")[1].lower()
        if extension not in FORMAT_OF:
            raise CaptionerError(
                f"{output}: no format is known by {extension}; give --format ({', '.join(FORMATS)}), or a name that "
                f"ends in one of {', '.join(filter(None, FORMAT_OF))}",
                kind="usage",
            )
        return FORMAT_OF[extension]
    return _known(format, FORMATS)


def _known(format: str, formats: Sequence[str]) -> str:
    if format not in formats:
        raise CaptionerError(f"unknown format {format!r}; known: {', '.join(formats)}", kind="usage")
    return format


def _to_stream(
    task: Task,
    inputs: Inputs,
    output: str | None,
    format: str,
    kind: str | None,
    name: str,
    mark_unsure: bool | None = None,
    bom: bool = False,
    also: Translations | None = None,
) -> int:
    if format != "csv":
        refuse_idle("needs CSV", "csv_bom")
    if format != "text":
        refuse_idle("needs text", "mark_unsure")
    watched = output is None and is_watched()
    mark_unsure = watched if mark_unsure is None else mark_unsure
    segments = None
    if format == "text" and isinstance(task, WatchVideos | DescribeFiles):
        segments = _Segments(mark_unsure, headed=len(inputs) > 1 or kind is None)
        task = replace(task, listener=segments.tell)
    status = captions = unsure = 0
    records = map(also, answers(task, inputs)) if also else answers(task, inputs)
    first = next(records)  # a model that cannot be loaded must not cost the old output
    look = {"mark_unsure": mark_unsure, "bom": bom, "name": shown if output is None else printable}
    with ProgressBars(silent=watched) as bars, open_writer(output, format, kind, **look) as writer:
        for record in bars.track(itertools.chain([first], records), name, len(inputs)):
            if segments is not None and "segments" in record:
                segments.end(record, bars.note)
            else:
                writer.write(record)
            captions, unsure = (a + b for a, b in zip((captions, unsure), count_unsure(record), strict=True))
            if "error" in record:
                status = 1
                bars.say(f"captioner: {record['error']['message']}")
        if passed_over := inputs.passed_over_text:
            bars.note(f"captioner: {passed_over}")
        if format == "text" and unsure and not mark_unsure:  # text shows nothing but the captions
            which = "the caption is" if captions == 1 else f"{unsure} of {captions} captions are"
            bars.note(f"captioner: {which} unsure (--mark-unsure says which, and why)")
    return status


class _Segments:
    """Prints the segments of videos as they come.

    Args:
        mark_unsure: See `captioner.outputs.writers.image_text`.
        headed: Whether the name of the video stands above them.
    """

    def __init__(self, mark_unsure: bool, headed: bool):
        self._mark_unsure = mark_unsure
        self._headed = headed
        self._file: str | None = None

    def tell(self, file: str, segment: Segment) -> None:
        """A segment is over."""
        if self._headed and file != self._file:
            print(f"{shown(file)}:")
        self._file = file
        indent = "    " if self._headed else ""
        print(indent + segment_text(segment.to_dict(), self._mark_unsure), flush=True)

    def end(self, record: Record, note: Callable[[str], None]) -> None:
        """A video is over: its label, and on standard error what was wrong with it."""
        if record["label"]:
            print(f"{'    ' if self._headed else ''}label: {printable(record['label'])}", flush=True)
        cut = ["ends before its end"] if record["truncated"] else []
        for reason in (*cut, *record["warnings"]):
            note(f"captioner: {record['file']}: {reason}")


def _check_output(
    output: str | None, inputs: Inputs, extensions: Collection[str], format: str, overwrite: bool
) -> None:
    """An output that is an input, a photo or somebody else's is a slip of the hand; it would destroy that file."""
    if output is None or not os.path.exists(output):
        return
    files = [one.file for one in inputs if not one.error and one.file != STANDARD_INPUT]
    is_input = any(os.path.samefile(output, file) for file in files)
    if is_input or os.path.splitext(output)[1].lower() in extensions:
        raise CaptionerError(
            f"{printable(output)}: exists and is an input, which would be overwritten; give --output another name",
            kind="usage",
        )
    if not overwrite:
        refuse_to_replace(output, _is_own(output, format, inputs[0].file))


def _is_own(output: str, format: str, first: str) -> bool:
    """Whether a file seems to be an earlier output in the same format; of text, one with the same first input."""
    if format != "text":
        return is_ours(os.path.realpath(output), f".{format}")
    start = f"{printable(first)}: ".encode("utf-8", "backslashreplace")
    try:
        with open_regular(output) as file:
            return file.read(len(start)) == start
    except OSError:
        return False
