"""Photos with captions, read from the layouts that people already have."""

from __future__ import annotations

import csv
import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from captioner.errors import DatasetError
from captioner.files import MAX_TABLE_BYTES, read_regular
from captioner.media.images import IMAGE_EXTENSIONS

SPLITS = ("train", "dev", "test")
"""The splits that are used."""

SPLIT_ALIASES = {"val": "dev", "valid": "dev", "validation": "dev", "restval": "train"}
"""Other names of the splits."""

FULL_REFERENCES = 5
"""Captions a photo that scores are usually made with."""

PEOPLE = "people"
"""Who wrote the captions of a data set that says nothing else."""


@dataclass(frozen=True)
class CaptionDataset:
    """Photos, their captions and the splits they belong to.

    Attributes:
        folder: Where it was read.
        images: File name, as the captions give it, to path; only photos that exist and have captions.
        captions: File name to its captions as written.
        splits: ``train``, ``dev``, ``test`` (those that exist) to file names. Photos in no split are in none of them.
        warnings: What was left out, in sentences.
        authors: File name to who wrote each of its captions, where it was not always people: `PEOPLE`, ``written`` (by
            a model that looked at the photo), or what the folder calls it.
    """

    folder: Path
    images: dict[str, Path] = field(repr=False)
    captions: dict[str, tuple[str, ...]] = field(repr=False)
    splits: dict[str, tuple[str, ...]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    authors: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

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

    def written_by(self, files) -> Counter[str]:
        """How many captions of some photos each kind of author wrote."""
        return Counter(
            author for file in files for author in self.authors.get(file, (PEOPLE,) * len(self.captions[file]))
        )


def read_captions(folder: str | Path, *, seed: int = 0) -> CaptionDataset:
    """Reads a folder of photos and captions.

    Understands, and tries in this order: Karpathy's ``dataset_*.json``; COCO's ``captions_*.json``; Flickr8k and
    30k token files (``*.token.txt`` or ``*.token``) with their ``*trainImages.txt`` lists; Kaggle's
    ``captions.txt`` (a table with the columns image and caption); ``metadata.jsonl`` (``file_name`` with ``text``
    or ``captions``, and optionally ``split``; the name of a subfolder that holds one is the split);
    ``captions.json`` (a list of objects with ``file``, ``captions`` and perhaps ``author``;
    ``captions-AUTHOR.json`` beside it holds captions that somebody else wrote, for example ``captions-written.json``
    those of a model). The captions lie in the folder or one below it, photos anywhere below. Where the layout knows no
    splits, 80 % of the photos become train, 10 % dev and 10 % test by a shuffle with ``seed``; but where people did not
    write all captions, a tenth of the photos with five captions by people become dev, by their names, and all others
    train: a score needs people's captions.

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
        files = _matching(folder, pattern)
        if files:
            try:
                return _assemble(folder, reader(folder, files), seed)
            except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
                names = " or ".join(str(path) for path in files[:3])
                raise DatasetError(
                    f"{names}: not in the layout that the name promises ({type(error).__name__}: {error})"
                ) from error
    names = ", ".join(pattern for pattern, _ in _READERS)
    raise DatasetError(f"{folder}: no captions found; looked for {names}")


def _matching(folder: Path, pattern: str) -> list[Path]:
    # Flickr8k comes with a second token file in which every word is replaced by its lemma.
    for where in (pattern, f"*/{pattern}"):
        files = [path for path in sorted(folder.glob(where)) if path.is_file() and ".lemma." not in path.name]
        if files:
            return files
    return []


# A reader yields (file name, caption, split or None) for every caption, and who wrote it if that was not people.
_Rows = Iterator[tuple[str, str, str | None] | tuple[str, str, str | None, str]]


def _karpathy(folder: Path, files: list[Path]) -> _Rows:
    for path in files:
        for image in _json(path)["images"]:
            name = "/".join(part for part in (image.get("filepath", ""), image["filename"]) if part)
            for sentence in image["sentences"]:
                yield name, sentence["raw"], image.get("split")


def _coco(folder: Path, files: list[Path]) -> _Rows:
    for path in files:
        record = _json(path)
        names = {image["id"]: image["file_name"] for image in record["images"]}
        split = next((name for name in ("train", "val", "test") if name in path.stem), None)
        for annotation in record["annotations"]:
            yield names[annotation["image_id"]], annotation["caption"], split
        # a photo without a caption is reported as such
        for name in names.values():
            yield name, "", split


def _token_file(folder: Path, files: list[Path]) -> _Rows:
    splits = {}
    for split in ("train", "dev", "val", "test"):
        for path in sorted(files[0].parent.glob(f"*{split}Images.txt")):
            for _, name in _lines(path):
                name = name.strip()
                if splits.setdefault(name, split) != split:
                    raise _two_splits(path, name, splits[name], split)
    for number, line in _lines(files[0]):
        name, tab, caption = line.partition("\t")
        if not tab:
            raise DatasetError(f"{files[0]}: line {number} has no tab between the name of the photo and the caption")
        name = re.sub(r"#\d+$", "", name)
        yield name, caption, splits.get(name)
    # a name in a list without a caption is reported as such
    for name, split in splits.items():
        yield name, "", split


def _kaggle(folder: Path, files: list[Path]) -> _Rows:
    lines = _lines(files[0])
    columns = next(csv.reader([next(lines, (1, ""))[1]], skipinitialspace=True), [])
    if not {"image", "caption"} <= set(columns):
        raise DatasetError(f"{files[0]}: the first line must name the columns image and caption")
    for number, line in lines:
        row = dict(zip(columns, _cells(line, columns, f"{files[0]}: line {number}"), strict=False))
        yield row["image"], row.get("caption", ""), row.get("split")


_CELL = re.compile(r'\s*(?:"(?:[^"]|"")*"|[^,"]*)\s*,')


def _cells(line: str, columns: list[str], where: str) -> list[str]:
    """The cells of one line; commas that no quotes protect belong to the caption where it is the last column."""
    problem = None
    try:
        cells = next(csv.reader([line.rstrip()], skipinitialspace=True, strict=True))
        if len(cells) <= len(columns):
            return cells
    except csv.Error as error:
        problem = error
        if len(line) > csv.field_size_limit():
            raise
    start = 0
    for _ in columns[:-1]:
        cell = _CELL.match(line, start)
        start = cell.end() if cell else len(line)
    caption = line[start:].strip()
    if columns[-1] == "caption" and not (caption.startswith('"') and caption.count('"') % 2):
        return [*next(csv.reader([line[:start]], skipinitialspace=True))[:-1], caption]
    reason = "a quote is opened and not closed on the line" if problem else f"has more than {len(columns)} columns"
    raise DatasetError(
        f'{where}: {reason}; put captions with commas into quotes ("), and double the quotes inside them'
    )


def _metadata_jsonl(folder: Path, files: list[Path]) -> _Rows:
    for path in files:
        below = path.parent.relative_to(folder).as_posix()
        named = below if SPLIT_ALIASES.get(below, below) in SPLITS else None
        for number, line in _lines(path):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DatasetError(f"{path}: line {number} is not valid JSON ({error})") from error
            name = record["file_name"] if below == "." else f"{below}/{record['file_name']}"
            for text in _several(record.get("captions") or record["text"]):
                yield name, text, record.get("split") or named


def _list_of_files(folder: Path, files: list[Path]) -> _Rows:
    for path in (files[0], *sorted(files[0].parent.glob("captions-*.json"))):
        author = path.stem.partition("-")[2] or PEOPLE
        for record in _json(path):
            for caption in _several(record["captions"]):
                yield record["file"], caption, record.get("split"), record.get("author", author)


_READERS: tuple[tuple[str, Callable[[Path, list[Path]], _Rows]], ...] = (
    ("dataset_*.json", _karpathy),
    ("captions_*.json", _coco),
    ("*.token.txt", _token_file),
    ("*.token", _token_file),
    ("captions.txt", _kaggle),
    ("metadata.jsonl", _metadata_jsonl),
    ("captions.json", _list_of_files),
)


def _assemble(folder: Path, rows: _Rows, seed: int) -> CaptionDataset:
    captions: dict[str, list[str]] = {}
    authors: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for name, caption, split, *author in rows:
        texts = captions.setdefault(name, [])
        if caption.strip():
            texts.append(caption.strip())
            authors.setdefault(name, []).extend(author or (PEOPLE,))
        if split:
            split = SPLIT_ALIASES.get(split, split)
            if splits.setdefault(name, split) != split:
                raise _two_splits(folder, name, splits[name], split)
    found = _find_photos(folder)
    images = _photos_of([name for name in captions if captions[name]], found)
    strangers = {path for path in found.values()} - set(images.values())
    unused = sorted({splits[name] for name in images if name in splits} - set(SPLITS))
    warnings = [
        _list(
            "captions without a photo, left out", [name for name in captions if captions[name] and name not in images]
        ),
        _list("photos without a caption, left out", [name for name in captions if not captions[name]]),
        _list("photos in the folder that have no caption", sorted(str(path.relative_to(folder)) for path in strangers)),
        unused and f"the splits {', '.join(unused)} are not used: only {', '.join(SPLITS)} are",
    ]
    if not images:
        raise DatasetError(f"{folder}: none of the {len(captions)} captioned photos was found below the folder")
    if splits:
        members = {name: tuple(file for file in images if splits.get(file) == name) for name in SPLITS}
    else:
        mixed = any(author != PEOPLE for name in images for author in authors[name])
        judged = [name for name in sorted(images) if authors[name].count(PEOPLE) >= FULL_REFERENCES]
        members = _judged_splits(sorted(images), judged) if mixed else _random_splits(sorted(images), seed)
        sizes = ", ".join(f"{len(files)} {name}" for name, files in members.items())
        how = "by name, dev among those with five captions by people" if mixed else f"at random (seed {seed})"
        warnings.append(f"the layout has no splits: {sizes} {how}")
    return CaptionDataset(
        folder=folder,
        images=images,
        captions={name: tuple(captions[name]) for name in images},
        splits=members,
        warnings=tuple(warning for warning in warnings if warning),
        authors={name: tuple(authors[name]) for name in images if set(authors[name]) != {PEOPLE}},
    )


def _photos_of(names: list[str], found: dict[str, Path]) -> dict[str, Path]:
    """Name to path, for the photos that are there; a photo belongs to one name only."""
    exact = {name: found[name] for name in names if name in found}
    taken = set(exact.values())
    images = {}
    for name in names:
        path = exact.get(name)
        if path is None and (path := found.get(Path(name).name)) is not None:
            # a name with folders whose photo lies elsewhere, unless that is another name's photo
            path = None if path in taken else path
            taken.add(path)
        if path is not None:
            images[name] = path
    return images


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


def _judged_splits(files: list[str], judged: list[str]) -> dict[str, tuple[str, ...]]:
    """A tenth of the judged photos as dev, chosen by a checksum of their names, so that more photos change nothing."""
    dev = {name for name in judged if zlib.crc32(name.encode()) % 10 == 0}
    return {"train": tuple(name for name in files if name not in dev), "dev": tuple(sorted(dev)), "test": ()}


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} ({len(names)}): {', '.join(map(repr, names[:3]))}{more}"


def _two_splits(where: Path, name: str, one: str, other: str) -> DatasetError:
    return DatasetError(f"{where}: {name} is in the splits {one} and {other}; it may be in one only")


def _several(captions: str | list[str]) -> list[str]:
    return [captions] if isinstance(captions, str) else captions


def _json(path: Path):
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error}); get the file again") from error


def _text(path: Path) -> str:
    try:
        return read_regular(path, MAX_TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text (byte {error.start}); get the file again") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not empty."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
