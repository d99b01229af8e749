"""What a run does to its output folder and what it leaves alone: links, files of others, torn results, other runs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from batch_tasks import make, results, run, tree

from captioner.errors import CaptionerError
from captioner.outputs.index import search_folder
from captioner.outputs.locks import LOCK
from captioner.outputs.records import json_line
from captioner.runs.folder import RESULTS, RunFolder


def filled(folder: Path) -> tuple[Path, Path]:
    """An input folder and its output folder after a run."""
    make(folder / "in", "a.mp4", "b/c.mp4")
    assert run(folder / "in", folder / "out").done == 2
    return folder / "in", folder / "out"


# --- places that cannot be written -----------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_fails_one_file(tmp_path, monkeypatch):
    """Immutable folders and names that a disk refuses need root or such a disk; a file in the way needs neither."""
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b/c.mp4", "d.mp4")
    make(output, "b")  # a file where a folder would be
    heard = []

    class Ear:
        started = progressed = staticmethod(lambda *arguments: None)
        finished = staticmethod(lambda path, record: heard.append((os.path.basename(path), "error" in record)))

    summary = run(source, output, listener=Ear())
    assert (summary.done, summary.failed, summary.stopped, summary.exit_status) == (2, 1, None, 1)
    assert heard == [("a.mp4", False), ("c.mp4", True), ("d.mp4", False)]
    (failed,) = [record for record in results(output) if "error" in record]
    assert failed["file"] == str(source / "b/c.mp4") and "cannot write" in failed["error"]["message"]
    again = run(source, output)
    assert (again.skipped, again.failed) == (2, 1), "it is tried again"
    (output / "b").unlink()
    assert run(source, output).exit_status == 0
    assert len(results(output)) == 3


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.EIO])
def test_whatever_the_system_says_about_the_place(tmp_path, monkeypatch, code):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i}.mp4" for i in range(4)))
    replace = os.replace

    def refuse(origin, target):
        if os.path.basename(target).startswith("2.mp4"):
            raise OSError(code, os.strerror(code))
        replace(origin, target)

    monkeypatch.setattr(os, "replace", refuse)
    summary = run(source, output)
    assert (summary.done, summary.failed, summary.stopped) == (3, 1, None)
    assert len(results(output)) == 4


def test_a_path_that_is_too_long_fails_one_file(tmp_path):
    source, output = tmp_path / "i", tmp_path / "output-with-a-longer-name"
    deep = source
    while len(str(deep)) < 4060 - len("/a.mp4"):
        deep = deep / ("d" * min(200, 4059 - len("/a.mp4") - len(str(deep))))
    make(source, "a.mp4")
    make(deep, "b.mp4")
    summary = run(source, output)
    assert (summary.done, summary.failed, summary.stopped) == (1, 1, None)


def test_an_old_result_does_not_stand_for_a_new_one_that_cannot_be_written(tmp_path, monkeypatch):
    source, output = filled(tmp_path)
    make(source, "a.mp4", text="longer than before")
    replace = os.replace

    def refuse(origin, target):
        if os.path.basename(target) == "a.mp4.json":
            raise PermissionError(errno.EPERM, "immutable")
        replace(origin, target)

    monkeypatch.setattr(os, "replace", refuse)
    assert run(source, output).failed == 1
    assert [record.get("text", "failed") for record in results(output)] == ["b/c.mp4", "failed"]


def test_a_folder_that_cannot_be_written_at_all_stops_the_run(tmp_path, monkeypatch):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i}.mp4" for i in range(4)))
    replace = os.replace

    def refuse(origin, target):
        if os.path.basename(target).startswith("2.mp4"):
            monkeypatch.setattr("captioner.runs.batch.check_writable", gone)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        replace(origin, target)

    def gone(folder):
        raise CaptionerError("read-only", kind="permission")

    monkeypatch.setattr(os, "replace", refuse)
    summary = run(source, output)
    assert summary.done == 2 and summary.stopped.kind == "permission"


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [RESULTS, LOCK, "results.csv"])
@pytest.mark.parametrize("there", [True, False])
def test_links_at_the_top_are_refused(tmp_path, name, there):
    make(tmp_path, "in/a.mp4", "out/x")
    if there:
        make(tmp_path, "outside", text="mine")
    (tmp_path / "out" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(CaptionerError, match="is a link"):
        run(tmp_path / "in", tmp_path / "out", finish={"results.csv": lambda folder: "x"})
    assert (tmp_path / "outside").exists() == there and (not there or (tmp_path / "outside").read_text() == "mine")


def test_a_lock_with_two_names_is_not_written(tmp_path):
    make(tmp_path, "in/a.mp4", "out/x")
    make(tmp_path, "outside", text="process mine")
    os.link(tmp_path / "outside", tmp_path / "out" / LOCK)
    assert run(tmp_path / "in", tmp_path / "out").done == 1
    assert (tmp_path / "outside").read_text() == (tmp_path / "out" / LOCK).read_text() == "process mine"


def test_nothing_is_written_through_a_linked_subfolder(tmp_path):
    make(tmp_path, "in/a.mp4", "in/b/c.mp4", "in/b/deep/d.mp4", "outside/mine", "out/x")
    (tmp_path / "out/b").symlink_to(tmp_path / "outside")
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.done, summary.failed) == (1, 2)
    assert list(tree(tmp_path / "outside")) == ["mine"]
    assert sum("is a link" in record.get("error", {}).get("message", "") for record in results(tmp_path / "out")) == 2


def test_results_that_are_links_are_not_taken_for_results(tmp_path):
    source, output = filled(tmp_path)
    outside = tmp_path / "outside.json"
    os.replace(output / "a.mp4.json", outside)
    before = outside.read_bytes()
    (output / "a.mp4.json").symlink_to(outside)
    os.mkfifo(output / "z.json")
    assert run(source, output, settings={"other": 1}).done == 2
    assert outside.read_bytes() == before
    assert [record["text"] for record in results(output)] == ["a.mp4", "b/c.mp4"]


def test_searching_goes_through_no_link(tmp_path):
    record = json_line({"file": "a.jpg", "caption": "a dog", "score": -1.0, "confidence": 0.5}) + "\n"
    make(tmp_path / "out", RESULTS, text=record)
    (tmp_path / "out/index.sqlite").symlink_to(tmp_path / "outside")
    with pytest.raises(CaptionerError, match="is a link"):
        search_folder(tmp_path / "out", "dog")
    assert not (tmp_path / "outside").exists()
    (tmp_path / "out/index.sqlite").unlink()
    os.replace(tmp_path / "out" / RESULTS, tmp_path / "elsewhere")
    (tmp_path / "out" / RESULTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CaptionerError, match="is a link"):
        search_folder(tmp_path / "out", "dog")


def test_a_link_to_the_output_folder_itself_is_no_obstacle(tmp_path):
    make(tmp_path, "in/a.mp4", "real/x")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert run(tmp_path / "in", tmp_path / "out").done == 1
    assert (tmp_path / "real/a.mp4.json").is_file()


# --- files of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (RESULTS, '{"caption": "mine"}\n'),
        (RESULTS, "mine"),
        ("results.csv", "name;price\n"),
        ("index.html", "<html>mine</html>"),
    ],
)
def test_a_file_of_somebody_elses_keeps_its_name(tmp_path, name, text):
    make(tmp_path, "in/a.mp4")
    make(tmp_path / "out", name, text=text)
    finish = {"results.csv": lambda folder: "file,rank,caption,", "index.html": lambda folder: "<html>"}
    with pytest.raises(CaptionerError, match=f"{name}: is there and was not written by a run") as caught:
        run(tmp_path / "in", tmp_path / "out", finish=finish)
    assert caught.value.kind == "foreign" and list(tree(tmp_path / "out")) == [name]
    assert (tmp_path / "out" / name).read_text() == text


def test_a_file_that_is_not_needed_is_no_obstacle(tmp_path):
    make(tmp_path, "in/a.mp4")
    make(tmp_path / "out", "results.csv", "index.html", text="mine")
    assert run(tmp_path / "in", tmp_path / "out").done == 1
    assert (tmp_path / "out/results.csv").read_text() == (tmp_path / "out/index.html").read_text() == "mine"


def test_a_file_that_comes_while_the_run_goes_on_is_kept(tmp_path):
    make(tmp_path, "in/a.mp4")

    def page(folder):
        make(tmp_path / "out", "results.csv", text="mine")
        return "ours"

    summary = run(tmp_path / "in", tmp_path / "out", finish={"results.csv": page})
    assert summary.stopped.kind == "foreign" and (tmp_path / "out/results.csv").read_text() == "mine"


def test_a_lock_file_of_somebody_elses_is_kept(tmp_path):
    make(tmp_path, "in/a.mp4")
    make(tmp_path / "out", LOCK, text="my notes")
    assert run(tmp_path / "in", tmp_path / "out").done == 1
    assert (tmp_path / "out" / LOCK).read_text() == "my notes"


def test_subtitles_that_came_later_are_kept(tmp_path):
    """The output folder may be the folder of the videos, for which somebody finds real subtitles later."""
    source = tmp_path / "in"
    make(source, "a.mp4", "b.mp4")
    assert run(source, source, sidecars={}).done == 2
    make(source, "a.mp4.srt", text="mine")
    summary = run(source, source)
    assert summary.skipped == 2 and "a.mp4.srt: is there and was not written by a run" in str(summary)
    assert (source / "b.mp4.srt").read_text() == "subtitle of b.mp4\n"
    for options in ({"overwrite": True}, {"settings": {"other": 1}}):
        summary = run(source, source, **options)
        assert summary.done == 2 and (source / "a.mp4.srt").read_text() == "mine"
    assert (source / "b.mp4.srt").read_text() == "subtitle of b.mp4\n"


def test_sidecars_of_formats_that_are_not_asked_for_again_do_not_stay_behind(tmp_path):
    source, output = filled(tmp_path)
    make(source, "a.mp4", text="longer than before")
    run(source, output, sidecars={})
    assert not (output / "a.mp4.srt").exists() and (output / "b/c.mp4.srt").exists()


# --- torn results ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_torn_result_is_made_again(tmp_path, share):
    source, output = filled(tmp_path)
    whole = (output / "a.mp4.json").read_bytes()
    before = tree(output)
    torn = whole[: int(len(whole.rstrip()) * share)]
    (output / "a.mp4.json").write_bytes(torn)
    summary = run(source, output)
    assert (summary.done, summary.skipped, summary.exit_status) == (1, 1, 0)
    assert tree(output) == before


def test_torn_results_of_files_that_are_not_looked_at_are_said(tmp_path):
    source, output = filled(tmp_path)
    whole = (output / "b/c.mp4.json").read_bytes()
    (output / "b/c.mp4.json").write_bytes(whole[:-9])
    summary = run(source / "a.mp4", output)
    assert "Damaged results whose files are not among the inputs, left out: 1." in str(summary)


# --- other runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("busy", "other"), [("out", "out/sub"), ("out", "out/a/b/c"), ("out/sub", "out")])
def test_a_run_inside_another_is_refused(tmp_path, busy, other):
    make(tmp_path, "in/a.mp4")
    with RunFolder(tmp_path / busy):
        temporary = tmp_path / busy / ".captioner-0123.tmp"
        temporary.touch()
        with pytest.raises(CaptionerError, match=f"process {os.getpid()} on .* is working on") as caught:
            run(tmp_path / "in", tmp_path / other)
        assert caught.value.kind == "locked" and temporary.exists()
    assert run(tmp_path / "in", tmp_path / other).done == 1, "one after the other they may"


def test_a_run_beside_another_is_not(tmp_path):
    make(tmp_path, "in/a.mp4")
    with RunFolder(tmp_path / "out/a"):
        assert run(tmp_path / "in", tmp_path / "out/b").done == 1


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, code):
    import fcntl

    def refuse(handle, operation):
        raise OSError(code, os.strerror(code))

    make(tmp_path, "in/a.mp4")
    monkeypatch.setattr(fcntl, "flock", refuse)
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.done, summary.exit_status) == (1, 0) and "knows no locks" in str(summary)
    assert not (tmp_path / "out" / LOCK).exists()


# --- files that go and come ------------------------------------------------------------------------------------------


def test_results_of_files_that_are_gone_are_said_and_dropped_if_asked(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b.mp4", "sub/c.mp4")
    run(source, output)
    os.replace(source / "a.mp4", source / "renamed.mp4")
    (source / "sub/c.mp4").unlink()
    (source / "sub").rmdir()
    summary = run(source, output)
    assert (summary.done, summary.gone) == (1, 2) and "files that are gone: 2; --prune drops them" in str(summary)
    assert len(results(output)) == 4
    summary = run(source, output, prune=True)
    assert (summary.gone, summary.pruned) == (0, 2) and "dropped: 2" in str(summary)
    assert [record["text"] for record in results(output)] == ["b.mp4", "a.mp4"]
    assert set(tree(output)) == {
        RESULTS,
        *(f"{name}.{end}" for name in ("b.mp4", "renamed.mp4") for end in ("json", "srt")),
    }


def test_what_lies_elsewhere_is_not_gone(tmp_path):
    """A disk that is not plugged in, and runs over different folders into one."""
    make(tmp_path, "one/a.mp4", "two/a.mp4")
    run(tmp_path / "one", tmp_path / "out")
    os.replace(tmp_path / "one", tmp_path / "unplugged")
    for paths in ([tmp_path / "two"], [tmp_path / "two", tmp_path / "one"]):
        summary = run(paths, tmp_path / "out", prune=True)
        assert summary.gone == summary.pruned == 0
    assert {"one", "two"} == {
        Path(record["file"]).parent.name for record in results(tmp_path / "out") if "text" in record
    }


def test_pruning_leaves_files_of_others(tmp_path):
    source = tmp_path / "in"
    make(source, "a.mp4", "b.mp4")
    run(source, source, sidecars={})
    make(source, "a.mp4.srt", text="mine")
    (source / "a.mp4").unlink()
    assert run(source, source, prune=True).pruned == 1
    assert not (source / "a.mp4.json").exists() and (source / "a.mp4.srt").read_text() == "mine"


GROWING = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[1])
    from batch_tasks import Reads, run
    sys.exit(run(sys.argv[2], sys.argv[3], Reads(4, seconds=0.05)).exit_status)
""")


@pytest.mark.timeout(120)
def test_a_folder_that_grows_and_changes_while_the_run_goes_on(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i:02}.mp4" for i in range(20)))
    command = [sys.executable, "-c", GROWING, str(Path(__file__).parents[1]), str(source), str(output)]
    process = subprocess.Popen(command)
    while not (output / "03.mp4.json").exists():
        time.sleep(0.01)
    make(source, "05a.mp4", "new/x.mp4")  # after the list was made: the next run's
    make(source, "18.mp4", text="rewritten while the run goes on")
    (source / "19.mp4").unlink()
    assert process.wait() == 1, "the one that went away has failed"
    assert len(results(output)) == 20
    summary = run(source, output)
    assert (summary.done, summary.failed, summary.gone) == (3, 0, 1), "two new ones, and the one that was rewritten"
    texts = [record.get("text") for record in results(output)]
    assert "rewritten while the run goes on" in texts and "new/x.mp4" in texts and len(texts) == 22
