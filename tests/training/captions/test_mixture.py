"""Several data sets trained on together."""

import json

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionerError, DatasetError
from captioner.training.captions.data import read_captions
from captioner.training.captions.mixture import Mixture, Source, read_mixture


def data_set(folder, captions, **files):
    """Photos with captions; other keywords are further files ``captions-KEY.json``."""
    folder.mkdir(parents=True)
    for name, records in {"captions": captions, **{f"captions-{key}": value for key, value in files.items()}}.items():
        (folder / f"{name}.json").write_text(
            json.dumps([{"file": file, "captions": texts} for file, texts in records.items()])
        )
        for file in records:
            Image.new("RGB", (4, 4)).save(folder / file)
    return folder


def split_set(folder, train, dev, texts=("a dog runs here",)):
    folder.mkdir(parents=True)
    records = [(f"{i}.png", "train" if i < train else "dev") for i in range(train + dev)]
    for file, _ in records:
        Image.new("RGB", (4, 4)).save(folder / file)
    (folder / "captions.json").write_text(
        json.dumps([{"file": file, "captions": list(texts), "split": split} for file, split in records])
    )
    return folder


def test_files_of_several_data_sets_are_kept_apart(tmp_path):
    mixture = read_mixture([f"{split_set(tmp_path / 'a', 2, 1)}@short", f"{split_set(tmp_path / 'b', 1, 1)}:0.5"])
    assert mixture.train == ("a/0.png", "a/1.png", "b/0.png")
    assert mixture.dev == {"a": ("a/2.png",), "b": ("b/1.png",)}
    assert mixture.images["b/0.png"] == tmp_path / "b" / "0.png"
    assert mixture.styles == ("short",)
    assert [mixture.style_of(file) for file in mixture.train] == ["short", "short", ""]
    assert mixture.sources["b"].weight == 0.5


def test_one_data_set_keeps_its_names(tmp_path):
    mixture = read_mixture([split_set(tmp_path / "a", 2, 1)])
    assert mixture.train == ("0.png", "1.png") and mixture.dev == {"a": ("2.png",)}


def test_a_data_set_for_choosing_is_never_trained_on(tmp_path):
    mixture = read_mixture([split_set(tmp_path / "a", 2, 1)], [split_set(tmp_path / "b", 2, 1)])
    assert mixture.train == ("a/0.png", "a/1.png")
    assert mixture.dev["b"] == ("b/0.png", "b/1.png", "b/2.png")


@pytest.mark.parametrize(("weight", "times"), [(1, {1}), (2, {2}), (0.5, {0, 1}), (2.5, {2, 3})])
def test_an_epoch_shows_photos_as_often_as_their_data_set_weighs(tmp_path, weight, times):
    mixture = read_mixture([split_set(tmp_path / "a", 4, 1), f"{split_set(tmp_path / 'b', 10, 1)}:{weight}"])
    seen = [mixture.drawn(mixture.train, np.random.default_rng(epoch)) for epoch in range(40)]
    for files in seen:
        assert len(files) == 4 + 10 * weight
        assert all(files.count(f"a/{i}.png") == 1 for i in range(4))
        assert {files.count(f"b/{i}.png") for i in range(10)} == times
    # in the long run every photo has its share, and the data sets are mixed
    shares = [sum(files.count(f"b/{i}.png") for files in seen) / 40 for i in range(10)]
    assert max(abs(share - weight) for share in shares) < 0.3
    assert len({tuple(file[0] for file in files) for files in seen}) > 30


def test_rewards_count_by_how_many_captions_they_rest_on():
    captions = {str(n): ("a dog",) * n for n in (1, 2, 4, 5, 7)}
    mixture = Mixture({}, {}, captions, (), {}, {})
    found = [mixture.worth(file) for file in captions]
    np.testing.assert_allclose(found, [0.6, 0.8, 0.96, 1, 1])


def test_captions_by_others_join_those_of_people(tmp_path):
    people = {f"{i}.png": [f"a person wrote {j}" for j in range(5)] for i in range(40)}
    folder = data_set(
        tmp_path / "a",
        {**people, "few.png": ["a person wrote"]},
        written={"few.png": ["a model wrote"] * 2, "x.png": ["it"]},
    )
    data = read_captions(folder)
    assert data.captions["few.png"] == ("a person wrote", "a model wrote", "a model wrote")
    assert data.authors == {"few.png": ("people", "written", "written"), "x.png": ("written",)}
    assert data.written_by(["0.png", "few.png", "x.png"]) == {"people": 6, "written": 3}
    # a score needs several captions by people
    assert 1 <= len(data.splits["dev"]) <= 10 and set(data.splits["dev"]) <= set(people)
    assert len(data.splits["train"]) == 42 - len(data.splits["dev"]) and not data.splits["test"]


def test_what_makes_no_sense_is_refused(tmp_path):
    one = split_set(tmp_path / "a", 2, 1)
    with pytest.raises(CaptionerError, match="number above 0"):
        read_mixture([f"{one}:much"])
    with pytest.raises(CaptionerError, match="number above 0"):
        read_mixture([f"{one}:0"])
    with pytest.raises(DatasetError, match="two data sets are called 'a'"):
        read_mixture([one, split_set(tmp_path / "deeper" / "a", 2, 1)])
    with pytest.raises(DatasetError, match="nothing to train on"):
        Mixture.of([Source(read_captions(one), 0.0)])
    with pytest.raises(DatasetError, match="no dev photos"):
        read_mixture([split_set(tmp_path / "b", 2, 0)])
