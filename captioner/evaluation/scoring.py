"""A model scored on a data set: what `captioner evaluate` reports."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import CaptionerError, DatasetError
from captioner.media.images import IMAGE_EXTENSIONS

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner
    from captioner.clips.classifier import ClipClassifier
    from captioner.training.captions.data import CaptionDataset
    from captioner.training.clips.data import ClipDataset

Progress = Callable[[int, int], None]


def evaluate_captioner(
    model: ImageCaptioner,
    dataset: CaptionDataset,
    split: str = "test",
    *,
    search: Mapping[str, Any] | None = None,
    style: str | None = None,
    batch_size: int = 16,
    meteor: str | None = None,
    progress: Progress = lambda done, total: None,
) -> dict:
    """Captions the photos of a split and compares with what people wrote.

    Args:
        model: The captioner.
        dataset: From `captioner.training.captions.data.read_captions`.
        split: ``train``, ``dev``, ``test`` or ``all``.
        search: Search options that differ from the model's own.
        style: Manner of writing; None for the data set's own, see `own_style`.
        batch_size: Photos computed together.
        meteor: See `captioner.evaluation.report.evaluate_captions`.
        progress: Called with how many photos are done, and of how many.

    Returns:
        The report of `captioner.evaluation.report.evaluate_captions`, with ``model``, ``split``, ``warnings``, and
        ``failed``: the photos that could not be read, which count in no score.

    Raises:
        DatasetError: There is nothing to score.
    """
    from captioner.evaluation.report import evaluate_captions

    files = dataset.split(split)
    paths = [dataset.images[file] for file in files]
    captions, failed = {}, []
    style = own_style(model, dataset) if style is None else style
    outcomes = model.caption_many(paths, batch_size=batch_size, attention=False, style=style, **(search or {}))
    for done, (file, outcome) in enumerate(zip(files, outcomes, strict=True), 1):
        if isinstance(outcome, CaptionerError):
            failed.append({"file": file, "error": outcome.to_dict()})
        else:
            captions[file] = outcome
        progress(done, len(files))
    if not captions:
        raise DatasetError(f"{dataset.folder}: none of the {len(files)} photos of the split {split!r} can be read")
    report = evaluate_captions(dataset.references(captions), captions, meteor=meteor)
    about = {"model": model.name, "split": split, "style": style, "warnings": list(dataset.warnings)}
    return {**about, "failed": failed, **report}


def own_style(model: ImageCaptioner, dataset: CaptionDataset) -> str:
    """The style of a model that is called like a data set: like its folder, or a file that says what its captions are.

    "" is the general one.
    """
    names = [dataset.folder.resolve().name, *(path.name for path in dataset.folder.glob("*.*") if path.is_file())]
    written = [name.lower() for name in names if Path(name).suffix.lower() not in IMAGE_EXTENSIONS]
    return next((style for style in model.tokenizer.styles if any(style.lower() in name for name in written)), "")


def evaluate_classifier(
    model: ClipClassifier,
    dataset: ClipDataset,
    split: str = "test",
    *,
    progress: Progress = lambda done, total: None,
) -> dict:
    """Classifies the clips of a split and compares with their labels; intervals are over groups.

    Clips with a label that is no class of the model, such as ``Other``, are foreign: to them any label is a mistake.

    Args:
        model: The clip classifier.
        dataset: From `captioner.training.clips.data.read_clips`.
        split: ``train``, ``val``, ``test`` or ``all``.
        progress: Called with how many clips are done, and of how many.

    Returns:
        The report of `captioner.evaluation.classification.evaluate_clips` on the others, with ``model``, ``split``,
        ``warnings`` and ``failed``, and where there are foreign clips ``foreign``: ``{"clips", "labelled", "auroc"}``,
        how many there are, the share of them that gets a label, and the area under the ROC curve.

    Raises:
        DatasetError: There is nothing to score.
    """
    from captioner.evaluation.classification import auroc, evaluate_clips

    clips = dataset.split(split)
    predictions, failed = {}, []
    for done, clip in enumerate(clips, 1):
        try:
            predictions[clip.name] = model.classify(clip.path)
        except CaptionerError as error:
            failed.append({"file": clip.name, "error": error.to_dict()})
        progress(done, len(clips))
    if not predictions:
        raise DatasetError(f"{dataset.source}: none of the {len(clips)} clips of the split {split!r} can be read")
    truth = {clip.name: clip.label for clip in clips if clip.name in predictions and clip.label in model.labels}
    known = {name: predictions.pop(name) for name in truth}
    report = evaluate_clips(truth, known, groups={clip.name: clip.group for clip in clips})
    if predictions:
        both = (np.array([one.certainty for one in of.values()]) for of in (known, predictions))
        labelled = sum(one.label is not None for one in predictions.values()) / len(predictions)
        report["foreign"] = {"clips": len(predictions), "labelled": labelled, "auroc": auroc(*both)}
    return {"model": model.name, "split": split, "warnings": list(dataset.warnings), "failed": failed, **report}


def report_table(report: Mapping) -> str:
    """A report of this module as a table for people."""
    if "scores" in report:
        from captioner.evaluation.report import format_table

        return format_table({report["model"]: report})
    lines = [f"clips {report['clips']}, without a label {report['unlabelled']}"]
    for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        lines.append(f"{name} {{estimate:.1%}} ({{low:.1%}} to {{high:.1%}})".format(**report[key]))
    if "foreign" in report:
        line = "foreign clips {clips}, with a label {labelled:.1%}; AUROC of known against foreign {auroc:.3f}"
        lines.append(line.format(**report["foreign"]))
    width = max(map(len, report["classes"]))
    for label, scores in report["classes"].items():
        shares = {key: "-" if scores[key] is None else f"{scores[key]:.0%}" for key in ("precision", "recall")}
        counts = "  ".join(f"{key} {share:>4}" for key, share in shares.items())
        lines.append(f"    {label:<{width}}  {scores['clips']:>5} clips  {counts}")
    return "\n".join(lines)


def coco_path(output: str | os.PathLike) -> Path:
    """Where the results file of coco-caption lies beside a report."""
    return Path(output).with_name(f"{Path(output).stem}.coco.json")


def save_report(report: Mapping, output: str | os.PathLike) -> list[Path]:
    """Writes a report as JSON and, for captions, the results file of coco-caption beside it.

    Returns:
        The files.

    Raises:
        CaptionerError: One cannot be written.
    """
    from captioner.atomic import write_atomic
    from captioner.evaluation.report import coco_results

    output = Path(output)
    write_atomic(output, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if "captions" not in report:
        return [output]
    results = coco_path(output)
    captions = {one["file"]: one["caption"] for one in report["captions"]}
    write_atomic(results, json.dumps(coco_results(captions), ensure_ascii=False) + "\n")
    return [output, results]
