"""What was written by others, decoded into types with bounds; one sentence says which field of which file is wrong.

The types are frozen dataclasses whose fields carry their bounds (`msgspec.Meta`), so that a bound stands in one place
and holds for a file as for a caller: `decode` and `fit` check what was read, `check_fields` what was made by hand.
"""

from __future__ import annotations

import functools
import json
import re
import typing
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from captioner.errors import CaptionerError, ModelLoadError
from captioner.names import printable

T = TypeVar("T")

Share = Annotated[float, Meta(ge=0, le=1)]
"""A probability, or another share of a whole."""

Name = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+\Z")
]
"""A label or a name: some text on one line, without what would steer a terminal."""

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_WORDS = (
    ("Expected ", "must be "),
    (", got ", ", not "),
    ("Object missing required field ", "lacks "),
    ("Invalid enum value ", "has the unknown value "),
)


def decode(
    text: str | bytes, kind: type[T], where: str, *, error: type[CaptionerError] = ModelLoadError,
    remedy: str = "get the folder again",
) -> T:  # fmt: skip
    """JSON text as an object of a type.

    Args:
        text: The content of a file.
        kind: A dataclass, or another type that msgspec knows.
        where: The file, for error messages.
        error: What is raised.
        remedy: How the message ends.

    Raises:
        CaptionerError: Of the type ``error``; the text is no JSON, or `fit` refuses it.
    """
    return fit(parse(text, where, error=error, remedy=remedy), kind, where, error=error, remedy=remedy)


def parse(
    text: str | bytes, where: str, *, error: type[CaptionerError] = ModelLoadError, remedy: str = "get the folder again"
) -> Any:
    """JSON text as plain Python values; what is no number (NaN, Infinity) becomes None. Arguments as for `decode`.

    Raises:
        CaptionerError: Of the type ``error``; the text is no JSON.
    """
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except UnicodeDecodeError as problem:
        raise error(f"{where}: not UTF-8 text; {remedy}", kind="read") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON ({printable(str(problem))}); {remedy}", kind="read") from problem


def fit(
    record: Any, kind: type[T], where: str, *, more: bool = False, error: type[CaptionerError] = ModelLoadError,
    remedy: str = "get the folder again",
) -> T:  # fmt: skip
    """Plain Python values as an object of a type; arguments as for `decode`.

    Args:
        record: What `parse` gave.
        kind: See `decode`.
        where: See `decode`.
        more: Whether there may be fields that the type does not have: another version wrote them, and nothing that is
            computed depends on them.
        error: See `decode`.
        remedy: See `decode`.

    Raises:
        CaptionerError: Of the type ``error``; a field is missing, unknown, of another type or out of bounds.
    """
    try:
        value = msgspec.convert(record, kind)
    except UnicodeEncodeError as problem:  # of text where there should be something else
        raise error(f"{where}: holds text that is no UTF-8; {remedy}", kind="read") from problem
    except (msgspec.ValidationError, CaptionerError, RecursionError) as problem:
        raise error(f"{where}: {_sentence(problem)}; {remedy}", kind="read") from problem
    if not more and (unknown := _unknown(record, value)):
        raise error(f"{where}: {printable(unknown[:100])} is a setting that this version does not know; {remedy}")
    return value


def check_fields(value: Any) -> None:
    """Holds a dataclass that a caller made to the bounds of its fields; to be called by its ``__post_init__``.

    Raises:
        CaptionerError: A field is of another type or out of bounds (``kind="usage"``).
    """
    for name, hint in _hints(type(value)).items():
        given = getattr(value, name)
        given = given.item() if hasattr(given, "item") else given  # a NumPy number
        try:
            msgspec.convert(given, hint)
        except (msgspec.ValidationError, UnicodeEncodeError) as problem:
            raise CaptionerError(
                f"{name} {_sentence(problem)} (it is {printable(repr(given)[:50])})", kind="usage"
            ) from problem


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _sentence(problem: Exception) -> str:
    """``decoder.heads must be a whole number >= 1`` from the message of msgspec, or any other message as it is."""
    reason, _, path = str(problem).partition(" - at `")
    for technical, plain in _WORDS:
        reason = reason.replace(technical, plain)
    reason = re.sub(" matching regex .*", " of printable characters", reason)
    reason = re.sub(
        "`([^`]*)`", lambda match: " or ".join(_TYPES.get(one, one) for one in match[1].split(" | ")), reason
    )
    path, in_key = path.rstrip("`"), path.startswith("key` in `")
    path = path.removeprefix("key` in `").removeprefix("$").lstrip(".")
    path = f"a name in {path}".removesuffix(" in ") if in_key else path
    return printable(f"{path} {reason}".strip()[:300])


def _unknown(record: Any, value: Any, path: str = "") -> str | None:
    """The first field of a record that the type which it was made into does not have."""
    inside: typing.Iterable[tuple[Any, Any, str]] = ()
    if is_dataclass(value):
        known = {field.name for field in fields(value)}
        for key in record:
            if key not in known:
                return path + key
        inside = [(record[key], getattr(value, key), f"{path}{key}.") for key in record]
    elif isinstance(value, dict):
        inside = [(record[key], value[key], f"{path}{key}.") for key in record]
    elif isinstance(value, list | tuple):
        inside = [
            (one, other, f"{path.removesuffix('.')}[{number}].")
            for number, (one, other) in enumerate(zip(record, value, strict=True))
        ]
    return next(filter(None, (_unknown(*each) for each in inside)), None)
