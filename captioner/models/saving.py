"""Saved models: a folder of JSON, text and plain arrays, checked strictly when it is read.

``config.json`` says what to build, ``weights.npz`` holds float16 arrays (never pickled objects), ``metadata.json``
where they came from and the SHA-256 of weights and vocabulary, ``tokenizer.json`` or ``labels.json`` the vocabulary,
``README.md`` the model card.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError, ModelLoadError

FORMAT = 1
KINDS = {"captioner": "tokenizer.json", "clip_classifier": "labels.json", "forecaster": None}
OPTIONAL = {"captioner": ("concepts.json", "familiarity.json", "ranges.json")}
"""Files that a model of the kind may have besides."""
MAX_WEIGHT_BYTES = 2**30
"""Limit on the unpacked weights of a folder."""
MAX_TEXT_BYTES = 2**24
"""Limit on each of the other files."""
_PACKAGE = Path(__file__).resolve().parents[1]
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
        kind: ``captioner``, ``clip_classifier`` or ``forecaster``.
        config: Sizes and settings, JSON types.
        metadata: Versions, parameter count, SHA-256 of the weights, training command, data, scores.
        weights: Name to float32 array. Names are ``part/layer/variable``, for example ``decoder/cell/kernel``.
        texts: The other files, name to content.
    """

    folder: Path
    name: str
    kind: str
    config: dict
    metadata: dict
    weights: dict[str, np.ndarray] = field(repr=False)
    texts: dict[str, str] = field(repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file."""
        return self.metadata["weights_sha256"]

    @property
    def encoder_sha256(self) -> str:
        """Hash of the encoder's weights alone: what was learned from its embeddings outlives a better decoder."""
        return self.metadata.get("encoder_sha256") or weights_hash(self.part("encoder"))

    @property
    def reference(self) -> str:
        """What finds the folder from another process: the name of a shipped model, else the absolute path."""
        return self.name if self.folder == SHIPPED / self.name else str(self.folder.absolute())

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The weights of one part (``encoder``, ``decoder``), their names without it."""
        return {key.split("/", 1)[1]: value for key, value in self.weights.items() if key.split("/", 1)[0] == name}


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays, in the order of their names: 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]))
    return digest.hexdigest()[:16]


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


def checked_arrays(
    weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], where: str, foreign: str
) -> dict[str, np.ndarray]:
    """The arrays of a network that NumPy runs, as float32; they must be those that it has, in name and shape.

    Args:
        weights: ``layer/variable`` to array, from `SavedModel.part`.
        shapes: ``layer/variable`` to the shape that the network needs.
        where: The folder, for error messages.
        foreign: What is said of an array that the network does not have.

    Raises:
        ModelLoadError: An array is missing, left over or of another shape.
    """
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    for name in sorted({*shapes, *arrays}):
        if name not in arrays:
            raise ModelLoadError(f"{where}: weights.npz lacks {name}; the folder is incomplete, get it again")
        if name not in shapes:
            raise ModelLoadError(f"{where}: weights.npz holds {name}, {foreign}")
        if arrays[name].shape != shapes[name]:
            raise ModelLoadError(f"{where}: {name} has shape {arrays[name].shape}, config.json asks for {shapes[name]}")
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
    left = dict(weights)
    for name, variable in _named_variables(model):
        if name not in left:
            raise ModelLoadError(f"{where}: weights.npz lacks {name}; the folder is incomplete, get it again")
        value = left.pop(name)
        if value.shape != tuple(variable.shape):
            raise ModelLoadError(
                f"{where}: {name} has shape {value.shape}, config.json asks for {tuple(variable.shape)}; "
                "the files belong to different models, get the folder again"
            )
        variable.assign(value)
    if left:
        raise ModelLoadError(f"{where}: weights.npz holds arrays that the model does not know: {sorted(left)[:5]}")


def _named_variables(model):
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            parts = [part for part in variable.path.split("/") if part != model.name]
            yield "/".join(parts[-2:]), variable


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
        kind: ``captioner``, ``clip_classifier`` or ``forecaster``.
        config: Sizes and settings, JSON types.
        weights: Name to array; written as float16.
        texts: Other files, name to content: ``tokenizer.json`` for a captioner, ``labels.json`` for a classifier.
        metadata: Training command, data, scores, whatever should be remembered.
        card: The model card, Markdown.

    Returns:
        The folder.

    Raises:
        CaptionerError: The folder cannot be written, or a weight does not fit into float16.
    """
    from captioner.atomic import write_atomic

    folder = Path(folder)
    with np.errstate(over="ignore"):
        packed = {name: np.asarray(value, np.float32).astype(np.float16) for name, value in weights.items()}
    for name, value in packed.items():
        if not np.isfinite(value).all():
            raise CaptionerError(f"{folder}: {name} holds values that float16 cannot; the training has diverged")
    buffer = io.BytesIO()
    np.savez(buffer, **packed)
    data = buffer.getvalue()
    metadata = {
        **metadata,
        "parameters": int(sum(value.size for value in packed.values())),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "encoder_sha256": weights_hash(
            {
                name.removeprefix("encoder/"): value.astype(np.float32)
                for name, value in packed.items()
                if name.startswith("encoder/")
            }
        ),
        "texts_sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    }
    write_atomic(folder / "weights.npz", data)
    write_atomic(folder / "config.json", _json({"format": FORMAT, "kind": kind, **config}))
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
    config = _read_json(folder, "config.json")
    kind = config.get("kind")
    if config.get("format") != FORMAT:
        raise ModelLoadError(
            f"{folder / 'config.json'}: format {config.get('format')!r} is not one that this version reads ({FORMAT}); "
            "update captioner or train the model again"
        )
    if kind not in KINDS:
        raise ModelLoadError(f"{folder / 'config.json'}: unknown kind {kind!r}; known: {', '.join(KINDS)}")
    metadata = _read_json(folder, "metadata.json")
    data = _read(folder, "weights.npz", MAX_WEIGHT_BYTES)
    _check(folder / "weights.npz", data, metadata.get("weights_sha256"))
    texts = {}
    checksums = metadata.get("texts_sha256")
    there = [name for name in OPTIONAL.get(kind, ()) if (folder / name).exists() or name in (checksums or ())]
    for name in filter(None, (KINDS[kind], *there)):
        content = _read(folder, name, MAX_TEXT_BYTES)
        if isinstance(checksums, dict):
            _check(folder / name, content, checksums.get(name))
        try:
            texts[name] = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelLoadError(f"{folder / name}: not UTF-8 text; get the file again") from error
    return SavedModel(
        folder=folder,
        name=folder.resolve().name,
        kind=kind,
        config={key: value for key, value in config.items() if key not in ("format", "kind")},
        metadata=metadata,
        weights=_unpack(folder / "weights.npz", data),
        texts=texts,
    )


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
    raise ModelLoadError(
        f"no model called {text!r}: it is neither a folder nor one of the shipped models ({known})", kind="missing"
    )


def model_names() -> list[str]:
    """Names of the shipped models, in alphabetical order."""
    if not SHIPPED.is_dir():
        return []
    return sorted(entry.name for entry in SHIPPED.iterdir() if (entry / "config.json").is_file())


def model_kind(name: str) -> str:
    """Kind of a shipped model: ``captioner``, ``clip_classifier`` or ``forecaster``."""
    return str(_read_json(SHIPPED / name, "config.json").get("kind"))


def _json(record: dict) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def _read(folder: Path, name: str, limit: int) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > limit:
            raise ModelLoadError(f"{path}: larger than {limit:,} bytes, which no model of this kind is")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelLoadError(
            f"{path}: missing; the model folder is incomplete, get it again", kind="missing"
        ) from error
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read ({error.strerror})") from error


def _check(path: Path, data: bytes, sha256: object) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelLoadError(
            f"{path}: not the file that metadata.json was written for (its checksum differs); get the folder again"
        )


def _read_json(folder: Path, name: str) -> dict:
    try:
        record = json.loads(_read(folder, name, MAX_TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{folder / name}: not valid JSON ({error}); get the file again") from error
    if not isinstance(record, dict):
        raise ModelLoadError(f"{folder / name}: not a JSON object; get the file again")
    return record


def _unpack(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        weights = _arrays(data) if unpacked <= MAX_WEIGHT_BYTES else {}
    except Exception as error:  # a damaged archive raises nearly anything
        raise ModelLoadError(f"{path}: not a file of plain arrays ({error}); get it again") from error
    if unpacked > MAX_WEIGHT_BYTES:
        raise ModelLoadError(f"{path}: unpacks to more than {MAX_WEIGHT_BYTES:,} bytes")
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelLoadError(f"{path}: {name} holds values that are not numbers")
    return weights


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}
