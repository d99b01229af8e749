"""Model folders: what is written comes back, and what is wrong with one is said in a sentence that names the file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
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
    refuse_foreign,
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
        "config": {"encoder": {"name": "lite0"}, "decoder": {"heads": 8}},
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
    assert saved.config == {"encoder": {"name": "lite0"}, "decoder": {"heads": 8}}
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
        ("metadata.json", lambda r: r.pop("weights_sha256"), "metadata.json: lacks weights_sha256"),
        ("metadata.json", lambda r: r.update(weights_sha256=1), "metadata.json: weights_sha256 must be text"),
        ("metadata.json", lambda r: r.update(weights_sha256=""), "weights.npz: not the file"),
        ("metadata.json", lambda r: r.update(config_sha256=""), "config.json: not the file"),
        ("metadata.json", lambda r: r.update(texts_sha256=[]), "metadata.json: texts_sha256 must be a table"),
        ("metadata.json", lambda r: r.update(texts_sha256={}), "tokenizer.json: not the file"),
    ],
)
def test_foreign_settings_are_refused(folder, name, change, message):
    edit(folder / name, change)
    with pytest.raises(ModelLoadError, match=message):
        read_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["decoder"].update(heads=4),
        lambda r: r["encoder"].update(image_size=240),
        lambda r: r.update(search={"beam_size": 5}),
        lambda r: r.update(grounding={"most": 0}),
    ],
)
def test_altered_settings_are_found_by_the_checksum(folder, change):
    edit(folder / "config.json", change)
    with pytest.raises(ModelLoadError, match=r"config\.json: not the file that metadata\.json was written for"):
        read_model(folder)


def test_a_folder_of_version_0_1_has_no_checksum_of_its_settings(folder):
    edit(folder / "metadata.json", lambda record: record.pop("config_sha256"))
    edit(folder / "config.json", lambda record: record["decoder"].update(heads=4))
    assert read_model(folder).config["decoder"]["heads"] == 4


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "1", "\udcff", "[" * 100_000])
def test_damaged_json_is_named(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelLoadError, match=f"{name}: (not valid JSON|not UTF-8|must be a table)"):
        read_model(folder)


def put_weights(folder, data: bytes):
    """Replaces the weights and makes the checksum fit, as a stranger who wants to do harm would."""
    (folder / "weights.npz").write_bytes(data)
    edit(folder / "metadata.json", lambda record: record.update(weights_sha256=hashlib.sha256(data).hexdigest()))


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(content: bytes, name="encoder/a.npy", method=zipfile.ZIP_STORED):
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
        npz(**{"encoder/a": np.zeros(3)})[:-30],
        npz(**{"encoder/a": np.array(["text"])}),
        npz(**{"encoder/a": np.zeros(3, np.int8)}),
        npz(**{"encoder/a": np.zeros(3, complex)}),
        npz(**{"encoder/a": np.zeros(3, [("f", "f2")])}),
        zipped(npy_header((4,)) + bytes(8), method=zipfile.ZIP_LZMA),
        zipped(npy_header((-1,))),
        zipped(npy_header((2**40, 2**40))),
        zipped(b"not an array"),
        zipped(npy_header((10**15,))),
        zipped(npy_header((4,)) + b"\0\0"),
    ],
    ids=[
        "empty",
        "no archive",
        "truncated",
        "text",
        "integers",
        "complex",
        "record",
        "lzma",
        "negative",
        "overflow",
        "no array",
        "huge shape",
        "short array",
    ],
)
def test_weights_that_are_no_plain_arrays_are_refused(folder, data):
    put_weights(folder, data)
    with pytest.raises(ModelLoadError, match=r"weights\.npz: not a file of plain arrays"):
        read_model(folder)


def test_pickled_objects_are_refused_and_never_run(folder, tmp_path):
    put_weights(folder, npz(**{"encoder/a": np.array([Harmful(tmp_path / "touched")], object)}))
    with pytest.raises(ModelLoadError, match=r"weights\.npz: not a file of plain arrays .*holds object"):
        read_model(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_numbers_are_refused(folder, value):
    put_weights(folder, npz(**{"encoder/good": np.zeros(2), "encoder/bad": np.array([0, value], np.float16)}))
    with pytest.raises(ModelLoadError, match=r"weights\.npz: encoder/bad holds values that are not numbers"):
        read_model(folder).part("encoder")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder, monkeypatch):
    monkeypatch.setattr(saving, "MAX_WEIGHT_BYTES", 100_000)
    bomb = zipped(npy_header((10**6,)) + bytes(2 * 10**6), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    monkeypatch.setattr(np.lib.format, "read_array", lambda *arguments, **options: pytest.fail("unpacked"))
    put_weights(folder, bomb)
    with pytest.raises(ModelLoadError, match=r"weights\.npz: unpacks to more than 100,000 bytes"):
        read_model(folder)


@pytest.mark.parametrize(("name", "limit"), [("weights.npz", "MAX_WEIGHT_BYTES"), ("tokenizer.json", "MAX_TEXT_BYTES")])
def test_files_that_are_too_large_are_not_read(folder, monkeypatch, name, limit):
    with open(folder / name, "ab") as file:
        file.truncate(2**20)
    monkeypatch.setattr(saving, limit, 2**20 - 1)
    with pytest.raises(ModelLoadError, match=rf"{name}: cannot be read \(larger than 1,048,575 bytes\)"):
        read_model(folder)


@pytest.mark.parametrize("name", ["weights.npz", "config.json", "metadata.json", "tokenizer.json", "tags.json"])
@pytest.mark.parametrize("what", ["fifo", "link to a fifo", "link to a device", "socket", "link to nothing"])
def test_only_regular_files_are_opened(folder, tmp_path, name, what):
    (folder / name).unlink(missing_ok=True)
    place = tmp_path / "elsewhere" if "link" in what else folder / name
    if "fifo" in what:
        os.mkfifo(place)
    elif what == "socket":
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(place))
    if "link" in what:
        (folder / name).symlink_to("/dev/zero" if "device" in what else place)
    with pytest.raises(ModelLoadError, match=rf"{name}: (cannot be read \(is a device or a pipe|missing)"):
        read_model(folder)


def test_regular_files_may_be_links(folder, tmp_path):
    """As in the caches of model hubs."""
    for name in ("weights.npz", "config.json"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert set(read_model(folder).part("decoder")) == {"cell/kernel"}


@pytest.mark.parametrize(
    "name", ["evil/x", "encoder", "decoders/x/y", "member0/x/y", "/etc/x", "../encoder/x", "\x1b[31/x"]
)
def test_arrays_of_unknown_parts_are_refused_before_they_are_unpacked(folder, monkeypatch, name):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *arguments, **options: pytest.fail("unpacked"))
    put_weights(folder, npz(**{name: np.zeros(3, np.float16)}))
    with pytest.raises(ModelLoadError, match=r"weights\.npz: holds arrays that the model does not know: ") as caught:
        read_model(folder)
    assert str(caught.value).isprintable()


def test_arrays_of_another_name_or_shape_are_refused_before_they_are_unpacked(folder, monkeypatch):
    saved = read_model(folder)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *arguments, **options: pytest.fail("unpacked"))
    with pytest.raises(ModelLoadError, match=r"stem/beta has shape \(3,\), config.json asks for \(4,\)"):
        saved.part("encoder", {"stem/kernel": (2, 3, 4), "stem/beta": (4,)})
    with pytest.raises(ModelLoadError, match="does not know: stem/beta"):
        saved.part("encoder", {"stem/kernel": (2, 3, 4)})
    with pytest.raises(ModelLoadError, match="lacks head/bias"):
        saved.part("encoder", {"stem/kernel": (2, 3, 4), "stem/beta": (3,), "head/bias": (3,)})


def test_two_arrays_of_one_name_are_refused(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("encoder/a.npy", "encoder/a"):
            archive.writestr(name, npy_header((1,)) + bytes(2))
    put_weights(folder, buffer.getvalue())
    with pytest.raises(ModelLoadError, match="encoder/a"):
        read_model(folder)


def test_an_archive_of_very_many_arrays_is_refused(folder, monkeypatch):
    monkeypatch.setattr(saving, "MAX_ARRAYS", 2)
    with pytest.raises(ModelLoadError, match="holds more than 2 arrays"):
        read_model(folder)


def test_too_little_memory_is_named(folder, monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    with monkeypatch.context() as context:
        context.setattr(saving, "read_regular", full)
        with pytest.raises(CaptionerError, match="tiny: not enough memory to load it; close other programs") as caught:
            read_model(folder)
        assert caught.value.kind == "memory"
    saved = read_model(folder)
    monkeypatch.setattr(np.lib.format, "read_array", full)
    with pytest.raises(CaptionerError, match="tiny: not enough memory"):
        saved.part("encoder")


def test_scores_that_are_no_numbers_become_nothing(tmp_path):
    folder = save(tmp_path / "tiny", metadata={"scores": {"loss": float("nan"), "bound": float("inf"), "bleu": 0.5}})
    assert read_model(folder).metadata["scores"] == {"loss": None, "bound": None, "bleu": 0.5}


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
    save(tmp_path / "saved_models" / "alpha", kind="forecaster", texts={}, weights={"forecaster/a/b": np.zeros(1)})
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
        return model.encoder_sha256

    first = saved()
    assert saved(**{"decoder/a": np.ones(2)}) == first
    assert saved(**{"encoder/a": np.ones(3)}) != first
    # the ImageNet classes are read from the embeddings, which do not depend on them
    assert (
        saved(**{"encoder/class_scores/bias": np.ones(3)})
        == first
        == weights_hash({"a": weights["encoder/a"], "b": weights["encoder/b"]})
    )
    assert weights_hash({"a": weights["encoder/a"], "c": weights["encoder/b"]}) != first


@pytest.mark.parametrize("name", model_names())
def test_every_file_of_the_shipped_folders_is_in_their_checksums(name):
    saved = read_model(name)
    sums = {"weights.npz": saved.sha256, "config.json": saved.metadata["config_sha256"]} | saved.metadata[
        "texts_sha256"
    ]
    read = {path.name for path in saved.folder.iterdir() if path.suffix in (".json", ".npz")}
    assert set(sums) == read - {"metadata.json"}
    for file, sum in sums.items():
        assert hashlib.sha256((saved.folder / file).read_bytes()).hexdigest() == sum


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_files_that_are_of_no_model_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(CaptionerError, match="of no model, which would be replaced") as caught:
        refuse_foreign(tmp_path)
    assert caught.value.kind == "foreign"
    with pytest.raises(CaptionerError, match="of no model"):
        save_model(tmp_path, kind="forecaster", config={}, weights={}, texts={}, metadata={}, card="")
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    refuse_foreign(tmp_path / "new")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the address space that the system keeps")
@pytest.mark.parametrize("megabytes", [400, 700])
def test_a_model_that_does_not_fit_into_the_memory_says_so(megabytes):
    code = f"""
import resource
import numpy
resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))
import captioner
try:
    captioner.load(threads=1)
except captioner.CaptionerError as error:
    print(error.kind, error)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert re.match("memory .*photos: not enough memory to load it; close other programs", result.stdout)
