"""Damage: bytes that are changed, cut and repeated, and JSON whose values are exchanged for hostile ones."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# Numbers that lengths, counts and offsets in binary formats are compared with.
_EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 999, 1000, 1001, 5000, 10**9, -(10**9), 2**31, 2**63, 2**64, 10**30, 0.5,
    -0.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"), "", "x", "0", "1e9", "\x1b[31m", "\u202e", "\udcff",
    "\0", "a" * 10_000, "../../etc/passwd", "/dev/zero", [], [[]], [1, 2], [0, 10**8], [None], ["a", "a"], {}, {"": 1},
    {"x": {}}, [0.1] * 1000, [[1, 2]] * 3,
]  # fmt: skip
"""Values that settings, records and tables may have where they should not."""


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """The data after one to six changes."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        _change(changed, rng)
    return bytes(changed)


def _change(data: bytearray, rng: random.Random) -> None:
    # Headers decide more than what they describe: half of the changes lie in the first part.
    place = rng.randrange(max(1, min(len(data), 200) if rng.random() < 0.5 else len(data)))
    length = rng.choice([1, 2, 4, 16, 256, 4096])
    match rng.randrange(9):
        case 0:
            data[place : place + 1] = bytes([data[place] ^ 1 << rng.randrange(8)]) if data else b"\0"
        case 1:
            data[place : place + length] = rng.randbytes(length)
        case 2:
            data[place : place + length] = bytes(length)
        case 3:
            del data[place : place + length]
        case 4:
            data[place:place] = data[place : place + length] * rng.choice([1, 2, 50])
        case 5:
            del data[rng.randrange(len(data) + 1) :]
        case 6:
            size, order = rng.choice([1, 2, 4, 8]), rng.choice(["big", "little"])
            data[place : place + size] = (rng.choice(_EDGES) % 256**size).to_bytes(size, order)
        case 7:
            other = rng.randrange(len(data) + 1)
            data[place : place + length] = data[other : other + length]
        case 8:
            data[place:place] = rng.randbytes(length)


def damaged_json(record: Any, rng: random.Random) -> Any:
    """The record after one to three changes of values, names or lengths."""
    record = copy.deepcopy(record)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(record))
        if not places:
            return _hostile(rng)
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(["", "x", "\x1b[2J", "seed", "format", "kind"])] = _hostile(rng)
            case 2 if isinstance(holder, list):
                holder.extend([holder[key]] * rng.choice([1, 3, 2000]))
            case 3 if isinstance(holder[key], int | float):
                holder[key] = holder[key] * rng.choice([-1, 0.5, 2, 10, 10**6])
            case 4:
                holder[key] = copy.deepcopy(rng.choice(places)[0])
            case _:
                holder[key] = _hostile(rng)
    return record


def json_text(record: Any, rng: random.Random) -> bytes:
    """A record as JSON, as Python writes it; now and then its text is damaged as well."""
    text = json.dumps(record, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return damaged_bytes(text, rng) if rng.random() < 0.15 else text


def _hostile(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(HOSTILE))  # the next change may be to it


def _places(value: Any):
    """Every place in a record, as the dict or list that holds it and its key."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
