"""Parallel sentences: text files, one sentence a line, the same line in every language."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import DatasetError
from captioner.files import MAX_TABLE_BYTES, read_regular

SOURCE = "en"
_FILE = re.compile(r"(?P<name>.+)\.(?P<language>[a-z]{2,8})")
_SPLITS = {"train": ("train",), "val": ("val", "dev", "valid", "validation")}


@dataclass(frozen=True)
class ParallelText:
    """Sentences of a split.

    Attributes:
        sentences: Language to its sentences, as many in each, English (``en``) first.
    """

    sentences: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.sentences[SOURCE])

    @property
    def languages(self) -> tuple[str, ...]:
        """All but English."""
        return tuple(language for language in self.sentences if language != SOURCE)


def read_parallel(folder: str | Path, split: str) -> ParallelText:
    """Reads ``SPLIT.LANGUAGE`` of every language, such as ``train.en`` and ``train.de``, compressed (``.gz``) or not.

    Args:
        folder: Where they lie.
        split: ``train``, ``val`` (also called ``dev`` or ``valid``), or how the names of other files begin.

    Raises:
        DatasetError: There is no English, or no other language, or the files do not have the same number of lines.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(path.name.removesuffix(".gz")):
            files[match["name"]][match["language"]] = path
    there = [name for name in _SPLITS.get(split, (split,)) if SOURCE in files[name] and len(files[name]) > 1]
    if not there:
        raise DatasetError(f"{folder}: holds no {split}.{SOURCE} with {split}.de or another language beside it")
    found = files[there[0]]
    order = [SOURCE, *(language for language in found if language != SOURCE)]
    sentences = {language: _lines(found[language]) for language in order}
    for language, lines in sentences.items():
        if len(lines) != len(sentences[SOURCE]):
            raise DatasetError(
                f"{found[language]}: holds {len(lines)} lines, {found[SOURCE].name} {len(sentences[SOURCE])}; "
                "a line must be the translation of the same line"
            )
    return ParallelText(sentences)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        content = read_regular(path, MAX_TABLE_BYTES)
        if path.suffix == ".gz":
            unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            content = unpack.decompress(content, MAX_TABLE_BYTES)
        text = content.decode("utf-8")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return tuple(text.removesuffix("\n").split("\n"))
