"""Model folders: what is written comes back, and what is wrong with one is said in a sentence that names the file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import CaptionerError, ModelLoadError
from captioner.models import saving
from captioner.models.saving import (
    find_model,
    load_weights,
    model_kind,
    model_names,
    named_weights,
    read_model,
    save_model,
    weights_hash,
)

WEIGHTS = {
    "encoder/stem/kernel": np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4),
    "encoder/stem/beta": np.array([1e-3, 1000.25, -7e-6], np.float32),
    "decoder/cell/kernel": np.ones((2, 2), np.float32),
}
VOCABULARY = '{"format": 1, "words": ["dog"]}'


def save(folder, **changes):
    arguments = {
        "kind": "captioner",
        "config": {"encoder": {"name": "lite0"}},
        "weights": WEIGHTS,
        "texts": {"tokenizer.json": VOCABULARY},
        "metadata": {"command": "captioner train", "scores": {"cider_d": 1.5}},
        "card": "# A model\n",
    }
    return save_model(folder, **{**arguments, **changes})


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "tiny")


def test_round_trip(folder):
    saved = read_model(folder)
    assert (saved.name, saved.kind, saved.folder) == ("tiny", "captioner", folder)
    assert saved.config == {"encoder": {"name": "lite0"}}
    assert saved.texts == {"tokenizer.json": VOCABULARY}
    assert saved.metadata["scores"] == {"cider_d": 1.5} and saved.metadata["parameters"] == 24 + 3 + 4
    assert saved.sha256 == hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    assert list(saved.weights) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        assert saved.weights[name].dtype == np.float32
        # half precision: 11 bits of mantissa, and steps of 2^-24 near zero
        np.testing.assert_allclose(saved.weights[name], value, rtol=2**-11, atol=2**-25)
    assert set(saved.part("encoder")) == {"stem/kernel", "stem/beta"}
    assert saved.part("nothing") == {}


def test_a_second_save_of_what_was_read_changes_nothing(folder, tmp_path):
    first = read_model(folder)
    again = read_model(save(tmp_path / "again", weights=first.weights))
    assert all((first.weights[name] == again.weights[name]).all() for name in WEIGHTS)
    assert again.sha256 == first.sha256


def test_the_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "metadata.json",
        "tokenizer.json",
        "weights.npz",
    ]
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert json.loads((folder / "config.json").read_text())["format"] == saving.FORMAT
    assert (folder / "README.md").read_text() == "# A model\n"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_what_float16_cannot_hold_is_not_written(tmp_path, value):
    with pytest.raises(CaptionerError, match="decoder/cell/bias"):
        save(tmp_path / "bad", weights={"decoder/cell/bias": np.array([value])})
    assert not (tmp_path / "bad").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptionerError, match="file"):
        save(tmp_path / "file" / "model")


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "weights.npz", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelLoadError, match=f"{name}: missing; the model folder is incomplete") as error:
        read_model(folder)
    assert str(folder) in str(error.value) and error.value.kind == "missing"


@pytest.mark.parametrize("name", ["weights.npz", "tokenizer.json"])
def test_an_altered_file_is_named(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelLoadError, match=f"{name}: not the file that metadata.json was written for"):
        read_model(folder)


@pytest.mark.parametrize("name", ["weights.npz", "tokenizer.json"])
def test_a_file_of_another_model_is_named(folder, tmp_path, name):
    other = save(
        tmp_path / "other",
        weights={"encoder/stem/kernel": np.zeros(3)},
        texts={"tokenizer.json": '{"format": 1, "words": ["cat"]}'},
    )
    shutil.copy(other / name, folder / name)
    with pytest.raises(ModelLoadError, match=f"{name}: not the file"):
        read_model(folder)


def test_a_folder_without_a_checksum_of_its_vocabulary_is_read(folder):
    edit(folder / "metadata.json", lambda record: record.pop("texts_sha256"))
    assert read_model(folder).texts == {"tokenizer.json": VOCABULARY}


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda r: r.update(format=99), "config.json: format 99 is not one that this version reads"),
        ("config.json", lambda r: r.pop("format"), "config.json: format None"),
        ("config.json", lambda r: r.update(kind="toaster"), "config.json: unknown kind 'toaster'; known: captioner"),
        ("config.json", lambda r: r.pop("kind"), "config.json: unknown kind None"),
        ("metadata.json", lambda r: r.pop("weights_sha256"), "weights.npz: not the file"),
        ("metadata.json", lambda r: r.update(weights_sha256=1), "weights.npz: not the file"),
        ("metadata.json", lambda r: r.update(texts_sha256={}), "tokenizer.json: not the file"),
    ],
)
def test_foreign_settings_are_refused(folder, name, change, message):
    edit(folder / name, change)
    with pytest.raises(ModelLoadError, match=message):
        read_model(folder)


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "1", "\udcff", "[" * 100_000])
def test_damaged_json_is_named(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelLoadError, match=f"{name}: not (valid JSON|a JSON object)"):
        read_model(folder)


def put_weights(folder, data: bytes):
    """Replaces the weights and makes the checksum fit, as a stranger who wants to do harm would."""
    (folder / "weights.npz").write_bytes(data)
    edit(folder / "metadata.json", lambda record: record.update(weights_sha256=hashlib.sha256(data).hexdigest()))


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(content: bytes, name="a.npy", method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


class Harmful:
    """Pickled, it touches a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        npz(a=np.zeros(3))[:-30],
        npz(a=np.array(["text"])),
        zipped(b"not an array"),
        zipped(npy_header((10**15,))),
        zipped(npy_header((4,)) + b"\0\0"),
    ],
    ids=["empty", "no archive", "truncated", "text", "no array", "huge shape", "short array"],
)
def test_weights_that_are_no_plain_arrays_are_refused(folder, data):
    put_weights(folder, data)
    with pytest.raises(ModelLoadError, match=r"weights\.npz: not a file of plain arrays"):
        read_model(folder)


def test_pickled_objects_are_refused_and_never_run(folder, tmp_path):
    put_weights(folder, npz(a=np.array([Harmful(tmp_path / "touched")], object)))
    with pytest.raises(ModelLoadError, match=r"weights\.npz: not a file of plain arrays.*allow_pickle"):
        read_model(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_numbers_are_refused(folder, value):
    put_weights(folder, npz(good=np.zeros(2), bad=np.array([0, value], np.float16)))
    with pytest.raises(ModelLoadError, match=r"weights\.npz: bad holds values that are not numbers"):
        read_model(folder)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder, monkeypatch):
    monkeypatch.setattr(saving, "MAX_WEIGHT_BYTES", 100_000)
    bomb = zipped(npy_header((10**6,)) + bytes(2 * 10**6), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    monkeypatch.setattr(saving, "_arrays", lambda data: pytest.fail("unpacked"))
    put_weights(folder, bomb)
    with pytest.raises(ModelLoadError, match=r"weights\.npz: unpacks to more than 100,000 bytes"):
        read_model(folder)


@pytest.mark.parametrize(("name", "limit"), [("weights.npz", "MAX_WEIGHT_BYTES"), ("tokenizer.json", "MAX_TEXT_BYTES")])
def test_files_that_are_too_large_are_not_read(folder, monkeypatch, name, limit):
    with open(folder / name, "ab") as file:
        file.truncate(2**20)
    monkeypatch.setattr(saving, limit, 2**20 - 1)
    with pytest.raises(ModelLoadError, match=f"{name}: larger than 1,048,575 bytes"):
        read_model(folder)


def test_a_folder_in_the_place_of_a_file(folder):
    (folder / "weights.npz").unlink()
    (folder / "weights.npz").mkdir()
    with pytest.raises(ModelLoadError, match=r"weights\.npz: cannot be read"):
        read_model(folder)


def test_a_vocabulary_that_is_no_text(folder):
    (folder / "tokenizer.json").write_bytes(b"\xff\xfe")
    edit(folder / "metadata.json", lambda record: record.pop("texts_sha256"))
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json: not UTF-8"):
        read_model(folder)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SHIPPED", tmp_path / "saved_models")
    save(tmp_path / "saved_models" / "beta")
    save(tmp_path / "saved_models" / "alpha", kind="forecaster", texts={})
    (tmp_path / "saved_models" / "__pycache__").mkdir()
    (tmp_path / "saved_models" / "__init__.py").touch()
    return tmp_path / "saved_models"


def test_shipped_models_are_found_by_name(shipped):
    assert model_names() == ["alpha", "beta"]
    assert [model_kind(name) for name in model_names()] == ["forecaster", "captioner"]
    assert find_model("beta") == shipped / "beta" == find_model(shipped / "beta")
    assert read_model("alpha").texts == {}


@pytest.mark.parametrize("name", ["gamma", "", "x" * 5000, "a\0b", "saved_models/../gamma"])
def test_an_unknown_model_lists_the_known_ones(shipped, name):
    with pytest.raises(ModelLoadError, match=r"no model called .* shipped models \(alpha, beta\)") as error:
        read_model(name)
    assert error.value.kind == "missing"


def test_without_shipped_models(monkeypatch, tmp_path):
    monkeypatch.setattr(saving, "SHIPPED", tmp_path / "nowhere")
    assert model_names() == []
    with pytest.raises(ModelLoadError, match=r"shipped models \(none\)"):
        find_model("flickr8k")


@pytest.fixture(scope="module")
def network():
    import keras

    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="one"), keras.layers.Dropout(0.5)], name="net"
    )


def test_weights_of_a_model_and_back(network):
    weights = named_weights(network, "net")
    assert {name: value.shape for name, value in weights.items()} == {"net/one/kernel": (3, 2), "net/one/bias": (2,)}
    new = {"one/kernel": np.arange(6.0).reshape(3, 2), "one/bias": np.ones(2)}
    load_weights(network, new, "folder")
    np.testing.assert_array_equal(named_weights(network, "net")["net/one/kernel"], new["one/kernel"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("one/bias"), "folder: weights.npz lacks one/bias"),
        (lambda w: w.update({"two/bias": np.ones(2)}), r"folder: weights.npz holds arrays .*two/bias"),
        (
            lambda w: w.update({"one/bias": np.ones(3)}),
            r"folder: one/bias has shape \(3,\), config.json asks for \(2,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(network, change, message):
    weights = {"one/kernel": np.ones((3, 2)), "one/bias": np.ones(2)}
    change(weights)
    with pytest.raises(ModelLoadError, match=message):
        load_weights(network, weights, "folder")


def test_variables_of_one_name_cannot_be_saved():
    import keras

    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="one")], name="inner")
    outer = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="one"), inner], name="outer")
    with pytest.raises(ValueError, match="two variables are called one/kernel"):
        named_weights(outer, "net")


def test_the_hash_of_an_encoder_is_that_of_its_weights_alone(tmp_path):
    weights = {"encoder/a": np.zeros(3, np.float32), "encoder/b": np.ones((2, 2), np.float32), "decoder/a": np.zeros(2)}

    def saved(**changes) -> str:
        folder = save_model(
            tmp_path / "model", kind="captioner", config={}, weights={**weights, **changes},
            texts={"tokenizer.json": "{}"}, metadata={}, card="",
        )  # fmt: skip
        model = read_model(folder)
        assert model.encoder_sha256 == weights_hash(model.part("encoder"))
        return model.encoder_sha256

    first = saved()
    assert saved(**{"decoder/a": np.ones(2)}) == first
    assert saved(**{"encoder/a": np.ones(3)}) != first
    assert weights_hash({"a": weights["encoder/a"], "c": weights["encoder/b"]}) != first
