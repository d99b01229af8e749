"""Both runtimes against each other, on random weights; and what the fast one must not import."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from captioner.errors import CaptionerError, ModelLoadError
from captioner.models.runtime import Features, KerasRuntime, OpenVinoRuntime, make_runtime, open_runtime
from captioner.models.saving import read_model, save_model
from captioner.models.search import SearchOptions, search

SIZE = 65  # odd: SAME padding differs between the sides


def random_weights(model, part, seed):
    """Weights without structure that keep activations in range: also scales, offsets and statistics are random."""
    from captioner.models.saving import named_weights

    rng = np.random.default_rng(seed)
    weights = {}
    for name, value in named_weights(model, part).items():
        name = name.split("/", 1)[1]
        if name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, value.shape)
        elif name.endswith("depthwise_conv/kernel"):
            value = rng.normal(0, 1 / value.shape[0], value.shape)
        elif value.ndim > 1:
            value = rng.normal(0, 1.4 / np.sqrt(value.size / value.shape[-1]), value.shape)
        else:
            value = rng.normal(0, 0.3, value.shape)
        weights[name] = value.astype(np.float32)
    return weights


def encoder_parts(name="lite0", size=SIZE):
    from captioner.models.encoder import EncoderConfig, build_encoder

    config = EncoderConfig(name, size)
    return config.to_dict(), random_weights(build_encoder(config), "encoder", 1)


def decoder_parts(**sizes):
    from captioner.captions.decoder import Decoder, DecoderConfig

    config = DecoderConfig(
        **{"vocabulary_size": 40, "units": 24, "embedding_units": 12, "memory_units": 16, "heads": 4, **sizes}
    )
    return config.to_dict(), random_weights(Decoder(config), "decoder", 2)


def photos(n, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def parts():
    return *encoder_parts(), *decoder_parts()


@pytest.fixture(scope="module")
def fast(parts):
    return make_runtime(*parts, precision="f32", threads=2)


@pytest.fixture(scope="module")
def reference(parts):
    return make_runtime(*parts, runtime="keras")


def captions(runtime, features, options=None):
    state, memory = runtime.initial_state(features)
    options = options or SearchOptions(max_length=8)
    found = search(runtime.step, state, memory, options, start=1, end=2, forbidden=(0, 1, 3))
    return [hypotheses[0] for hypotheses in found]


@pytest.mark.parametrize(("name", "size"), [("lite0", 64), ("lite1", 65), ("lite2", 66)])
def test_encoder_graph_equals_keras(name, size):
    config, weights = encoder_parts(name, size)
    images = photos(3, size)
    expected = make_runtime(config, weights, runtime="keras").encode(images)
    found = make_runtime(config, weights, runtime="openvino", precision="f32").encode(images)
    for part in ("grid", "pooled", "class_scores"):
        a, b = getattr(expected, part), getattr(found, part)
        assert a.shape == b.shape and a.dtype == b.dtype == np.float32
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(b, a, atol=2e-4 * np.abs(a).max())


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_decoder_graphs_equal_keras(cell, parts):
    config, weights = decoder_parts(cell=cell, grid_channels=10)
    expected = make_runtime(*parts[:2], config, weights, runtime="keras")
    found = make_runtime(*parts[:2], config, weights, runtime="openvino", precision="f32")
    rng = np.random.default_rng(3)
    features = Features(rng.normal(size=(4, 9, 10)).astype(np.float32), *np.zeros((2, 4, 1), np.float32))
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
    images = photos(6)
    for options in (SearchOptions(max_length=8), SearchOptions(strategy="greedy"), SearchOptions(strategy="sample")):
        expected = captions(reference, reference.encode(images), options)
        found = captions(fast, fast.encode(images), options)
        assert [h.tokens for h in expected] == [h.tokens for h in found]
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b.logprobs, a.logprobs, atol=1e-3)
            np.testing.assert_allclose(b.attention, a.attention, atol=1e-4)


@pytest.mark.parametrize("which", ["fast", "reference"])
def test_results_do_not_depend_on_the_batch(which, request):
    runtime = request.getfixturevalue(which)
    images = photos(19)
    together = runtime.encode(images)
    alone = Features.concatenate([runtime.encode(images[i : i + 1]) for i in range(len(images))])
    for part in ("grid", "pooled", "class_scores"):
        np.testing.assert_allclose(getattr(together, part), getattr(alone, part), atol=1e-4)
    assert len(together) == 19 and together.grid.shape == (19, 9, 1280)
    some = captions(runtime, together[3:5])
    assert [h.tokens for h in some] == [h.tokens for h in captions(runtime, together)[3:5]]


def test_different_photos_have_different_features_and_order_is_kept(fast):
    images = photos(7)
    forwards, backwards = fast.encode(images).pooled, fast.encode(images[::-1]).pooled
    np.testing.assert_array_equal(forwards, backwards[::-1])
    assert min(np.abs(forwards[i] - forwards[j]).max() for i in range(7) for j in range(i)) > 1e-3


@pytest.mark.parametrize("which", ["fast", "reference"])
def test_no_images(which, request):
    runtime = request.getfixturevalue(which)
    features = runtime.encode(photos(0))
    assert features.grid.shape == (0, 9, 1280) and features.class_scores.shape == (0, 1000)


def test_several_threads_at_once(fast):
    batches = [photos(4, seed=seed) for seed in range(6)]
    expected = [[h.tokens for h in captions(fast, fast.encode(batch))] for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            found = pool.map(lambda batch: [h.tokens for h in captions(fast, fast.encode(batch))], batches)
            assert list(found) == expected


def test_bfloat16_is_close(parts):
    runtime = make_runtime(*parts, precision="bf16")
    assert runtime.precision == "bf16"
    images = photos(4)
    exact, rough = make_runtime(*parts, precision="f32").encode(images).pooled, runtime.encode(images).pooled
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.99).all()
    features = runtime.encode(photos(9))
    alone = [captions(runtime, features[i : i + 1])[0].tokens for i in range(9)]
    assert [h.tokens for h in captions(runtime, features)] == alone


def test_ranges_are_those_of_the_activations(parts):
    import openvino as ov

    from captioner.models.openvino_graphs import encoder_graph, input_ranges

    images = photos(3)
    ranges = input_ranges("lite0", SIZE, parts[1], images)
    assert len(ranges) == sum(name.endswith("/kernel") for name in parts[1]) - 1  # all but the classifier
    pixels = (images.astype(np.float64) - 127) / 128
    extremes = pixels.min(axis=(1, 2, 3)).mean(), pixels.max(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(ranges["conv_stem"], extremes, atol=1e-6)
    block = ov.Core().compile_model(encoder_graph("lite0", SIZE, parts[1], end=3), "CPU")
    seen = np.stack([next(iter(block([image[None]]).values())) for image in images])
    extremes = seen.min(axis=(1, 2, 3, 4)).mean(), seen.max(axis=(1, 2, 3, 4)).mean()
    np.testing.assert_allclose(ranges["blocks_2_expand_conv"], extremes, rtol=0.02)


def test_8_bit_integers_are_close(parts):
    from captioner.models.openvino_graphs import input_ranges

    ranges = input_ranges("lite0", SIZE, parts[1], photos(8, seed=1))
    runtime = make_runtime(*parts, precision="int8", ranges=ranges)
    assert runtime.precision == "int8"
    images = photos(4)
    exact, rough = make_runtime(*parts, precision="f32").encode(images).pooled, runtime.encode(images).pooled
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.97).all() and (exact != rough).mean() > 0.5
    features = runtime.encode(photos(9))
    alone = [captions(runtime, features[i : i + 1])[0].tokens for i in range(9)]
    assert [h.tokens for h in captions(runtime, features)] == alone
    with pytest.raises(CaptionerError, match="no ranges of its activations") as error:
        make_runtime(*parts, precision="int8")
    assert error.value.kind == "usage"


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"conv_head": [1]}', '{"conv_head": [1, 1]}', '{"conv_head": [0, Infinity]}']
)
def test_damaged_ranges_are_named(parts, tmp_path, text):
    weights = {f"encoder/{name}": value for name, value in parts[1].items()}
    weights |= {f"decoder/{name}": value for name, value in parts[3].items()}
    texts = {"tokenizer.json": "{}", "ranges.json": text}
    config = {"encoder": parts[0], "decoder": parts[2]}
    save_model(tmp_path / "model", kind="captioner", config=config, weights=weights, texts=texts, metadata={}, card="")
    with pytest.raises(ModelLoadError, match=r"ranges\.json: not a table of ranges"):
        open_runtime(read_model(tmp_path / "model"))


def test_an_encoder_in_two_parts_equals_the_whole(parts):
    import openvino as ov

    from captioner.models.openvino_graphs import encoder_graph

    core = ov.Core()

    def run(inputs, **layers):
        model = encoder_graph("lite0", SIZE, parts[1], **layers)
        return list(core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([inputs]).values())

    whole = run(photos(1))
    for cut in (1, 2, 3, 16):
        for a, b in zip(whole, run(run(photos(1), end=cut)[0], begin=cut), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_choice_of_the_runtime(parts):
    assert isinstance(make_runtime(*parts), OpenVinoRuntime)
    assert isinstance(make_runtime(*parts, runtime="keras"), KerasRuntime)
    assert make_runtime(*parts).image_size == SIZE
    assert make_runtime(*parts[:2]).encode(photos(1)).pooled.shape == (1, 1280)  # an encoder alone
    for bad in ({"runtime": "magic"}, {"precision": "f64"}, {"threads": 0}, {"runtime": "keras", "precision": "bf16"}):
        with pytest.raises(CaptionerError) as error:
            make_runtime(*parts, **bad)
        assert error.value.kind == "usage"
    with pytest.raises(CaptionerError, match="does not know the encoder 'MobileNetV2'"):
        make_runtime({"name": "MobileNetV2", "image_size": 64}, {}, runtime="openvino")


@pytest.fixture
def folder(parts, tmp_path):
    """Writes a model folder, its config or weights changed by a function."""

    def write(change=lambda config, weights: None):
        encoder_config, encoder_weights, decoder_config, decoder_weights = parts
        config = {"encoder": dict(encoder_config), "decoder": dict(decoder_config)}
        weights = {f"encoder/{name}": value for name, value in encoder_weights.items()}
        weights |= {f"decoder/{name}": value for name, value in decoder_weights.items()}
        change(config, weights)
        texts = {"tokenizer.json": "{}"}
        return save_model(
            tmp_path / "tiny", kind="captioner", config=config, weights=weights, texts=texts, metadata={}, card=""
        )

    return write


@pytest.mark.parametrize("name", ["openvino", "keras"])
def test_a_saved_model(folder, name):
    runtime = open_runtime(read_model(folder()), runtime=name)
    assert (runtime.name, runtime.image_size, runtime.positions, runtime.vocabulary_size) == (name, SIZE, 9, 40)
    assert len(captions(runtime, runtime.encode(photos(2)))) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config, weights: weights.pop("encoder/conv_head/beta"), "lacks conv_head/beta"),
        (lambda config, weights: weights.pop("decoder/cell/bias"), "lacks cell/bias"),
        (lambda config, weights: weights.update({"encoder/blocks_99/kernel": np.ones(3)}), "blocks_99"),
        (lambda config, weights: weights.update({"decoder/cell/extra": np.ones(3)}), "cell/extra"),
        (lambda config, weights: config["decoder"].update(units=32), "weights.npz|config.json"),
        (lambda config, weights: config["decoder"].update(vocabulary_size=41), "weights.npz|config.json"),
        (lambda config, weights: config["encoder"].update(name="lite1"), "weights.npz lacks"),
        (lambda config, weights: config.pop("decoder"), "config.json"),
        (lambda config, weights: config["encoder"].pop("image_size"), "config.json"),
    ],
)
def test_a_damaged_model_is_refused(folder, change, words):
    path = folder(change)
    with pytest.raises(ModelLoadError, match=words) as error:
        open_runtime(read_model(path))
    assert "tiny" in str(error.value)


def test_application_encoders_run_on_keras():
    from captioner.models.encoder import EncoderConfig, build_encoder

    runtime = KerasRuntime(build_encoder(EncoderConfig("MobileNetV2", 64)))
    assert runtime.encode(photos(2, 64)).grid.shape == (2, 4, 1280)


def test_inference_imports_neither_tensorflow_nor_keras(parts, tmp_path):
    encoder_config, encoder_weights, decoder_config, decoder_weights = parts
    np.savez(tmp_path / "encoder.npz", **encoder_weights)
    np.savez(tmp_path / "decoder.npz", **decoder_weights)
    code = f"""
import sys
import numpy as np
from captioner.models.runtime import make_runtime
from captioner.models.search import SearchOptions, search
runtime = make_runtime({encoder_config}, dict(np.load("encoder.npz")), {decoder_config}, dict(np.load("decoder.npz")))
state, memory = runtime.initial_state(runtime.encode(np.zeros((2, {SIZE}, {SIZE}, 3), np.uint8)))
assert len(search(runtime.step, state, memory, SearchOptions(), start=1, end=2)) == 2
found = {{"tensorflow", "keras", "torch", "jax"}} & set(sys.modules)
sys.exit(f"imported: {{found}}" if found else 0)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_shipped_model_says_the_same_on_both_runtimes():
    import captioner

    data = pytest.importorskip("skimage.data")
    photographs = [getattr(data, name)() for name in ("chelsea", "coffee", "astronaut", "rocket")]
    photographs += [photo[40:260, 60:] for photo in photographs] + [photo[:, ::-1] for photo in photographs]
    if "flickr8k" not in captioner.list_models():
        pytest.skip("this checkout has no shipped model")
    expected, exact, rough, integers = (
        [caption.text for caption in captioner.load(runtime=runtime, precision=precision).caption(photographs)]
        for runtime, precision in (("keras", "f32"), ("openvino", "f32"), ("openvino", "bf16"), ("openvino", "int8"))
    )
    assert exact == expected
    assert sum(a == b for a, b in zip(rough, expected, strict=True)) >= 8  # of 12; 95 % of the dev photos
    assert sum(a == b for a, b in zip(integers, expected, strict=True)) >= 6
