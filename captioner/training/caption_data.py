"""Photos with captions, read from the layouts that people already have."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from captioner.errors import DatasetError
from captioner.media.images import IMAGE_EXTENSIONS

SPLIT_ALIASES = {"val": "dev", "valid": "dev", "validation": "dev", "restval": "train"}
"""Other names of the three splits, ``train``, ``dev`` and ``test``."""


@dataclass(frozen=True)
class CaptionDataset:
    """Photos, their captions and the splits they belong to.

    Attributes:
        folder: Where it was read.
        images: File name, as the captions give it, to path; only photos that exist and have captions.
        captions: File name to its captions as written.
        splits: ``train``, ``dev``, ``test`` (those that exist) to file names. Photos in no split are in none of them.
        warnings: What was left out, in sentences.
    """

    folder: Path
    images: dict[str, Path] = field(repr=False)
    captions: dict[str, tuple[str, ...]] = field(repr=False)
    splits: dict[str, tuple[str, ...]] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[str, ...]:
        """File names of a split; ``all`` is every photo.

        Raises:
            DatasetError: The split does not exist or is empty.
        """
        if name == "all":
            return tuple(self.images)
        files = self.splits.get(SPLIT_ALIASES.get(name, name), ())
        if not files:
            known = ", ".join(f"{key} ({len(value)})" for key, value in self.splits.items() if value) or "none"
            raise DatasetError(f"{self.folder}: the split {name!r} has no photos; there are: {known}; all also works")
        return files

    def references(self, files) -> dict[str, list[str]]:
        """Captions of some photos."""
        return {file: list(self.captions[file]) for file in files}


def read_captions(folder: str | Path, *, seed: int = 0) -> CaptionDataset:
    """Reads a folder of photos and captions.

    Understands, and tries in this order: Karpathy's ``dataset_*.json``; COCO's ``captions_*.json``; Flickr8k and 30k token
    files (``*.token.txt`` or ``*.token``) with their ``*trainImages.txt`` lists; the Kaggle ``captions.txt`` (a table with
    the columns image and caption); ``metadata.jsonl`` (``file_name`` with ``text`` or ``captions``, and optionally
    ``split``); ``captions.json`` (a list of objects with ``file`` and ``captions``). Photos may lie anywhere below the folder.
    Where the layout knows no splits, 80 % of the photos become train, 10 % dev and 10 % test by a shuffle with ``seed``.

    Args:
        folder: The folder.
        seed: Of the shuffle, where the layout has no splits.

    Raises:
        DatasetError: The folder does not exist, holds none of these layouts, a file of it is damaged, no photo has a
            caption, or a photo is in two splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; --data wants the folder with the photos and their captions")
    for pattern, reader in _READERS:
        files = sorted(folder.glob(pattern))
        if files:
            try:
                return _assemble(folder, reader(files), seed)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DatasetError(
                    f"{files[0]}: not in the layout that its name promises ({type(error).__name__}: {error})"
                ) from error
    names = ", ".join(pattern for pattern, _ in _READERS)
    raise DatasetError(f"{folder}: no captions found; looked for {names}")


# A reader yields (file name, caption, split or None) for every caption.
_Rows = Iterator[tuple[str, str, str | None]]


def _karpathy(files: list[Path]) -> _Rows:
    for path in files:
        for image in _json(path)["images"]:
            name = "/".join(part for part in (image.get("filepath", ""), image["filename"]) if part)
            for sentence in image["sentences"]:
                yield name, sentence["raw"], image.get("split")


def _coco(files: list[Path]) -> _Rows:
    for path in files:
        record = _json(path)
        names = {image["id"]: image["file_name"] for image in record["images"]}
        split = next((name for name in ("train", "val", "test") if name in path.stem), None)
        for annotation in record["annotations"]:
            yield names[annotation["image_id"]], annotation["caption"], split


def _token_file(files: list[Path]) -> _Rows:
    splits = {}
    for split in ("train", "dev", "val", "test"):
        for path in files[0].parent.glob(f"*{split}Images.txt"):
            for name in _lines(path):
                if splits.setdefault(name, split) != split:
                    raise DatasetError(f"{path}: {name} is in the splits {splits[name]} and {split}; it may be in one only")
    for line in _lines(files[0]):
        name, caption = line.split("\t", 1)
        yield re.sub(r"#\d+$", "", name), caption, splits.get(name.split("#")[0])
    # a name in a list without a caption is reported as such
    for name, split in splits.items():
        yield name, "", split


def _kaggle(files: list[Path]) -> _Rows:
    with open(files[0], newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            yield row["image"], row["caption"], row.get("split")


def _metadata_jsonl(files: list[Path]) -> _Rows:
    for path in files:
        for line in _lines(path):
            record = json.loads(line)
            texts = record.get("captions") or [record["text"]]
            for text in texts:
                yield record["file_name"], text, record.get("split")


def _list_of_files(files: list[Path]) -> _Rows:
    for record in _json(files[0]):
        for caption in record["captions"]:
            yield record["file"], caption, record.get("split")


_READERS: tuple[tuple[str, Callable[[list[Path]], _Rows]], ...] = (
    ("dataset_*.json", _karpathy),
    ("**/captions_*.json", _coco),
    ("*.token.txt", _token_file),
    ("*.token", _token_file),
    ("captions.txt", _kaggle),
    ("metadata.jsonl", _metadata_jsonl),
    ("captions.json", _list_of_files),
)


def _assemble(folder: Path, rows: _Rows, seed: int) -> CaptionDataset:
    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for name, caption, split in rows:
        texts = captions.setdefault(name, [])
        if caption.strip():
            texts.append(caption.strip())
        if split:
            split = SPLIT_ALIASES.get(split, split)
            if splits.setdefault(name, split) != split:
                raise DatasetError(f"{folder}: {name} is in the splits {splits[name]} and {split}; it may be in one only")
    found = _find_photos(folder)
    images = {name: path for name in captions if captions[name] and (path := found.get(name) or found.get(Path(name).name))}
    used = set(images.values())
    warnings = [
        _list("without a photo, left out", [name for name in captions if captions[name] and name not in images]),
        _list("without a caption, left out", [name for name in captions if not captions[name]]),
        _list("in the folder without a caption", sorted({str(p.relative_to(folder)) for p in found.values()} - {
            str(p.relative_to(folder)) for p in used
        })),
    ]  # fmt: skip
    if not images:
        raise DatasetError(f"{folder}: none of the {len(captions)} captioned photos was found below the folder")
    if splits:
        members = {name: tuple(f for f in images if splits.get(f) == name) for name in ("train", "dev", "test")}
    else:
        members = _random_splits(sorted(images), seed)
        warnings.append(f"the layout has no splits: {', '.join(f'{len(v)} {k}' for k, v in members.items())} at random (seed {seed})")
    return CaptionDataset(
        folder=folder,
        images=images,
        captions={name: tuple(captions[name]) for name in images},
        splits=members,
        warnings=tuple(warning for warning in warnings if warning),
    )


def _find_photos(folder: Path) -> dict[str, Path]:
    """Photos below a folder, by relative path and by bare name (where only one has it)."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS)
    by_name: dict[str, Path] = {}
    repeated = set()
    for path in paths:
        if by_name.setdefault(path.name, path) != path:
            repeated.add(path.name)
    for name in repeated:
        del by_name[name]
    return {**by_name, **{path.relative_to(folder).as_posix(): path for path in paths}}


def _random_splits(files: list[str], seed: int) -> dict[str, tuple[str, ...]]:
    files = list(files)
    random.Random(seed).shuffle(files)
    held_out = max(1, len(files) // 10)
    return {
        "train": tuple(files[2 * held_out :]),
        "dev": tuple(files[:held_out]),
        "test": tuple(files[held_out : 2 * held_out]),
    }


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} photos {what}: {', '.join(map(repr, names[:3]))}{more}"


def _json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
