"""Folders of files: finding them, naming results, resuming, isolating failures, surviving kills and full disks."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from batch_tasks import EXTENSIONS, SIDECARS, Reads, make, results, run, tree

from captioner.errors import CaptionerError
from captioner.outputs.locks import LOCK
from captioner.runs.folder import RESULTS, RunFolder, fingerprint
from captioner.runs.inputs import find_inputs, natural_key

# --- finding -------------------------------------------------------------------------------------------------------


def found(paths, root, **options):
    return [os.path.relpath(one.file, root) for one in find_inputs(paths, EXTENSIONS, **options)]


def test_folders_are_searched_to_the_bottom_and_sorted_as_people_count(tmp_path):
    make(tmp_path, "b10.mp4", "b9.AVI", "B2.Mp4", "a/z.mp4", "a/deep/er/x.mp4", "notes.txt", "mp4", "noext")
    make(tmp_path, ".hidden.mp4", ".hidden/x.mp4")
    assert found([tmp_path], tmp_path) == ["a/deep/er/x.mp4", "a/z.mp4", "B2.Mp4", "b9.AVI", "b10.mp4"]


def test_natural_key_orders_everything():
    names = ["1", "01", "a", "1a", "a1", "A1", "", "²", "१", "a/b", "a b", "9" * 5000]
    for _ in range(20):
        random.shuffle(names)
        ordered = sorted(names, key=natural_key)
        assert ordered == sorted(ordered, key=natural_key)
    assert natural_key("a1") != natural_key("A1")


def test_a_named_file_counts_whatever_its_name(tmp_path):
    make(tmp_path, "clip.xyz", ".hidden", "b.mp4")
    paths = [tmp_path / "clip.xyz", tmp_path / ".hidden", tmp_path]
    assert found(paths, tmp_path) == ["clip.xyz", ".hidden", "b.mp4"]


@pytest.mark.timeout(20)
def test_links_that_go_round_in_circles_end(tmp_path):
    make(tmp_path, "a/x.mp4", "b/y.mp4")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "across").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a")
    (tmp_path / "itself.mp4").symlink_to("itself.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    assert found([tmp_path], tmp_path) == ["a/x.mp4", "b/y.mp4", "gone.mp4", "itself.mp4"]


def test_a_folder_outside_is_found_through_its_link(tmp_path):
    make(tmp_path, "outside/x.mp4", "in/y.mp4")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    assert found([tmp_path / "in"], tmp_path / "in") == ["link/x.mp4", "y.mp4"]


def test_what_cannot_be_reached_is_reported_and_the_rest_found(tmp_path, monkeypatch):
    make(tmp_path, "a/x.mp4", "locked/y.mp4")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything, so permissions alone prove nothing
    inputs = find_inputs([tmp_path, tmp_path / "gone.mp4", "zero\0byte"], EXTENSIONS)
    assert [one.error and one.error.kind for one in inputs] == [None, "permission", "missing", "unreadable"]


def test_nothing_found(tmp_path):
    make(tmp_path, "notes.txt")
    with pytest.raises(CaptionerError, match="nothing found") as caught:
        find_inputs([tmp_path], EXTENSIONS)
    assert caught.value.kind == "usage"
    with pytest.raises(CaptionerError, match="no files given"):
        find_inputs([], EXTENSIONS)


# --- naming --------------------------------------------------------------------------------------------------------


def test_results_mirror_the_tree_and_never_collide(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "a.avi", "sub/a.mp4", "sub/deep/a.mp4", "a.mp4.json/inner.mp4", "A.MP4", "results.mp4")
    summary = run(source, output)
    assert (summary.done, summary.exit_status) == (7, 0)
    names = {name.casefold() for name in tree(output)}
    assert len(names) == 2 * 7 + 1, "results whose names differ in case only would be one file on some disks"
    assert {"a.avi.json", "a.avi.srt", "sub/a.mp4.json", "sub/deep/a.mp4.srt", "a.mp4.json/inner.mp4.json"} <= names
    assert all(r["text"] == os.path.relpath(r["file"], source) for r in results(output))


def test_two_folders_with_the_same_names(tmp_path):
    make(tmp_path, "one/x/a.mp4", "two/x/a.mp4", "three/a.mp4", "four/a.mp4")
    sources = [tmp_path / "one/x", tmp_path / "two/x", tmp_path / "three/a.mp4", tmp_path / "four/a.mp4"]
    assert run(sources, tmp_path / "out").done == 4
    assert [r["text"] for r in results(tmp_path / "out")] == ["four/a.mp4", "one/x/a.mp4", "three/a.mp4", "two/x/a.mp4"]
    again = run(sources[::-1], tmp_path / "out")
    assert (again.done, again.skipped) == (0, 4), "another order of the arguments must not move results"


def test_runs_over_different_folders_share_an_output(tmp_path):
    make(tmp_path, "one/a.mp4", "two/a.mp4")
    run(tmp_path / "one", tmp_path / "out")
    run(tmp_path / "two", tmp_path / "out")
    assert [r["text"] for r in results(tmp_path / "out")] == ["one/a.mp4", "two/a.mp4"]


def test_foreign_files_are_left_alone(tmp_path):
    """An output folder may be the input folder, where other programs keep files beside the videos too."""
    make(tmp_path, "a.mp4", "b.mp4")
    make(tmp_path, "a.mp4.json", "b.mp4.srt", text="mine")
    assert run(tmp_path, tmp_path).done == 2
    assert (tmp_path / "a.mp4.json").read_text() == (tmp_path / "b.mp4.srt").read_text() == "mine"
    assert run(tmp_path, tmp_path).skipped == 2


def test_strange_names(tmp_path):
    names = ["new\nline.mp4", "🐕 dog.mp4", "x" * 251 + ".mp4", "é" * 125 + ".mp4", " .mp4", "-v.mp4", "q\u202ee.mp4"]
    raw = os.fsdecode(b"latin\xe9.mp4")
    make(tmp_path / "in", *names[:-1], names[-1], text="t")
    make(tmp_path / "in", raw, text="t")
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.done, summary.failed) == (len(names) + 1, 0)
    assert {os.path.basename(r["file"]) for r in results(tmp_path / "out")} == {*names, raw}
    assert run(tmp_path / "in", tmp_path / "out").skipped == len(names) + 1


def test_an_output_folder_inside_the_input_is_not_searched(tmp_path):
    make(tmp_path, "a.mp4", "out/b.mp4")
    assert run(tmp_path, tmp_path / "out").done == 1


# --- resuming ------------------------------------------------------------------------------------------------------


def test_a_second_run_skips_what_is_complete_and_unchanged(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b.mp4", "c.mp4")
    first = run(source, output)
    assert (first.done, first.media_seconds) == (3, 6.0) and "; 0:06 of video" in str(first)
    before = tree(output)
    assert (run(source, output).skipped, tree(output)) == (3, before)

    make(source, "b.mp4", text="longer than before")
    again = run(source, output)
    assert (again.done, again.skipped) == (1, 2)
    assert (output / "b.mp4.srt").read_text() == "subtitle of longer than before\n"
    os.utime(source / "c.mp4", (1, 1))
    assert run(source, output).done == 1
    assert run(source, output, settings={"beam_size": 5}).done == 3
    assert run(source, output, settings={"beam_size": 5}, overwrite=True).done == 3


def test_sidecars_that_are_missing_are_made_without_work(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b.mp4")
    run(source, output)
    (output / "a.mp4.srt").unlink()
    sidecars = {**SIDECARS, "txt": lambda record: record["text"]}
    summary = run(source, output, Reads(fail_to_start=True), sidecars=sidecars)
    assert summary.skipped == 2
    assert {"a.mp4.srt", "a.mp4.txt", "b.mp4.srt", "b.mp4.txt"} <= set(tree(output))


def test_failures_are_kept_until_they_are_to_be_tried_again(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "c.mp4")
    make(source, "b.mp4", text="refuse")
    assert (first := run(source, output)).failed == 1 and first.exit_status == 1
    assert [set(r) - {"duration"} for r in results(output)] == [{"file", "text"}, {"file", "error"}, {"file", "text"}]
    assert not (output / "b.mp4.srt").exists()
    second = run(source, output)
    assert (second.done, second.skipped, second.failed, second.failed_before, second.exit_status) == (0, 2, 0, 1, 1)
    assert "--retry-failed" in str(second)
    assert run(source, output, retry_failed=True).failed == 1
    make(source, "b.mp4", text="good now")
    assert run(source, output).exit_status == 0


def test_sidecars_never_belong_to_an_older_result(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b.mp4")
    run(source, output)
    make(source, "a.mp4", text="refuse")
    make(source, "b.mp4", text="longer than before")

    def interrupted(record):
        raise KeyboardInterrupt

    assert run(source, output, sidecars={"srt": interrupted}).interrupted  # after the result, before its sidecar
    assert not (output / "a.mp4.srt").exists()
    assert run(source, output).skipped == 1
    assert (output / "b.mp4.srt").read_text() == "subtitle of longer than before\n"


def test_damaged_results_are_made_again_beside_them(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    names = [f"{letter}.mp4" for letter in "abcdef"]
    make(source, *names)
    run(source, output)
    whole = (output / "a.mp4.json").read_bytes()
    damages = [b"", whole[:40], b'{"run": {"format": 1}}', b'{"run": []}', b"\xff\xfe", b"[" * 20000]
    for name, damage in zip(names, damages, strict=True):
        (output / f"{name}.json").write_bytes(damage)
    summary = run(source, output)
    assert (summary.done, summary.exit_status) == (6, 0)
    assert [r["text"] for r in results(output)] == names


def test_settings_in_any_order_are_the_same():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "ahead"), [("crash", 1), ("crash", 4), ("hang", 4), ("raise", 4), ("refuse", 1)]
)  # whom a crash is blamed on with other numbers: test_workers
def test_one_bad_file_among_many(tmp_path, ahead, order):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i}.mp4" for i in range(10)))
    make(source, "6.mp4", text=order)
    summary = run(source, output, Reads(ahead), time_limit=1.5 if order == "hang" else 60)
    assert (summary.done, summary.failed, summary.exit_status) == (9, 1, 1)
    records = results(output)
    assert [r.get("text", "failed") for r in records] == [f"{i}.mp4" if i != 6 else "failed" for i in range(10)]
    kind = {"crash": "crash", "hang": "timeout", "raise": "unexpected", "refuse": "refused"}[order]
    assert records[6]["error"]["kind"] == kind and "6.mp4" in records[6]["error"]["message"]


def test_a_crash_is_seen_although_a_child_lives_on(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4")
    make(source, "b.mp4", text="fork and crash")
    make(source, "c.mp4")
    summary = run(source, output)
    assert (summary.done, summary.failed) == (2, 1)
    assert results(output)[1]["error"]["kind"] == "crash"


def test_when_every_file_kills_the_worker_the_run_stops_and_blames_none(tmp_path, monkeypatch):
    monkeypatch.setattr("captioner.runs.workers.MOST_DEATHS", 4)
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i}.mp4" for i in range(10)), text="crash")
    with pytest.raises(CaptionerError, match="4 worker processes in a row died") as caught:
        run(source, output, Reads(4))
    assert caught.value.kind == "worker" and not tree(output)


def test_a_task_that_cannot_start_is_an_error_at_once(tmp_path):
    make(tmp_path / "in", "a.mp4")
    with pytest.raises(CaptionerError, match="no such model"):
        run(tmp_path / "in", tmp_path / "out", Reads(fail_to_start=True))


def test_what_cannot_be_read_at_all_is_in_the_results(tmp_path):
    make(tmp_path, "a.mp4")
    sources = [tmp_path / "a.mp4", tmp_path / "gone.mp4"]
    summary = run(sources, tmp_path / "out")
    assert (summary.done, summary.failed, summary.exit_status) == (1, 1, 1)
    assert results(tmp_path / "out")[1]["error"]["kind"] == "missing"
    make(tmp_path, "gone.mp4")
    assert run(sources, tmp_path / "out").exit_status == 0
    assert len(results(tmp_path / "out")) == 2


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_an_output_that_cannot_be_written(tmp_path, place):
    make(tmp_path, "a.mp4", "file")
    with pytest.raises(CaptionerError, match="cannot write"):
        run(tmp_path / "a.mp4", tmp_path / place)


def test_a_full_disk_stops_the_run_with_the_reason(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "c.mp4")
    make(source, "b.mp4", text="x" * 5000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        summary = run(source, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (summary.done, summary.exit_status) == (1, 1)
    assert summary.stopped.kind == "disk_full" and "the disk is full" in str(summary) and "goes on" in str(summary)
    assert set(tree(output)) == {"a.mp4.json", "a.mp4.srt", RESULTS}
    assert run(source, output).done == 2


# --- two runs, kills -----------------------------------------------------------------------------------------------


def test_a_second_run_on_the_folder_says_so(tmp_path):
    make(tmp_path / "in", "a.mp4")
    with RunFolder(tmp_path / "out"), pytest.raises(CaptionerError, match=f"process {os.getpid()}") as caught:
        run(tmp_path / "in", tmp_path / "out")
    assert caught.value.kind == "locked"
    assert not (tmp_path / "out" / LOCK).exists()
    assert run(tmp_path / "in", tmp_path / "out").done == 1


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    make(tmp_path, "in/a.mp4")
    make(tmp_path, "out/" + LOCK, text="process 99999999 on nowhere\n")
    assert run(tmp_path / "in", tmp_path / "out").done == 1


PROGRAM = textwrap.dedent("""
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    sys.path.insert(0, sys.argv[1])
    from batch_tasks import Reads, run
    summary = run(sys.argv[2], sys.argv[3], Reads(int(sys.argv[4]), seconds=float(sys.argv[5])))
    print(summary)
    sys.exit(summary.exit_status)
""")


def start(source, output, ahead=1, seconds=0.01):
    arguments = [str(Path(__file__).parents[1]), str(source), str(output), str(ahead), str(seconds)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)


def wait_for(condition, limit=30):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ahead", [1, 8])
def test_killed_at_random_moments_and_started_again(tmp_path, ahead):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i % 7}/clip{i}.mp4" for i in range(150)))
    make(source, "3/bad.mp4", text="refuse")
    run(source, tmp_path / "whole", Reads(ahead))
    rng = random.Random(ahead)
    kills = 0
    while kills < 6:
        before = len(tree(output)) if output.exists() else 0
        process = start(source, output, ahead)
        # Some kills hit the start, the others the work, at any point of it.
        if rng.random() < 0.8:
            wait_for(lambda: process.poll() is not None or len(list(output.rglob("*.json"))) * 2 > before)  # noqa: B023
        time.sleep(rng.random() * 0.25)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if (output / RESULTS).exists():
            results(output)
    assert kills >= 4
    assert start(source, output, ahead, 0).wait() == 1
    assert tree(output) == tree(tmp_path / "whole")


def workers_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_at_once_and_says_how_to_go_on(tmp_path, number):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, "a.mp4", "b.mp4", "c.mp4")
    make(source, "b.mp4", text="hang")
    process = start(source, output)
    wait_for((output / "a.mp4.srt").exists)
    (worker,) = workers_of(process.pid)
    time.sleep(0.5)  # until it waits for the next file, which takes for ever
    process.send_signal(number)
    text, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "1 done" in text and "The same command again goes on from here." in text
    assert [r["text"] for r in results(output)] == ["a.mp4"]
    assert not (output / LOCK).exists()
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_worker_dies_with_its_parent(tmp_path):
    make(tmp_path / "in", "a.mp4", text="hang")
    process = start(tmp_path / "in", tmp_path / "out")
    wait_for(lambda: workers_of(process.pid))
    (worker,) = workers_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


# --- telling -------------------------------------------------------------------------------------------------------


def test_the_listener_hears_of_everything(tmp_path):
    make(tmp_path, "a.mp4")
    make(tmp_path, "b.mp4", text="refuse")
    heard = []

    class Ear:
        started = staticmethod(lambda files: heard.append(files))
        progressed = staticmethod(lambda path, fraction: heard.append((os.path.basename(path), fraction)))
        finished = staticmethod(lambda path, record: heard.append((os.path.basename(path), "error" in record)))

    run([tmp_path / "gone.mp4", tmp_path], tmp_path / "out", listener=Ear())
    assert heard[:4] == [("gone.mp4", True), 2, ("a.mp4", 0.5), ("a.mp4", False)]
    assert heard[-1] == ("b.mp4", True)


def test_finishing_touches_get_all_records_in_order(tmp_path):
    make(tmp_path, "a10.mp4", "a9.mp4")
    run(
        tmp_path, tmp_path / "out", finish={"results.csv": lambda folder: " ".join(r["text"] for r in folder.records())}
    )
    assert (tmp_path / "out/results.csv").read_text() == "a9.mp4 a10.mp4"
