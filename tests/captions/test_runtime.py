"""Both runtimes against each other, on random weights."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import SIZE, decoder_parts, encoder_parts, random_photos

from captioner.captions.runtime import KerasRuntime, OpenVinoRuntime, make_runtime, open_runtime
from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.encoder_graph import input_ranges
from captioner.models.runtime import Features
from captioner.models.saving import Arrays, read_model, save_model
from captioner.models.search import SearchOptions, search


@pytest.fixture(scope="module")
def parts():
    return *encoder_parts(), *decoder_parts()


@pytest.fixture(scope="module")
def fast(parts):
    return make_runtime(*parts, precision="f32", threads=2)


@pytest.fixture(scope="module")
def reference(parts):
    return make_runtime(*parts, runtime="keras")


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """The runtimes' model in a folder."""
    encoder_config, encoder_weights, decoder_config, decoder_weights = parts
    weights = {f"encoder/{name}": value for name, value in encoder_weights.items()}
    weights |= {f"decoder/{name}": value for name, value in decoder_weights.items()}
    return save_model(
        tmp_path_factory.mktemp("model") / "tiny", kind="captioner",
        config={"encoder": encoder_config, "decoder": decoder_config}, weights=weights,
        texts={"tokenizer.json": "{}"}, metadata={}, card="",
    )  # fmt: skip


def captions(runtime, features, options=None):
    state, memory = runtime.initial_state(features)
    options = options or SearchOptions(max_length=8)
    found = search(runtime.step, state, memory, options, start=1, end=2, forbidden=(0, 1, 3))
    return [hypotheses[0] for hypotheses in found]


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_decoder_graphs_equal_keras(cell, parts):
    config, weights = decoder_parts(cell=cell)
    expected = make_runtime(*parts[:2], config, weights, runtime="keras")
    found = make_runtime(*parts[:2], config, weights, runtime="openvino", precision="f32")
    rng = np.random.default_rng(3)
    # as many small ones as the encoder gives, so that the decoder is driven as hard as by a few large ones
    grid = rng.normal(0, 0.1, (4, 9, 1280)).astype(np.float32)
    features = Features(grid, grid.mean(axis=1))
    (a, a_memory), (b, b_memory) = expected.initial_state(features), found.initial_state(features)
    for beams in (1, 3, 3):
        if beams > len(a[0]) // 4:
            a, b = ([np.repeat(part, beams, axis=0) for part in state] for state in (a, b))
        tokens = rng.integers(0, 40, 4 * beams).astype(np.int32)
        a_logits, a, a_look = expected.step(tokens, tuple(a), a_memory)
        b_logits, b, b_look = found.step(tokens, tuple(b), b_memory)
        b = [part.copy() for part in b]
        assert b_logits.shape == (4 * beams, 40) and b_look.shape == (4 * beams, 9)
        assert np.std(a_logits) > 0.1 and np.std(a_look) > 1e-3
        for x, y in zip([a_logits, *a, a_look], [b_logits, *b, b_look], strict=True):
            np.testing.assert_allclose(y, x, atol=1e-5)
        np.testing.assert_allclose(b_look.sum(axis=1), 1, atol=1e-5)


def test_captions_are_the_same(fast, reference):
    images = random_photos(6)
    for options in (SearchOptions(max_length=8), SearchOptions(strategy="greedy"), SearchOptions(strategy="sample")):
        expected = captions(reference, reference.encode(images), options)
        found = captions(fast, fast.encode(images), options)
        assert [h.tokens for h in expected] == [h.tokens for h in found]
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b.logprobs, a.logprobs, atol=1e-3)
            np.testing.assert_allclose(b.attention, a.attention, atol=1e-4)


def test_captions_are_those_of_earlier_versions(fast):
    """Whatever is moved or made faster, the same weights and photos give the same words, as likely as before."""
    found = captions(fast, fast.encode(random_photos(4)))
    assert [one.tokens for one in found] == [(26, 33) * 4] * 4
    np.testing.assert_allclose([one.score for one in found], [-2.7886, -2.9626, -2.8425, -2.6947], atol=2e-3)


@pytest.mark.parametrize("which", ["fast", "reference"])
def test_results_do_not_depend_on_the_batch(which, request):
    runtime = request.getfixturevalue(which)
    images = random_photos(19)
    together = runtime.encode(images)
    alone = Features.concatenate([runtime.encode(images[i : i + 1]) for i in range(len(images))])
    for part in ("grid", "pooled"):
        np.testing.assert_allclose(getattr(together, part), getattr(alone, part), atol=1e-4)
    assert len(together) == 19 and together.grid.shape == (19, 9, 1280)
    some = captions(runtime, together[3:5])
    assert [h.tokens for h in some] == [h.tokens for h in captions(runtime, together)[3:5]]


def test_several_threads_at_once(fast):
    batches = [random_photos(4, seed=seed) for seed in range(6)]
    expected = [[h.tokens for h in captions(fast, fast.encode(batch))] for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            found = pool.map(lambda batch: [h.tokens for h in captions(fast, fast.encode(batch))], batches)
            assert list(found) == expected


def test_bfloat16_is_close(parts, fast):
    runtime = make_runtime(*parts, precision="bf16")
    assert runtime.precision == "bf16"
    images = random_photos(4)
    exact, rough = fast.encode(images).pooled, runtime.encode(images).pooled
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.99).all()
    features = runtime.encode(random_photos(9))
    alone = [captions(runtime, features[i : i + 1])[0].tokens for i in range(9)]
    assert [h.tokens for h in captions(runtime, features)] == alone


def test_8_bit_integers_are_close(parts, fast):
    ranges = input_ranges("lite0", SIZE, parts[1], random_photos(8, seed=1))
    runtime = make_runtime(*parts, precision="int8", ranges=ranges)
    assert runtime.precision == "int8"
    images = random_photos(4)
    exact, rough = fast.encode(images).pooled, runtime.encode(images).pooled
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.97).all() and (exact != rough).mean() > 0.5
    features = runtime.encode(random_photos(9))
    alone = [captions(runtime, features[i : i + 1])[0].tokens for i in range(9)]
    assert [h.tokens for h in captions(runtime, features)] == alone
    with pytest.raises(CaptionerError, match="no ranges of its activations") as error:
        make_runtime(*parts, precision="int8")
    assert error.value.kind == "usage"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"conv_head": [1]}',
        '{"conv_head": [1, 1]}',
        '{"conv_head": [0, Infinity]}',
        '{"x": [0, "1"]}',
        '{"x": [0, 1e300]}',
    ],
)
def test_damaged_ranges_are_named(whole, text):
    saved = read_model(whole)
    with pytest.raises(ModelLoadError, match=r"ranges\.json: .*; get the folder again"):
        open_runtime(replace(saved, texts={**saved.texts, "ranges.json": text}))


def test_choice_of_the_runtime(parts):
    assert isinstance(make_runtime(*parts), OpenVinoRuntime)
    assert isinstance(make_runtime(*parts, runtime="keras"), KerasRuntime)
    assert make_runtime(*parts).image_size == SIZE
    for bad in ({"runtime": "magic"}, {"precision": "f64"}, {"threads": 0}, {"runtime": "keras", "precision": "bf16"}):
        with pytest.raises(CaptionerError) as error:
            make_runtime(*parts, **bad)
        assert error.value.kind == "usage"
    with pytest.raises(CaptionerError, match="does not know the encoder 'MobileNetV2'"):
        make_runtime({"name": "MobileNetV2", "image_size": 64}, {}, *parts[2:], runtime="openvino")


@pytest.mark.parametrize("name", ["openvino", "keras"])
def test_a_saved_model(whole, name):
    runtime = open_runtime(read_model(whole), runtime=name)
    assert (runtime.name, runtime.image_size, runtime.positions, runtime.vocabulary_size) == (name, SIZE, 9, 40)
    assert len(captions(runtime, runtime.encode(random_photos(2)))) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config, weights: weights.pop("encoder/conv_head/beta"), "lacks conv_head/beta"),
        (lambda config, weights: weights.pop("decoder/cell/bias"), "lacks cell/bias"),
        (lambda config, weights: weights.update({"encoder/blocks_99/kernel": np.ones(3)}), "blocks_99"),
        (lambda config, weights: weights.update({"decoder/cell/extra": np.ones(3)}), "cell/extra"),
        (lambda config, weights: config["decoder"].update(units=32), "config.json asks for"),
        (lambda config, weights: config["decoder"].update(vocabulary_size=41), "config.json asks for"),
        (lambda config, weights: config["encoder"].update(name="lite1"), "weights.npz lacks|config.json asks for"),
        (lambda config, weights: config["decoder"].update(heads=0), r"config.json: decoder\.heads must be"),
        (lambda config, weights: config["decoder"].update(heads="x"), r"config.json: decoder\.heads must be"),
        (lambda config, weights: config["decoder"].update(heads=3), "multiple of heads"),
        (lambda config, weights: config["decoder"].update(cell="transformer"), r"decoder\.cell has the unknown value"),
        (lambda config, weights: config["decoder"].update(units=10**9), r"config.json: decoder\.units must be"),
        (lambda config, weights: config["decoder"].update(vocabulary_size=32000, units=4096), "too large together"),
        (lambda config, weights: config["decoder"].update(grid_channels=64), "grid_channels must be 1280"),
        (lambda config, weights: config["decoder"].update(wings=2), r"decoder\.wings is a setting"),
        (lambda config, weights: config["encoder"].update(image_size=None), "image_size"),
        (lambda config, weights: config["encoder"].update(image_size=10**6), r"encoder\.image_size must be"),
        (lambda config, weights: config["encoder"].update(name=[]), r"encoder\.name must be text"),
        (lambda config, weights: config.update(search={"beam_size": 5000}), r"search\.beam_size must be"),
        (lambda config, weights: config.update(grounding={}), "grounding is a setting that this version does not know"),
        (lambda config, weights: config.update(calibration={"slope": 1e300}), r"calibration\.slope must be"),
        (lambda config, weights: config.pop("decoder"), "config.json"),
        (lambda config, weights: config["encoder"].pop("image_size"), "config.json"),
    ],
)
def test_a_damaged_model_is_refused(whole, change, words):
    saved = read_model(whole)
    config, weights = copy.deepcopy(saved.config), dict.fromkeys(saved.arrays.shapes)
    change(config, weights)
    file = io.BytesIO()
    np.savez(file, **{name: saved.arrays.unpack(name) if value is None else value for name, value in weights.items()})
    arrays = Arrays(file.getvalue(), saved.path("weights.npz"), "encoder|decoder")
    with pytest.raises(ModelLoadError, match=words) as error:
        open_runtime(replace(saved, config=config, arrays=arrays))
    assert "tiny" in str(error.value)


def test_the_shipped_model_says_the_same_on_both_runtimes():
    import captioner

    data = pytest.importorskip("skimage.data")
    photographs = [getattr(data, name)() for name in ("chelsea", "coffee", "astronaut", "rocket")]
    photographs += [photo[40:260, 60:] for photo in photographs] + [photo[:, ::-1] for photo in photographs]
    if "photos" not in captioner.list_models():
        pytest.skip("this checkout has no shipped model")
    expected, exact, rough, integers = (
        [caption.text for caption in captioner.load(runtime=runtime, precision=precision).caption(photographs)]
        for runtime, precision in (("keras", "f32"), ("openvino", "f32"), ("openvino", "bf16"), ("openvino", "int8"))
    )
    assert exact == expected
    assert sum(a == b for a, b in zip(rough, expected, strict=True)) >= 8  # of 12; 95 % of the dev photos
    assert sum(a == b for a, b in zip(integers, expected, strict=True)) >= 6
