"""Every measure of a set of captions in one report, as a table for people, and as the results file of coco-caption.

Scores are in the unit of published tables, that is times 100 (CIDEr-D 58.9); shares and probabilities are in 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from captioner.errors import DatasetError
from captioner.evaluation.bootstrap import Interval, bootstrap_interval, paired_bootstrap, ratio_of_sums
from captioner.evaluation.calibration import area_under_risk_coverage, expected_calibration_error, risk_coverage
from captioner.evaluation.coco_metrics import MAX_N, bleu_from_statistics, bleu_statistics, cider_d, rouge_l
from captioner.evaluation.diversity import diversity, grammar_slips, is_dangling, repeated_words
from captioner.evaluation.invented import invented, things
from captioner.evaluation.meteor import meteor_1_5, meteor_nltk
from captioner.evaluation.ptb import tokenize
from captioner.results import Caption

METEORS = {"nltk": ("METEOR-NLTK", meteor_nltk), "1.5": ("METEOR 1.5", meteor_1_5)}
"""The METEORs that can be asked for, with the names they have in reports."""

_COVERAGES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_COCO_NAME = re.compile(r"(?:^|_|/)(\d{12})(?:\.\w+)?$")


def evaluate_captions(
    references: Mapping[str, Sequence[str]],
    candidates: Mapping[str, str | Caption],
    *,
    idf_from: Mapping[str, Sequence[str]] | None = None,
    meteor: str | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Measures captions against what people wrote.

    Args:
        references: File to the captions that people wrote, as text.
        candidates: File to the caption to be judged; the same files. With `Caption` objects the report also says
            how far their probabilities can be trusted.
        idf_from: References that give CIDEr-D its weights instead of ``references``, for example the training
            captions. Needed for comparable numbers on very small sets.
        meteor: ``nltk`` or ``1.5`` adds that METEOR; see `captioner.evaluation.meteor`.
        samples: Draws of the bootstrap over photos.
        seed: Of the draws.

    Returns:
        A dictionary of plain JSON types:

        - ``photos``, ``references``: how many.
        - ``scores``: BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and METEOR if asked for, times 100, each ``{"estimate", "low",
          "high", "level"}`` with the 95 % interval over photos. The interval of METEOR 1.5 is that of the photos'
          mean, moved to the corpus score.
        - ``diversity``: as `captioner.evaluation.diversity.Diversity`; ``dangling``, ``repeated`` and ``slips`` with
          intervals.
        - ``invented``: ``{"words", "captions"}``: the share of the captions' nouns and colours that nobody names, and
          of captions with one, 0..1, with intervals; see `captioner.evaluation.invented`.
        - ``confidence``, for `Caption` objects only: see `confidence_report`.
        - ``captions``: one ``{"file", "caption", "CIDEr-D", "ROUGE-L", "invented"}`` a photo, in the order of
          ``candidates``.

    Raises:
        DatasetError: There is no photo, the two are not of the same photos, or a photo has no reference.
        CaptionerError: ``meteor`` is not installed.
        ValueError: There is no such ``meteor``.
    """
    if meteor is not None and meteor not in METEORS:
        raise ValueError(f"meteor must be one of {', '.join(METEORS)} or None, not {meteor!r}")
    _check(references, candidates)
    texts = {file: caption.text if isinstance(caption, Caption) else caption for file, caption in candidates.items()}
    words = {file: tokenize(text) for file, text in texts.items()}
    people = {file: [tokenize(text) for text in references[file]] for file in texts}
    corpus = None if idf_from is None else {file: [tokenize(text) for text in idf_from[file]] for file in idf_from}

    drawn = {"samples": samples, "seed": seed}
    counts = bleu_statistics(people, words)
    rouge = rouge_l(people, words)[1]
    cider = cider_d(people, words, idf_from=corpus)[1]
    scores = {
        f"BLEU-{n + 1}": bootstrap_interval(counts, lambda sums, n=n: bleu_from_statistics(sums)[n], **drawn)
        for n in range(MAX_N)
    }
    scores["ROUGE-L"] = bootstrap_interval(rouge, **drawn)
    scores["CIDEr-D"] = bootstrap_interval(cider, **drawn)
    if meteor is not None:
        name, metric = METEORS[meteor]
        score, photos = metric(people, words)
        scores[name] = bootstrap_interval(photos, **drawn).moved(score - float(photos.mean()))

    faults = {
        name: bootstrap_interval(np.array([bool(found(caption)) for caption in words.values()], np.float64), **drawn)
        for name, found in (("dangling", is_dangling), ("repeated", repeated_words), ("slips", grammar_slips))
    }
    made_up = {file: invented(caption, people[file]) for file, caption in words.items()}
    named = np.array([(len(made_up[file]), len(things(caption))) for file, caption in words.items()], np.float64)
    report = {
        "photos": len(words),
        "references": sum(map(len, people.values())),
        "scores": {name: interval.scaled(100).to_dict() for name, interval in scores.items()},
        "diversity": {
            **diversity(words.values()).to_dict(),
            **{name: interval.to_dict() for name, interval in faults.items()},
        },
        "invented": {
            "words": bootstrap_interval(named, ratio_of_sums, **drawn).to_dict(),
            "captions": bootstrap_interval(np.minimum(named[:, 0], 1), **drawn).to_dict(),
        },
    }
    captions = list(candidates.values())
    if all(isinstance(caption, Caption) for caption in captions):
        report["confidence"] = confidence_report(captions, list(people.values()), cider)
    report["captions"] = [
        {
            "file": file,
            "caption": text,
            "CIDEr-D": round(100 * c, 4),
            "ROUGE-L": round(100 * r, 4),
            "invented": made_up[file],
        }
        for (file, text), c, r in zip(texts.items(), cider.tolist(), rouge.tolist(), strict=True)
    ]
    return report


def confidence_report(
    captions: Sequence[Caption],
    references: Sequence[Sequence[Sequence[str]]],
    cider: np.ndarray,
) -> dict:
    """How far the probabilities of captions can be trusted.

    A word counts as right if a person used it for the photo; the confidence of a caption is compared with the share of
    its words that are right.

    Args:
        captions: Captions.
        references: Tokens of what people wrote for each of their photos.
        cider: CIDEr-D of every caption, 0..10: float (captions,).

    Returns:
        ``{"word_calibration_error", "caption_calibration_error", "risk", "selected"}``: the expected calibration
        errors of the words' confidence, or probability where they have none (None where no caption has a word), and of
        the captions' confidence, 0..1;
        the area under the risk-coverage curve, where risk is the share of wrong words; and, for some coverages,
        ``{"coverage", "confidence", "CIDEr-D"}``: the lowest confidence and the mean CIDEr-D x 100 of the most
        confident captions.
    """
    _, right = word_outcomes(captions, references)
    sure = [word.probability if word.confidence is None else word.confidence for one in captions for word in one.words]
    probabilities = np.clip(np.array(sure, np.float64), 0, 1)
    owner = np.repeat(np.arange(len(captions)), [len(caption.words) for caption in captions])
    lengths = np.bincount(owner, minlength=len(captions))
    share = np.bincount(owner, right, len(captions)) / np.maximum(lengths, 1)
    confidence = np.array([min(1.0, caption.confidence) for caption in captions])
    coverage, risk = risk_coverage(confidence, -cider)
    levels = np.sort(np.unique(confidence))[::-1]
    rows = [min(int(np.searchsorted(coverage, wanted - 1e-9)), len(coverage) - 1) for wanted in _COVERAGES]
    return {
        "word_calibration_error": expected_calibration_error(probabilities, right) if len(right) else None,
        "caption_calibration_error": expected_calibration_error(confidence, share),
        "risk": area_under_risk_coverage(confidence, 1 - share),
        "selected": [
            {"coverage": float(coverage[i]), "confidence": float(levels[i]), "CIDEr-D": float(-100 * risk[i])}
            for i in dict.fromkeys(rows)
        ],
    }


def word_outcomes(
    captions: Iterable[Caption], references: Iterable[Sequence[Sequence[str]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Every word of some captions: how likely the decoder thought it, and whether people used it for the photo.

    What `captioner.evaluation.calibration` works on: its `fit_platt` turns these into the calibration of a model, and
    reliability diagrams are drawn from them.

    Args:
        captions: Captions.
        references: Tokens of what people wrote for each of their photos, as `captioner.evaluation.ptb.tokenize` gives
            them.

    Returns:
        Log-probabilities, at most 0, float64 (words,), and whether the word is in one of the references, bool (words,).
    """
    logprobs, right = [], []
    for caption, people in zip(captions, references, strict=True):
        used = {token for reference in people for token in reference}
        logprobs += [min(0.0, word.logprob) for word in caption.words]
        right += [word.text in used for word in caption.words]
    return np.array(logprobs, np.float64), np.array(right, bool)


def compare_reports(
    first: Mapping, second: Mapping, measure: str = "CIDEr-D", *, samples: int = 10_000, seed: int = 0
) -> tuple[Interval, float]:
    """Whether the second of two models is better, by the paired bootstrap over the photos.

    Args:
        first: Report of one model.
        second: Report of another on the same photos.
        measure: ``CIDEr-D`` or ``ROUGE-L``.
        samples: Draws of the bootstrap.
        seed: Of the draws.

    Returns:
        As `captioner.evaluation.bootstrap.paired_bootstrap`: the gain, times 100, with its 95 % interval, and the share
        of draws without gain.

    Raises:
        DatasetError: The reports are not of the same photos.
    """
    one = {entry["file"]: entry[measure] for entry in first["captions"]}
    other = {entry["file"]: entry[measure] for entry in second["captions"]}
    if odd := one.keys() ^ other.keys():
        raise DatasetError(f"the reports differ in {len(odd)} photos, for example {min(odd)}", kind="mismatch")
    rows = np.array([one[file] for file in one]), np.array([other[file] for file in one])
    return paired_bootstrap(*rows, samples=samples, seed=seed)


def coco_results(
    candidates: Mapping[str, str | Caption], image_ids: Mapping[str, int | str] | None = None
) -> list[dict]:
    """Captions as the results file of coco-caption holds them.

    Args:
        candidates: File to caption.
        image_ids: File to the id that the annotations use. By default the 12 digits at the end of a COCO file name as
            a number, and any other name as it is.

    Returns:
        ``[{"image_id", "caption"}]`` in the order of ``candidates``.
    """
    if image_ids is None:
        found = {file: _COCO_NAME.search(file) for file in candidates}
        image_ids = {file: int(match.group(1)) if match else file for file, match in found.items()}
    return [
        {"image_id": image_ids[file], "caption": caption.text if isinstance(caption, Caption) else caption}
        for file, caption in candidates.items()
    ]


def format_table(reports: Mapping[str, dict]) -> str:
    """Reports side by side, as a Markdown table: one row a measure, one column a model.

    Args:
        reports: Name of the model to what `evaluate_captions` returned.
    """
    names = dict.fromkeys(name for report in reports.values() for name in report["scores"])
    rows = [("", list(reports))]
    rows += [(name, [_number(report["scores"].get(name)) for report in reports.values()]) for name in names]
    for label, part, key in (
        ("invented words", "invented", "words"),
        ("captions with one", "invented", "captions"),
        ("dangling endings", "diversity", "dangling"),
        ("repeated content word", "diversity", "repeated"),
        ("grammar slips", "diversity", "slips"),
    ):
        rows.append((label, [_share(report[part][key]) for report in reports.values()]))
    for label, key, form in (
        ("distinct captions", "distinct_captions", "{:,}"),
        ("distinct words", "distinct_words", "{:,}"),
        ("words a caption", "mean_length", "{:.1f}"),
    ):
        rows.append((label, [form.format(report["diversity"][key]) for report in reports.values()]))
    rows.append(("photos", [f"{report['photos']:,}" for report in reports.values()]))
    widths = [max(len(label) for label, _ in rows)]
    widths += [max(len(cells[column]) for _, cells in rows) for column in range(len(reports))]
    lines = [
        "| "
        + " | ".join([label.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        + " |"
        for label, cells in rows
    ]
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def _number(interval: dict | None) -> str:
    return "-" if interval is None else "{estimate:.1f} ({low:.1f} to {high:.1f})".format(**interval)


def _share(interval: dict) -> str:
    return "{estimate:.1%} ({low:.1%} to {high:.1%})".format(**interval)


def _check(references: Mapping[str, Sequence[str]], candidates: Mapping[str, object]) -> None:
    if not candidates:
        raise DatasetError("there is no caption to score; name photos that have captions", kind="empty")
    if odd := references.keys() ^ candidates.keys():
        side = "captions of people" if next(iter(odd)) in candidates else "captions to be judged"
        raise DatasetError(f"{len(odd)} photos have no {side}, for example {next(iter(odd))}", kind="mismatch")
    if bare := [file for file, texts in references.items() if not texts]:
        raise DatasetError(f"{bare[0]} has no caption of people to compare with", kind="mismatch")
