"""``captioner models`` and ``captioner evaluate``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from captioner.cli.options import (
    BatchSize,
    BeamSize,
    Model,
    OverwriteFile,
    Precision,
    Runtime,
    Threads,
    app,
    command,
    given,
)
from captioner.errors import CaptionerError
from captioner.names import printable


@command(app, "models")
def models() -> int:
    """Lists the models that are shipped."""
    from captioner.cli.terminal import table
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
    print(table(rows))
    return 0


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
    overwrite: OverwriteFile = False,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> int:
    """Scores a model on a data set."""
    from captioner.cli.progress import ProgressBars, note
    from captioner.cli.streams import FORMAT_OF
    from captioner.runs.jobs import Computing

    if output is not None and output.suffix.lower() in FORMAT_OF and output.suffix.lower() not in ("", ".json"):
        raise CaptionerError(f"{output}: the report is JSON; give --output a name that ends in .json", kind="usage")
    from captioner.evaluation.scoring import (
        coco_path,
        evaluate_captioner,
        evaluate_classifier,
        report_table,
        save_report,
    )
    from captioner.outputs.marks import is_ours, refuse_to_replace
    from captioner.training.captions.data import read_captions
    from captioner.training.clips.data import read_clips

    loaded = Computing(runtime, precision, threads).load(model)
    if output is not None and not overwrite:
        is_own = is_ours(os.path.realpath(output), ".json")
        refuse_to_replace(output, is_own)
        if hasattr(loaded, "caption"):
            refuse_to_replace(coco_path(output), is_own)
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
                search=given(beam_size=beam_size),
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
            note(f"written: {printable(str(path))}")
    return 1 if report["failed"] else 0
