"""Training: captions a second in each stage, and the hours that Flickr8k takes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.material import photos
from benchmarks.measuring import Setup, Table, cores

FLICKR8K_PHOTOS = 6000
_SUBJECTS = ("a dog", "two dogs", "a man", "a girl in a red coat", "a group of people")
_DOINGS = ("runs", "stands", "plays with a ball", "jumps over a log", "looks at the camera")
_PLACES = ("on the beach", "in the snow", "in front of a building", "on green grass", "next to a lake")


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    from captioner.training.captions.data import read_captions
    from captioner.training.captions.run import STAGES, CaptionTraining, CaptionTrainingOptions

    folder = setup.folder / "training"
    data = read_captions(_dataset(folder / "data", setup.size(240, 80)))
    options = CaptionTrainingOptions(min_count=1)
    shortened = {stage: replace(getattr(options, stage), epochs=2) for stage in STAGES}
    clock = _Clock()
    training = CaptionTraining(data, folder / f"run-{time.time():.0f}", replace(options, **shortened), clock)
    rows = []
    for stage in STAGES:
        asked = getattr(options, stage)
        training.run([stage])
        seconds = clock.seconds_of_step(stage)
        steps = math.ceil(FLICKR8K_PHOTOS / asked.batch_size)
        captions = options.samples if stage.startswith("self_critical") else asked.captions
        hours = asked.epochs * steps * seconds / 3600
        rows.append(
            [stage, seconds, asked.batch_size * captions / seconds, asked.batch_size / seconds, asked.epochs, hours]
        )
    columns = ["stage", "seconds/step", "captions/s", "photos/s", "epochs", "hours for Flickr8k"]
    notes = [
        f"Median over the steps of the second epoch on {cores()} cores; the hours are reckoned from it for "
        f"{FLICKR8K_PHOTOS} photos and all epochs, without the evaluation after each epoch."
    ]
    return [Table("Training", columns, rows, notes)]


class _Clock:
    """Takes the time between the steps that training reports."""

    def __init__(self):
        self._last = None
        self._seconds: dict[str, list[float]] = {}

    def __call__(self, stage, epoch, epochs, step, steps, loss):
        now = time.perf_counter()
        if epoch > 1 and step > 1:
            self._seconds.setdefault(stage, []).append(now - self._last)
        self._last = now

    def seconds_of_step(self, stage: str) -> float:
        return float(np.median(self._seconds[stage]))


def _dataset(folder: Path, count: int) -> Path:
    """Photos with five made-up captions each, in the layout of the Kaggle copy of Flickr8k."""
    images = folder / "Images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for path in map(Path, photos(folder.parent, count, 224, 224)):
        if not (images / path.name).exists():
            (images / path.name).write_bytes(path.read_bytes())
        for _ in range(5):
            words = " ".join(str(rng.choice(part)) for part in (_SUBJECTS, _DOINGS, _PLACES))
            lines.append(f"{path.name},{words}")
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
