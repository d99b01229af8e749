"""``captioner train``: what it can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captioner.cli.options import command, given, train_app

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
    from captioner.cli import training_commands

    return training_commands.train_captions(
        data, output, dev or [], stages,
        given(
            start_from=start_from, encoder=encoder, image_size=image_size, cell=cell, min_count=min_count,
            precision=precision,
            memory_dropout=memory_dropout, channel_dropout=channel_dropout,
        ),
        given(
            decoder=decoder_epochs, finetune=finetune_epochs, self_critical=self_critical_epochs,
            self_critical_finetune=self_critical_finetune_epochs,
        ),
        seed,
    )  # fmt: skip


@command(train_app, "clips")
def train_clips(
    data: Annotated[
        list[Path],
        typer.Option(
            help="The data set; again for more. In a class called Other nothing known happens.", metavar="DIR"
        ),
    ],
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
    negatives: Annotated[
        list[Path] | None,
        typer.Option(help="Clips or photos in which nothing known happens; again for more.", metavar="DIR"),
    ] = None,
    leave_out: Annotated[
        str,
        typer.Option(
            help="Comma-separated beginnings of words, such as surf: leave out negatives that have one in their name, "
            "and photos that have one in a caption or have no caption."
        ),
    ] = "",
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the measurements, which trainings can share.", metavar="DIR", show_default="OUTPUT/training"
        ),
    ] = None,
    val_share: Annotated[float, typer.Option(help="Share that validates where the data names no split.")] = 0.2,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also train the simpler networks, for comparison.")
    ] = False,
) -> int:
    """Trains a clip classifier on a folder with one folder for each class, or a table (labels.csv)."""
    from captioner.cli import training_commands

    options = given(
        cell=cell, window=window, interval=interval, epochs=epochs, folds=folds, region=region,
        seeds=None if seeds is None else tuple(range(seeds)),
    )  # fmt: skip
    return training_commands.train_clips(
        data, output, model, options, negatives=negatives or [], leave_out=leave_out, cache=cache, val_share=val_share,
        compare=compare,
    )  # fmt: skip


@command(train_app, "translation")
def train_translation(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with train.en, train.de and so on, and val.en, val.de and so on, perhaps with .gz; a line is "
            "the translation of the same line.",
            metavar="DIR",
        ),
    ],
    output: TrainOutput,
    cell: Cell = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the sentences.", show_default="14")] = None,
    vocabulary_size: Annotated[
        int | None, typer.Option(help="Subwords of all languages together.", show_default="8000")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 or f32.", show_default="bf16")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", show_default="0")] = None,
) -> int:
    """Trains a translator from English to the languages of a folder of parallel text."""
    from captioner.cli import training_commands

    return training_commands.train_translation(
        data, output,
        given(cell=cell, epochs=epochs, vocabulary_size=vocabulary_size, precision=precision, seed=seed),
    )  # fmt: skip


@command(train_app, "pictures")
def train_pictures(
    output: Annotated[Path, typer.Option(help="Folder for the pictures and their captions.", metavar="DIR")],
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 900,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
) -> int:
    """Draws pictures that are no photos of scenes (blank, text, charts, screens, drawings), to train on as well."""
    from captioner.cli import training_commands

    return training_commands.draw_pictures(output, count, seed)


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
    from captioner.cli import training_commands

    return training_commands.train_forecaster(data, output, model, interval, given(steps=steps))
