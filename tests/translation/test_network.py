"""The network as it is trained, in Keras, against the graphs that are run."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tiny_models import make_translator

from captioner.models.compiling import compiled
from captioner.models.recurrent import CELLS, make_cell, recur
from captioner.models.saving import load_weights, read_model
from captioner.translation.config import TranslatorConfig
from captioner.translation.network import TranslationNetwork
from captioner.translation.subwords import Subwords
from captioner.translation.translator import Translator


@pytest.mark.parametrize("cell", CELLS)
def test_teacher_forcing_is_stepping_and_keras_is_openvino(cell, tmp_path):
    saved = read_model(make_translator(tmp_path / "tiny", cell=cell))
    network = TranslationNetwork(saved.settings(TranslatorConfig))
    for part in ("encoder", "decoder"):
        load_weights(getattr(network, part), saved.part(part), "")
    subwords = Subwords.from_json(saved.texts["tokenizer.json"])
    runtime = Translator.open(saved, precision="f32")._runtime
    rng, written = np.random.default_rng(0), subwords.written["fr"]
    source = rng.integers(280, len(subwords), (3, 5)).astype(np.int32)
    tokens = rng.integers(0, len(written), (3, 4))
    tokens[:, 0] = 0
    inputs = {"source": source, "tokens": written[tokens][:, None], "among": written}
    forced = np.asarray(network(inputs))[:, 0]
    *state, values, keys, mean = (np.array(part) for part in runtime._start(runtime._read(source)[0]))
    step = runtime._step_of("fr")
    for t in range(4):
        logits, state, _ = step(tokens[:, t].astype(np.int32), state, (values, keys, mean))
        state = [np.array(part) for part in state]
        np.testing.assert_allclose(logits, forced[:, t], atol=2e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrence_does_not_depend_on_whether_the_steps_are_known_beforehand(cell):
    made = make_cell(cell, 4)
    made.build(3)

    def run(x):
        return recur(
            made, made.project(x), tuple(ops.zeros_like(x[:, 0, :1]) + ops.zeros((4,)) for _ in made.state_names)
        )

    loop, rng = compiled(run), np.random.default_rng(0)
    for steps in (2, 3, 5, 7):  # with every new length the shapes become freer
        x = rng.normal(size=(2, steps, 3)).astype(np.float32)
        np.testing.assert_allclose(np.asarray(loop(ops.convert_to_tensor(x))), np.asarray(run(x)), atol=1e-6)


def test_the_backward_reader_reads_backwards():
    from captioner.translation.config import SentenceEncoderConfig
    from captioner.translation.network import SentenceEncoder

    encoder = SentenceEncoder(SentenceEncoderConfig("lstm", 3), 2)
    keras.utils.set_random_seed(0)
    words = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)
    changed = words.copy()
    changed[0, 3] += 1
    before, after = np.asarray(encoder(words))[0], np.asarray(encoder(changed))[0]
    differs = np.abs(before - after).max(axis=1, where=True, initial=0) > 0
    assert differs.all()
    assert (before[:3, :3] == after[:3, :3]).all() and (before[4:, 3:] == after[4:, 3:]).all()
