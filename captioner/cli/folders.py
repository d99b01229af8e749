"""Results to a folder; such a run can be stopped and goes on when it is started again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from captioner.cli.options import listed, refuse_idle
from captioner.cli.progress import BatchBars, ProgressBars, note
from captioner.cli.streams import find_films, find_photos
from captioner.errors import CaptionerError
from captioner.outputs.subtitles import UNSURE
from captioner.outputs.writers import image_sidecars, to_csv, video_sidecars
from captioner.runs.batch import run_batch
from captioner.runs.folder import RESULTS, RunFolder
from captioner.runs.jobs import CaptionImages, WatchVideos, picture_names
from captioner.runs.translations import Translations
from captioner.runs.workers import process_isolated


def is_folder_output(output: str | None, paths: Sequence[str]) -> bool:
    """Whether ``--output`` means a folder: it is one, ends like one, or has no extension where an input is a folder."""
    if output is None:
        return False
    if os.path.isdir(output) or output.endswith(("/", os.sep)):
        return True
    return not os.path.splitext(output)[1] and any(os.path.isdir(path) for path in paths) and not os.path.exists(output)


def images_to_folder(
    task: CaptionImages,
    paths: Sequence[str],
    output: str,
    *,
    formats: str,
    engine: str,
    mark_unsure: bool,
    bom: bool,
    exclude: Sequence[str] = (),
    **options: Any,
) -> int:
    """Captions of photos to a folder; resumable."""
    chosen = listed(formats, ("text", "json", "jsonl", "csv", "txt", "html"))  # the first three are there anyway
    inputs = find_photos(task, paths, [output], exclude, may_be_empty=_has_results(output))
    task = replace(task, pictures="html" in chosen, attention_names=picture_names(inputs) if task.attention_dir else {})
    _refuse_idle_looks(chosen)
    finish: dict[str, Callable[[RunFolder], str]] = {}
    if "csv" in chosen:
        finish["results.csv"] = lambda folder: to_csv(folder.records(), "image", bom)
    if "html" in chosen:
        finish["index.html"] = _images_page
    make = image_sidecars(mark_unsure=mark_unsure)
    sidecars = {name: make[name] for name in chosen if name == "txt"}
    look = "marked" if mark_unsure else ""
    return _to_folder(task, paths, inputs, output, "photos", sidecars, look, finish, engine, options)


def videos_to_folder(
    task: WatchVideos,
    paths: Sequence[str],
    output: str,
    *,
    formats: str,
    subtitle_unsure: str,
    engine: str,
    mark_unsure: bool,
    bom: bool,
    exclude: Sequence[str] = (),
    also: Translations | None = None,
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
    _refuse_idle_looks(chosen)
    if subtitle_unsure not in UNSURE:
        raise CaptionerError(f"--subtitle-unsure is {subtitle_unsure!r}; known: {', '.join(UNSURE)}", kind="usage")
    make = video_sidecars(subtitle_unsure=subtitle_unsure, mark_unsure=mark_unsure, bom=bom)
    sidecars = {name: make[name] for name in chosen if name in make}
    if also:
        sidecars |= also.subtitles(sidecars)
    options["also"] = also
    look = [f"subtitles {subtitle_unsure}"] * (subtitle_unsure != "mark") + ["marked"] * mark_unsure + ["bom"] * bom
    finish: dict[str, Callable[[RunFolder], str]] = {}
    if "html" in chosen:
        sidecars["html"] = _video_page
        finish["index.html"] = _videos_page
    inputs = find_films(paths, [output], exclude, VIDEO_EXTENSIONS, may_be_empty=_has_results(output))
    return _to_folder(task, paths, inputs, output, "videos", sidecars, ", ".join(look), finish, engine, options)


def _has_results(output: str) -> bool:
    """Whether a run has been there: then its files may be gone since, all of them."""
    return os.path.exists(os.path.join(output, RESULTS))


def _refuse_idle_looks(chosen: Sequence[str]) -> None:
    if "csv" not in chosen:
        refuse_idle("needs csv among --formats", "csv_bom")
    if "txt" not in chosen:
        refuse_idle("needs txt among --formats", "mark_unsure")
    if not {"srt", "vtt"} & set(chosen):
        refuse_idle("needs srt or vtt among --formats", "subtitle_unsure")


def _to_folder(task, paths, inputs, output, name, sidecars, look, finish, engine, options) -> int:
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
            task, inputs, output, paths=paths, settings=settings, sidecars=sidecars, look=look, finish=finish,
            engine=process, listener=BatchBars(bars, name), **options,
        )  # fmt: skip
    if inputs.passed_over:
        summary.warnings.append(inputs.passed_over_text)
    note(summary)
    return summary.exit_status


def _video_page(record: Mapping) -> str:
    from captioner.outputs.report import video_page

    return video_page(record, record["media"])


def _videos_page(folder: RunFolder) -> str:
    from captioner.outputs.report import videos_page

    return videos_page((record, stored and f"{stored.stem}.html") for stored, record in folder.results())


def _images_page(folder: RunFolder) -> str:
    from captioner.outputs.report import images_page

    return images_page((record, stored and folder.media(stored)) for stored, record in folder.results())
