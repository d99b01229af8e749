"""Training batches: photos or their cached grids, with the captions as token numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.media.ahead import Epoch
from captioner.media.images import read_image
from captioner.models.tokenizer import Tokenizer, normalize

MIN_WORDS = 4
"""Captions with fewer words are left out of training: they are titles and slips, not sentences."""
_SIDES = frozenset(("left", "right"))


@dataclass(frozen=True)
class TokenTable:
    """Training captions as tokens.

    Attributes:
        tokens: File to int32 (captions, max_length + 2): start, words, end, padding.
        sided: Files with a caption that says left or right, which must not be flipped.
        start: Number of the start token.
        unknown: Number of the unknown token.
    """

    tokens: Mapping[str, np.ndarray]
    sided: frozenset[str]
    start: int
    unknown: int

    @classmethod
    def build(
        cls,
        captions: Mapping[str, Sequence[str]],
        tokenizer: Tokenizer,
        max_length: int,
        style_of: Callable[[str], str] = lambda file: "",
    ) -> TokenTable:
        """Encodes captions; those with fewer than `MIN_WORDS` words are left out unless the photo has no other.

        Args:
            captions: File to captions.
            tokenizer: The vocabulary.
            max_length: Most words of a caption.
            style_of: File to the style that its captions begin with.
        """
        tokens, sided = {}, set()
        for file, texts in captions.items():
            long_enough = [text for text in texts if len(normalize(text)) >= MIN_WORDS] or list(texts)
            tokens[file] = tokenizer.encode_batch(long_enough, max_length, style_of(file))
            if any(_SIDES & set(normalize(text)) for text in texts):
                sided.add(file)
        return cls(tokens, frozenset(sided), tokenizer.start, tokenizer.unknown)

    def draw(self, files: Sequence[str], captions: int, rng: np.random.Generator) -> np.ndarray:
        """Captions of some photos: int32 (files, captions, max_length + 2).

        Where a photo has too few, the rest are empty: every caption counts once, whatever others its photo has.
        """
        rows = []
        for file in files:
            table = self.tokens[file]
            row = np.zeros((captions, table.shape[1]), np.int32)
            row[:, 0] = table[0, 0]
            drawn = rng.permutation(len(table))[:captions]
            row[: len(drawn)] = table[drawn]
            rows.append(row)
        return np.stack(rows)

    def targets(self, drawn: np.ndarray, label_smoothing: float) -> tuple[np.ndarray, dict]:
        """Input tokens, and the targets of cross-entropy with the mean over words as the loss.

        Unknown words are read but never learnt as an answer.
        """
        targets = drawn[:, :, 1:]
        counted = (targets != 0) & (targets != self.unknown)
        return drawn[:, :, :-1], {
            "targets": np.ascontiguousarray(targets),
            "weights": (counted / max(1, counted.sum())).astype(np.float32),
            "smoothing": np.full((*drawn.shape[:2], 1), label_smoothing, np.float32),
        }


def permuted(files: Sequence[str], rng: np.random.Generator) -> list[str]:
    """All files in random order."""
    return [files[i] for i in rng.permutation(len(files))]


class CachedBatches:
    """Cross-entropy batches from cached grids.

    Args:
        files: Training photos.
        grids: For every view: file to row, and the array of grids; the first view is the plain one, the others are
            drawn as often as it.
        table: The captions.
        batch_size: Photos a step.
        captions: Captions a photo.
        drawn: ``drawn(files, rng)``: those of an epoch, in random order, always as many; by default all.
        label_smoothing: See `captioner.training.captions.options.StageOptions`.
        seed: Order, captions and views of epoch e depend on (seed, e) alone.
    """

    def __init__(self, files, grids, table: TokenTable, *, batch_size, captions, label_smoothing, seed, drawn=permuted):
        self.files = list(files)
        self.drawn = drawn
        self._length = len(drawn(self.files, np.random.default_rng(seed)))
        self.grids = grids
        self.table = table
        self.batch_size = min(batch_size, self._length)
        self.captions = captions
        self.label_smoothing = label_smoothing
        self.seed = seed

    def __call__(self, epoch: int) -> Epoch:
        """Batches (x, y) of an epoch; the photos that fill no batch wait for the next one."""
        return Epoch(len(self), self._produce(epoch))

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._length // self.batch_size

    def shuffled(self, epoch: int) -> Iterator[tuple[list[str], np.random.Generator]]:
        """Files of each batch of an epoch, with the random generator to use for it."""
        rng = np.random.default_rng([self.seed, epoch])
        files = self.drawn(self.files, rng)
        for start in range(0, len(files) - self.batch_size + 1, self.batch_size):
            yield files[start : start + self.batch_size], rng

    def grid(self, files: Sequence[str], rng: np.random.Generator) -> np.ndarray:
        """Grids (files, positions, C) float16, each in a view drawn at random."""
        views = rng.integers(len(self.grids), size=len(files))
        rows = []
        for file, view in zip(files, views, strict=True):
            lookup, array = self.grids[0 if file in self.table.sided else view]
            rows.append(array[lookup[file]])
        return np.stack(rows)

    def named(self, epoch: int) -> Iterator[tuple[list[str], dict, dict]]:
        """Batches of an epoch as (files, x, y)."""
        for files, rng in self.shuffled(epoch):
            tokens, y = self.table.targets(self.table.draw(files, self.captions, rng), self.label_smoothing)
            yield files, {**self.inputs(files, rng), "tokens": tokens}, {**y, **self.known(files)}

    def inputs(self, files: Sequence[str], rng: np.random.Generator) -> dict:
        """What the model sees of these photos."""
        return {"grid": self.grid(files, rng)}

    def known(self, files: Sequence[str]) -> dict:
        """What is known of these photos besides their captions."""
        return {}

    def _produce(self, epoch: int):
        return ((x, y) for _, x, y in self.named(epoch))


class PhotoBatches(CachedBatches):
    """Cross-entropy batches from the photos themselves, changed a little each time, for training the encoder.

    Args:
        files: Training photos.
        paths: File to path.
        table: The captions.
        image_size: Side of the encoder's input.
        tags: File to the tags that people use for the photo (tags,), and of five captions, how many it has.
        augment: ``augment(image, rng, flip_allowed) -> image``.
        **options: As `CachedBatches`.
    """

    def __init__(self, files, paths, table, *, image_size: int, tags=None, augment: Callable, **options):
        super().__init__(files, (), table, **options)
        self.paths = paths
        self.image_size = image_size
        self.tags = tags
        self.augment = augment

    def inputs(self, files, rng):
        """Images (files, S, S, 3) uint8, each changed anew."""
        images = [
            self.augment(read_image(self.paths[file], size=self.image_size), rng, file not in self.table.sided)
            for file in files
        ]
        return {"images": np.stack(images)}

    def known(self, files):
        """``used`` (files, tags) and ``shares`` (files, 1), both float32, where tags were given."""
        if self.tags is None:
            return {}
        used, shares = zip(*(self.tags[file] for file in files), strict=True)
        return {"used": np.stack(used).astype(np.float32), "shares": np.array(shares, np.float32)[:, None]}


def augment_photo(image: np.ndarray, rng: np.random.Generator, flip_allowed: bool) -> np.ndarray:
    """A photo as it might have been taken: cropped by up to 25 %, flipped, in slightly other light.

    Args:
        image: uint8 (S, S, 3).
        rng: Source of chance.
        flip_allowed: False where a caption says left or right.

    Returns:
        uint8 (S, S, 3).
    """
    import cv2

    side = image.shape[0]
    # Height and width are cut independently, which also varies the proportions.
    height, width = (side - rng.integers(0, round(side * 0.25) + 1, size=2)).tolist()
    top = int(rng.integers(0, side - height + 1))
    left = int(rng.integers(0, side - width + 1))
    image = cv2.resize(image[top : top + height, left : left + width], (side, side), interpolation=cv2.INTER_LINEAR)
    if flip_allowed and rng.random() < 0.5:
        image = image[:, ::-1]
    brightness, contrast, saturation = rng.uniform(-30, 30), rng.uniform(0.8, 1.2), rng.uniform(0.7, 1.3)
    image = image.astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + saturation * (image - grey)
    image = (image - 127) * contrast + 127 + brightness
    return np.clip(image, 0, 255).astype(np.uint8)
