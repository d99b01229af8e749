"""Saved models: a folder of JSON, text and plain arrays, checked strictly when it is read.

``config.json`` says what to build, ``weights.npz`` holds float16 arrays (never pickled objects), ``metadata.json``
where they came from and the SHA-256 of all other files that are read, ``tokenizer.json`` or ``labels.json`` the
vocabulary, ``README.md`` the model card. A folder may come from a stranger: its files are regular ones of bounded size,
its settings have bounds (`captioner.schema`), and no array is unpacked before its name, type and shape are known to be
right.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from msgspec import Meta

from captioner.errors import CaptionerError, ModelLoadError, enough_memory
from captioner.files import read_regular
from captioner.names import printable
from captioner.schema import fit, parse

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]

FORMAT = 1
CLASSES = "class_scores/"
"""How the names of the encoder's ImageNet classes begin: training needs them, and no finished model has them."""


@dataclass(frozen=True)
class Kind:
    """What belongs to a folder of a kind.

    Attributes:
        texts: Files that it has besides ``config.json``, ``metadata.json``, ``weights.npz`` and ``README.md``.
        optional: Files that it may have besides.
        parts: Regular expression of the parts that its arrays belong to: the first piece of their names.
    """

    texts: tuple[str, ...]
    optional: tuple[str, ...]
    parts: str


KINDS = {
    "captioner": Kind(
        ("tokenizer.json",),
        ("familiarity.json", "ranges.json", "tags.json"),
        "encoder|decoder|familiarity|tags",
    ),
    "clip_classifier": Kind(("labels.json",), (), r"member\d\d?|known"),
    "forecaster": Kind((), (), "forecaster"),
    "translator": Kind(("tokenizer.json",), (), "encoder|decoder"),
}
MAX_WEIGHT_BYTES = 2**30
"""Limit on the unpacked weights of a folder."""
MAX_TEXT_BYTES = 2**24
"""Limit on each of the other files."""
MAX_ARRAYS = 10_000
"""Limit on the number of arrays of a folder."""
_PACKAGE = Path(__file__).resolve().parents[1]
_UNSHIPPED = {
    "translator": "train one with `captioner train translation` and name its folder (--translator, or --model of "
    "`captioner translate`; in Python captioner.load(folder))"
}
# Inside the package where a wheel was installed, beside it in a checkout.
SHIPPED = next(
    (root / "saved_models" for root in (_PACKAGE, _PACKAGE.parent) if (root / "saved_models").is_dir()), _PACKAGE
)


@dataclass(frozen=True)
class SavedModel:
    """What a model folder holds.

    Attributes:
        folder: Where it lies.
        name: Name of the folder.
        kind: ``captioner``, ``clip_classifier``, ``forecaster`` or ``translator``.
        config: Sizes and settings, JSON types as they were read; see `settings`.
        metadata: Versions, parameter count, SHA-256 of the other files, training command, data, scores.
        arrays: The weights, not unpacked yet.
        texts: The other files, name to content.
    """

    folder: Path
    name: str
    kind: str
    config: dict
    metadata: dict
    arrays: Arrays = field(repr=False)
    texts: dict[str, str] = field(repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file."""
        return self.metadata["weights_sha256"]

    @property
    def encoder_sha256(self) -> str:
        """See `encoder_hash`."""
        return self.metadata.get("encoder_sha256") or encoder_hash(self.part("encoder"))

    @property
    def reference(self) -> str:
        """What finds the folder from another process: the name of a shipped model, else the absolute path."""
        return self.name if self.folder == SHIPPED / self.name else str(self.folder.absolute())

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """All arrays, whatever their shapes, float32: ``part/layer/variable`` to array."""
        return {name: self.arrays.unpack(name) for name in self.arrays.shapes}

    def settings(self, kind: type[T], *, more: bool = False) -> T:
        """What ``config.json`` says, as an object of a type.

        Args:
            kind: A dataclass with bounds; see `captioner.schema`.
            more: Whether it has only some of the settings.

        Raises:
            ModelLoadError: A setting is missing, unknown, of another type or out of bounds.
        """
        return fit(self.config, kind, self.path("config.json"), more=more)

    def path(self, name: str) -> str:
        """Path of a file of the folder, for error messages."""
        return printable(str(self.folder / name))

    def part(self, name: str, shapes: Shapes | None = None) -> dict[str, np.ndarray]:
        """The weights of one part (``encoder``, ``decoder``), float32, their names without it.

        Args:
            name: The part.
            shapes: What it has to consist of, ``layer/variable`` to shape; None for whatever is there.

        Raises:
            ModelLoadError: An array is missing, left over or of another shape, which is found before any is unpacked.
        """
        whole = {full.split("/", 1)[1]: full for full in self.arrays.shapes if full.split("/", 1)[0] == name}
        if shapes is not None:
            found = {short: self.arrays.shapes[full] for short, full in whole.items()}
            check_shapes(found, shapes, str(self.folder))
        with enough_memory(printable(str(self.folder))):
            return {short: self.arrays.unpack(full) for short, full in whole.items()}


class Arrays:
    """The arrays of ``weights.npz``: their names and shapes are read at once, each is unpacked when it is asked for.

    Args:
        data: Content of the file.
        where: Its path, for error messages.
        parts: See `Kind`.

    Attributes:
        shapes: Name to shape; names are ``part/layer/variable``, for example ``decoder/cell/kernel``.

    Raises:
        ModelLoadError: It is no archive of plain arrays of floating-point numbers, one has a name that no part has, or
            they are too many or too large together.
    """

    def __init__(self, data: bytes, where: str, parts: str):
        self._made_of, self._where = (data, where, parts), where
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except MemoryError:
            raise
        except Exception as error:  # a damaged archive raises nearly anything
            raise self._refused(error) from error
        entries = self._archive.infolist()
        if len(entries) > MAX_ARRAYS:
            raise ModelLoadError(f"{where}: holds more than {MAX_ARRAYS:,} arrays; get the folder again")
        self.shapes: dict[str, tuple[int, ...]] = {}
        total = 0
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if not re.fullmatch(f"({parts})/.+", name) or name in self.shapes:
                raise ModelLoadError(
                    f"{where}: holds arrays that the model does not know: {_shown(name)}; get the folder again"
                )
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others take memory at will
                raise self._refused(f"{_shown(name)} is compressed in an unusual way")
            self.shapes[name], size = self._header(entry)
            total += size
            if total > MAX_WEIGHT_BYTES:
                raise ModelLoadError(f"{where}: unpacks to more than {MAX_WEIGHT_BYTES:,} bytes; get the folder again")

    def __reduce__(self):
        """Pickles what it was made of: an open archive cannot be."""
        return Arrays, self._made_of

    def unpack(self, name: str) -> np.ndarray:
        """One array, float32.

        Raises:
            ModelLoadError: It is damaged, or holds values that are no numbers.
        """
        try:
            with self._archive.open(f"{name}.npy") as file:
                value = np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
        except MemoryError:
            raise
        except Exception as error:
            raise self._refused(error) from error
        if not np.isfinite(value).all():
            raise ModelLoadError(f"{self._where}: {_shown(name)} holds values that are not numbers")
        return value

    def _header(self, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], int]:
        """Shape of an array, and the bytes that it takes unpacked, as float32."""
        try:
            with self._archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](file)
                begin = file.tell()
        except MemoryError:
            raise
        except Exception as error:
            raise self._refused(error) from error
        shown = _shown(entry.filename.removesuffix(".npy"))
        if dtype.kind != "f":
            raise self._refused(f"{shown} holds {dtype}, not floating-point numbers")
        count = math.prod(shape)
        if min(shape, default=0) < 0 or begin + count * dtype.itemsize != entry.file_size:
            raise self._refused(f"{shown} is not as large as its shape {shape} says")
        return shape, count * max(dtype.itemsize, 4)

    def _refused(self, error: object) -> ModelLoadError:
        return ModelLoadError(f"{self._where}: not a file of plain arrays ({_shown(str(error))}); get it again")


@dataclass(frozen=True)
class _Checksums:
    """What is relied on of ``metadata.json``."""

    weights_sha256: str
    config_sha256: str | None = None
    texts_sha256: dict[str, str] | None = None
    encoder_sha256: Annotated[str, Meta(max_length=64)] | None = None


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays, in the order of their names: 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]))
    return digest.hexdigest()[:16]


def encoder_hash(weights: Mapping[str, np.ndarray]) -> str:
    """Hash of what an encoder's embeddings depend on: what was learned from them outlives a better decoder.

    Args:
        weights: ``layer/variable`` to float32 array as a folder gives them, that is, rounded to float16.
    """
    return weights_hash({name: value for name, value in weights.items() if not name.startswith(CLASSES)})


def named_weights(model, part: str) -> dict[str, np.ndarray]:
    """Weights of a Keras model as ``part/layer/variable`` to array; random states are left out.

    Raises:
        ValueError: Two variables have the same name.
    """
    weights = {}
    for name, variable in _named_variables(model):
        if f"{part}/{name}" in weights:
            raise ValueError(f"two variables are called {name}")
        weights[f"{part}/{name}"] = np.asarray(variable)
    return weights


def check_shapes(found: Shapes, shapes: Shapes, where: str) -> None:
    """Holds arrays to those that a network has, by name and shape.

    Args:
        found: ``layer/variable`` to the shape of the array that is there.
        shapes: ``layer/variable`` to the shape that the network needs.
        where: The folder, for error messages.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """
    where = printable(where)
    for name in sorted({*shapes, *found}):
        if name not in found:
            raise ModelLoadError(f"{where}: weights.npz lacks {name}; the folder is incomplete, get it again")
        if name not in shapes:
            raise ModelLoadError(
                f"{where}: weights.npz holds arrays that the model does not know: {_shown(name)}; get the folder again"
            )
        if tuple(found[name]) != tuple(shapes[name]):
            raise ModelLoadError(
                f"{where}: {name} has shape {tuple(found[name])}, config.json asks for {tuple(shapes[name])}; "
                "the files belong to different models, get the folder again"
            )


def shapes_of(weights: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Name to shape of arrays."""
    return {name: value.shape for name, value in weights.items()}


def checked_arrays(weights: Mapping[str, np.ndarray], shapes: Shapes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a network that NumPy runs, as float32; arguments and errors are those of `check_shapes`."""
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    check_shapes(shapes_of(arrays), shapes, where)
    return arrays


def load_weights(model, weights: Mapping[str, np.ndarray], where: str) -> None:
    """Copies arrays into a Keras model; every one on either side must have its counterpart.

    Args:
        model: A built Keras model.
        weights: ``layer/variable`` to array, from `SavedModel.part`.
        where: The folder, for error messages.

    Raises:
        ModelLoadError: An array is missing, left over, or of another shape.
    """
    check_shapes(shapes_of(weights), variable_shapes(model), where)
    for name, variable in _named_variables(model):
        variable.assign(weights[name])


def variable_shapes(model) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a Keras model, as ``layer/variable``."""
    return {name: tuple(variable.shape) for name, variable in _named_variables(model)}


def _named_variables(model):
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            parts = [part for part in variable.path.split("/") if part != model.name]
            yield "/".join(parts[-2:]), variable


def refuse_foreign(folder: str | os.PathLike) -> None:
    """Refuses a folder in which `save_model` would replace files that are of no model, such as a project's README.md.

    Raises:
        CaptionerError: There are such files (``kind`` is ``foreign``).
    """
    folder = Path(folder)
    there = [name for name in ("README.md", "config.json") if os.path.lexists(folder / name)]
    try:
        if there:
            _config(folder, _read(folder, "config.json", MAX_TEXT_BYTES))
    except ModelLoadError as error:
        raise CaptionerError(
            f"{folder}: holds {' and '.join(there)}, of no model, which would be replaced; choose another folder",
            kind="foreign",
        ) from error


def save_model(
    folder: str | os.PathLike,
    *,
    kind: str,
    config: dict,
    weights: Mapping[str, np.ndarray],
    texts: Mapping[str, str],
    metadata: dict,
    card: str,
) -> Path:
    """Writes a model folder; every file appears whole or not at all, metadata (with the checksum) last.

    Args:
        folder: Where to write; made if absent.
        kind: ``captioner``, ``clip_classifier``, ``forecaster`` or ``translator``.
        config: Sizes and settings, JSON types.
        weights: Name to array; written as float16.
        texts: Other files, name to content: ``tokenizer.json`` for a captioner, ``labels.json`` for a classifier.
        metadata: Training command, data, scores, whatever should be remembered; the checksums are added.
        card: The model card, Markdown.

    Returns:
        The folder.

    Raises:
        CaptionerError: The folder cannot be written or holds files that are of no model, or a weight does not fit into
            float16.
    """
    from captioner.atomic import write_atomic

    folder = Path(folder)
    refuse_foreign(folder)
    with np.errstate(over="ignore"):
        packed = {name: np.asarray(value, np.float32).astype(np.float16) for name, value in weights.items()}
    for name, value in packed.items():
        if not np.isfinite(value).all():
            raise CaptionerError(f"{folder}: {name} holds values that float16 cannot; the training has diverged")
    buffer = io.BytesIO()
    np.savez(buffer, **packed)
    data = buffer.getvalue()
    settings = _json({"format": FORMAT, "kind": kind, **config})
    metadata = {
        **metadata,
        "parameters": int(sum(value.size for value in packed.values())),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "config_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "encoder_sha256": encoder_hash(
            {
                name.removeprefix("encoder/"): value.astype(np.float32)
                for name, value in packed.items()
                if name.startswith("encoder/")
            }
        ),
        "texts_sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    }
    write_atomic(folder / "weights.npz", data)
    write_atomic(folder / "config.json", settings)
    for name, text in texts.items():
        write_atomic(folder / name, text)
    write_atomic(folder / "README.md", card)
    write_atomic(folder / "metadata.json", _json(metadata))
    return folder


def read_model(name_or_path: str | os.PathLike) -> SavedModel:
    """Reads and checks a model folder.

    Args:
        name_or_path: Name of a shipped model, or path of a folder.

    Raises:
        ModelLoadError: There is no such model, or a file of it is missing, altered or of another kind. The message
            names the file and what to do.
    """
    folder = find_model(name_or_path)
    with enough_memory(printable(str(folder))):
        return _read_folder(folder)


def find_model(name_or_path: str | os.PathLike) -> Path:
    """Folder of a shipped model or of a path.

    Raises:
        ModelLoadError: Neither exists; the message lists the shipped models.
    """
    text = os.fspath(name_or_path)
    if text in model_names():
        return SHIPPED / text
    if os.path.isdir(text):  # unlike Path.is_dir, false for names that no file system takes
        return Path(text)
    known = ", ".join(model_names()) or "none"
    if text in _UNSHIPPED:
        raise ModelLoadError(f"no {text} comes with this package; {_UNSHIPPED[text]}", kind="missing")
    raise ModelLoadError(
        f"no model called {text!r}: it is neither a folder nor one of the shipped models ({known})", kind="missing"
    )


def model_names() -> list[str]:
    """Names of the shipped models, in alphabetical order."""
    if not SHIPPED.is_dir():
        return []
    return sorted(entry.name for entry in SHIPPED.iterdir() if (entry / "config.json").is_file())


def model_kind(name: str) -> str:
    """Kind of a shipped model: ``captioner``, ``clip_classifier``, ``forecaster`` or ``translator``."""
    return _config(SHIPPED / name, _read(SHIPPED / name, "config.json", MAX_TEXT_BYTES))["kind"]


def _read_folder(folder: Path) -> SavedModel:
    settings = _read(folder, "config.json", MAX_TEXT_BYTES)
    config = _config(folder, settings)
    kind = KINDS[config["kind"]]
    record = parse(_read(folder, "metadata.json", MAX_TEXT_BYTES), _named(folder, "metadata.json"))
    sums = fit(record, _Checksums, _named(folder, "metadata.json"), more=True)
    if sums.config_sha256 is not None:  # version 0.1 wrote none
        _check(folder, "config.json", settings, sums.config_sha256)
    data = _read(folder, "weights.npz", MAX_WEIGHT_BYTES)
    _check(folder, "weights.npz", data, sums.weights_sha256)
    there = [name for name in kind.optional if os.path.lexists(folder / name) or name in (sums.texts_sha256 or ())]
    texts = {}
    for name in (*kind.texts, *there):
        content = _read(folder, name, MAX_TEXT_BYTES)
        if sums.texts_sha256 is not None:
            _check(folder, name, content, sums.texts_sha256.get(name))
        try:
            texts[name] = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelLoadError(f"{_named(folder, name)}: not UTF-8 text; get the file again") from error
    return SavedModel(
        folder=folder,
        name=folder.resolve().name,
        kind=config["kind"],
        config={key: value for key, value in config.items() if key not in ("format", "kind")},
        metadata=record,
        arrays=Arrays(data, _named(folder, "weights.npz"), kind.parts),
        texts=texts,
    )


def _json(record: dict) -> str:
    # Scores can be no numbers, which JSON does not have.
    plain = json.loads(json.dumps(record), parse_constant=lambda name: None)
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _named(folder: Path, name: str) -> str:
    return printable(str(folder / name))


def _shown(name: str) -> str:
    return printable(name if len(name) <= 120 else f"{name[:120]}...")


def _read(folder: Path, name: str, limit: int) -> bytes:
    path = _named(folder, name)
    try:
        return read_regular(folder / name, limit)
    except FileNotFoundError as error:
        raise ModelLoadError(
            f"{path}: missing; the model folder is incomplete, get it again", kind="missing"
        ) from error
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read ({error.strerror}); get the folder again") from error


def _check(folder: Path, name: str, data: bytes, sha256: str | None) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelLoadError(
            f"{_named(folder, name)}: not the file that metadata.json was written for (its checksum differs); "
            "get the folder again"
        )


def _config(folder: Path, text: bytes) -> dict[str, Any]:
    """``config.json``, of which format and kind are known ones."""
    where = _named(folder, "config.json")
    config = fit(parse(text, where), dict[str, Any], where)
    if config.get("format") != FORMAT:
        raise ModelLoadError(
            f"{where}: format {_shown(repr(config.get('format')))} is not one that this version reads ({FORMAT}); "
            "update captioner or train the model again"
        )
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelLoadError(f"{where}: unknown kind {_shown(repr(kind))}; known: {', '.join(KINDS)}; update captioner")
    return config
