"""How long one photo takes: from the start of the program, and when the model is loaded."""

from __future__ import annotations

import sys

import captioner
from benchmarks.material import photos
from benchmarks.measuring import Setup, Table, rates, seconds_of_command


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    return [_cold(setup), _warm(setup)]


def _cold(setup: Setup) -> Table:
    photo = photos(setup.folder, 1)[0]
    start = [sys.executable, "-m", "captioner"]
    model = ["--model", str(setup.model)] if setup.model else []
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import captioner'": [sys.executable, "-c", "import captioner"],
        "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
        "captioner --help": [*start, "--help"],
        "captioner image photo.jpg": [*start, "image", photo, *model],
        "captioner image photo.jpg --runtime keras": [*start, "image", photo, *model, "--runtime", "keras"],
        "python -c 'import tensorflow'": [sys.executable, "-c", "import tensorflow"],
    }
    rows = []
    for name, arguments in commands.items():
        time = seconds_of_command(arguments, setup.repeats)
        rows.append([name, time.median, time.low, time.high])
    notes = [
        "From the start of the process to its end. Aims: import below 0.05 s, help below 0.3 s, a caption below 1.5 s."
    ]
    return Table("Start", ["command", "seconds", "lower quarter", "upper quarter"], rows, notes)


def _warm(setup: Setup) -> Table:
    photo = photos(setup.folder, 1)[0]
    models = {runtime: captioner.load(setup.model, runtime=runtime) for runtime in ("openvino", "keras")}
    programs = {}
    for runtime, model in models.items():
        for beam in (1, 3):
            programs[f"{runtime}|{beam}"] = lambda model=model, beam=beam: [
                model.caption(photo, beam_size=beam) for _ in range(setup.size(20, 2))
            ].__len__()
    measured = rates(programs, setup.repeats)
    rows = [[*name.split("|"), 1000 / r.median, 1000 / r.high, 1000 / r.low] for name, r in measured.items()]
    notes = ["`model.caption(file)` for one 640x480 JPEG file, the model loaded and warm. Aim: below 30 ms at beam 3."]
    return Table("One photo", ["runtime", "beam", "milliseconds", "lower quarter", "upper quarter"], rows, notes)
