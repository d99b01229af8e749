"""A search index over captions, labels and tags: SQLite's full-text search (FTS5), made from ``results.jsonl``."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import msgspec

from captioner.atomic import refuse_links, replacing, write_error
from captioner.errors import CaptionerError
from captioner.names import encodable, printable
from captioner.outputs.marks import SQLITE_APPLICATION_ID, is_ours
from captioner.outputs.query import WORD, Query, term
from captioner.outputs.records import Record, read_json_lines
from captioner.outputs.writers import clock

RESULTS_NAME = "results.jsonl"
INDEX_NAME = "index.sqlite"

_FORMAT = 4
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Row = tuple[str, _Seconds | None, _Seconds | None, str, str | None]
_MOST_WORDS = 100_000
_LIKENESS = 0.7  # of words that are offered instead of one that no caption has, 0..1
_WEIGHTS = "1, 1, 0.5, 1"  # of caption, labels, tags, translations: what a sentence says counts most


@dataclass(frozen=True)
class Hit:
    """A photo, or a stretch of a video, that a search found.

    Attributes:
        file: Its name, as in the results.
        start: Seconds from the start of the video; None for a photo.
        end: Seconds from the start of the video; None for a photo.
        caption: What it shows.
        rank: 1 for the best hit, 2 for the next.
        unsure: Why the caption is unsure; None where it is not.
    """

    file: str
    start: float | None
    end: float | None
    caption: str
    rank: int
    unsure: str | None = None

    def __str__(self) -> str:
        """``holiday.mp4  0:10 - 0:15  a dog on a beach``, on one line."""
        times = "" if self.start is None else f"  {clock(self.start)} - {clock(self.end)}"
        return printable(f"{self.file}{times}  {self.caption}")

    def to_dict(self) -> dict:
        """Its fields: ``{"file", "start", "end", "caption", "rank", "unsure"}``."""
        return asdict(self)


class Hits(list[Hit]):
    """The best hits, in order.

    Attributes:
        total: How many there are without the limit.
        unknown: Words that no caption has, each with those that are written nearly so.
    """

    total: int = 0
    unknown: dict[str, list[str]]


def build_index(results: str | os.PathLike, index: str | os.PathLike) -> int:
    """Makes the index of a run; an old one stays in use until the new one is whole.

    Args:
        results: ``results.jsonl`` of a run over videos, or JSON lines of photos' captions.
        index: The SQLite file to write.

    Returns:
        How many segments and photos it holds.

    Raises:
        CaptionerError: The results are missing or damaged, or the index cannot be written.
    """
    state = _state(results)
    with replacing(index, within=Path(index).parent) as temporary:
        try:
            with contextlib.closing(sqlite3.connect(temporary)) as connection:
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                return _fill(connection, read_json_lines(results), state)
        except sqlite3.Error as error:
            if error.sqlite_errorname == "SQLITE_FULL":
                raise write_error(index, OSError(errno.ENOSPC, str(error))) from error
            raise write_error(index, OSError(errno.EIO, str(error))) from error


def search_index(index: str | os.PathLike, words: str, limit: int = 20) -> Hits:
    """Finds segments and photos by words, best first.

    Words are compared by their stems ("dogs running" finds "a dog runs"), without regard to case and accents; small
    words such as "on" and "a" are ignored. First come the hits that have all the words, then those that have all as
    beginnings of words ("snowb" finds "snowboarder"), then those that have some; within each by BM25.

    Args:
        index: A file that `build_index` made.
        words: What to look for.
        limit: The greatest number of hits.

    Raises:
        CaptionerError: There is no such index, it is damaged, or ``words`` holds no word (``kind`` ``usage``).
        ValueError: ``limit`` is below 1.
    """
    with contextlib.closing(_open(index)) as connection:
        return _explained_search(connection, index, words, limit)


def search_folder(folder: str | os.PathLike, words: str, limit: int = 20) -> Hits:
    """`search_index` on the output folder of a run; the index is made, or made again, when the results are newer.

    Where the folder may not be written, or a file of somebody else's has the name of the index, the index is made in
    memory for this one search.

    Args:
        folder: Folder that holds ``results.jsonl``.
        words: See `search_index`.
        limit: See `search_index`.

    Raises:
        CaptionerError: The folder holds no results, they are damaged, or they or the index are links that lead out of
            the folder; see `search_index`.
    """
    results, index = Path(folder) / RESULTS_NAME, Path(folder) / INDEX_NAME
    for path in (results, index):
        refuse_links(path, folder)
    state = _state(results)
    stored = None
    try:
        with contextlib.closing(_open(index)) as connection:
            stored = _stored_state(connection)
            if stored == state:
                return _explained_search(connection, index, words, limit)
    except (CaptionerError, sqlite3.Error, UnicodeDecodeError) as error:  # the last: what SQLite quotes of the damage
        if getattr(error, "kind", None) == "usage":
            raise
    try:
        if os.path.lexists(index) and stored is None and not is_ours(index):
            raise CaptionerError(f"{printable(str(index))}: not a search index of this package", kind="foreign")
        build_index(results, index)
    except CaptionerError as error:
        if error.kind in ("missing", "read"):
            raise
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            _fill(connection, read_json_lines(results), state)
            return _explained_search(connection, index, words, limit)
    return search_index(index, words, limit)


def _fill(connection: sqlite3.Connection, records: Iterable[Record], state: tuple[int, ...]) -> int:
    connection.execute(
        "CREATE VIRTUAL TABLE entries USING fts5(caption, labels, tags, translations, file UNINDEXED, start UNINDEXED, "
        "end UNINDEXED, unsure UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    connection.execute(f"PRAGMA application_id = {SQLITE_APPLICATION_ID}")
    connection.execute("CREATE TABLE source(format INTEGER, size INTEGER, modified INTEGER)")
    connection.execute("INSERT INTO source VALUES (?, ?, ?)", state)
    words: set[str] = set()

    def rows() -> Iterator[tuple]:
        for record in records:
            for row in _rows(record) if "error" not in record else ():
                words.update(word.lower() for text in row[:4] for word in WORD.findall(text))
                yield row

    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows())
    connection.execute("CREATE TABLE words(word TEXT)")
    connection.executemany("INSERT INTO words VALUES (?)", ((word,) for word in sorted(words)))
    connection.execute("INSERT INTO entries(entries) VALUES ('optimize')")
    connection.commit()
    return connection.execute("SELECT count(*) FROM entries").fetchone()[0]


def _rows(record: Record) -> Iterator[tuple]:
    file = _stored_name(record["file"])
    if "segments" not in record:
        label = _words(record.get("label") or "")
        texts = encodable(record.get("caption") or ""), label, _tags(record), _translated(record)
        yield *texts, file, None, None, _unsure(record)
        return
    for one in record["segments"]:
        label = " ".join(_words(label["label"]) for label in one.get("labels", ())[:1])
        texts = encodable(one["caption"]), label, _tags(one), _translated(one)
        yield *texts, file, one["start"], one["end"], _unsure(one)


def _unsure(record: Record) -> str | None:
    return encodable(record["unsure"]) if record.get("unsure") else None


def _tags(record: Record) -> str:
    return encodable(" ".join(one["tag"] for one in record.get("tags") or ()))


def _translated(record: Record) -> str:
    return encodable("\n".join(one["caption"] for one in (record.get("translations") or {}).values()))


def _words(label: str) -> str:
    """A class name as words: ``JumpingJack`` and ``jumping_jack`` are both found by "jumping"."""
    return encodable(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label))


def _stored_name(name: str) -> str | bytes:
    """SQLite's text is UTF-8; a name that is none is stored as bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
    return name


def _search(connection: sqlite3.Connection, words: str, limit: int) -> Hits:
    query = Query.parse(words)
    found: dict[int, tuple] = {}
    for expression in query.stages():
        condition, values = query.where(expression)
        if len(found) < limit:
            order = f"bm25(entries, {_WEIGHTS}), rowid" if expression else "rowid"
            rows = connection.execute(
                f"SELECT rowid, file, start, end, caption, unsure FROM entries WHERE {condition} "
                f"ORDER BY {order} LIMIT ?",
                (*values, limit),
            )
            for rowid, *row in rows:
                found.setdefault(rowid, tuple(row))
    hits = Hits(_hit(row, rank) for rank, row in enumerate(list(found.values())[:limit], 1))
    (hits.total,) = connection.execute(f"SELECT count(*) FROM entries WHERE {condition}", values).fetchone()
    hits.unknown = {word: _nearest(connection, word) for word in query.words if not _is_known(connection, word)}
    return hits


def _is_known(connection: sqlite3.Connection, word: str) -> bool:
    expression = term(word, prefix=True)
    return bool(connection.execute("SELECT 1 FROM entries WHERE entries MATCH ? LIMIT 1", (expression,)).fetchall())


def _nearest(connection: sqlite3.Connection, word: str) -> list[str]:
    """Words of the captions that are written nearly so."""
    known = connection.execute("SELECT word FROM words LIMIT ?", (_MOST_WORDS,))
    return get_close_matches(word, [text for (text,) in known if isinstance(text, str)], 3, _LIKENESS)


def _hit(row: tuple, rank: int) -> Hit:
    file, start, end, caption, unsure = row
    file = file.decode("utf-8", "surrogatepass") if isinstance(file, bytes) else file
    msgspec.convert((file, start, end, caption, unsure), _Row)  # SQLite keeps any type in any column
    if (start is None) != (end is None):
        raise ValueError("a stretch has no beginning or no end")
    return Hit(file, start, end, caption, rank, unsure)


def _open(index: str | os.PathLike) -> sqlite3.Connection:
    if not Path(index).is_file():
        name = printable(os.fspath(index))
        raise CaptionerError(f"{name}: no such index; search the output folder of a run", kind="missing")
    # Immutable: nothing is written beside it either, such as the journal of a database of somebody else's.
    return sqlite3.connect(f"{Path(index).resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def _explained_search(connection: sqlite3.Connection, index: str | os.PathLike, words: str, limit: int) -> Hits:
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    try:
        return _search(connection, words, limit)
    except (sqlite3.Error, msgspec.ValidationError, ValueError) as error:
        raise CaptionerError(
            f"{printable(os.fspath(index))}: not a search index, or damaged ({error}); delete it and search again",
            kind="read",
        ) from error


def _state(results: str | os.PathLike) -> tuple[int, int, int]:
    """What tells whether an index was made from these very results, in this format."""
    try:
        status = os.stat(results)
    except OSError as error:
        raise CaptionerError(
            f"{printable(os.fspath(results))}: cannot be read: {error.strerror}; give the output folder of a run",
            kind="missing",
        ) from error
    return _FORMAT, status.st_size, status.st_mtime_ns


def _stored_state(connection: sqlite3.Connection) -> tuple[int, ...] | None:
    kinds = connection.execute("SELECT type FROM sqlite_master WHERE name IN ('entries', 'source', 'words')")
    if kinds.fetchall() != [("table",)] * 3:  # a view of a stranger's could compute for ever
        return None
    return connection.execute("SELECT format, size, modified FROM source").fetchone()
