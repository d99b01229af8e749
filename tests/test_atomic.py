"""Atomic files: whole or not there, whatever stops the writing."""

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from captioner.atomic import TEMPORARY_PREFIX, remove_leftovers, replacing, write_atomic, write_error
from captioner.errors import CaptionerError
from captioner.names import encodable, printable


def test_writes_text_and_bytes_exactly_and_makes_folders(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "é\r\n\udcff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xc3\xa9\r\n\\udcff"
    write_atomic(str(tmp_path / "c.bin"), b"\x00\xff")
    assert (tmp_path / "c.bin").read_bytes() == b"\x00\xff"
    assert sorted(os.listdir(tmp_path)) == ["a", "c.bin"]


def test_a_name_of_250_bytes_has_room(tmp_path):
    write_atomic(tmp_path / ("n" * 250), "x")
    assert os.listdir(tmp_path) == ["n" * 250]


def test_readers_see_the_old_content_until_the_block_ends(tmp_path):
    target = tmp_path / "file"
    write_atomic(target, "old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, CaptionerError])
def test_an_exception_leaves_the_old_content_and_no_litter(tmp_path, error):
    write_atomic(tmp_path / "file", "old")
    with pytest.raises(error), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise error("stop")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_new_files_have_the_usual_permissions(tmp_path):
    write_atomic(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_reasons_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "file" / "x": "not_a_folder",
        tmp_path / "folder": "not_a_file",
        tmp_path / ("n" * 300): "name_too_long",
    }
    for path, kind in cases.items():
        with pytest.raises(CaptionerError, match="cannot write") as caught:
            write_atomic(path, "x")
        assert caught.value.kind == kind
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    full = write_error("a\nb", OSError(errno.ENOSPC, "No space"))
    assert full.kind == "disk_full" and "a\\nb" in str(full)
    assert write_error("a", OSError(errno.EIO, "I/O error")).kind == "write"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file-size limit")
def test_a_file_size_limit_reads_as_a_full_disk(tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from captioner.atomic import write_atomic; from captioner.errors import CaptionerError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(sys.argv[1], b'x' * 5000)\n"
        "except CaptionerError as error: print(error.kind)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, text=True, check=True)
    assert done.stdout == "disk_full\n"
    assert os.listdir(tmp_path) == []


def test_readers_never_see_a_part(tmp_path):
    target = tmp_path / "file"
    contents = {letter * 200_000 for letter in "ab"}
    write_atomic(target, "a" * 200_000)
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(target.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(20):
            for content in contents:
                write_atomic(target, content)
    finally:
        stop.set()
        reader.join()
    assert seen <= contents


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in (f"{TEMPORARY_PREFIX}1.tmp", f"sub/{TEMPORARY_PREFIX}2.tmp", "mine.tmp", f"{TEMPORARY_PREFIX}x"):
        (tmp_path / name).write_text("")
    assert remove_leftovers(tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == [f"{TEMPORARY_PREFIX}x", "mine.tmp", "sub"]
    assert os.listdir(tmp_path / "sub") == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain é 写 😀", "plain é 写 😀"),
        ("a\nb\t\x1b[0m\x7f", "a\\nb\\t\\x1b[0m\\x7f"),
        ("\u202egpj\u2028\u200b\ufeff", "\\u202egpj\\u2028\\u200b\\ufeff"),
        (os.fsdecode(b"\xff\x80"), "\\xff\\x80"),
        ("\ud83d", "\\ud83d"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected
    assert len(printable(text).splitlines()) == 1
    printable(text).encode("utf-8")


def test_encodable_changes_only_what_utf8_cannot_carry():
    assert encodable("a\n\u202e😀") == "a\n\u202e😀"
    assert encodable(os.fsdecode(b"a\xff")) == "a\\xff"
    encodable("\ud83d\udcff").encode("utf-8")
