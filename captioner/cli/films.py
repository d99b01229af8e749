"""``captioner video``."""

from __future__ import annotations

from typing import Annotated

import typer

from captioner.cli.options import (
    FOLDER_OPTIONS,
    BeamSize,
    Classifier,
    CsvBom,
    Engine,
    Exclude,
    Language,
    MarkUnsure,
    MaxLength,
    Model,
    Overwrite,
    Paths,
    Precision,
    Prune,
    RetryFailed,
    Runtime,
    Threads,
    TimeLimit,
    TranslatorFolder,
    app,
    choice,
    command,
    given,
    refuse_idle,
)


@command(app, "video")
def video(
    paths: Paths,
    output: Annotated[
        str | None,
        typer.Option(help="Folder of the results; without it captions are printed as they come.", metavar="DIR"),
    ] = None,
    model: Model = None,
    classifier: Classifier = None,
    interval: Annotated[float, typer.Option(help="Seconds between the frames that are looked at.")] = 1.0,
    longest_segment: Annotated[float, typer.Option(help="Seconds that one caption covers at most.")] = 10.0,
    format: Annotated[
        str, choice("text", "json", "jsonl", "csv", help="Without --output: text, json, jsonl or csv.")
    ] = "text",
    formats: Annotated[
        str,
        choice(
            *("jsonl", "srt", "vtt", "csv", "html", "txt"),
            help="With --output, comma-separated: jsonl, srt, vtt, csv, html, txt.",
        ),
    ] = "jsonl,srt,vtt,csv,html",
    subtitle_unsure: Annotated[
        str,
        choice("keep", "mark", "drop", help="What subtitles do with captions not to be trusted: keep, mark or drop."),
    ] = "mark",
    mark_unsure: MarkUnsure = None,
    csv_bom: CsvBom = False,
    beam_size: BeamSize = None,
    max_length: MaxLength = None,
    language: Language = "",
    translator: TranslatorFolder = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    time_limit: TimeLimit = 3600.0,
    retry_failed: RetryFailed = False,
    overwrite: Overwrite = False,
    prune: Prune = False,
    exclude: Exclude = None,
    engine: Engine = "local",
) -> int:
    """Says what happens when in videos. With --output, a run that was stopped goes on when started again."""
    from captioner.cli import folders, streams
    from captioner.runs.jobs import Computing, WatchVideos
    from captioner.runs.translations import chosen_translations
    from captioner.videos.analyzer import chosen_classifier

    task = WatchVideos(
        model, chosen_classifier(classifier), interval, longest_segment,
        given(beam_size=beam_size, max_length=max_length), Computing(runtime, precision, threads),
    )  # fmt: skip
    if output is None:
        refuse_idle("needs --output", "subtitle_unsure", "language", "translator", "overwrite", *FOLDER_OPTIONS)
        return streams.films_to_stream(task, paths, format, exclude or (), mark_unsure=mark_unsure, bom=csv_bom)
    refuse_idle("does nothing with --output, which has --formats", "format")
    if not language:
        refuse_idle("needs --language", "translator")
    also = chosen_translations(language, translator, task.computing)
    return folders.videos_to_folder(
        task, paths, output, formats=formats, subtitle_unsure=subtitle_unsure, mark_unsure=bool(mark_unsure),
        bom=csv_bom, time_limit=time_limit, retry_failed=retry_failed, overwrite=overwrite, prune=prune,
        exclude=exclude or (), engine=engine, also=also,
    )  # fmt: skip
