"""What ``captioner train`` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.cli.options import listed
from captioner.cli.progress import ProgressBars, note
from captioner.cli.terminal import table
from captioner.errors import CaptionerError, DatasetError, needs_extra
from captioner.names import printable
from captioner.runs.inputs import find_inputs
from captioner.runs.jobs import Computing


def train_captions(
    data: Sequence[str],
    output: Path,
    dev: Sequence[Path],
    stages: str,
    options: Mapping[str, Any],
    epochs: Mapping[str, int],
    seed: int | None,
) -> int:
    """Trains a captioner and prints a table of its stages; the model's ``metadata.json`` has everything."""
    from captioner.training.captions.options import STAGES, CaptionTrainingOptions

    chosen = CaptionTrainingOptions(**options)
    for stage in STAGES:
        changes = {"seed": seed} if seed is not None else {}
        if stage in epochs:
            changes["epochs"] = epochs[stage]
        chosen = replace(chosen, **{stage: replace(getattr(chosen, stage), **changes)})
    names = listed(stages, STAGES)
    with _training():  # Keras only after the options are known to make sense
        from captioner.training.captions.run import train_captions

    with ProgressBars(log=True) as bars:
        records = train_captions(data, output, chosen, dev=dev, stages=names, progress=_training_bars(bars))
    rows = [_stage_row(stage, records[stage]) for stage in names]
    print(table([("stage", "epochs", "minutes", "dev CIDEr-D"), *rows]))
    print(f"model: {printable(str(output / names[-1]))}")
    return 0


def _stage_row(stage: str, record: Mapping) -> tuple[str, ...]:
    return stage, str(len(record["rows"])), f"{record['seconds'] / 60:.1f}", f"{record['best']:.1f}"


def train_clips(
    data: Sequence[Path],
    output: Path,
    model: str | None,
    options: Mapping[str, Any],
    *,
    negatives: Sequence[Path],
    leave_out: str,
    cache: Path | None,
    val_share: float,
    compare: bool,
) -> int:
    """Trains a clip classifier and prints its scores."""
    with _training():
        from captioner.training.clips.foreign import read_foreign
        from captioner.training.clips.run import ClipOptions, train_clips

    words = [word.strip() for word in leave_out.split(",") if word.strip()]
    foreign = [
        one
        for folder in negatives
        for one in read_foreign(folder, leave_out=words, captions=_captions(folder) if words else None)
    ]
    with ProgressBars(log=True) as bars:
        training = train_clips(
            data, output, ClipOptions(**options), negatives=foreign, leave_out=words, cache=cache,
            captioner=Computing().load(model, "captioner"), val_share=val_share, compare=compare,
            command=" ".join(["captioner", *sys.argv[1:]]), progress=_training_bars(bars),
        )  # fmt: skip
        for warning in training.warnings:
            bars.say(f"captioner: {warning}")
    print(
        f"accuracy {{estimate:.1%}} ({{low:.1%}} to {{high:.1%}}): {training.folder}".format(
            **training.scores["accuracy"]
        )
    )
    return 0


def _captions(folder: Path) -> dict[Path, tuple[str, ...]]:
    """Captions of the photos of a folder, none where it holds none."""
    from captioner.training.captions.data import read_captions

    try:
        dataset = read_captions(folder)
    except DatasetError:
        return {}
    return {dataset.images[name]: texts for name, texts in dataset.captions.items() if name in dataset.images}


def train_forecaster(data: Path, output: Path, model: str | None, interval: float, options: Mapping[str, Any]) -> int:
    """Trains a forecaster on the videos of a folder; those that cannot be read are left out and named."""
    import numpy as np

    from captioner.media.ahead import prefetch
    from captioner.media.videos import VIDEO_EXTENSIONS, VideoReader

    with _training():
        from captioner.training.forecaster import ForecasterTraining, fit_forecaster

    training = ForecasterTraining(**options)  # what makes no sense shows before the videos are watched
    if not 0 < interval < float("inf"):
        raise CaptionerError(f"interval must be above 0 seconds, not {interval}", kind="usage")
    captioner = Computing().load(model, "captioner")
    inputs = find_inputs([data], VIDEO_EXTENSIONS)
    embeddings, failed = [], 0
    with ProgressBars() as bars:
        for one in bars.track(inputs, "videos", len(inputs)):
            try:
                if one.error:
                    raise one.error
                with VideoReader(one.file, every=interval, size=captioner.image_size) as reader:
                    frames = prefetch(frame.image[None] for frame in reader)
                    embeddings.append(np.concatenate([captioner.encode(frame).pooled for frame in frames]))
            except CaptionerError as error:
                failed += 1
                bars.say(f"captioner: {error}")
        fit_forecaster(
            embeddings, output, encoder={"model": captioner.name, "sha256": captioner.encoder_sha256},
            options=training, metadata={"interval": interval},
            progress=lambda step, steps, loss: bars.update("training", step, steps, f"loss {loss:.3f}"),
        )  # fmt: skip
    note(f"written: {printable(str(output))}")
    return 1 if failed else 0


def train_translation(data: Path, output: Path, options: Mapping[str, Any]) -> int:
    """Trains a translator and prints a table of its scores; the model's ``metadata.json`` has everything."""
    from captioner.training.translation.options import TranslationTrainingOptions

    chosen = TranslationTrainingOptions(**options)
    with _training():
        from captioner.training.translation.run import train_translation

    with ProgressBars(log=True) as bars:
        record = train_translation(data, output, chosen, progress=_training_bars(bars))
    best = max(record["rows"], key=lambda row: row["bleu"])
    rows = [(name.removesuffix(" bleu"), f"{value:.1f}") for name, value in best.items() if name.endswith(" bleu")]
    print(table([("language", "BLEU"), *rows]))
    print(f"model: {printable(str(output / 'translator'))}")
    return 0


@contextmanager
def _training() -> Iterator[None]:
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # what TensorFlow logs from C++ is no concern of people who train
    with needs_extra("training needs Keras and TensorFlow", "train"):
        with _silenced():
            import keras  # noqa: F401 (first: where it lacks, so does what belongs to other extras)

        yield


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing is written to standard error, not by C++ either: TensorFlow does before its log level holds."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def draw_pictures(output: Path, count: int, seed: int) -> int:
    """Draws a data set of pictures that are no photos of scenes."""
    from captioner.training.captions.pictures import make_pictures

    with ProgressBars() as bars:
        path = make_pictures(output, count, seed, progress=lambda done: bars.update("pictures", done, count))
    note(f"written: {printable(str(path))}")
    return 0


def _training_bars(bars: ProgressBars) -> Callable[[str, int, int, int, int, float], None]:
    def progress(what: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        total = f"{what} {epoch}/{epochs}"
        bars.update(total, step, steps, f"loss {loss:.3f}" if loss else "")
        if step == steps:
            bars.remove(total)

    return progress
