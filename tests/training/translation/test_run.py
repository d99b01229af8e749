"""A whole training of a tiny translator: learnt, stopped, gone on with, loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import SENTENCES

import captioner
from captioner.errors import DatasetError
from captioner.models.saving import read_model
from captioner.training.translation.options import TranslationTrainingOptions
from captioner.training.translation.run import train_translation

OPTIONS = TranslationTrainingOptions(
    epochs=2, vocabulary_size=335, units=12, encoder_units=6, embedding_units=8, memory_units=8, heads=2,
    batch_tokens=120, learning_rate=1e-2, average=0.5, precision="f32",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    for split, many in (("train", 12), ("val", 3)):
        for language, lines in SENTENCES.items():
            (folder / f"{split}.{language}").write_text("\n".join(lines[:many]) + "\n")
    return folder


@pytest.fixture
def uncompiled():
    """Computes every operation by itself: how steps are compiled depends on which lengths a process meets first, and
    with it how sums are rounded (1e-6)."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_stopping_and_going_on_equals_never_stopping(data, tmp_path, uncompiled):
    whole = train_translation(data, tmp_path / "whole", OPTIONS)

    def stop(what, epoch, epochs, step, steps, loss):
        if (epoch, step) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_translation(data, tmp_path / "parts", OPTIONS, progress=stop)
    parts = train_translation(data, tmp_path / "parts", OPTIONS)
    assert [row["loss"] for row in parts["rows"]] == [row["loss"] for row in whole["rows"]]
    assert parts["rows"][0]["loss"] > parts["rows"][-1]["loss"] and len(parts["rows"]) == 2
    one, other = (read_model(tmp_path / name / "translator") for name in ("whole", "parts"))
    for name, value in one.weights.items():
        np.testing.assert_array_equal(other.weights[name], value, err_msg=name)
    assert {"bleu", "de bleu", "fr chrf", "de bleu lower"} <= set(whole["rows"][0])
    translator = captioner.load(tmp_path / "parts/translator")
    assert translator.languages == ("de", "fr") and translator.translate(SENTENCES["en"][0], "de").language == "de"
    card = (tmp_path / "parts/translator/README.md").read_text()
    assert "12 sentences" in card and "| fr |" in card
    json.dumps(parts)

    (data / "train.de").write_text("\n".join(SENTENCES["de"][::-1]) + "\n")
    with pytest.raises(DatasetError, match="other settings or data"):
        train_translation(data, tmp_path / "parts", OPTIONS)
