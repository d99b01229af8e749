"""``captioner image``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captioner.cli.options import (
    FOLDER_OPTIONS,
    BatchSize,
    BeamSize,
    CsvBom,
    Engine,
    Exclude,
    Format,
    Language,
    LengthPenalty,
    MarkUnsure,
    MaxLength,
    MinLength,
    Model,
    NBest,
    Overwrite,
    PhotoPaths,
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
    TranslatorFolder,
    app,
    choice,
    command,
    given,
    refuse_idle,
)


@command(app, "image")
def image(
    paths: PhotoPaths,
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
    mark_unsure: MarkUnsure = None,
    csv_bom: CsvBom = False,
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
    language: Language = "",
    translator: TranslatorFolder = None,
    attention_dir: Annotated[
        Path | None,
        typer.Option(help="Write a picture there for each photo: where the model looked for each word.", metavar="DIR"),
    ] = None,
    formats: Annotated[
        str,
        choice(
            "csv", "txt", "html", help="With a folder as --output: what to write besides results.jsonl: csv, txt, html."
        ),
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
    from captioner.cli import folders, streams
    from captioner.runs.jobs import CaptionImages, Computing
    from captioner.runs.translations import chosen_translations

    search = given(
        beam_size=beam_size, n_best=n_best, strategy=strategy, max_length=max_length, min_length=min_length,
        length_penalty=length_penalty, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
        repeat_words=repeat_words,
    )  # fmt: skip
    task = CaptionImages(
        model, search, prefix, tuple(must_include or ()), style, batch_size,
        attention_dir=attention_dir and str(attention_dir), computing=Computing(runtime, precision, threads),
    )  # fmt: skip
    if not language:
        refuse_idle("needs --language", "translator")
    also = chosen_translations(language, translator, task.computing)
    if folders.is_folder_output(output, paths):
        return folders.images_to_folder(
            task, paths, output, formats=f"{formats},{format or ''}", mark_unsure=bool(mark_unsure), bom=csv_bom,
            time_limit=time_limit, retry_failed=retry_failed, overwrite=overwrite, prune=prune, exclude=exclude or (),
            engine=engine, also=also,
        )  # fmt: skip
    refuse_idle("needs a folder as --output", *FOLDER_OPTIONS)
    if output is None:
        refuse_idle("needs --output", "overwrite")
    return streams.images_to_stream(
        task, paths, output, format, exclude or (), mark_unsure=mark_unsure, bom=csv_bom, overwrite=overwrite,
        also=also,
    )  # fmt: skip
