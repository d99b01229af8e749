"""Parallel text: files, and the batches that are made of it."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from tiny_models import SENTENCES

from captioner.errors import CaptionerError, DatasetError
from captioner.training.translation.batches import ParallelBatches, bare
from captioner.training.translation.data import read_parallel
from captioner.training.translation.options import TranslationTrainingOptions
from captioner.translation.subwords import SLOTS, Subwords


def write(folder, split, **lines):
    for language, texts in lines.items():
        (folder / f"{split}.{language}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def test_files_compressed_or_not(tmp_path):
    write(tmp_path, "train", en=["a dog", "", "a cat"], de=["ein Hund", "", "eine Katze"])
    write(tmp_path, "dev", en=["a"], de=["ein"], fr=["un\u2028e"])  # a line ends with a line feed alone
    with gzip.open(tmp_path / "train.cs.gz", "wt", encoding="utf-8") as file:
        file.write("pes\n\nkočka")
    (tmp_path / "README.md").write_text("about")
    train = read_parallel(tmp_path, "train")
    assert train.languages == ("cs", "de") and next(iter(train.sentences)) == "en" and len(train) == 3
    assert train.sentences["cs"] == ("pes", "", "kočka")
    assert read_parallel(tmp_path, "val").sentences["fr"] == ("un\u2028e",)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_parallel(tmp_path / "x", "train")
    write(tmp_path, "train", en=["a dog"])
    with pytest.raises(DatasetError, match=r"no train\.en with train\.de or another language"):
        read_parallel(tmp_path, "train")
    write(tmp_path, "train", de=["ein Hund", "noch einer"])
    with pytest.raises(DatasetError, match=r"train\.de: holds 2 lines, train\.en 1"):
        read_parallel(tmp_path, "train")
    (tmp_path / "train.de").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DatasetError, match=r"train\.de: cannot be read as UTF-8"):
        read_parallel(tmp_path, "train")
    (tmp_path / "train.de").unlink()
    (tmp_path / "train.de.gz").write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match=r"train\.de\.gz: cannot be read"):
        read_parallel(tmp_path, "train")


@pytest.fixture(scope="module")
def subwords():
    return Subwords.learn(SENTENCES, 335)


def epoch(subwords, number=0, **options):
    options = TranslationTrainingOptions(**{"bare": 0.0, "kept": 0.0, "batch_tokens": 60, **options})
    return list(ParallelBatches(SENTENCES, "en", subwords, options)(number))


def test_batches_hold_every_pair_once_and_nothing_else(subwords):
    pairs = []
    for inputs, y in epoch(subwords):
        among, start = inputs["among"], inputs["tokens"][:, 0, 0]
        assert (start == among[0]).all() and among[0] in map(subwords.start_of, subwords.languages)
        assert y["weights"].sum() == pytest.approx(1)
        counted = y["weights"] > 0
        rows = zip(inputs["source"], inputs["tokens"][:, 0], among[y["targets"]][:, 0], counted[:, 0], strict=True)
        for source, tokens, targets, here in rows:
            assert (targets[here][:-1] == tokens[1 : here.sum()]).all()  # what is to be written is read next
            pairs.append((subwords.decode(source), subwords.decode(targets[here])))
    expected = [
        (en, other) for lang in ("de", "fr") for en, other in zip(SENTENCES["en"], SENTENCES[lang], strict=True)
    ]
    assert sorted(pairs) == sorted(expected)


def test_epochs_differ_and_come_again(subwords):
    first, again, second = (epoch(subwords, number, bare=0.5) for number in (0, 0, 1))
    assert all((a[0]["source"] == b[0]["source"]).all() for a, b in zip(first, again, strict=True))
    assert [a[0]["source"].tolist() for a in first] != [b[0]["source"].tolist() for b in second]


def test_captions_are_read_too(subwords):
    assert bare("A man's T-shirt, isn't it?") == "a man's t-shirt isn't it"
    read = {subwords.decode(source) for inputs, _ in epoch(subwords, bare=1.0) for source in inputs["source"]}
    assert read == {bare(text) for text in SENTENCES["en"]}


def test_words_of_both_languages_are_put_aside(subwords):
    """Of these sentences: "rouge" and "red" differ, "man" and "Mann" differ; "robe" is in none."""
    sentences = {"en": ("A Baby in the water.",), "de": ("Ein baby im Wasser.",)}
    options = TranslationTrainingOptions(bare=0.0, kept=1.0)
    own = Subwords.learn({**SENTENCES, **{k: SENTENCES[k] + v * 4 for k, v in sentences.items()}}, 335)
    [(inputs, y)] = list(ParallelBatches(sentences, "en", own, options)(0))
    read, written = own.decode(inputs["source"][0]), own.decode(inputs["among"][y["targets"][0, 0]])
    slot = next(slot for slot in SLOTS if slot in read)
    assert (read, written) == (f"A {slot} in the water.", f"Ein {slot} im Wasser.")


@pytest.mark.parametrize("values", [{"bare": 1.5}, {"batch_tokens": 0}, {"precision": "f16"}, {"epochs": 0}])
def test_settings_that_make_no_sense(values):
    with pytest.raises(CaptionerError, match=next(iter(values))):
        TranslationTrainingOptions(**values)


def test_batches_are_bounded(subwords):
    for inputs, _ in epoch(subwords, batch_tokens=40):
        assert np.size(inputs["tokens"]) <= 40 or len(inputs["tokens"]) == 1
