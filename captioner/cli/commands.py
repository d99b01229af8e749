"""What the commands do: the parts of the package put together, results printed, an exit status returned."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.cli.progress import BatchBars, ProgressBars
from captioner.errors import CaptionerError
from captioner.names import printable
from captioner.outputs.writers import FORMATS, IMAGE_SIDECARS, VIDEO_SIDECARS, open_writer, to_csv
from captioner.results import UNFAMILIAR
from captioner.runs.batch import run_batch
from captioner.runs.folder import RunFolder
from captioner.runs.inputs import Inputs, find_inputs
from captioner.runs.jobs import CaptionImages, ClassifyClips, Computing, WatchVideos, answers, common_folder
from captioner.runs.workers import Task, process_isolated

__all__ = [
    "CaptionImages",
    "ClassifyClips",
    "Computing",
    "WatchVideos",
    "chosen_classifier",
    "clips_to_stream",
    "demo_photos",
    "evaluate",
    "images_to_folder",
    "images_to_stream",
    "is_folder_output",
    "list_models",
    "listed",
    "needed_classifier",
    "search",
    "serve",
    "videos_to_folder",
]

DEMO_PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


def is_folder_output(output: str | None, paths: Sequence[str]) -> bool:
    """Whether ``--output`` means a folder: it is one, ends like one, or has no extension where an input is a folder."""
    if output is None:
        return False
    if os.path.isdir(output) or output.endswith(("/", os.sep)):
        return True
    return not os.path.splitext(output)[1] and any(os.path.isdir(path) for path in paths) and not os.path.exists(output)


def images_to_stream(
    task: CaptionImages, paths: Sequence[str], output: str | None, format: str | None, exclude: Sequence[str] = ()
) -> int:
    """Captions of photos to a file or to standard output."""
    from captioner.media.images import IMAGE_EXTENSIONS

    task.check()
    inputs = _find_photos(task, paths, (), exclude)
    task = replace(task, attention_root=common_folder(inputs))
    return _to_stream(task, inputs, IMAGE_EXTENSIONS, output, format, "image", "photos")


def clips_to_stream(
    task: ClassifyClips, paths: Sequence[str], output: str | None, format: str | None, exclude: Sequence[str] = ()
) -> int:
    """Labels of clips to a file or to standard output."""
    from captioner.media.images import IMAGE_EXTENSIONS
    from captioner.media.videos import VIDEO_EXTENSIONS

    extensions = VIDEO_EXTENSIONS | (IMAGE_EXTENSIONS if task.still else frozenset())
    inputs = _find_films(paths, (), exclude, extensions)
    return _to_stream(task, inputs, extensions, output, format, "clip", "clips")


def _find_photos(task: CaptionImages, paths: Sequence[str], outputs: Sequence[str], patterns: Sequence[str]) -> Inputs:
    from captioner.media.images import IMAGE_EXTENSIONS, UNDECODABLE_EXTENSIONS

    if task.attention_dir is not None:
        outputs = [*outputs, task.attention_dir]
    return find_inputs(
        paths, IMAGE_EXTENSIONS, exclude=outputs, patterns=patterns, undecodable=UNDECODABLE_EXTENSIONS,
        remedy="convert to JPEG",
    )  # fmt: skip


def _find_films(
    paths: Sequence[str], outputs: Sequence[str], patterns: Sequence[str], extensions: Collection[str]
) -> Inputs:
    from captioner.media.videos import UNDECODABLE_EXTENSIONS

    return find_inputs(
        paths, extensions, exclude=outputs, patterns=patterns, undecodable=UNDECODABLE_EXTENSIONS,
        remedy="convert to MP4",
    )  # fmt: skip


_FORMAT_OF = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text", "": "text"}


def _chosen_format(format: str | None, output: str | None) -> str:
    """The format that was asked for, or else the one that the name of the output promises."""
    if format is None:
        extension = os.path.splitext(output or "")[1].lower()
        if extension not in _FORMAT_OF:
            raise CaptionerError(
                f"{output}: no format is known by {extension}; give --format ({', '.join(FORMATS)}), or a name that "
                f"ends in one of {', '.join(filter(None, _FORMAT_OF))}",
                kind="usage",
            )
        return _FORMAT_OF[extension]
    if format not in FORMATS:
        raise CaptionerError(f"unknown format {format!r}; known: {', '.join(FORMATS)}", kind="usage")
    return format


def _to_stream(
    task: Task, inputs: Inputs, extensions, output: str | None, format: str | None, kind: str, name: str
) -> int:
    _check_output(output, inputs, extensions)
    format = _chosen_format(format, output)
    status = judged = unlike = 0
    records = answers(task, inputs)
    first = next(records)  # a model that cannot be loaded must not cost the old output
    silent = output is None and sys.stdout is not None and sys.stdout.isatty()
    with ProgressBars(silent=silent) as bars, open_writer(output, format, kind) as writer:
        for record in bars.track(_chain(first, records), name, len(inputs)):
            writer.write(record)
            if (familiarity := record.get("familiarity")) is not None:
                judged += 1
                unlike += familiarity < UNFAMILIAR
            if "error" in record:
                status = 1
                bars.say(f"captioner: {record['error']['message']}")
        if passed_over := inputs.passed_over_text:
            bars.say(f"captioner: {passed_over}")
        if format == "text" and unlike:  # text shows nothing but the captions
            photos = "the photo is" if judged == 1 else f"{unlike} of {judged} photos are"
            bars.say(
                f"captioner: {photos} unlike those that the model learnt from, where captions are often guesses "
                "(--format jsonl: familiarity)"
            )
    return status


def _chain(first, rest):
    yield first
    yield from rest


def _check_output(output: str | None, inputs, extensions) -> None:
    """An output that is an input, or a photo, is a slip of the hand; writing to it would destroy the photo."""
    if output is None or not os.path.exists(output):
        return
    is_input = any(not one.error and os.path.samefile(output, one.file) for one in inputs)
    if is_input or os.path.splitext(output)[1].lower() in extensions:
        raise CaptionerError(
            f"{printable(output)}: exists and is an input, which would be overwritten; give --output another name",
            kind="usage",
        )


def images_to_folder(
    task: CaptionImages,
    paths: Sequence[str],
    output: str,
    *,
    formats: str,
    engine: str,
    exclude: Sequence[str] = (),
    **options: Any,
) -> int:
    """Captions of photos to a folder; resumable."""
    chosen = listed(formats, ("text", "json", "jsonl", "csv", "txt", "html"))  # the first three are there anyway
    inputs = _find_photos(task, paths, [output], exclude)
    task = replace(task, pictures="html" in chosen, attention_root=common_folder(inputs))
    finish: dict[str, Callable[[RunFolder], str]] = {}
    if "csv" in chosen:
        finish["results.csv"] = lambda folder: to_csv(folder.records(), "image")
    if "html" in chosen:
        finish["index.html"] = _images_page
    sidecars = {name: IMAGE_SIDECARS[name] for name in chosen if name == "txt"}
    return _to_folder(task, paths, inputs, output, "photos", sidecars, finish, engine, options)


def videos_to_folder(
    task: WatchVideos,
    paths: Sequence[str],
    output: str,
    *,
    formats: str,
    engine: str,
    exclude: Sequence[str] = (),
    **options: Any,
) -> int:
    """What happens when in videos, to a folder; resumable."""
    from captioner.media.videos import VIDEO_EXTENSIONS

    promised = os.path.splitext(output)[1].lower()
    if promised in (".csv", ".json", ".jsonl", ".txt", ".srt", ".vtt", ".html") and not os.path.isdir(output):
        raise CaptionerError(
            f"{output}: the results go to a folder; give --output a name without {promised}", kind="usage"
        )
    chosen = listed(formats, ("jsonl", "srt", "vtt", "csv", "txt", "html"))
    sidecars = {name: VIDEO_SIDECARS[name] for name in chosen if name in VIDEO_SIDECARS}
    finish: dict[str, Callable[[RunFolder], str]] = {}
    if "html" in chosen:
        sidecars["html"] = _video_page
        finish["index.html"] = _videos_page
    inputs = _find_films(paths, [output], exclude, VIDEO_EXTENSIONS)
    return _to_folder(task, paths, inputs, output, "videos", sidecars, finish, engine, options)


def _to_folder(task, paths, inputs, output, name, sidecars, finish, engine, options) -> int:
    task.check()
    if engine not in ("local", "ray"):
        raise CaptionerError(f"unknown engine {engine!r}; known: local, ray", kind="usage")
    if options["time_limit"] <= 0:
        raise CaptionerError(f"the time limit must be above 0 seconds, not {options['time_limit']}", kind="usage")
    settings = task.settings()
    process = process_isolated
    if engine == "ray":
        from captioner.runs.ray import process_with_ray as process

        # Ray starts a process a core: each is to use no more than its own.
        task = replace(task, computing=replace(task.computing, threads=task.computing.threads or 1))
    with ProgressBars() as bars:
        summary = run_batch(
            task, inputs, output, paths=paths, settings=settings, sidecars=sidecars, finish=finish, engine=process,
            listener=BatchBars(bars, name), **options,
        )  # fmt: skip
    if inputs.passed_over:
        summary.warnings.append(inputs.passed_over_text)
    print(summary, file=sys.stderr)
    return summary.exit_status


def listed(text: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        CaptionerError: One is not known (``kind="usage"``).
    """
    chosen = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise CaptionerError(f"unknown format {name!r}; known: {', '.join(known)}", kind="usage")
    return chosen


def _video_page(record: Mapping) -> str:
    from captioner.outputs.report import video_page

    return video_page(record, record["media"])


def _videos_page(folder: RunFolder) -> str:
    from captioner.outputs.report import videos_page

    return videos_page((record, stored and f"{stored.stem}.html") for stored, record in folder.results())


def _images_page(folder: RunFolder) -> str:
    from captioner.outputs.report import images_page

    return images_page((record, stored and folder.media(stored)) for stored, record in folder.results())


def chosen_classifier(name: str | None) -> str | None:
    """The clip classifier that ``--classifier`` means: None is the one that labels by default, ``none`` is none."""
    from captioner.videos.analyzer import labelling_classifier

    if name is None:
        return labelling_classifier()
    return None if name == "none" else name


def needed_classifier(name: str | None) -> str:
    """The clip classifier to use where there must be one."""
    from captioner.videos.analyzer import DEFAULT_CLASSIFIER

    return DEFAULT_CLASSIFIER if name is None else name


def demo_photos() -> list[str]:
    """Photographs inside scikit-image.

    Raises:
        CaptionerError: scikit-image is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise CaptionerError('the demo needs scikit-image; install it: pip install "captioner[demo]"', kind="missing")
    return [os.path.join(spec.submodule_search_locations[0], "data", name) for name in DEMO_PHOTOS]


def evaluate(
    model: str | None,
    data: Path,
    split: str,
    output: Path | None,
    *,
    search: Mapping[str, Any],
    style: str | None,
    batch_size: int,
    meteor: str | None,
    computing: Computing,
) -> int:
    """Scores a model and prints a table; the report goes to ``output``."""
    if output is not None and output.suffix.lower() in _FORMAT_OF and output.suffix.lower() not in ("", ".json"):
        raise CaptionerError(f"{output}: the report is JSON; give --output a name that ends in .json", kind="usage")
    from captioner.evaluation.scoring import evaluate_captioner, evaluate_classifier, report_table, save_report
    from captioner.training.captions.data import read_captions
    from captioner.training.clips.data import read_clips

    loaded = computing.load(model)
    with ProgressBars() as bars:

        def progress(done: int, total: int) -> None:
            bars.update("evaluating", done, total)

        if hasattr(loaded, "classify"):
            report = evaluate_classifier(loaded, read_clips(data), split, progress=progress)
        else:
            report = evaluate_captioner(
                loaded,
                read_captions(data),
                split,
                search=search,
                style=style,
                batch_size=batch_size,
                meteor=meteor,
                progress=progress,
            )
        for warning in report["warnings"]:
            bars.say(f"captioner: {warning}")
        for record in report["failed"]:
            bars.say(f"captioner: {record['error']['message']}")
    for line in report_table(report).split("\n"):
        print(printable(line))
    if output is not None:
        for path in save_report(report, output):
            print(f"written: {printable(str(path))}", file=sys.stderr)
    return 1 if report["failed"] else 0


def list_models() -> int:
    """Prints a table of the shipped models."""
    from captioner.models.saving import SHIPPED, model_kind, model_names

    rows = [("name", "kind", "parameters", "MB", "scores")]
    for name in model_names():
        metadata = json.loads((SHIPPED / name / "metadata.json").read_text(encoding="utf-8"))
        size = sum(file.stat().st_size for file in (SHIPPED / name).iterdir() if file.is_file())
        scores = {
            key: value.get("estimate") if isinstance(value, dict) else value
            for key, value in metadata.get("scores", {}).items()
        }
        shown = ", ".join(f"{key} {value:.3g}" for key, value in scores.items() if isinstance(value, int | float))
        rows.append((name, model_kind(name), f"{metadata.get('parameters', 0):,}", f"{size / 1e6:.1f}", shown))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(printable("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
    return 0


def search(folder: Path, words: str, limit: int, format: str) -> int:
    """Prints what a run's captions say about some words."""
    from captioner.outputs.index import search_folder
    from captioner.outputs.records import json_line

    if format not in ("text", "jsonl"):
        raise CaptionerError(f"unknown format {format!r}; known: text, jsonl", kind="usage")
    if limit < 1:
        raise CaptionerError(f"the limit must be 1 or more, not {limit}", kind="usage")
    hits = search_folder(folder, words, limit)
    for hit in hits:
        if format == "jsonl":
            print(json_line(hit.to_dict(), ascii_only=True))
        else:
            print(hit)
    if not hits:
        print("nothing found", file=sys.stderr)
    return 0


def serve(host: str, port: int, model: str | None, classifier: str | None, allow_hosts: Sequence[str]) -> int:
    """Opens the web page and stays until it is interrupted."""
    from captioner.page import serve as serve_page

    serve_page(host, port, model, chosen_classifier(classifier), allow_hosts=allow_hosts)
    return 0
