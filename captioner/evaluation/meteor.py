"""METEOR, in two versions that must not be mixed up: METEOR-NLTK and the METEOR 1.5 of published captioning scores.

METEOR-NLTK follows the paper of 2007 (exact, stem and WordNet matches, equal weights) and gives about twice the
numbers of METEOR 1.5 (paraphrases, function words weighted down), which is a Java program. Neither is downloaded here.
"""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from captioner.errors import CaptionerError, needs_extra


def meteor_nltk(
    references: Mapping[Hashable, Sequence[Sequence[str]]], candidates: Mapping[Hashable, Sequence[str]]
) -> tuple[float, np.ndarray]:
    """METEOR as NLTK computes it (Lavie and Agarwal, 2007): the best reference counts, then the mean over images.

    Args:
        references: Tokens of every reference of every image.
        candidates: Tokens of one candidate an image; the keys are those of ``references``.

    Returns:
        The mean over images, 0..1, and the score of every image: float64 (images,) in the order of ``candidates``.

    Raises:
        CaptionerError: NLTK or WordNet is not installed; ``kind`` is ``missing``.
    """
    with needs_extra("METEOR-NLTK needs NLTK", "metrics"):
        from nltk.corpus import wordnet
        from nltk.translate.meteor_score import meteor_score
    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise CaptionerError(
            "METEOR-NLTK needs WordNet, which NLTK did not find; fetch it once with: python -m nltk.downloader wordnet",
            kind="missing",
        ) from error
    scores = [
        meteor_score([list(reference) for reference in references[key]], list(candidate), wordnet=wordnet)
        for key, candidate in candidates.items()
    ]
    return float(np.mean(scores)), np.array(scores, np.float64)


def meteor_1_5(
    references: Mapping[Hashable, Sequence[Sequence[str]]], candidates: Mapping[Hashable, Sequence[str]]
) -> tuple[float, np.ndarray]:
    """METEOR 1.5 (Denkowski and Lavie, 2014) by the program that coco-caption runs; needs Java and 2 GB of memory.

    Args:
        references: Tokens of every reference of every image.
        candidates: Tokens of one candidate an image; the keys are those of ``references``.

    Returns:
        The corpus score, 0..1 (not the mean of the images' scores), and the score of every image: float64 (images,)
        in the order of ``candidates``.

    Raises:
        CaptionerError: Java or pycocoevalcap is not installed; ``kind`` is ``missing``.
    """
    if shutil.which("java") is None:
        raise CaptionerError(
            "METEOR 1.5 needs Java, and there is no java command; install a Java runtime", kind="missing"
        )
    with needs_extra("METEOR 1.5 needs pycocoevalcap", "test"):
        from pycocoevalcap.meteor.meteor import Meteor
    scorer = Meteor()
    try:
        score, scores = scorer.compute_score(
            {key: [" ".join(reference) for reference in references[key]] for key in candidates},
            {key: [" ".join(candidate)] for key, candidate in candidates.items()},
        )
    finally:
        scorer.meteor_p.stdin.close()
        scorer.meteor_p.wait()
    return float(score), np.array(scores, np.float64)
