"""The model card of a trained clip classifier: what it is, how it came about and what it scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from captioner.clips.local_motion import LOCAL_MOTION
from captioner.models.saving import SHIPPED
from captioner.training.clips.data import ClipDataset

NOTES = "notes.md"
"""File of the model folder whose text stands in the card: what people found besides what the training measures."""


def _reference(folder: Path) -> str:
    """What `captioner.load` knows the model by: a shipped one's name, another's path."""
    return folder.name if folder.resolve() == (SHIPPED / folder.name).resolve() else folder.as_posix()


def model_card(
    folder: Path, dataset: ClipDataset, config: Mapping, facts: Mapping, examples: Sequence[tuple[str, float]]
) -> str:
    """The README.md of a model folder.

    Args:
        folder: The model folder; may hold `NOTES`.
        dataset: What was trained on.
        config: What config.json holds.
        facts: What metadata.json holds.
        examples: Name of some foreign examples and the probability that anything known happens in each.
    """
    name = folder.name
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
        f'captioner.load("{_reference(folder)}").classify("clip.mp4")',
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
    lines += ["## Is it anything known?", *_known_lines(config, facts, examples), ""]
    if facts["comparison"]:
        seeds, folds = facts["comparison"][0]["seeds"], facts["comparison"][0]["folds"]
        judged = f"{folds}-fold cross-validation by group" if folds else "the same clips"
        lines += [
            "## Does order matter, does motion?",
            f"Accuracy of each by itself ({judged}), mean ± standard deviation over {seeds} seeds. AUROC: how well the "
            "energy of its logits alone tells these clips from some foreign ones (Liu et al. 2020), without what is "
            "described above:",
            "",
            "| what reads the frames | appearance only | AUROC | with motion | AUROC |",
            "| --- | --- | --- | --- | --- |",
        ]
        for title in dict.fromkeys(row["network"] for row in facts["comparison"]):
            pair = [row for row in facts["comparison"] if row["network"] == title]
            cells = [
                f"{row['accuracy']:.1%} ± {row['spread']:.1%} | {_three(row['auroc'])}"
                for row in sorted(pair, key=lambda row: row["motion"])
            ]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    if (folder / NOTES).is_file():
        lines += [(folder / NOTES).read_text(encoding="utf-8").strip(), ""]
    lines += [
        "## Use",
        "A label is given where its calibrated probability among the classes (temperature "
        f"{config['temperature']:.2f}) times the probability that any of them happens is at least "
        f"{config['threshold']:g}. Otherwise the answer is that nothing known happens.",
        "",
        "## Training",
        f"{facts['clips']['train']} train and {facts['clips']['val']} val clips of {facts['groups']} recordings; no "
        "recording is in two splits.",
    ]
    if facts["foreign"]:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(facts["foreign"].items()))
        lines.append(f"Foreign: {kinds}. Photos are cut, shrunk and compressed like frames of clips.")
    if facts["command"]:
        lines += ["", "```", facts["command"], "```"]
    return "\n".join(lines) + "\n"


def _known_lines(config: Mapping, facts: Mapping, examples: Sequence[tuple[str, float]]) -> list[str]:
    """What is said of known and foreign."""
    foreign = facts["scores"].get("foreign")
    looks = "What the whole frames look like says how likely it is that any of the classes happens: "
    looks += "how far they lie from the training clips (Mahalanobis distance)"
    if foreign is None:
        return [
            f"{looks}. No clip of other things was there to learn from or to judge by: the probability is a half where "
            "98 % of the training clips are nearer, each judged by those of other recordings. How many clips of other "
            "things get a label is not known, and is likely to be many where they resemble the classes in their "
            f"surroundings: give some, with `--negatives DIR` or in a folder `Other`.",
        ]
    unlabelled = facts["scores"]["unlabelled"] / facts["scores"]["clips"]
    lines = [
        f"{looks}, and a regression that knows foreign clips and photos. Judged on recordings, and on kinds of foreign "
        "things, that were not fitted:",
        "",
        "| | |",
        "| --- | --- |",
        f"| AUROC of known against foreign | {foreign['auroc']:.3f} |",
        f"| foreign ones that get a label, at most | {foreign['labelled']:.1%} of {foreign['examples']} |",
        f"| known ones that keep the right label | {facts['scores']['accuracy']['estimate']:.1%} of "
        f"{facts['scores']['clips']} |",
        f"| known ones that get none | {unlabelled:.1%} |",
        "",
        "Each kind was judged by a regression that had seen none of it; what ships has seen all of them:",
        "",
        "| kind of foreign thing | examples | get a label, at most | AUROC |",
        "| --- | --- | --- | --- |",
    ]
    for kind, found in foreign["kinds"].items():
        lines.append(f"| {kind} | {found['examples']} | {found['labelled']:.1%} | {found['auroc']:.3f} |")
    lines += ["", "![ROC](roc.png)", "", "Ten of them, drawn at random, every kind in turn:", ""]
    lines += ["| foreign example | that anything known happens | |", "| --- | --- | --- |"]
    for name, probability in examples:
        said = "may get a label" if probability >= config["threshold"] else "nothing known"
        lines.append(f"| `{name}` | {probability:.1%} | {said} |")
    return lines


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
