"""Small tasks for the tests of folders and worker processes, and runs of them; a module of its own, so that workers can
import it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.runs.batch import run_batch
from captioner.runs.folder import RESULTS
from captioner.runs.inputs import find_inputs

EXTENSIONS = {".mp4", ".avi"}
SIDECARS = {"srt": lambda record: f"subtitle of {record['text']}\n"}


def make(folder: Path, *names: str, text: str | None = None) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or name)


def run(source, output, task=None, **options):
    paths = [source] if isinstance(source, str | Path) else source
    inputs = find_inputs(paths, EXTENSIONS, exclude=[output])
    options = {"settings": {}, "time_limit": 60, "sidecars": SIDECARS, "paths": paths, **options}
    return run_batch(task or Reads(), inputs, output, **options)


def results(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / RESULTS).read_text().splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Reads:
    """Gives the text of a file. Some texts are orders: ``crash``, ``hang``, ``refuse``, ``raise``."""

    ahead: int = 1
    seconds: float = 0.0
    fail_to_start: bool = False

    def start(self):
        if self.fail_to_start:
            raise CaptionerError("there is no such model", kind="missing")
        print("this must not disturb the messages")
        return self._process

    def _process(self, paths, report):
        # Like a pipeline that works in batches: with room for several, one more is taken before the first is answered.
        held = []
        for path in paths:
            held.append(path)
            if len(held) >= min(self.ahead, 2):
                yield self._answer(held.pop(0), report)
        for path in held:
            yield self._answer(path, report)

    def _answer(self, path, report):
        time.sleep(self.seconds)
        text = Path(path).read_text()
        if text == "crash":
            os.abort()
        if text == "fork and crash":  # the child holds all pipes open
            if os.fork() == 0:
                time.sleep(1000)
            os.abort()
        if text == "hang":
            time.sleep(1000)
        if text == "raise":
            raise RuntimeError("something unforeseen")
        report(0.5)
        if text == "refuse":
            return {"error": CaptionerError(f"{path}: refused", kind="refused").to_dict()}
        return {"text": text, "duration": 2.0}
