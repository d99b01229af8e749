"""Locks of folders: one process at a time, nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from captioner.errors import CaptionerError
from captioner.outputs.locks import LOCK, exclusive, locked

HOLD = """
import sys, time
from captioner.outputs.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@exclusive
def work(data, output, *, left=True):
    """What `exclusive` must not hide."""
    (output / "result").write_text(str(data)) if left else None
    return data


def test_a_function_that_holds_its_folder(tmp_path):
    assert work(3, tmp_path / "out") == 3 == work(data=3, output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]
    assert "must not hide" in work.__doc__
    with locked(tmp_path / "out"), pytest.raises(CaptionerError, match="is working on this folder") as caught:
        work(4, tmp_path / "out")
    assert caught.value.kind == "locked" and (tmp_path / "out/result").read_text() == "3"


def test_a_folder_in_which_nothing_came_of_it_goes_again(tmp_path):
    work(3, tmp_path / "new", left=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    work(3, tmp_path / "old", left=False)
    assert (tmp_path / "old").is_dir()


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(CaptionerError, match=f"process {process.pid} on"):
        work(3, tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / LOCK).exists() and work(3, tmp_path) == 3
    assert not (tmp_path / LOCK).exists()
