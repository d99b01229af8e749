"""Several data sets trained on together: how often each is seen, how it writes, and what its captions are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError, DatasetError
from captioner.training.captions.batches import permuted
from captioner.training.captions.data import FULL_REFERENCES, CaptionDataset, read_captions


@dataclass(frozen=True)
class Source:
    """A data set in a mixture.

    Attributes:
        data: Its photos and captions.
        weight: How often an epoch shows each of its training photos, on average; 0 uses its dev photos alone.
        style: Name of its manner of writing, "" for the general one.
    """

    data: CaptionDataset
    weight: float = 1.0
    style: str = ""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.data.folder.resolve().name


@dataclass(frozen=True)
class Mixture:
    """Data sets under one roof. Where there are several, a file is called by its data set and its name.

    Attributes:
        sources: The data sets, by name.
        images: File to path, of all.
        captions: File to its captions as written.
        train: Training photos of all.
        dev: Name of a data set to its dev photos, where it has any; one that is not trained on has all its photos here.
        source_of: File to the name of its data set.
    """

    sources: dict[str, Source]
    images: dict[str, Path] = field(repr=False)
    captions: dict[str, tuple[str, ...]] = field(repr=False)
    train: tuple[str, ...] = field(repr=False)
    dev: dict[str, tuple[str, ...]] = field(repr=False)
    source_of: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Mixture:
        """Joins data sets.

        Raises:
            DatasetError: Two have the same name, a photo is in train and dev of one, none has training photos, or none
                dev photos.
        """
        names = [source.name for source in sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise DatasetError(f"two data sets are called {min(twice)!r}; rename the folder of one")
        images, captions, train, dev, source_of = {}, {}, [], {}, {}
        for source in sources:
            data, prefix = source.data, f"{source.name}/" if len(sources) > 1 else ""
            images.update((prefix + file, path) for file, path in data.images.items())
            captions.update((prefix + file, texts) for file, texts in data.captions.items())
            source_of.update((prefix + file, source.name) for file in data.images)
            learnt = data.split("train") if source.weight else ()
            judged = data.splits.get("dev", ()) if source.weight else data.split("all")
            if both := set(learnt) & set(judged):
                raise DatasetError(f"{data.folder}: {len(both)} photos are in train and dev, for example {min(both)}")
            train += (prefix + file for file in learnt)
            if judged:
                dev[source.name] = tuple(prefix + file for file in judged)
        where = ", ".join(str(source.data.folder) for source in sources)
        if not train:
            raise DatasetError(f"{where}: nothing to train on; every data set has the weight 0")
        if not dev:
            raise DatasetError(f"{where}: no dev photos, without which no epoch can be chosen; add a data set that has")
        return cls(dict(zip(names, sources, strict=True)), images, captions, tuple(train), dev, source_of)

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the manners of writing besides the general one."""
        return tuple(dict.fromkeys(source.style for source in self.sources.values() if source.style))

    def style_of(self, file: str) -> str:
        """The manner in which a photo's captions are written."""
        return self.sources[self.source_of[file]].style

    def drawn(self, files: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Photos of an epoch in random order: of every data set its weight times as many as it has among ``files``.

        Args:
            files: Training photos.
            rng: Source of chance.
        """
        chosen: list[str] = []
        for name, source in self.sources.items():
            own = [file for file in files if self.source_of[file] == name]
            times, rest = divmod(round(source.weight * len(own)), max(1, len(own)))
            chosen += own * times
            chosen += permuted(own, rng)[:rest]
        return permuted(chosen, rng)

    def worth(self, file: str) -> float:
        """How much the reward of a sampled caption of this photo counts, 0..1; 1 with five captions or more.

        The reward is a mean over the photo's captions. With n of them, each as far from what all people together would
        say as two samples are from each other, the share of it that is no chance is n / (n + 1).
        """
        n = min(len(self.captions[file]), FULL_REFERENCES)
        return n / (n + 1) * (FULL_REFERENCES + 1) / FULL_REFERENCES


def read_mixture(data: Sequence[str], dev: Sequence[str | Path] = ()) -> Mixture:
    """Reads data sets as the command line names them.

    Args:
        data: ``FOLDER[:WEIGHT][@STYLE]``, as in ``flickr8k:0.5@flickr8k``; see `Source`.
        dev: Folders of photos that are for choosing alone, all of them.

    Raises:
        DatasetError: As for `captioner.training.captions.data.read_captions` and `Mixture.of`.
        CaptionerError: A weight is no number above 0 (``kind="usage"``).
    """
    sources = []
    for text in map(str, data):
        folder, _, style = text.rpartition("@") if "@" in Path(text).name else (text, "", "")
        folder, _, weight = folder.rpartition(":") if ":" in Path(folder).name else (folder, "", "1")
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if not 0 < value < 100:
            raise CaptionerError(f"{text}: the weight after the colon must be a number above 0", kind="usage")
        sources.append(Source(read_captions(folder), value, style))
    return Mixture.of([*sources, *(Source(read_captions(folder), 0.0) for folder in dev)])
