"""The command line: parses, calls the package, returns an exit status; what it does is done elsewhere.

Nothing heavy is imported before a command runs, so that ``captioner --help`` is there at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from captioner import __version__
from captioner.cli import training  # noqa: F401 (adds its commands)
from captioner.cli.options import (
    BatchSize,
    BeamSize,
    Classifier,
    Engine,
    Exclude,
    Format,
    LengthPenalty,
    MaxLength,
    MinLength,
    Model,
    NBest,
    Overwrite,
    Paths,
    Precision,
    Prune,
    RepeatWords,
    RetryFailed,
    Runtime,
    Seed,
    Strategy,
    Style,
    Temperature,
    Threads,
    TimeLimit,
    TopK,
    TopP,
    app,
    command,
    given,
)
from captioner.errors import CaptionerError


@command(app, "image")
def image(
    paths: Paths,
    model: Model = None,
    beam_size: BeamSize = None,
    n_best: NBest = None,
    format: Format = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="A file; or a folder (one that exists, or a name that ends in / or has no extension where PATH is a "
            "folder): then the run can be stopped and started again, and DIR/results.jsonl has the results.",
            metavar="FILE|DIR",
        ),
    ] = None,
    batch_size: BatchSize = 16,
    strategy: Strategy = None,
    max_length: MaxLength = None,
    min_length: MinLength = None,
    length_penalty: LengthPenalty = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    repeat_words: RepeatWords = None,
    seed: Seed = None,
    prefix: Annotated[str, typer.Option(help="First words that every caption must have.")] = "",
    must_include: Annotated[
        list[str] | None, typer.Option(help="A word that every caption must contain; may be given several times.")
    ] = None,
    style: Style = "",
    attention_dir: Annotated[
        Path | None,
        typer.Option(help="Write a picture there for each photo: where the model looked for each word.", metavar="DIR"),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="With a folder as --output: what to write besides results.jsonl: csv, txt, html.")
    ] = "",
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    time_limit: TimeLimit = 300.0,
    retry_failed: RetryFailed = False,
    overwrite: Overwrite = False,
    prune: Prune = False,
    exclude: Exclude = None,
    engine: Engine = "local",
) -> int:
    """Captions photos."""
    from captioner.cli import commands

    search = given(
        beam_size=beam_size, n_best=n_best, strategy=strategy, max_length=max_length, min_length=min_length,
        length_penalty=length_penalty, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
        repeat_words=repeat_words,
    )  # fmt: skip
    task = commands.CaptionImages(
        model, search, prefix, tuple(must_include or ()), style, batch_size,
        attention_dir=attention_dir and str(attention_dir), computing=commands.Computing(runtime, precision, threads),
    )  # fmt: skip
    if commands.is_folder_output(output, paths):
        return commands.images_to_folder(
            task, paths, output, formats=f"{formats},{format or ''}", time_limit=time_limit, retry_failed=retry_failed,
            overwrite=overwrite, prune=prune, exclude=exclude or (), engine=engine,
        )  # fmt: skip
    if formats or retry_failed or prune or engine != "local":
        raise CaptionerError("--formats, --retry-failed, --prune and --engine need a folder as --output", kind="usage")
    return commands.images_to_stream(task, paths, output, format, exclude or ())


@command(app, "video")
def video(
    paths: Paths,
    output: Annotated[str, typer.Option(help="Folder of the results.", metavar="DIR")],
    model: Model = None,
    classifier: Classifier = None,
    interval: Annotated[float, typer.Option(help="Seconds between the frames that are looked at.")] = 1.0,
    longest_segment: Annotated[float, typer.Option(help="Seconds that one caption covers at most.")] = 10.0,
    formats: Annotated[
        str, typer.Option(help="Comma-separated: jsonl, srt, vtt, csv, html, txt.")
    ] = "jsonl,srt,vtt,csv,html",
    beam_size: BeamSize = None,
    max_length: MaxLength = None,
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
    """Says what happens when in videos. A run that was stopped goes on when started again."""
    from captioner.cli import commands

    task = commands.WatchVideos(
        model, commands.chosen_classifier(classifier), interval, longest_segment,
        given(beam_size=beam_size, max_length=max_length), commands.Computing(runtime, precision, threads),
    )  # fmt: skip
    return commands.videos_to_folder(
        task, paths, output, formats=formats, time_limit=time_limit, retry_failed=retry_failed, overwrite=overwrite,
        prune=prune, exclude=exclude or (), engine=engine,
    )  # fmt: skip


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
    exclude: Exclude = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Names the action in video clips."""
    from captioner.cli import commands

    task = commands.ClassifyClips(
        commands.needed_classifier(model), window, stride, threshold, still,
        commands.Computing(runtime, precision, threads),
    )  # fmt: skip
    return commands.clips_to_stream(task, paths, output, format, exclude or ())


@command(app, "evaluate")
def evaluate(
    data: Annotated[Path, typer.Option(help="Data set: photos with captions, or labelled clips.", metavar="DIR")],
    model: Model = None,
    split: Annotated[str, typer.Option(help="train, dev (val), test or all.")] = "test",
    output: Annotated[
        Path | None, typer.Option(help="Write the report as JSON, captions for coco-caption beside it.", metavar="FILE")
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="Manner of writing.", show_default="the data set's own, or the general one")
    ] = None,
    beam_size: BeamSize = None,
    batch_size: BatchSize = 16,
    meteor: Annotated[str | None, typer.Option(help="nltk or 1.5: that METEOR too (needs WordNet or Java).")] = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Scores a model on a data set."""
    from captioner.cli import commands

    return commands.evaluate(
        model, data, split, output, search=given(beam_size=beam_size), style=style, batch_size=batch_size,
        meteor=meteor, computing=commands.Computing(runtime, precision, threads),
    )  # fmt: skip


@command(app, "models")
def models() -> int:
    """Lists the models that are shipped."""
    from captioner.cli import commands

    return commands.list_models()


@command(app, "demo")
def demo(model: Model = None) -> int:
    """Captions the real photographs inside scikit-image: a cat, a cup of coffee, an astronaut, a rocket."""
    from captioner.cli import commands

    return commands.images_to_stream(commands.CaptionImages(model), commands.demo_photos(), None, "text")


@command(app, "search")
def search(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run.", metavar="DIR")],
    words: Annotated[list[str], typer.Argument(help='What to look for, for example "dog on a beach".')],
    limit: Annotated[int, typer.Option(help="Most hits to print.")] = 20,
    format: Annotated[str, typer.Option(help="text or jsonl.")] = "text",
) -> int:
    """Finds photos and moments of videos by what their captions say, best first."""
    from captioner.cli import commands

    return commands.search(folder, " ".join(words), limit, format)


@command(app, "serve")
def serve(
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen on; another lets other machines in.")] = "127.0.0.1",
    model: Model = None,
    classifier: Classifier = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which the page is reached, such as a proxy's.", metavar="NAME"),
    ] = None,
) -> int:
    """Opens a web page for trying the models (needs the extra `app`)."""
    from captioner.cli import commands

    return commands.serve(host, port, model, classifier, allow_host or ())


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if hasattr(sys.stdout, "reconfigure"):  # what its encoding cannot carry is written as escapes, whatever prints it
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the ``captioner`` command."""
    app(prog_name="captioner")
