"""Decoders with different cells trained alike: only the cell differs, and the loss is that of the dev captions."""

import numpy as np
import pytest
from keras import ops

from captioner.lessons.cells import compare_cells
from captioner.lessons.shapes import make_shape_photos
from captioner.training.captions.data import read_captions
from captioner.training.captions.options import CaptionTrainingOptions, StageOptions
from captioner.training.captions.run import CaptionTraining


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    options = CaptionTrainingOptions(
        encoder="lite0", image_size=65, units=16, embedding_units=12, memory_units=16, heads=2, min_count=1,
        max_length=20, precision="f32",
        decoder=StageOptions(epochs=3, batch_size=8, captions=2, learning_rate=1e-2, label_smoothing=0.0),
    )  # fmt: skip
    return CaptionTraining(read_captions(make_shape_photos(folder / "shapes", 20, side=64)), folder / "run", options)


@pytest.fixture(scope="module")
def runs(training):
    told = []
    runs = compare_cells(training, cells=("lstm", "gru"), seeds=(3,), progress=told.append)
    assert told == runs
    return runs


def test_only_the_cell_differs(training, runs):
    assert [(run.cell, run.seed, len(run.losses)) for run in runs] == [("lstm", 3, 3), ("gru", 3, 3)]
    for run in runs:
        assert run.losses[-1] < run.losses[0] < np.log(len(training.tokenizer)) + 1
        assert run.parameters == sum(np.prod(v.shape) for v in run.decoder.trainable_variables)
    inputs = 12 + 16 + 16  # word, picture, state
    # An LSTM has one block of weights and one start state more, a GRU a second bias.
    assert runs[0].parameters - runs[1].parameters == (inputs + 1) * 16 - 3 * 16 + (16 + 1) * 16


def test_the_loss_is_the_mean_over_all_words_of_the_dev_captions(training, runs):
    run = runs[1]
    features = training.features(training.dev_files)
    total, count = 0.0, 0
    for file, row in zip(features.files, features.rows, strict=True):
        grid = np.asarray(features.arrays["grid"][row], np.float32)[None]
        for text in training.data.captions[file]:
            tokens = np.array([training.tokenizer.start, *training.tokenizer.encode(text, end=True)], np.int32)
            logits, _ = run.decoder(grid, tokens[None, None, :-1])
            logprobs = np.asarray(ops.log_softmax(logits[0, 0], axis=-1))
            known = tokens[1:] != training.tokenizer.unknown
            total -= logprobs[np.arange(len(tokens) - 1), tokens[1:]][known].sum()
            count += known.sum()
    assert run.losses[-1] == pytest.approx(total / count, rel=1e-4)
