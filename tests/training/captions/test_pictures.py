"""Pictures that are no photos of a scene: every kind draws, captions are plain and true; seeds."""

import json

import numpy as np
import pytest
from PIL import Image

from captioner.training.captions.data import read_captions
from captioner.training.captions.pictures import KINDS, make_pictures, surfaces
from captioner.training.captions.pictures.canvas import COLOURS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_draws_with_plain_captions(kind):
    pictures = [kind(np.random.default_rng([3, number])) for number in range(6)]
    for image, captions in pictures:
        assert image.mode == "RGB" and min(image.size) >= 256
        assert 2 <= len(captions) == len(set(captions)) <= 3
        for caption in captions:
            words = caption.split()
            assert 4 <= len(words) <= 16 and caption == " ".join(words).lower() and "|" not in caption
            assert all(word.isalpha() or word == "child's" for word in words), caption
    assert len({image.tobytes() for image, _ in pictures}) > 1


def test_a_blank_picture_has_the_colour_that_its_captions_name():
    for number in range(20):
        image, captions = surfaces.blank(np.random.default_rng(number))
        seen = np.asarray(image, float).mean(axis=(0, 1))
        named = {name for name in COLOURS if all(f" {name} " in f" {caption} " for caption in captions)}
        if "white" in captions[0]:
            assert seen.min() > 220
        else:
            nearest = min(COLOURS, key=lambda name: np.abs(seen - COLOURS[name]).sum())
            assert nearest in named


def test_what_is_black_or_dark_is_so():
    for number in range(10):
        for kind, limit in ((surfaces.black, 12), (surfaces.darkness, 30)):
            assert np.asarray(kind(np.random.default_rng(number))[0]).mean() < limit


def test_a_folder_is_a_data_set_and_grows_without_changing(tmp_path):
    small, large = make_pictures(tmp_path / "small", 3, seed=5), make_pictures(tmp_path / "large", 6, seed=5)
    entries = json.loads(large.read_text())
    assert json.loads(small.read_text()) == entries[:3] and {entry["author"] for entry in entries} == {"code"}
    for entry in entries[:3]:
        first, again = (folder / "images" / entry["file"] for folder in (tmp_path / "small", tmp_path / "large"))
        assert first.read_bytes() == again.read_bytes()
        with Image.open(first) as image:
            assert image.format == "JPEG" and 200 <= min(image.size) <= 320
    assert make_pictures(tmp_path / "other", 3, seed=6).read_text() != small.read_text()

    data = read_captions(tmp_path / "large")
    assert len(data.images) == 6
    assert data.captions[entries[0]["file"]] == tuple(entries[0]["captions"])
