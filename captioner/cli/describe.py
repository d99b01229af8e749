"""``captioner describe``, or just ``captioner PATH...``: photos, videos and folders of both."""

from __future__ import annotations

from typing import Annotated

from captioner.cli.options import (
    Classifier,
    Exclude,
    MarkUnsure,
    Model,
    PhotoPaths,
    Precision,
    Runtime,
    Threads,
    app,
    choice,
    command,
)


@command(app, "describe")
def describe(
    paths: PhotoPaths,
    model: Model = None,
    classifier: Classifier = None,
    format: Annotated[str, choice("text", "jsonl")] = "text",
    mark_unsure: MarkUnsure = None,
    exclude: Exclude = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Says what is in photos and videos, each by its kind. `image` and `video` have more options."""
    from captioner.cli import streams
    from captioner.runs.jobs import Computing, DescribeFiles
    from captioner.videos.analyzer import chosen_classifier

    task = DescribeFiles(model, chosen_classifier(classifier), Computing(runtime, precision, threads))
    return streams.files_to_stream(task, paths, format, exclude or (), mark_unsure=mark_unsure)
