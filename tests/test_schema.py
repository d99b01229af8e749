"""The decoder of foreign files: the right values pass, and what is wrong is said with file, field and remedy."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
from msgspec import Meta

from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.files import open_regular, read_regular
from captioner.schema import Name, Share, check_fields, decode, fit


@dataclass(frozen=True)
class Inner:
    heads: Annotated[int, Meta(ge=1, le=8)] = 4
    cell: Literal["gru", "lstm"] = "gru"
    share: Share = 0.5
    names: tuple[Name, ...] = ()

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    table: dict[Name, Inner] | None = None
    rows: tuple[Inner, ...] = ()


def test_a_right_file():
    text = '{"inner": {"heads": 2, "names": ["a"], "share": 1}, "table": {"x": {}}, "rows": [{}, {"cell": "lstm"}]}'
    expected = Outer(Inner(2, names=("a",), share=1.0), {"x": Inner()}, (Inner(), Inner(cell="lstm")))
    assert decode(text, Outer, "f") == decode(text.encode(), Outer, "f") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\xff", "not UTF-8"),
        ("9" * 5000, "not valid JSON"),
        ("[]", "must be a table, not a list"),
        ("null", "must be a table, not nothing"),
        ("{}", "lacks inner"),
        ('{"inner": 3}', "inner must be a table, not a whole number"),
        ('{"inner": {"heads": 0}}', r"inner\.heads must be a whole number >= 1"),
        ('{"inner": {"heads": 9}}', r"inner\.heads must be a whole number <= 8"),
        ('{"inner": {"heads": 1e400}}', r"inner\.heads must be a whole number, not a number"),
        ('{"inner": {"heads": true}}', r"inner\.heads must be a whole number, not true or false"),
        ('{"inner": {"heads": null}}', r"inner\.heads must be a whole number, not nothing"),
        ('{"inner": {"share": NaN}}', r"inner\.share must be a number"),
        ('{"inner": {"share": Infinity}}', r"inner\.share must be a number"),
        ('{"inner": {"share": 1e400}}', r"inner\.share must be a number <= 1"),
        ('{"inner": {"cell": []}}', r"inner\.cell must be text, not a list"),
        ('{"inner": {"cell": "x"}}', r"inner\.cell has the unknown value 'x'"),
        ('{"inner": {"names": ["a", ""]}}', r"inner\.names\[1\] must be text of length >= 1"),
        ('{"inner": {"names": ["\\u001b[31m"]}}', r"inner\.names\[0\] must be text of printable characters"),
        ('{"inner": {"names": ["\\udcff"]}}', r"inner\.names\[0\] must be text of printable characters"),
        ('{"inner": {"heads": "\\udcff"}}', "holds text that is no UTF-8"),
        ('{"inner": {"names": ["a\\n"]}}', r"inner\.names\[0\] must be text of printable characters"),
        ('{"inner": {}, "table": {"": {}}}', r"a name in table must be text of length >= 1"),
        ('{"inner": {"tails": 3}}', r"inner\.tails is a setting that this version does not know"),
        ('{"inner": {}, "x\\u001b": 3}', r"x\\x1b is a setting that this version does not know"),
        ('{"inner": {}, "rows": [{}, {"y": 1}]}', r"rows\[1\]\.y is a setting that this version does not know"),
        ('{"inner": {}, "table": {"x": {"y": 1}}}', r"table\.x\.y is a setting that this version does not know"),
    ],
)
def test_a_wrong_file(text, message):
    with pytest.raises(ModelLoadError, match=f"^folder/f: {message}.*; get the folder again$") as caught:
        decode(text, Outer, "folder/f")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    with pytest.raises(DatasetError, match=r"; do something$"):
        decode(text, Outer, "f", error=DatasetError, remedy="do something")


def test_what_another_version_added_can_be_let_pass():
    assert fit({"inner": {"tails": 3}, "more": 1}, Outer, "f", more=True) == Outer(Inner())


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"heads": "4"}, {"cell": "x"}, {"share": np.nan}, {"names": ("",)}])
def test_callers_are_held_to_the_same_bounds(wrong):
    (name,) = wrong
    with pytest.raises(CaptionerError, match=rf"^{name}(\[0\]| ).* \(it is ") as caught:
        Inner(**wrong)
    assert caught.value.kind == "usage"


def test_numbers_of_numpy_are_numbers():
    assert Inner(np.int64(3), share=np.float32(0.25)).heads == 3
    with pytest.raises(CaptionerError, match="heads"):
        Inner(np.int64(300))


def test_regular_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "a", 3) == read_regular(tmp_path / "link", 3) == b"abc"
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"abc"
    for path, limit, links, message in (("a", 2, True, "larger than 2 bytes"), ("link", 3, False, "is a link")):
        with pytest.raises(OSError, match=message):
            read_regular(tmp_path / path, limit, follow_links=links)


@pytest.mark.parametrize("what", ["fifo", "folder", "device", "link to a device", "link to a fifo", "nothing", "loop"])
def test_other_files_are_not_opened(tmp_path, what):
    path = tmp_path / "it"
    if "fifo" in what:
        os.mkfifo(tmp_path / "fifo")
    match what:
        case "fifo":
            path = tmp_path / "fifo"
        case "folder":
            path.mkdir()
        case "device":
            path = "/dev/zero"
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link to a fifo":
            path.symlink_to("fifo")
        case "loop":
            path.symlink_to("it")
    with pytest.raises(OSError):
        read_regular(path, 100)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(10))
    monkeypatch.setattr("captioner.files._check", lambda *arguments: None)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        read_regular(tmp_path / "a", 9)


def test_what_is_written_is_json_that_can_be_read():
    assert decode(json.dumps({"inner": {}}), Outer, "f") == Outer(Inner())
