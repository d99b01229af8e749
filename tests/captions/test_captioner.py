"""Images to captions through the public API: a tiny model with random weights, and the shipped one if it is there."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import captioner
from captioner.captions.captioner import ImageCaptioner
from captioner.errors import CaptionerError, ImageReadError, ModelLoadError
from captioner.evaluation.scoring import own_style
from captioner.media.images import read_image
from captioner.models.runtime import Features
from captioner.models.saving import SHIPPED, read_model, save_model
from captioner.models.tokenizer import Tokenizer, join_words


@pytest.fixture(scope="module")
def model(tiny_captioner):
    return captioner.load(tiny_captioner, precision="f32")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five photos of noise in different colours."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(5):
        tint = rng.integers(0, 256, 3)
        noise = rng.integers(0, 256, (70, 90, 3))
        paths.append(folder / f"{number}.png")
        Image.fromarray(((noise + 2 * tint) // 3).astype(np.uint8)).save(paths[-1])
    return paths


def same(one, other):
    assert one.text == other.text and one.finished == other.finished
    assert one.score == pytest.approx(other.score, abs=1e-4)
    assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_one_in_one_out_and_a_list_for_a_list(model, photos):
    one = model.caption(photos[0])
    assert isinstance(one, captioner.Caption)
    many = model.caption(photos)
    assert isinstance(many, list) and len(many) == 5
    same(one, many[0])
    (single,) = model.caption([photos[0]])
    same(one, single)
    same(one, model.caption((photos[0],))[0])
    assert model.caption([]) == []


def test_the_order_is_kept(model, photos):
    forwards, backwards = model.caption(photos), model.caption(photos[::-1])
    assert len({caption.text for caption in forwards}) > 1
    for one, other in zip(forwards, backwards[::-1], strict=True):
        same(one, other)
    repeated = model.caption([photos[3], photos[1], photos[3]])
    same(repeated[0], repeated[2])
    same(repeated[1], forwards[1])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_results_do_not_depend_on_the_batch(model, photos, batch_size):
    for one, other in zip(model.caption(photos), model.caption(photos, batch_size=batch_size), strict=True):
        same(one, other)


def test_everything_that_is_an_image(model, photos):
    expected = model.caption(photos[0])
    picture = Image.open(photos[0])
    for image in (
        str(photos[0]),
        photos[0].read_bytes(),
        io.BytesIO(photos[0].read_bytes()),
        picture,
        np.asarray(picture),
        np.asarray(picture).astype(np.float32) / 255,
    ):
        same(model.caption(image), expected)


def test_what_a_caption_says(model, photos):
    for caption in model.caption(photos, max_length=8):
        words = [word.text for word in caption.words]
        assert 1 <= len(words) <= 8 and set(words) <= set(model.tokenizer.words[4:])
        assert caption.text == join_words(words) == caption.text.lower()
        assert str(caption) == caption.text[0].upper() + caption.text[1:] + "."
        assert all(
            word.logprob <= 0 and word.probability == pytest.approx(math.exp(word.logprob)) for word in caption.words
        )
        assert 0 < caption.confidence <= 1 and caption.score < 0 and caption.model == "tiny"
        record = json.loads(json.dumps(caption.to_dict()))
        assert record["caption"] == caption.text and [word["word"] for word in record["words"]] == words


def test_attention_maps(model, photos):
    caption = model.caption(photos[0])
    side = math.ceil(model.image_size / 32)
    for word in caption.words:
        assert word.attention.shape == (side, side) and word.attention.min() >= 0
        assert word.attention.sum() == pytest.approx(1, abs=1e-5)
    assert all(word.attention is None for word in model.caption(photos[0], attention=False).words)


def test_alternatives(model, photos):
    caption = model.caption(photos[0], n_best=3, beam_size=5)
    texts = [caption.text, *(other.text for other in caption.alternatives)]
    assert len(texts) == 3 == len(set(texts))
    if all(other.finished for other in (caption, *caption.alternatives)):
        assert caption.score >= caption.alternatives[0].score >= caption.alternatives[1].score
    same(model.caption(photos[0], n_best=2, beam_size=5), caption)
    assert model.caption(photos[0]).alternatives == ()


def test_prefix_and_must_include(model, photos):
    for caption in model.caption(photos, prefix="A black dog"):
        assert caption.text.startswith("a black dog")
    for caption in model.caption(photos[:2], must_include=["beach", "red ball"], beam_size=4):
        assert "beach" in caption.text.split() and "red ball" in caption.text
    same(model.caption(photos[0], must_include="beach"), model.caption(photos[0], must_include=["beach"]))


def test_a_generator_gives_an_iterator_that_takes_images_as_they_are_needed(model, photos):
    taken = []

    def endless():
        while True:
            taken.append(photos[len(taken) % 5])
            yield taken[-1]

    captions = model.caption(endless(), batch_size=2, beam_size=2)
    assert iter(captions) is captions
    for one, other in zip(model.caption(photos, beam_size=2), captions, strict=False):
        same(one, other)
    assert 5 <= len(taken) < 40
    with open(photos[0], "rb") as file:  # which is an iterator as well, of lines
        same(model.caption(file), model.caption(photos[0]))


def test_a_generator_stops_at_the_image_that_cannot_be_read(model, photos, tmp_path):
    captions = model.caption(path for path in [photos[0], tmp_path / "nowhere.png"])
    assert next(captions).text == model.caption(photos[0]).text
    with pytest.raises(ImageReadError, match=r"nowhere\.png"):
        next(captions)


def test_captions_of_many_go_on_after_an_error_and_take_the_same_options(model, photos, tmp_path):
    options = {"prefix": "a dog", "beam_size": 5, "n_best": 2}
    first, error, last = captioner.caption_many(model, [photos[0], tmp_path / "nowhere.png", photos[1]], **options)
    assert isinstance(error, ImageReadError) and "nowhere.png" in str(error)
    for one, other in zip((first, last), model.caption(photos[:2], **options), strict=True):
        same(one, other)
        assert one.text.startswith("a dog") and len(one.alternatives) == 1
    sampled = {"strategy": "sample", "max_length": 10, "seeds": [5, 1]}
    for one, other in zip(
        captioner.caption_many(model, photos[:2], **sampled), model.caption(photos[:2], **sampled), strict=True
    ):
        same(one, other)
    with pytest.raises(CaptionerError, match="fewer seeds than images"):
        list(model.caption_many(photos, seeds=[1]))
    with pytest.raises(CaptionerError, match="unknown option 'beam_width'"):
        captioner.caption_many(model, photos, beam_width=5)
    for one_image in (str(photos[0]), photos[0], photos[0].read_bytes()):
        with pytest.raises(CaptionerError, match="is not several images; give a list"):
            captioner.caption_many(model, one_image)


@pytest.mark.parametrize("arguments", [(), (None,)])
def test_the_model_of_many_may_be_left_out(model, photos, monkeypatch, arguments):
    monkeypatch.setattr("captioner.loading.load", lambda: model)
    (caption,) = captioner.caption_many(*arguments, photos[:1], beam_size=2)
    same(caption, model.caption(photos[0], beam_size=2))


def test_sampling_depends_on_the_seed_alone(model, photos):
    options = {"strategy": "sample", "max_length": 10}
    first = model.caption(photos, seed=1, **options)
    for one, other in zip(first, model.caption(photos, seed=1, batch_size=2, **options), strict=True):
        same(one, other)
    others = {model.caption(photos[0], seed=seed, **options).text for seed in range(6)}
    assert len(others) > 1
    chosen = model.caption(photos[:3], seeds=[5, 1, 5], **options)
    same(chosen[1], first[1])
    same(chosen[0], model.caption(photos[0], seed=5, **options))
    with pytest.raises(CaptionerError, match="2 seeds for 3 images") as error:
        model.caption(photos[:3], seeds=[1, 2], **options)
    assert error.value.kind == "usage"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 5}, "unknown option 'beam_width'; known: strategy, beam_size"),
        ({"beam_size": 0}, "beam_size must be"),
        ({"strategy": "magic"}, "strategy has the unknown value 'magic'"),
        ({"prefix": "a zebra"}, "prefix: the model does not know the word 'zebra'"),
        ({"must_include": ["zebra"]}, "must_include: the model does not know the word 'zebra'"),
        ({"must_include": ["dog"], "strategy": "greedy"}, "must_include needs beam search"),
        ({"must_include": [""]}, "empty"),
        ({"prefix": "a dog runs on sand", "max_length": 3}, "max_length"),
    ],
)
def test_options_that_make_no_sense(model, photos, options, message):
    with pytest.raises(CaptionerError, match=message) as error:
        model.caption(photos[0], **options)
    assert error.value.kind == "usage"


def test_an_image_that_cannot_be_read_is_named(model, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        model.caption([photos[0], tmp_path / "broken.png"])
    with pytest.raises(ImageReadError, match=r"nowhere\.png"):
        model.caption(str(tmp_path / "nowhere.png"))


def test_different_images_have_different_embeddings(model, photos):
    images = np.stack([read_image(path, size=model.image_size) for path in photos])
    features = model.encode(images)
    assert features.grid.shape == (5, 9, 1280) and features.pooled.shape == (5, 1280)
    distances = [np.linalg.norm(features.pooled[i] - features.pooled[j]) for i in range(5) for j in range(i)]
    assert min(distances) > 1e-3
    again = model.caption_features(features)
    for one, other in zip(again, model.caption(photos), strict=True):
        same(one, other)
    assert model.caption_features(features[:0]) == []


class SpeechlessRuntime:
    """A model that ends every caption at once."""

    image_size, positions, channels, vocabulary_size, encode_batch = 64, 4, 1280, 6, 1

    def initial_state(self, features):
        return (np.zeros((len(features), 2), np.float32),), (np.zeros((len(features), 1), np.float32),)

    def step(self, tokens, state, memory):
        logits = np.full((len(tokens), 6), -9, np.float32)
        logits[:, 2] = 9
        return logits, state, np.full((len(tokens), 4), 0.25, np.float32)


CONFIG = {"encoder": {"name": "lite0", "image_size": 64}, "decoder": {"vocabulary_size": 6}}


def tiny_folder(folder, **changes):
    arguments = {
        "kind": "captioner",
        "config": CONFIG,
        "weights": {"encoder/a/b": np.zeros(1), "decoder/a/b": np.zeros(1)},
        "texts": {"tokenizer.json": '{"format": 1, "words": ["a", "dog"]}'},
        "metadata": {},
        "card": "",
    }
    return save_model(folder, **{**arguments, **changes})


def test_a_notebook_shows_the_photo_beside_the_caption(model, photos):
    pixels = read_image(photos[0])
    for image in (photos[0], str(photos[0]), pixels, Image.open(photos[0])):
        caption = model.caption(image)
        shown = read_image(pickle.loads(pickle.dumps(caption)).picture())
        assert shown.shape == pixels.shape and np.abs(shown.mean((0, 1)) - pixels.mean((0, 1))).max() < 3
        assert "data:image/jpeg;base64," in caption._repr_html_()
    of_file, of_pixels = model.caption([photos[0], pixels])
    assert of_file.picture() and of_pixels.picture is None
    assert model.caption(photos[0].read_bytes()).picture is None


def test_a_model_is_pickled_by_name_and_settings(model, photos):
    model.options, before = replace(model.options, beam_size=2), model.options
    try:
        data = pickle.dumps(model)
        again = pickle.loads(data)
        assert len(data) < 2000
        assert (again.name, again.options, again.runtime.precision) == (model.name, model.options, "f32")
        same(again.caption(photos[0]), model.caption(photos[0]))
    finally:
        model.options = before
    assert pickle.loads(pickle.dumps(read_model(SHIPPED / "forecaster"))).reference == "forecaster"


def test_a_model_that_no_folder_holds_says_so_when_pickled(tmp_path):
    model = ImageCaptioner(read_model(tiny_folder(tmp_path / "mute")), SpeechlessRuntime())
    with pytest.raises(CaptionerError, match="mute: was put together in this process; save it"):
        pickle.dumps(model)


def test_a_model_goes_to_processes_that_are_spawned(model, photos):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        captions = list(pool.map(model.caption, photos[:2]))
    for one, other in zip(captions, model.caption(photos[:2]), strict=True):
        same(one, other)


def test_a_model_used_after_a_fork_says_what_to_do(tiny_captioner, photos):
    code = f"""
import os, signal, sys, captioner
model = captioner.load({str(tiny_captioner)!r})
model.caption({str(photos[0])!r})
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(60)
try:
    model.caption({str(photos[0])!r})
except captioner.CaptionerError as error:
    print(error, captioner.load({str(tiny_captioner)!r}).caption({str(photos[0])!r}).model)
sys.stdout.flush()
os._exit(0)  # as processes of multiprocessing end
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "before this process was forked" in done.stdout and "load it in the child" in done.stdout
    assert (done.returncode, done.stdout.split()[-1]) == (0, "tiny")


def test_a_caption_without_a_word(tmp_path):
    saved = read_model(tiny_folder(tmp_path / "mute"))
    model = ImageCaptioner(saved, SpeechlessRuntime())
    features = Features(*(np.zeros((1, n), np.float32) for n in (4, 2)))
    (caption,) = model.caption_features(features, model.search_options(min_length=0))
    assert (caption.text, caption.words, caption.confidence, str(caption)) == ("", (), 0.0, "")
    (caption,) = model.caption_features(features, model.search_options(min_length=2))
    assert len(caption.words) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"texts": {"tokenizer.json": '{"format": 1, "words": ["a"]}'}},
            r"tokenizer\.json: holds 5 tokens, the decoder wants 6",
        ),
        ({"texts": {"tokenizer.json": "{}"}}, r"tokenizer\.json: lacks format"),
        (
            {"config": {**CONFIG, "search": {"beam_width": 3}}},
            r"config\.json: search\.beam_width is a setting that this version does not know",
        ),
        ({"config": {**CONFIG, "search": {"beam_size": 0}}}, r"config\.json: search\.beam_size must be a whole number"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, changes, message):
    saved = read_model(tiny_folder(tmp_path / "odd", **changes))
    with pytest.raises(ModelLoadError, match=message) as error:
        ImageCaptioner(saved, SpeechlessRuntime())
    assert "odd" in str(error.value)


def test_loading(tiny_captioner, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_captioner.parent)
    assert captioner.load(Path("tiny")).name == captioner.load("tiny").name == "tiny"
    with pytest.raises(ModelLoadError, match="no model called 'nothing'"):
        captioner.load("nothing")
    folder = tiny_folder(tmp_path / "other", kind="forecaster", texts={}, weights={"forecaster/a/b": np.zeros(1)})
    with pytest.raises(ModelLoadError, match="other: is a forecaster, which is no model to be loaded by itself"):
        captioner.load(folder)
    folder = tiny_folder(tmp_path / "half", config={"decoder": {"vocabulary_size": 6}})
    with pytest.raises(ModelLoadError, match=r"half.config\.json: lacks encoder"):
        captioner.load(folder)
    copy = shutil.copytree(tiny_captioner, tmp_path / "copy")
    (copy / "weights.npz").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"copy.weights\.npz: not the file"):
        captioner.load(copy)
    for options in ({"runtime": "magic"}, {"precision": "f8"}, {"threads": 0}):
        with pytest.raises(CaptionerError) as error:
            captioner.load(tiny_captioner, **options)
        assert error.value.kind == "usage"


# ---------------------------------------------------------------- the shipped model

PEOPLE = {"man", "woman", "girl", "boy", "person", "people", "child", "lady", "men", "women"}


@pytest.mark.skipif(not (SHIPPED / "photos" / "weights.npz").is_file(), reason="the model is not there yet")
def test_the_shipped_model_on_real_photos():
    data = pytest.importorskip("skimage.data")
    assert "photos" in captioner.list_models()
    model = captioner.load()
    assert model.name == "photos"
    astronaut, cat, cup = model.caption([data.astronaut(), data.chelsea(), data.coffee()])
    assert PEOPLE & set(astronaut.text.split())
    assert len({astronaut.text, cat.text, cup.text}) == 3
    for caption in (astronaut, cat, cup):
        assert caption.finished and 3 <= len(caption.words) <= 20
        assert 0 < caption.confidence < 1
    with_cat = model.caption(data.chelsea(), must_include=["cat"])
    assert "cat" in with_cat.text.split()


def test_a_style_is_another_first_token(tiny_captioner, photos):
    styled = captioner.load(tiny_captioner, precision="f32")
    plain = [caption.text for caption in styled.caption(photos)]
    *words, _, last = styled.tokenizer.words[4:]
    styled.tokenizer = Tokenizer([*words, last], ["short"])  # the last row of the embedding starts the style
    captions = styled.caption(photos, style="short")
    assert [caption.text for caption in captions] != plain
    assert "<short>" not in {word.text for caption in captions for word in caption.words}
    assert captions[0] == next(styled.caption_many(photos[:1], style="short"))
    with pytest.raises(CaptionerError, match="unknown style 'long'; this model has short"):
        styled.caption(photos[0], style="long")


def test_a_data_set_is_scored_in_its_own_style(tmp_path):
    model = SimpleNamespace(tokenizer=Tokenizer(["dog"], ["Flickr8k", "short"]))
    for name, file, style in (
        ("flickr8k-test", "a.json", "Flickr8k"),
        ("new", "Flickr8k.token.txt", "Flickr8k"),
        ("other", "flickr8k.jpg", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
        assert own_style(model, SimpleNamespace(folder=tmp_path / name)) == style
