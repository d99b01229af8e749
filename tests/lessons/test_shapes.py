"""Data made by code: what the captions say is in the pictures, and clips show what their folder says."""

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionerError
from captioner.lessons.shapes import (
    COLOURS,
    MOTIONS,
    Shape,
    describe,
    draw,
    make_shape_clips,
    make_shape_photos,
    write_clip,
)
from captioner.media.videos import VideoReader
from captioner.training.captions.data import read_captions
from captioner.training.clips.data import read_clips


def where(picture, colour):
    """Rows and columns of the pixels that have about that colour."""
    distance = np.abs(picture.astype(int) - COLOURS[colour]).max(axis=-1)
    return np.nonzero(distance < 30)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_shape_photos(tmp_path_factory.mktemp("photos"), 40, side=96)


def test_photos_are_a_data_set_that_training_reads(photos):
    data = read_captions(photos)
    assert {name: len(files) for name, files in data.splits.items()} == {"train": 32, "dev": 4, "test": 4}
    assert not data.warnings
    assert all(len(captions) == 5 for captions in data.captions.values())
    assert all(np.asarray(Image.open(path)).shape == (96, 96, 3) for path in data.images.values())


def test_captions_say_where_the_colours_are(photos):
    data = read_captions(photos)
    relations = {"above": 0, "to the left of": 0}
    for file, captions in data.captions.items():
        picture = np.asarray(Image.open(data.images[file]))
        first, second = captions[0].removesuffix(".").split(" is ")
        relation = next(name for name in relations if second.startswith(name))
        relations[relation] += 1
        axis = 0 if relation == "above" else 1
        places = []
        for words in (first.split(), second.split()):
            size, colour, _ = words[-3:]
            rows, columns = where(picture, colour)
            places.append(np.median((rows, columns)[axis]))
            side = max(np.ptp(rows), np.ptp(columns))
            assert (side < 23) == (size == "small"), captions
        assert places[0] < places[1] - 10, captions
    assert min(relations.values()) > 5


def test_description_names_both_ways_round():
    captions = describe(Shape("star", "red", 0.2, 0.5, 0.1), Shape("circle", "blue", 0.8, 0.5, 0.2), "grey")
    assert captions[0] == "A small red star is to the left of a large blue circle."
    assert captions[1] == "A large blue circle is to the right of a small red star on a grey ground."
    assert len(set(captions)) == 5


@pytest.mark.parametrize("form", ["circle", "square", "triangle", "star"])
def test_a_shape_lies_where_it_is_said_to(form):
    picture = draw([Shape(form, "red", 0.3, 0.6, 0.2)], "white", 200, np.random.default_rng(0))
    rows, columns = where(picture, "red")
    assert np.mean(columns) == pytest.approx(60, abs=2)
    assert np.mean(rows) == pytest.approx(120, abs=2)
    assert 40 <= np.ptp(rows) <= 84


def test_the_same_seed_makes_the_same_data(tmp_path):
    same = [make_shape_photos(tmp_path / name, 3, side=32, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    contents = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in same]
    assert contents[0] == contents[1] != contents[2]


def test_clips_show_what_their_folder_says(tmp_path):
    data = read_clips(make_shape_clips(tmp_path, 3, seconds=1.0, side=96))
    assert data.labels == MOTIONS
    for clip in data.clips:
        with VideoReader(clip.path) as reader:
            frames = [frame.image.astype(float) for frame in reader]
        assert len(frames) == 10
        light, areas = [], []
        for frame in (frames[0], frames[-1]):
            ground = np.median(frame[:3].reshape(-1, 3), axis=0)
            light.append(ground.mean())
            areas.append((np.abs(frame - ground).max(axis=-1) > 0.25 * ground.mean()).sum())
        brighter, bigger = light[1] / light[0], areas[1] / areas[0]
        expected = {
            "brightens": brighter > 1.8, "darkens": brighter < 0.6, "grows": bigger > 2.5, "shrinks": bigger < 0.4
        }  # fmt: skip
        assert expected[clip.label], (clip.name, brighter, bigger)
        assert (abs(np.log(brighter)) < 0.05) == (clip.label in ("grows", "shrinks"))


def test_a_clip_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CaptionerError, match="absent"):
        write_clip(tmp_path / "absent" / "clip.avi", iter([np.zeros((16, 16, 3), np.uint8)]))
