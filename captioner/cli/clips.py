"""``captioner classify``."""

from __future__ import annotations

from typing import Annotated

import typer

from captioner.cli.options import (
    CsvBom,
    Exclude,
    Format,
    Model,
    OverwriteFile,
    Paths,
    Precision,
    Runtime,
    Threads,
    app,
    command,
)


@command(app, "classify")
def classify(
    paths: Paths,
    model: Model = None,
    format: Format = None,
    output: Annotated[str | None, typer.Option(help="A file instead of standard output.", metavar="FILE")] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds of a clip that are looked at together.", show_default="the model's own"),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(help="Seconds from window to window.", show_default="the model's own, at most a window"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability below which a clip gets no label.", show_default="the model's own"),
    ] = None,
    still: Annotated[
        bool, typer.Option("--still", help="Still pictures are meant too; else they are refused, as nothing happens.")
    ] = False,
    csv_bom: CsvBom = False,
    overwrite: OverwriteFile = False,
    exclude: Exclude = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Names the action in video clips."""
    from captioner.cli import streams
    from captioner.runs.jobs import ClassifyClips, Computing
    from captioner.videos.analyzer import DEFAULT_CLASSIFIER

    task = ClassifyClips(
        DEFAULT_CLASSIFIER if model is None else model, window, stride, threshold, still,
        Computing(runtime, precision, threads),
    )  # fmt: skip
    return streams.clips_to_stream(task, paths, output, format, exclude or (), bom=csv_bom, overwrite=overwrite)
