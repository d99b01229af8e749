"""``captioner train clips``: labelled clips in, a model folder with its card out."""

from __future__ import annotations

import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.atomic import write_atomic
from captioner.clips.classifier import captioner_encode
from captioner.clips.head import ClipHead
from captioner.clips.known import SCENE, KnownHead, looks
from captioner.clips.local_motion import LOCAL_MOTION
from captioner.clips.ridge import RIDGE, RidgeConfig, RidgeHead
from captioner.errors import DatasetError
from captioner.evaluation.classification import auroc, evaluate_clips
from captioner.models.saving import refuse_foreign, save_model
from captioner.outputs.locks import exclusive
from captioner.outputs.plots import confusion_figure, roc_figure
from captioner.results import NOTHING_KNOWN, ClipPrediction
from captioner.training.clips.card import model_card
from captioner.training.clips.data import (
    Clip,
    ClipDataset,
    ClipWindows,
    assign_splits,
    check_trainable,
    measured_clips,
    read_all_clips,
)
from captioner.training.clips.fitting import (
    VIEWS,
    ClipOptions,
    TrainedHead,
    best_temperature,
    clip_logits,
    clip_probabilities,
    fit_networks,
    held_out,
)
from captioner.training.clips.foreign import ForeignExample, foreign_clips, foreign_looks, parts_of
from captioner.training.clips.known import (
    Examples,
    best_threshold,
    calibrated,
    fit_known,
    judged_scores,
    kind_weights,
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
MOST_COMPARED = 60
"""Foreign clips in that table at most."""
KNOWN_FOLDS = 5
"""Parts by which it is judged whether anything known happens, where the networks have none."""
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
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    options: ClipOptions | None = None,
    *,
    negatives: Sequence[ForeignExample] = (),
    leave_out: Sequence[str] = (),
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
        data: See `captioner.training.clips.data.read_clips`; several are taken together. Clips with the label
            `captioner.training.clips.data.OTHER` are negatives.
        output: The model folder; what the training itself needs goes into ``training`` below it.
        options: Settings.
        negatives: What nothing known happens in; see `captioner.training.clips.foreign.read_foreign`.
        leave_out: Which negatives among the data are left out; see there.
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
    refuse_foreign(output)
    training = output / "training"
    started = time.monotonic()
    whole = read_all_clips([data] if isinstance(data, str | Path) else list(data))
    foreign = [*foreign_clips(whole.clips, leave_out), *negatives]
    dataset = assign_splits(whole.known(), val_share=val_share)
    check_trainable(dataset)
    if captioner is None:
        from captioner.loading import load

        captioner = load()
    clips = [clip for clip in dataset.clips if clip.split in ("train", "val")]
    key = captioner.encoder_sha256
    cache = cache or training
    measured, failures = measure(clips, captioner, options, cache, key=key, progress=progress)
    dataset, warnings = _without(dataset, failures)
    check_trainable(dataset)
    clips = [clip for clip in dataset.clips if clip.split in ("train", "val")]
    unlike, unread = foreign_looks(
        foreign,
        captioner_encode(captioner),
        cache=cache,
        key=key,
        image_size=captioner.image_size,
        options=options.windows,
        region=options.region,
        progress=progress and (lambda done, total: progress("foreign", 1, 1, done, total, 0.0)),
    )
    warnings += tuple(f"left out: {reason}" for reason in unread.values())
    foreign = [one for one in foreign if one.name in unlike]
    known_head, known_judged, foreign_judged = fit_and_judge(clips, measured, foreign, unlike, dataset.labels, options)

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
    happens = np.array([known_judged[clip.name] for clip in judged])
    certain = shares * happens[:, None]
    elsewhere = np.array([foreign_judged[one.name] for one in foreign])
    if foreign:
        right = np.where(shares.argmax(axis=1) == truth, certain[np.arange(len(judged)), truth], 0.0)
        weights = kind_weights([one.kind for one in foreign])
        threshold = best_threshold(right, elsewhere, weights, HIGHEST_THRESHOLD)
    else:
        threshold = lowest_useful_threshold(certain, truth)
    scores = evaluate_clips(
        {clip.name: clip.label for clip in judged},
        {
            clip.name: _prediction(row, one, dataset.labels, threshold)
            for clip, row, one in zip(judged, shares, happens, strict=True)
        },
        groups={clip.name: clip.group for clip in judged},
    )
    if foreign:
        scores["foreign"] = foreign_scores(happens, elsewhere, foreign, threshold)
        write_atomic(output / "roc.png", roc_figure(happens, elsewhere, threshold).to_png())
    rows: tuple[dict, ...] = ()
    if compare:
        strange = _alike([one for one in foreign if not one.still])
        seen, _ = measure(strange, captioner, options, cache, key=key, progress=progress)
        strange = [clip for clip in strange if clip.name in seen]
        everything = {**measured, **seen}
        rows = tuple(compare_networks(clips, strange, everything, dataset.labels, options, folder=training, **settings))
    confusion = scores["confusion"]
    figure = confusion_figure(np.array(confusion["counts"]), [*confusion["labels"], NOTHING_KNOWN])
    write_atomic(output / "confusion.png", figure.to_png())
    config = {
        "ridge" if options.cell == RIDGE else "network": heads[0].config.to_dict(),
        "known": {**asdict(known_head.config), "slopes": list(known_head.config.slopes)},
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
        "data": whole.source.name,
        "clips": {split: sum(clip.split == split for clip in clips) for split in ("train", "val")},
        "groups": len({clip.group for clip in clips}),
        "foreign": dict(Counter(one.kind for one in foreign)),
        "left_out": sorted(failures),
        "options": options.without(),
        "command": command,
        "scores": scores,
        "comparison": list(rows),
        "seconds": round(time.monotonic() - started),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "keras": _keras_version()},
    }
    weights = {f"member{i}/{name}": value for i, head in enumerate(heads) for name, value in head.weights.items()}
    save_model(
        output,
        kind="clip_classifier",
        config=config,
        weights=weights | {f"known/{name}": value for name, value in known_head.weights.items()},
        texts={"labels.json": json.dumps(list(dataset.labels), ensure_ascii=False) + "\n"},
        metadata=facts,
        card=model_card(output, dataset, config, facts, _drawn(foreign, elsewhere)),
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
    return measured_clips(
        cache,
        clips,
        captioner_encode(captioner),
        key=key,
        image_size=captioner.image_size,
        options=options.windows,
        # Appearance is compared with, and costs nothing.
        streams=tuple(dict.fromkeys((*options.streams, "appearance", SCENE))),
        region=options.region,
        views=VIEWS[options.region],
        progress=progress and (lambda done, total: progress("measuring", 1, 1, done, total, 0.0)),
    )


def fit_and_judge(
    clips: Sequence[Clip],
    measured: Mapping[str, Sequence[ClipWindows]],
    foreign: Sequence[ForeignExample],
    unlike: Mapping[str, np.ndarray],
    labels: Sequence[str],
    options: ClipOptions,
) -> tuple[KnownHead, dict[str, float], dict[str, float]]:
    """Fits what tells known from foreign, and judges it on recordings, and on foreign kinds, that it has not seen.

    Args:
        clips: Known clips.
        measured: From `measure`.
        foreign: Foreign examples.
        unlike: Name to looks, from `captioner.training.clips.foreign.foreign_looks`.
        labels: The classes.
        options: ``folds``; without, `KNOWN_FOLDS`, or as many as the recordings allow.

    Returns:
        The head, fitted to all; the mean probability over the windows of each known clip, and of each foreign one, by
        heads that were fitted to other recordings and kinds.
    """
    parts = _recordings(clips, options)
    number = {name: index for index, part in enumerate(parts) for name in part}
    known = _examples([(c.name, c.label, looks(measured[c.name][0].inputs), number[c.name]) for c in clips])
    others = None
    if foreign:
        which = parts_of(foreign, len(parts)).tolist()
        others = _examples([(f.name, f.kind, unlike[f.name], part) for f, part in zip(foreign, which, strict=True)])
    own, away = judged_scores(known, others, labels)
    share = None if others is None else kind_weights(others.kinds)
    head = calibrated(fit_known(known, others, labels), own, away, share)
    judged = [_by_clip(known, head.probability(own))]
    judged.append({} if others is None else _by_clip(others, head.probability(away)))
    return head, *judged


def _recordings(clips: Sequence[Clip], options: ClipOptions) -> list[set[str]]:
    """Parts of the clips, whole recordings each."""
    for count in range(options.folds or KNOWN_FOLDS, 1, -1):
        try:
            return held_out(clips, count, options.seeds[0])
        except DatasetError:  # fewer recordings than parts
            if options.folds:
                raise
    val = {clip.name for clip in clips if clip.split == "val"}
    return [val, {clip.name for clip in clips} - val]


def _examples(rows: Sequence[tuple[str, str, np.ndarray, int]]) -> Examples:
    counts = [len(values) for _, _, values, _ in rows]
    repeated = [[row[i] for row, count in zip(rows, counts, strict=True) for _ in range(count)] for i in (0, 1, 3)]
    return Examples(
        np.concatenate([row[2] for row in rows]), tuple(repeated[1]), np.array(repeated[2]), tuple(repeated[0])
    )


def _by_clip(examples: Examples, probabilities: np.ndarray) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for name, probability in zip(examples.clips, probabilities, strict=True):
        gathered.setdefault(name, []).append(float(probability))
    return {name: float(np.mean(values)) for name, values in gathered.items()}


def foreign_scores(
    known: np.ndarray, foreign: np.ndarray, examples: Sequence[ForeignExample], threshold: float
) -> dict:
    """How well known and foreign are told apart, on kinds and recordings that were not trained on.

    Whether a foreign example would get a label is judged by the probability that anything known happens alone: at most
    so many do.

    Args:
        known: That probability of known clips.
        foreign: Likewise of foreign examples.
        examples: Those.
        threshold: Of the model.

    Returns:
        ``{"examples", "labelled", "auroc", "kinds"}``; the share that gets a label is over all, ``kinds`` gives
        ``{"examples", "labelled", "auroc"}`` by kind.
    """
    kinds = {}
    for kind in sorted({one.kind for one in examples}):
        rows = foreign[[one.kind == kind for one in examples]]
        kinds[kind] = {
            "examples": len(rows),
            "labelled": float(np.mean(rows >= threshold)),
            "auroc": auroc(known, rows),
        }
    return {
        "examples": len(foreign),
        "labelled": float(np.mean(foreign >= threshold)),
        "auroc": auroc(known, foreign),
        "kinds": kinds,
    }


def _drawn(foreign: Sequence[ForeignExample], probabilities: np.ndarray, count: int = 10):
    """Foreign examples drawn at random, every kind in turn: (name, probability)."""
    order = np.random.default_rng(0).permutation(len(foreign))
    seen: Counter = Counter()
    ranked = []
    for index in order:
        seen[foreign[index].kind] += 1
        ranked.append((seen[foreign[index].kind], len(ranked), index))
    return [(foreign[i].name, float(probabilities[i])) for *_, i in sorted(ranked)[:count]]


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
    foreign: Sequence[Clip],
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
        foreign: Clips in which none of the classes happens.
        measured: Likewise, of both.
        labels: Likewise.
        options: Likewise; cell, seeds and, without motion, streams are replaced.
        folder: Where the trained model's own networks are, which are not trained again, and where the others go.
        key: See `captioner.training.clips.fitting.fit_networks`.
        progress: Likewise.

    Yields:
        ``{"network", "motion", "accuracy", "spread", "auroc", "seeds", "folds"}``: mean and standard deviation over the
        seeds of the accuracy of single networks on clips that they were not trained on; and how well the energy of
        their logits alone (Liu et al. 2020) tells those from the foreign ones, None where there are none.
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
                "auroc": energy_auroc(heads, foreign, measured) if foreign else None,
                "seeds": len(accuracies),
                "folds": options.folds,
            }


def energy_auroc(
    heads: Sequence[TrainedHead], foreign: Sequence[Clip], measured: Mapping[str, Sequence[ClipWindows]]
) -> float:
    """Mean area under the ROC curve of the clips that judge a head against foreign clips, by the energy of its logits.

    The energy is the logarithm of the sum of the exponentials of the logits, averaged over the windows of a clip.
    """
    areas = []
    for head in heads:
        inference = (RidgeHead if isinstance(head.config, RidgeConfig) else ClipHead)(head.config, head.weights)
        both = (head.logits, clip_logits(inference, foreign, measured))
        known, strange = (
            np.array([np.logaddexp.reduce(logits, axis=-1).mean() for logits in one.values()]) for one in both
        )
        areas.append(auroc(known, strange))
    return float(np.mean(areas))


def _alike(foreign: Sequence[ForeignExample]) -> list[Clip]:
    """Some foreign clips, every kind in turn, as clips that can be measured as the known ones are."""
    seen: Counter = Counter()
    ranked = []
    for number, one in enumerate(foreign):
        seen[one.kind] += 1
        ranked.append((seen[one.kind], number))
    return [
        Clip(one.name, one.path, one.kind, one.kind)
        for one in (foreign[number] for _, number in sorted(ranked)[:MOST_COMPARED])
    ]


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


def _prediction(row: np.ndarray, known: float, labels: Sequence[str], threshold: float) -> ClipPrediction:
    best = int(row.argmax())
    shares = {label: float(share) for label, share in zip(labels, row, strict=True)}
    label = labels[best] if row[best] * known >= threshold else None
    return ClipPrediction(label, float(row[best]), shares, known=float(known))


def _keras_version() -> str:
    import keras

    return keras.__version__
