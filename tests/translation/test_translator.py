"""Translators with random weights: how they say it, not what."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from tiny_models import make_translator

import captioner
from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.recurrent import CELLS
from captioner.models.saving import read_model
from captioner.models.search import SearchOptions
from captioner.translation.graphs import read_graph

TEXTS = ["Two dogs play in the water.", "", "A girl", "A man rides a red bike in the red water.", "A girl."]


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    return captioner.load(make_translator(tmp_path_factory.mktemp("models") / "tiny"), precision="f32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_step(cell, w, x, state):
    """One step for one sentence."""
    a, b = x @ w["kernel"] + w["bias"], state[0] @ w["recurrent_kernel"]
    n = len(state[0])
    if cell == "simple_rnn":
        return [np.tanh(a + b)]
    if cell == "gru":
        b = b + w["recurrent_bias"]
        z, r = sigmoid(a[:n] + b[:n]), sigmoid(a[n : 2 * n] + b[n : 2 * n])
        return [z * state[0] + (1 - z) * np.tanh(a[2 * n :] + r * b[2 * n :])]
    i, f, g, o = (a + b).reshape(4, n)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


@pytest.mark.parametrize("cell", CELLS)
def test_reading_against_numpy(cell, tmp_path):
    saved = read_model(make_translator(tmp_path / "tiny", cell=cell))
    encoder, embeddings = saved.part("encoder"), saved.part("decoder")["embedding/embeddings"]
    tokens = np.array([[5, 80, 300], [7, 7, 2]], np.int32)
    graph = ov.Core().compile_model(
        read_graph(saved.config["encoder"], encoder, embeddings), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for row, found in zip(tokens, graph(tokens)["grid"], strict=True):
        words, both = embeddings[row] * np.sqrt(8), []
        for direction, order in (("forward", 1), ("backward", -1)):
            w = {name.split("/")[1]: value for name, value in encoder.items() if name.startswith(direction)}
            state, outputs = [np.zeros(5)] * 2, []
            for x in words[::order]:
                state = slow_step(cell, w, x, state)
                outputs.append(state[0])
            both.append(np.array(outputs[::order]))
        np.testing.assert_allclose(found, np.concatenate(both, axis=1), atol=2e-5)


def test_one_by_one_as_together_and_in_order(translator):
    together = translator.translate(TEXTS, "de")
    assert [one.source for one in together] == TEXTS
    for text, one in zip(TEXTS, together, strict=True):
        alone = translator.translate(text, "de")
        assert (alone.text, alone.language) == (one.text, "de")
        assert alone.score == pytest.approx(one.score, abs=1e-5)
    assert translator.translate([], "de") == []


def test_nothing_stays_nothing(translator):
    for text in ("", "  \t"):
        empty = translator.translate(text, "fr")
        assert (empty.text, empty.words, empty.source_words) == ("", (), ())


def test_words_say_where_they_come_from(translator):
    one = translator.translate("Two dogs play in the water. A girl", "de")
    assert " ".join(word.text for word in one.words) == one.text
    assert one.source_words == ("Two", "dogs", "play", "in", "the", "water.", "A", "girl")
    maps = np.array([word.attention for word in one.words])
    assert maps.shape == (len(one.words), 8)
    np.testing.assert_allclose(maps.sum(axis=1), 1, atol=1e-5)
    first = len(translator.translate("Two dogs play in the water.", "de").words)
    assert (maps[:first, 6:] == 0).all() and (maps[first:, :6] == 0).all()  # every sentence for itself


def test_languages_do_not_mix(translator):
    written = set("".join(piece for piece in translator.translate(TEXTS[0], "de", max_length=30).text))
    assert not written & set("éô'")  # what French alone has
    with pytest.raises(CaptionerError, match=r"unknown language 'es'.*de, fr"):
        translator.translate("A dog", "es")
    with pytest.raises(CaptionerError, match=r"unknown language 'en'.*de, fr"):
        translator.translate([], "en")


@pytest.mark.parametrize("beam_size", [1, 3])
def test_words_that_were_never_read_are_kept(translator, beam_size):
    text = "Zaphod rides the water in 日本 in Q-7."
    found = translator.translate([text, TEXTS[0]], "de", beam_size=beam_size)[0]
    for word in ("Zaphod", "日本", "Q-7"):
        assert found.text.count(word) == 1, found.text
    assert found.source_words[0] == "Zaphod"


def test_the_beam_finds_what_trying_all_finds(translator):
    """All translations of at most two pieces, each with its end; the beam is wide enough for nearly all of them."""
    runtime, subwords = translator._runtime, translator._subwords
    source = subwords.encode("A girl")
    options = SearchOptions(beam_size=1024, max_length=2, length_penalty=0.7, repeat_words=True)
    [[found]] = runtime.translate([source], "de", options)
    step, written = runtime._step_of("de"), subwords.written["de"]
    parts = [np.array(one) for one in runtime._start(runtime._read(np.array([source], np.int32))[0])]
    words = np.arange(2 + len(subwords.slots), len(written))

    def after(tokens, state):
        """Log-probabilities (rows, words and last the end) after tokens (rows,), and the next state."""
        logits, state, _ = step(tokens.astype(np.int32), state, tuple(parts[-3:]))
        rated = np.concatenate([logits[:, words], logits[:, 1:2]], axis=1).astype(np.float64)
        return rated - np.log(np.exp(rated).sum(axis=1, keepdims=True)), [np.array(part) for part in state]

    first, state = after(np.zeros(1), parts[:-3])
    second, state = after(words, [np.repeat(part, len(words), axis=0) for part in state])
    third, _ = after(np.tile(words, len(words)), [np.repeat(part, len(words), axis=0) for part in state])
    one = (first[0, :-1] + second[:, -1]) / 2**0.7
    two = (first[0, :-1, None] + second[:, :-1] + third[:, -1].reshape(len(words), -1)) / 3**0.7
    place = np.unravel_index(two.argmax(), two.shape) if two.max() > one.max() else [one.argmax()]
    assert found.score == pytest.approx(max(one.max(), two.max()), abs=1e-4)
    assert tuple(found.tokens) == tuple(written[words[list(place)]])


def test_settings_that_make_no_sense(translator, tmp_path, tiny_captioner):
    folder = make_translator(tmp_path / "tiny")
    for settings, said in (({"runtime": "keras"}, "openvino"), ({"precision": "int8"}, "f32"), ({"threads": 0}, "1")):
        with pytest.raises(CaptionerError, match=said):
            captioner.load(folder, **settings)
    with pytest.raises(CaptionerError, match="unknown option 'beam'"):
        translator.translate("A dog", "de", beam=3)
    with pytest.raises(ModelLoadError, match="is a captioner, not a translator"):
        captioner.Translator.open(read_model(tiny_captioner))
