"""The command line: parses, calls the package, returns an exit status; what it does is done elsewhere.

Nothing heavy is imported before a command runs, so that ``captioner --help`` is there at once.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from captioner import __version__
from captioner.errors import CaptionerError
from captioner.names import printable

FAILED = 1
USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Says what is in photographs and videos: captions, actions, unusual moments. On a CPU, offline.",
    epilog="Exit status: 0 everything worked, 1 some input failed, 2 wrong usage. Results go to standard output, "
    "everything else to standard error.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help needs no rich, which takes as long to import as everything else together
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Trains a model on your own data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")


def command(owner: typer.Typer, name: str) -> Callable:
    """A command whose errors become one line on standard error and an exit status."""

    def decorate(function: Callable[..., int | None]) -> Callable:
        @owner.command(name)
        @functools.wraps(function)
        def run(*args, **kwargs):
            try:
                status = function(*args, **kwargs)
                sys.stdout.flush()
            except CaptionerError as error:
                status = _complain(str(error))
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                status = INTERRUPTED
            except OSError as error:  # of standard output: all other files have errors of their own
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left must not fail again at exit
                if not isinstance(error, BrokenPipeError):  # whoever reads wants no more
                    _complain(f"cannot write to standard output: {error.strerror}")
                status = FAILED
            raise typer.Exit(status or 0)

        return function

    return decorate


def _complain(text: str) -> int:
    print(f"captioner: {printable(text)}", file=sys.stderr)
    return USAGE


# Defaults of options that are None here are those of the package; what help shows for them is checked by a test.
Paths = Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...")]
Model = Annotated[str | None, typer.Option(help="Name of a shipped model, or a model folder.", metavar="NAME|DIR")]
Classifier = Annotated[
    str | None,
    typer.Option(help="A clip classifier, or none.", metavar="NAME|DIR|none", show_default="the shipped one"),
]
BeamSize = Annotated[int | None, typer.Option(help="Captions followed at once; 1 is greedy.", show_default="3")]
NBest = Annotated[int | None, typer.Option(help="Captions to give for each image, best first.", show_default="1")]
MaxLength = Annotated[int | None, typer.Option(help="Most words of a caption.", show_default="20")]
MinLength = Annotated[int | None, typer.Option(help="Fewest words of a caption.", show_default="1")]
LengthPenalty = Annotated[
    float | None, typer.Option(help="Power of the length that divides log-probabilities.", show_default="0.9")
]
Strategy = Annotated[str | None, typer.Option(help="beam, greedy or sample.", show_default="beam")]
Temperature = Annotated[float | None, typer.Option(help="Sampling: below 1 careful, above bold.", show_default="1.0")]
TopK = Annotated[int | None, typer.Option(help="Sampling: only among so many words; 0 is all.", show_default="0")]
TopP = Annotated[float | None, typer.Option(help="Sampling: only among words of this share.", show_default="1.0")]
Seed = Annotated[int | None, typer.Option(help="Sampling: the same seed, the same captions.", show_default="0")]
Style = Annotated[
    str,
    typer.Option(help="Manner of writing: of which data set the model was trained on.", show_default="the general one"),
]
BatchSize = Annotated[int, typer.Option(help="Images computed together; results do not depend on it.")]
Format = Annotated[
    str | None, typer.Option(help="text, json, jsonl or csv.", show_default="by the name of --output, else text")
]
Runtime = Annotated[str, typer.Option(help="auto, openvino or keras.")]
Precision = Annotated[str, typer.Option(help="auto, f32, bf16 or int8.")]
Threads = Annotated[int | None, typer.Option(help="Cores to use.", show_default="all")]
TimeLimit = Annotated[float, typer.Option(help="Seconds that a file may take before it counts as failed.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed in an earlier run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make results again that are there already.")]
Prune = Annotated[bool, typer.Option("--prune", help="Drop the results of files that are gone.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Files and folders to pass over, for example 'thumb*' or '2019/raw'; may be given several times.",
        metavar="PATTERN",
    ),
]
Engine = Annotated[str, typer.Option(help="local, or ray (needs the extra `ray`).")]


def _given(**options) -> dict:
    return {name: value for name, value in options.items() if value is not None}


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

    search = _given(
        beam_size=beam_size, n_best=n_best, strategy=strategy, max_length=max_length, min_length=min_length,
        length_penalty=length_penalty, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
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
        _given(beam_size=beam_size, max_length=max_length), commands.Computing(runtime, precision, threads),
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
    exclude: Exclude = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Names the action in video clips."""
    from captioner.cli import commands

    task = commands.ClassifyClips(
        commands.needed_classifier(model), window, stride, threshold, commands.Computing(runtime, precision, threads)
    )
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
        model, data, split, output, search=_given(beam_size=beam_size), style=style, batch_size=batch_size,
        meteor=meteor, computing=commands.Computing(runtime, precision, threads),
    )  # fmt: skip


TrainData = Annotated[Path, typer.Option(help="The data set.", metavar="DIR")]
TrainOutput = Annotated[Path, typer.Option(help="Folder of the training; started again, it goes on.", metavar="DIR")]
Cell = Annotated[str | None, typer.Option(help="Recurrent cell: lstm, gru or simple_rnn.")]


@command(train_app, "captions")
def train_captions(
    data: Annotated[
        list[str],
        typer.Option(
            help="Folder with photos and captions; again for more. FOLDER:0.5 shows its photos half as often, "
            "FOLDER@STYLE gives it a manner of writing of its own.",
            metavar="DIR[:WEIGHT][@STYLE]",
        ),
    ],
    output: TrainOutput,
    dev: Annotated[
        list[Path] | None, typer.Option(help="Photos for choosing epochs alone; again for more.", metavar="DIR")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="Captioner whose encoder to start from.", show_default="ImageNet", metavar="NAME|DIR"),
    ] = None,
    stages: Annotated[
        str, typer.Option(help="Comma-separated, each from the one named before it.")
    ] = "decoder,finetune,self_critical,self_critical_finetune",
    encoder: Annotated[
        str | None, typer.Option(help="lite0, lite1, lite2, or a keras.applications model.", show_default="lite2")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of its input.", show_default="the encoder's")] = None,
    cell: Cell = None,
    min_count: Annotated[
        int | None, typer.Option(help="How often a word must occur to be learned.", show_default="5")
    ] = None,
    memory_dropout: Annotated[
        float | None, typer.Option(help="Share of what the encoder saw that the decoder misses.", show_default="0.3")
    ] = None,
    channel_dropout: Annotated[
        float | None,
        typer.Option(help="Share of its channels missed everywhere; 0.3 helps a frozen encoder.", show_default="0.0"),
    ] = None,
    decoder_epochs: Annotated[int | None, typer.Option(help="Passes of the first stage.")] = None,
    finetune_epochs: Annotated[int | None, typer.Option(help="Passes of the second.")] = None,
    self_critical_epochs: Annotated[int | None, typer.Option(help="Passes of the third.")] = None,
    self_critical_finetune_epochs: Annotated[int | None, typer.Option(help="Passes of the fourth.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 or f32.", show_default="bf16")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", show_default="0")] = None,
) -> int:
    """Trains a captioner on photos with captions (Flickr8k, Kaggle, COCO and Karpathy layouts, metadata.jsonl)."""
    from captioner.cli import commands

    return commands.train_captions(
        data, output, dev or [], stages,
        _given(
            start_from=start_from, encoder=encoder, image_size=image_size, cell=cell, min_count=min_count,
            precision=precision,
            memory_dropout=memory_dropout, channel_dropout=channel_dropout,
        ),
        _given(
            decoder=decoder_epochs, finetune=finetune_epochs, self_critical=self_critical_epochs,
            self_critical_finetune=self_critical_finetune_epochs,
        ),
        seed,
    )  # fmt: skip


@command(train_app, "clips")
def train_clips(
    data: TrainData,
    output: TrainOutput,
    model: Annotated[
        str | None,
        typer.Option(help="The captioner whose encoder is used.", metavar="NAME|DIR", show_default="the shipped one"),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            help="Recurrent cell: gru, lstm or simple_rnn; without order: mean, single_frame, or ridge, a ridge "
            "regression, best where clips are few and how things move tells.",
            show_default="gru",
        ),
    ] = None,
    window: Annotated[
        float | None, typer.Option(help="Seconds that a prediction looks at.", show_default="2.0")
    ] = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds between frames.", show_default="0.08 with --region, else 0.25")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the clips.", show_default="30")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train one network for each of so many parts of the clips (3 or more), on the others; ridge is "
            "judged so, and fitted to all.",
            show_default="0",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Networks trained, each from its own seed, and averaged.", show_default="5")
    ] = None,
    region: Annotated[
        bool, typer.Option("--region", help="Look only at the square in which something moves, and at finer steps.")
    ] = False,
    val_share: Annotated[float, typer.Option(help="Share that validates where the data names no split.")] = 0.2,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also train the simpler networks, for comparison.")
    ] = False,
) -> int:
    """Trains a clip classifier on a folder with one folder for each class, or a table (labels.csv)."""
    from captioner.cli import commands

    options = _given(
        cell=cell, window=window, interval=interval, epochs=epochs, folds=folds, region=region,
        seeds=None if seeds is None else tuple(range(seeds)),
    )  # fmt: skip
    return commands.train_clips(data, output, model, options, val_share=val_share, compare=compare)


@command(train_app, "pictures")
def train_pictures(
    output: Annotated[Path, typer.Option(help="Folder for the pictures and their captions.", metavar="DIR")],
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 900,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
) -> int:
    """Draws pictures that are no photos of scenes (blank, text, charts, screens, drawings), to train on as well."""
    from captioner.cli import commands

    return commands.draw_pictures(output, count, seed)


@command(train_app, "forecaster")
def train_forecaster(
    data: TrainData,
    output: TrainOutput,
    model: Annotated[
        str | None,
        typer.Option(help="The captioner whose encoder is used.", metavar="NAME|DIR", show_default="the shipped one"),
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between frames.")] = 1.0,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.", show_default="800")] = None,
) -> int:
    """Trains the forecaster behind the novelty curve on a folder of videos, which need no labels."""
    from captioner.cli import commands

    return commands.train_forecaster(data, output, model, interval, _given(steps=steps))


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
