"""Both runtimes of the encoder against each other, on random weights."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from tiny_models import SIZE, encoder_parts, random_photos

from captioner.models.encoder_graph import encoder_graph, input_ranges
from captioner.models.runtime import KerasEncoder, OpenVinoEncoder, make_encoder


@pytest.fixture(scope="module")
def parts():
    return encoder_parts()


@pytest.fixture(scope="module")
def fast(parts):
    return make_encoder(*parts, precision="f32", threads=2)


@pytest.fixture(scope="module")
def reference(parts):
    return make_encoder(*parts, runtime="keras")


def test_choice_of_the_runtime(fast, reference):
    assert isinstance(fast, OpenVinoEncoder) and isinstance(reference, KerasEncoder)
    assert fast.image_size == reference.image_size == SIZE and fast.positions == reference.positions == 9


@pytest.mark.parametrize(("name", "size"), [("lite0", 64), ("lite1", 65), ("lite2", 66)])
def test_encoder_graph_equals_keras(name, size):
    config, weights = encoder_parts(name, size)
    images = random_photos(3, size)
    expected = make_encoder(config, weights, runtime="keras").encode(images)
    found = make_encoder(config, weights, runtime="openvino", precision="f32").encode(images)
    for part in ("grid", "pooled"):
        a, b = getattr(expected, part), getattr(found, part)
        assert a.shape == b.shape and a.dtype == b.dtype == np.float32
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(b, a, atol=2e-4 * np.abs(a).max())


def test_different_photos_have_different_features_and_order_is_kept(fast):
    images = random_photos(7)
    forwards, backwards = fast.encode(images).pooled, fast.encode(images[::-1]).pooled
    np.testing.assert_array_equal(forwards, backwards[::-1])
    assert min(np.abs(forwards[i] - forwards[j]).max() for i in range(7) for j in range(i)) > 1e-3


@pytest.mark.parametrize("which", ["fast", "reference"])
def test_no_images(which, request):
    encoder = request.getfixturevalue(which)
    features = encoder.encode(random_photos(0))
    assert features.grid.shape == (0, 9, 1280) and features.pooled.shape == (0, 1280)


def test_ranges_are_those_of_the_activations(parts):
    images = random_photos(3)
    ranges = input_ranges("lite0", SIZE, parts[1], images)
    assert len(ranges) == sum(name.endswith("/kernel") for name in parts[1])
    pixels = (images.astype(np.float64) - 127) / 128
    extremes = pixels.min(axis=(1, 2, 3)).mean(), pixels.max(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(ranges["conv_stem"], extremes, atol=1e-6)
    block = ov.Core().compile_model(encoder_graph("lite0", SIZE, parts[1], end=3), "CPU")
    seen = np.stack([next(iter(block([image[None]]).values())) for image in images])
    extremes = seen.min(axis=(1, 2, 3, 4)).mean(), seen.max(axis=(1, 2, 3, 4)).mean()
    np.testing.assert_allclose(ranges["blocks_2_expand_conv"], extremes, rtol=0.02)


def test_an_encoder_in_two_parts_equals_the_whole(parts):
    core = ov.Core()

    def run(inputs, **layers):
        model = encoder_graph("lite0", SIZE, parts[1], **layers)
        return list(core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([inputs]).values())

    whole = run(random_photos(1))
    for cut in (1, 2, 3, 16):
        for a, b in zip(whole, run(run(random_photos(1), end=cut)[0], begin=cut), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_application_encoders_run_on_keras():
    from captioner.models.encoder import EncoderConfig, build_encoder

    encoder = KerasEncoder(build_encoder(EncoderConfig("MobileNetV2", 64)))
    assert encoder.encode(random_photos(2, 64)).grid.shape == (2, 4, 1280)
