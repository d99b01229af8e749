"""Ray as the engine of a run: the same results as locally, whatever happens to the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from batch_tasks import Reads, make, results, run, tree

from captioner.errors import CaptionerError
from captioner.runs.ray import process_with_ray

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])}
    ray.init(
        num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="ERROR",
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.parametrize("ahead", [1, 4])
def test_the_same_results_as_locally(tmp_path, ahead):
    source = tmp_path / "in"
    make(source, *(f"{i % 3}/{i}.mp4" for i in range(20)))
    make(source, "1/refused.mp4", text="refuse")
    make(source, "1/raises.mp4", text="raise")
    local = run(source, tmp_path / "local", Reads(ahead))
    summary = run(source, tmp_path / "ray", Reads(ahead), engine=process_with_ray)
    assert (summary.done, summary.failed) == (local.done, local.failed) == (20, 2)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert run(source, tmp_path / "ray", Reads(ahead), engine=process_with_ray).skipped == 20


@pytest.mark.parametrize("order", ["crash", "hang"])
def test_a_process_that_dies_costs_one_file(tmp_path, order):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i}.mp4" for i in range(8)))
    make(source, "3.mp4", text=order)
    # Loading counts towards the first limit of a process, and Ray may take a while to start one.
    task = Reads(4) if order == "crash" else Reads(1)
    limit = 60 if order == "crash" else 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captioner.runs.ray.START_LIMIT", 15)
        summary = run(source, output, task, engine=process_with_ray, time_limit=limit)
    assert (summary.done, summary.failed) == (7, 1)
    (failed,) = [record for record in results(output) if "error" in record]
    assert failed["file"].endswith("3.mp4")
    assert failed["error"]["kind"] == {"crash": "crash", "hang": "timeout"}[order]


def test_a_task_that_cannot_start(tmp_path):
    make(tmp_path / "in", "a.mp4")
    with pytest.raises(CaptionerError, match="no such model"):
        run(tmp_path / "in", tmp_path / "out", Reads(fail_to_start=True), engine=process_with_ray)


PROGRAM = textwrap.dedent("""
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    from batch_tasks import Reads, run
    from captioner.runs.ray import process_with_ray
    summary = run(sys.argv[1], sys.argv[2], Reads(2, seconds=0.2), engine=process_with_ray)
    print(summary)
    sys.exit(summary.exit_status)
""")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_a_signal_ends_goes_on_from_there(tmp_path, number):
    source, output = tmp_path / "in", tmp_path / "out"
    make(source, *(f"{i % 3}/{i}.mp4" for i in range(60)))
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(source), str(output)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while len(list(output.rglob("*.mp4.json"))) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    text, _ = process.communicate(timeout=90)
    if number != signal.SIGKILL:
        assert process.returncode == 130 and "The same command again goes on from here." in text
        assert 4 <= len(results(output)) < 60
    summary = run(source, output, Reads(2), engine=process_with_ray)
    assert summary.exit_status == 0 and summary.done + summary.skipped == 60 and summary.skipped >= 4
    run(source, tmp_path / "local", Reads(2))
    assert tree(output) == tree(tmp_path / "local")
