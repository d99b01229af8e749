"""What ``caption.unsure`` is worth: how many captions are, and how many of their words people use for the photo.

Draws the reliability plot of ``docs/unsure.md``: the confidence of captions beside that share.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import captioner
from benchmarks.measuring import Setup, Table
from captioner.evaluation.ptb import tokenize
from captioner.evaluation.scoring import own_style
from captioner.results import LOW_CONFIDENCE

PLOT = Path(__file__).parents[1] / "docs/unsure.png"
_FEWEST, _MOST = 100, 1000


def measure(setup: Setup) -> list[Table]:
    """See the module; needs ``setup.data``: the dev photos of each set, or all where those are few."""
    title, columns = "Unsure captions", ["photos", "captions", "share, %", "words that people use, %", "confidence, %"]
    if not setup.data:
        return [Table(title, columns, [], ["Left out: `--data` was not given."])]
    from captioner.outputs.plots import reliability_figure
    from captioner.training.captions.data import read_captions

    model = captioner.load(setup.model)
    rows, confidence, used = [], [], []
    for folder in setup.data:
        data = read_captions(folder)
        dev = data.splits.get("dev", ())
        names = (dev if len(dev) >= _FEWEST else data.split("all"))[: setup.size(_MOST, 5)]
        written = captioner.caption_many(
            model, [data.images[name] for name in names], style=own_style(model, data), attention=False
        )
        why = []
        for name, caption in zip(names, written, strict=True):
            people = {token for text in data.captions[name] for token in tokenize(text)}
            used.append(np.mean([word.text in people for word in caption.words]))
            confidence.append(caption.confidence)
            why.append(caption.unsure or "sure")
        shares, stated = np.array(used[-len(names) :]), np.array(confidence[-len(names) :])
        for reason in ("sure", "low confidence", "unfamiliar"):
            which = np.array(why) == reason
            if which.any():
                means = [100 * float(values[which].mean()) for values in (shares, stated)]
                rows.append([data.folder.name, reason, 100 * float(which.mean()), *means])
    figure = reliability_figure(np.array(confidence), np.array(used), bins=20, title="Confidence of captions")
    figure.axes[0].axvspan(0, LOW_CONFIDENCE, color="0.93", zorder=0)
    figure.axes[0].set(ylabel="words that people use (percent)")
    figure.savefig(PLOT, dpi=100)
    notes = [
        "A word counts if one of the people who described the photo used it. The models' calibration was fitted on "
        "these photos: seven weights; the model card has errors measured on photos set aside."
    ]
    return [Table(title, columns, rows, notes)]
