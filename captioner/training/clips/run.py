"""``captioner train clips``: labelled clips in, a model folder with its card out."""

from __future__ import annotations

import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.atomic import write_atomic
from captioner.clips.local_motion import LOCAL_MOTION
from captioner.clips.ridge import RIDGE
from captioner.errors import DatasetError
from captioner.evaluation.classification import evaluate_clips
from captioner.models.saving import save_model
from captioner.outputs.locks import exclusive
from captioner.results import ClipPrediction
from captioner.training.clips.data import (
    Clip,
    ClipDataset,
    ClipWindows,
    assign_splits,
    check_trainable,
    measured_clips,
    read_clips,
)
from captioner.training.clips.fitting import (
    VIEWS,
    ClipOptions,
    TrainedHead,
    best_temperature,
    clip_probabilities,
    fit_networks,
)
from captioner.training.clips.ridge import fit_ridges

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner

COMPARED = (
    ("single frame", "single_frame"),
    ("mean of the frames", "mean"),
    ("simple RNN", "simple_rnn"),
    ("LSTM", "lstm"),
    ("GRU", "gru"),
    ("ridge regression", RIDGE),
)
"""Rows of the table in the model card: name and cell."""
COMPARED_SEEDS = (0, 1, 2, 3, 4)
"""Seeds of each network in that table, however many the trained model has."""
JUDGES = "judges"
"""Folder of the networks that are trained for the scores alone."""
HIGHEST_THRESHOLD = 0.5
"""No trained model asks for a higher probability than this by itself."""


@dataclass(frozen=True)
class ClipTraining:
    """What a training gave.

    Attributes:
        folder: The model folder.
        scores: From `captioner.evaluation.classification.evaluate_clips`, on clips that no network was trained on.
        comparison: From `compare_networks`, empty where none was asked for.
        warnings: Clips that were left out, in sentences.
    """

    folder: Path
    scores: dict = field(repr=False)
    comparison: tuple[dict, ...] = ()
    warnings: tuple[str, ...] = ()


@exclusive
def train_clips(
    data: str | Path,
    output: str | Path,
    options: ClipOptions | None = None,
    *,
    captioner: ImageCaptioner | None = None,
    cache: str | Path | None = None,
    val_share: float = 0.2,
    compare: bool = False,
    command: str = "",
    progress: Callable[..., None] | None = None,
) -> ClipTraining:
    """Trains a clip classifier and writes its model folder.

    A training that was stopped goes on where it was: measurements are cached a clip, networks checkpointed an epoch.

    Args:
        data: See `captioner.training.clips.data.read_clips`.
        output: The model folder; what the training itself needs goes into ``training`` below it.
        options: Settings.
        captioner: The captioner whose encoder is shared; None is the default one.
        cache: Where measurements are cached; None is ``output/training``.
        val_share: Share of the clips that validate, where the data name no split.
        compare: Whether to train all networks of the table in the model card as well.
        command: The command line, for the model card.
        progress: Called with (name, epoch, epochs, step, steps, loss).

    Raises:
        DatasetError: The data cannot be trained on.
        ModelLoadError: There is no captioner.
        CaptionerError: The folder cannot be written.
    """
    options = options or ClipOptions()
    if options.cell == RIDGE:  # one is shipped, so that one judges each clip
        options = replace(options, seeds=options.seeds[:1])
    output = Path(output)
    training = output / "training"
    started = time.monotonic()
    dataset = assign_splits(read_clips(data), val_share=val_share)
    check_trainable(dataset)
    if captioner is None:
        from captioner.loading import load

        captioner = load()
    clips = [clip for clip in dataset.clips if clip.split in ("train", "val")]
    key = captioner.encoder_sha256
    measured, failures = measure(clips, captioner, options, cache or training, key=key, progress=progress)
    dataset, warnings = _without(dataset, failures)
    check_trainable(dataset)
    clips = [clip for clip in dataset.clips if clip.split in ("train", "val")]

    settings: Mapping = {"key": key, "progress": progress}
    heads = _fit(clips, measured, dataset.labels, options, folder=training, **settings)
    judges = heads
    if options.folds:
        judges = _fit(clips, measured, dataset.labels, options, judges=True, folder=training / JUDGES, **settings)
    logits = [network.logits for network in judges]
    judged = [clip for clip in clips if any(clip.name in part for part in logits)]
    truth = [dataset.labels.index(clip.label) for clip in judged]
    temperature = best_temperature(logits, judged, truth)
    shares = clip_probabilities(logits, judged, temperature)
    threshold = lowest_useful_threshold(shares, truth)
    scores = evaluate_clips(
        {clip.name: clip.label for clip in judged},
        {clip.name: _prediction(row, dataset.labels, threshold) for clip, row in zip(judged, shares, strict=True)},
        groups={clip.name: clip.group for clip in judged},
    )
    rows: tuple[dict, ...] = ()
    if compare:
        rows = tuple(compare_networks(clips, measured, dataset.labels, options, folder=training, **settings))
    figure = confusion_figure(scores)
    write_atomic(output / "confusion.png", figure)
    config = {
        "ridge" if options.cell == RIDGE else "network": heads[0].config.to_dict(),
        "members": len(heads),
        "region": options.region,
        "interval": options.interval,
        "window": options.window,
        "stride": options.stride,
        "threshold": threshold,
        "temperature": temperature,
        "encoder": {"model": captioner.name, "sha256": captioner.encoder_sha256},
    }
    facts = {
        "data": str(Path(data).name),
        "clips": {split: sum(clip.split == split for clip in clips) for split in ("train", "val")},
        "groups": len({clip.group for clip in clips}),
        "left_out": sorted(failures),
        "options": options.without(),
        "command": command,
        "scores": scores,
        "comparison": list(rows),
        "seconds": round(time.monotonic() - started),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "keras": _keras_version()},
    }
    save_model(
        output,
        kind="clip_classifier",
        config=config,
        weights={f"member{i}/{name}": value for i, head in enumerate(heads) for name, value in head.weights.items()},
        texts={"labels.json": json.dumps(list(dataset.labels), ensure_ascii=False) + "\n"},
        metadata=facts,
        card=model_card(output.name, dataset, config, facts),
    )
    return ClipTraining(output, scores, rows, warnings)


def measure(
    clips: Sequence[Clip],
    captioner: ImageCaptioner,
    options: ClipOptions,
    cache: str | Path,
    *,
    key: str,
    progress: Callable[..., None] | None = None,
) -> tuple[dict[str, list[ClipWindows]], dict[str, str]]:
    """Measures clips with a captioner's encoder; see `captioner.training.clips.data.measured_clips`."""
    from captioner.clips.classifier import captioner_encode
    from captioner.clips.head import STREAMS

    local = (LOCAL_MOTION,) if LOCAL_MOTION in options.streams else ()
    return measured_clips(
        cache,
        clips,
        captioner_encode(captioner),
        key=key,
        image_size=captioner.image_size,
        options=options.windows,
        streams=STREAMS + local,
        region=options.region,
        views=VIEWS[options.region],
        progress=progress and (lambda done, total: progress("measuring", 1, 1, done, total, 0.0)),
    )


def lowest_useful_threshold(shares: np.ndarray, truth: Sequence[int]) -> float:
    """The highest probability, at most `HIGHEST_THRESHOLD`, below which no more labels are right than wrong.

    Args:
        shares: Probabilities (clips, classes).
        truth: Number of the right class of each.
    """
    reached = shares.max(axis=1)
    gain = np.where(shares.argmax(axis=1) == np.asarray(truth), 1, -1)
    useful = [t for t in {*reached, HIGHEST_THRESHOLD} if t <= HIGHEST_THRESHOLD and gain[reached < t].sum() <= 0]
    return math.floor(1000 * max(useful)) / 1000  # rounded down, so that who has reached it stays above


def compare_networks(
    clips: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    labels: Sequence[str],
    options: ClipOptions,
    *,
    folder: Path,
    key: str,
    progress: Callable[..., None] | None = None,
) -> Iterator[dict]:
    """The table of the model card: every cell, with and without motion, over `COMPARED_SEEDS`.

    Args:
        clips: See `captioner.training.clips.fitting.fit_networks`.
        measured: Likewise.
        labels: Likewise.
        options: Likewise; cell, seeds and, without motion, streams are replaced.
        folder: Where the trained model's own networks are, which are not trained again, and where the others go.
        key: See `captioner.training.clips.fitting.fit_networks`.
        progress: Likewise.

    Yields:
        ``{"network", "motion", "accuracy", "spread", "seeds", "folds"}``: mean and standard deviation over the seeds of
        the accuracy of single networks on clips that they were not trained on.
    """
    for title, cell in COMPARED:
        for motion in (False, True):
            streams = options.streams if motion else ("appearance",)
            if cell != RIDGE:
                streams = tuple(name for name in streams if name != LOCAL_MOTION)
            chosen = replace(options, cell=cell, streams=streams, seeds=COMPARED_SEEDS)
            own = (cell, streams) == (options.cell, options.streams)
            kept = folder if own else folder / "compared" / f"{cell}-{'-'.join(streams)}"
            kept = kept / JUDGES if options.folds else kept
            judged = {"judges": options.folds > 0 or cell == RIDGE, "key": key, "progress": progress}
            heads = _fit(clips, measured, labels, chosen, folder=kept, **judged)
            accuracies = seed_accuracies(heads, clips, labels, len(chosen.seeds))
            yield {
                "network": title,
                "motion": motion,
                "accuracy": float(np.mean(accuracies)),
                "spread": float(np.std(accuracies)),
                "seeds": len(accuracies),
                "folds": options.folds,
            }


def seed_accuracies(
    networks: Sequence[TrainedHead], clips: Sequence[Clip], labels: Sequence[str], seeds: int
) -> list[float]:
    """Accuracy of each seed's networks on the clips that they were not trained on."""
    per_seed = len(networks) // seeds
    accuracies = []
    for start in range(0, len(networks), per_seed):
        logits = [network.logits for network in networks[start : start + per_seed]]
        judged = [clip for clip in clips if any(clip.name in part for part in logits)]
        chosen = clip_probabilities(logits, judged).argmax(axis=1)
        accuracies.append(float(np.mean([labels[i] == clip.label for i, clip in zip(chosen, judged, strict=True)])))
    return accuracies


def confusion_figure(scores: Mapping) -> bytes:
    """The confusion matrix as a PNG picture."""
    from captioner.outputs.plots import Picture
    from captioner.outputs.plots.settings import fixed_settings

    labels, counts = scores["confusion"]["labels"], np.array(scores["confusion"]["counts"])
    columns = [*labels, "none"] if counts[:, -1].any() else list(labels)
    counts = counts[:, : len(columns)]
    side = 2.2 + 0.55 * len(columns)
    with fixed_settings():
        figure = Picture(figsize=(side, side), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            share = counts[row, column] / max(counts[row].sum(), 1)
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("classified as")
        axes.set_ylabel("is")
        return figure.to_png()


def model_card(name: str, dataset: ClipDataset, config: Mapping, facts: Mapping) -> str:
    """The README.md of a model folder."""
    scores, options = facts["scores"], facts["options"]
    looks = "the square region in which something moves" if config["region"] else "whole frames"
    steps = f"every {config['interval']:g} s in windows of {config['window']:g} s"
    if "ridge" in config:
        what = f"Ridge regression looks at {looks} {steps}. Of each window it is told mean and spread over time of: "
        what += ", ".join(name for name in config["ridge"]["streams"] if name != LOCAL_MOTION)
        if LOCAL_MOTION in config["ridge"]["streams"]:
            what += "; and how things move place by place in the whole frame (motion boundaries and contours, VLAD)"
        seen = "on which it was not fitted"
        if options["folds"]:
            seen += f" ({options['folds']}-fold cross-validation by group over train and val, which"
        else:
            seen += " (val, which"
        seen += " also chose the temperature):"
    else:
        network = config["network"]
        what = f"{config['members']} networks ({network['cell']}, {network['units']} units, attention pooling), "
        what += f"averaged, look at {looks} {steps}. Of each frame they are told: {', '.join(network['streams'])}"
        seen = "on which the networks that they judge were "
        if options["folds"]:
            seen += f"neither trained nor stopped ({options['folds']}-fold cross-validation by group over train and "
            seen += f"val, with networks of their own, trained on {options['folds'] - 2} parts instead of "
            seen += f"{options['folds'] - 1}; it also chose the temperature):"
        else:
            seen += "not trained (val; it also chose when to stop, and the temperature):"
    counts = Counter((clip.label, clip.split) for clip in dataset.clips)
    accuracy, macro = scores["accuracy"], scores["macro_f1"]
    lines = [
        f"# {name}",
        "",
        f"Names what happens in a clip: {', '.join(dataset.labels)}.",
        "",
        f"{what}.",
        f"The frames are encoded by the captioner `{config['encoder']['model']}`, whose encoder is not stored here "
        "again. Inference is NumPy.",
        "",
        "```python",
        "import captioner",
        f'captioner.load("{name}").classify("clip.mp4")',
        "```",
        "",
        "## Quality",
        f"On {scores['clips']} clips {seen}",
        "",
        "| | estimate | 95 % interval (bootstrap by group) |",
        "| --- | --- | --- |",
        f"| accuracy | {accuracy['estimate']:.1%} | {accuracy['low']:.1%} to {accuracy['high']:.1%} |",
        f"| macro F1 | {macro['estimate']:.3f} | {macro['low']:.3f} to {macro['high']:.3f} |",
        f"| expected calibration error | {scores['expected_calibration_error']:.3f} | |",
        "",
        "| class | recall | precision | train clips | val clips |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label in dataset.labels:
        found = scores["classes"][label]
        precision = "" if found["precision"] is None else f"{found['precision']:.1%}"
        trained, validated = counts[label, "train"], counts[label, "val"]
        lines.append(f"| {label} | {found['recall']:.1%} | {precision} | {trained} | {validated} |")
    lines += ["", "![Confusion matrix](confusion.png)", ""]
    if facts["comparison"]:
        seeds, folds = facts["comparison"][0]["seeds"], facts["comparison"][0]["folds"]
        judged = f"{folds}-fold cross-validation by group" if folds else "the same clips"
        lines += [
            "## Does order matter, does motion?",
            f"Accuracy of each by itself ({judged}), mean ± standard deviation over {seeds} seeds:",
            "",
            "| what reads the frames | appearance only | with motion |",
            "| --- | --- | --- |",
        ]
        for title in dict.fromkeys(row["network"] for row in facts["comparison"]):
            pair = [row for row in facts["comparison"] if row["network"] == title]
            cells = [
                f"{row['accuracy']:.1%} ± {row['spread']:.1%}" for row in sorted(pair, key=lambda row: row["motion"])
            ]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## Use",
        f"A label is given where its calibrated probability (temperature {config['temperature']:.2f}) is at least "
        f"{config['threshold']:g}. The classes above are all that it knows: a clip of something else can get a label, "
        "and a high probability, all the same.",
        "",
        "## Training",
        f"{facts['clips']['train']} train and {facts['clips']['val']} val clips of {facts['groups']} recordings; no "
        "recording is in two splits.",
    ]
    if facts["command"]:
        lines += ["", "```", facts["command"], "```"]
    return "\n".join(lines) + "\n"


def _fit(clips, measured, labels, options: ClipOptions, *, folder: Path, key: str, progress, judges: bool = False):
    if options.cell == RIDGE:
        return fit_ridges(clips, measured, labels, options, judges=judges, progress=progress)
    chosen = {"judges": judges, "folder": folder, "key": key, "progress": progress}
    return fit_networks(clips, measured, labels, options, **chosen)


def _without(dataset: ClipDataset, failures: Mapping[str, str]) -> tuple[ClipDataset, tuple[str, ...]]:
    warnings = dataset.warnings + tuple(f"left out: {reason}" for reason in failures.values())
    clips = tuple(clip for clip in dataset.clips if clip.name not in failures)
    if not any(clip.split in ("train", "val") for clip in clips):
        raise DatasetError(f"{dataset.source}: no clip can be read, for example: {next(iter(failures.values()))}")
    return replace(dataset, clips=clips), warnings


def _prediction(row: np.ndarray, labels: Sequence[str], threshold: float) -> ClipPrediction:
    best = int(row.argmax())
    shares = {label: float(share) for label, share in zip(labels, row, strict=True)}
    return ClipPrediction(labels[best] if row[best] >= threshold else None, float(row[best]), shares)


def _keras_version() -> str:
    import keras

    return keras.__version__
