"""What people look for, as they type it: words, ``"a phrase"``, ``-not``, ``tag:dog``, ``video:``, ``after 10:00``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from captioner.errors import CaptionerError
from captioner.names import printable

WORD = re.compile(r"[^\W_]+")
# Words that nearly every caption has; they do not tell one from another.
_STOP_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be being by for from has have he her his in into is it its of on or over she some that the "
        "their there they this to up was were while who with"
    )
)
# Plurals that stemming cannot see.
_IRREGULAR = [
    {"man", "men"},
    {"woman", "women"},
    {"child", "children"},
    {"person", "people"},
    {"foot", "feet"},
    {"tooth", "teeth"},
    {"mouse", "mice"},
    {"goose", "geese"},
    {"knife", "knives"},
    {"leaf", "leaves"},
    {"wolf", "wolves"},
    {"calf", "calves"},
]
_SHORTEST_PREFIX = 3
_TERM = re.compile(
    r'(?P<without>-|not:)?(?:(?P<kind>tag|video|photo|after|before):)?(?:"(?P<phrase>[^"]*)"|(?P<word>\S*))'
)
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,6}):)?(\d{1,9})s?")


@dataclass
class Query:
    """What is looked for.

    Attributes:
        words: Plain words, in lower case; the more of them a caption has, the better.
        required: FTS5 expressions of what it must have: phrases and tags.
        excluded: FTS5 expressions of what it must not have.
        conditions: SQL conditions on ``file``, ``start`` and ``end``, each with its values.
    """

    words: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    conditions: list[tuple[str, tuple]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Query:
        """From what somebody typed; whatever is no syntax is words.

        Raises:
            CaptionerError: Nothing is looked for, or a time is none (``kind="usage"``).
        """
        query = cls()
        spaced = re.sub(r"\b(after|before)\s+(?=\d+:\d)", r"\1:", text)
        for term in _TERM.finditer(spaced):
            query._add(**term.groupdict())
        query.words = list(dict.fromkeys(query.words))
        if not (query.words or query.required or query.excluded or query.conditions):
            raise CaptionerError(
                f"no word to look for in {printable(text)!r}; give some, like: dog beach", kind="usage"
            )
        query.words = [word for word in query.words if word not in _STOP_WORDS] or query.words
        return query

    def _add(self, without: str | None, kind: str | None, phrase: str | None, word: str | None) -> None:
        text = (word if phrase is None else phrase) or ""
        spoken = [found.lower() for found in WORD.findall(text)]
        if kind in ("video", "photo"):
            condition = f"start IS {'NOT ' * (kind == 'video')}NULL AND instr(lower(CAST(file AS TEXT)), ?) > 0"
            self.conditions.append((f"NOT ({condition})" if without else condition, (text.lower(),)))
        elif kind is not None and kind != "tag":
            condition = "end > ?" if kind == "after" else "start < ?"
            self.conditions.append((condition, (_seconds(text, kind),)))
        elif spoken and (without or kind or phrase is not None):
            expression = ("tags : " if kind else "") + _phrase(spoken)
            (self.excluded if without else self.required).append(expression)
        else:
            self.words += spoken

    def stages(self) -> Iterator[str | None]:
        """FTS5 expressions, the best hits first, each wider than what comes before; None matches everything.

        All words; all of them as beginnings of words; some; some as beginnings; none, where a phrase or a tag is
        required.
        """
        exact = [term(word) for word in self.words]
        beginning = [term(word, prefix=True) for word in self.words]
        ways = ((exact, " AND "), (beginning, " AND "), (exact, " OR "), (beginning, " OR ")) if self.words else ()
        for terms, operator in ways:
            yield " AND ".join(f"({part})" for part in (*self.required, operator.join(terms)))
        if self.required or not self.words:
            yield " AND ".join(f"({part})" for part in self.required) or None

    def where(self, expression: str | None) -> tuple[str, tuple]:
        """The SQL condition on rows of ``entries`` and its values, for one of the `stages`."""
        conditions = [("entries MATCH ?", (expression,))] if expression else []
        excluded = " OR ".join(self.excluded)
        if excluded:
            conditions.append(("rowid NOT IN (SELECT rowid FROM entries WHERE entries MATCH ?)", (excluded,)))
        conditions += self.conditions
        return " AND ".join(text for text, _ in conditions), tuple(value for _, some in conditions for value in some)


def term(word: str, *, prefix: bool = False) -> str:
    """A word as an FTS5 expression; inside double quotes nothing is syntax, and a word holds no double quote."""
    forms = next((forms for forms in _IRREGULAR if word in forms), {word})
    star = " *" if prefix and len(word) >= _SHORTEST_PREFIX else ""
    return "(" + " OR ".join(f'"{form}"{star}' for form in sorted(forms)) + ")"


def _phrase(words: list[str]) -> str:
    return term(words[0]) if len(words) == 1 else '"' + " ".join(words) + '"'


def _seconds(text: str, kind: str) -> int:
    match = _TIME.fullmatch(text)
    if not match:
        raise CaptionerError(f"{kind} {printable(text)!r}: no time; write {kind} 10:00, or 1:02:03", kind="usage")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
