"""Which recurrent cell writes captions best? Decoders with different cells, trained on the same grids for as long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.recurrent import CELLS
from captioner.training.captions.batches import CachedBatches, TokenTable
from captioner.training.captions.feature_cache import Features
from captioner.training.captions.loop import CaptionTrainingModel
from captioner.training.captions.options import StageOptions
from captioner.training.captions.run import CaptionTraining
from captioner.training.loop import make_optimizer


@dataclass(frozen=True)
class CellRun:
    """One training.

    Attributes:
        cell: Name of the cell.
        seed: Of the initial weights and the order of the photos.
        parameters: Number of the decoder's weights.
        losses: Cross-entropy on the dev captions after each epoch, in nats per word, the end counted as one.
        decoder: The trained decoder.
    """

    cell: str
    seed: int
    parameters: int
    losses: tuple[float, ...]
    decoder: Decoder


def compare_cells(
    training: CaptionTraining,
    *,
    cells: Sequence[str] = tuple(CELLS),
    seeds: Sequence[int] = (0, 1, 2),
    progress: Callable[[CellRun], None] | None = None,
) -> list[CellRun]:
    """Trains a decoder for each cell and seed: same photos, captions, order, number of steps and size of state.

    Args:
        training: Gives data, encoder, vocabulary and the settings of the stage ``decoder``.
        cells: Names of cells.
        seeds: One training for each.
        progress: Called with each run when it is done.
    """
    train, dev = training.features(training.train_files), training.features(training.dev_files)
    held_out = TokenTable.build(
        {file: training.data.captions[file] for file in dev.files}, training.tokenizer, training.options.max_length
    )
    runs = []
    for cell in cells:
        for seed in seeds:
            config = replace(training.decoder.config, cell=cell)
            options = replace(training.options.decoder, seed=seed)
            run = _run(config, options, train, training.table, dev, held_out)
            runs.append(run)
            if progress is not None:
                progress(run)
    return runs


def _run(
    config: DecoderConfig,
    options: StageOptions,
    train: Features,
    table: TokenTable,
    dev: Features,
    held_out: TokenTable,
) -> CellRun:
    keras.utils.set_random_seed(options.seed)
    decoder = Decoder(config, name="decoder")
    model = CaptionTrainingModel(decoder, None, options)
    batches = CachedBatches(
        train.files, [_grids(train)], table, batch_size=options.batch_size, captions=options.captions,
        label_smoothing=options.label_smoothing, seed=options.seed,
    )  # fmt: skip
    model.compile(make_optimizer(replace(options, average=0.0), len(batches(0))), jit_compile=False)
    losses = []
    for epoch in range(options.epochs):
        for x, y in batches(epoch):
            model.train_on_batch(x, y)
        losses.append(dev_loss(model, dev, held_out))
    return CellRun(config.cell, options.seed, decoder.count_params(), tuple(losses), decoder)


def dev_loss(model: CaptionTrainingModel, features: Features, table: TokenTable) -> float:
    """Cross-entropy of photos' captions in nats per word, without label smoothing."""
    captions = max(len(table.tokens[file]) for file in features.files)
    tokens, y = table.targets(table.draw(features.files, captions, np.random.default_rng(0)), 0.0)
    grid = np.asarray(features.arrays["grid"][features.rows], np.float32)
    y.pop("logs", None)
    return float(model.test_on_batch({"grid": grid, "tokens": tokens}, y))


def _grids(features: Features) -> tuple[dict[str, int], np.ndarray]:
    return dict(zip(features.files, features.rows.tolist(), strict=True)), features.arrays["grid"]
