"""How the cost grows with the number of photos: time per photo and memory should not."""

from __future__ import annotations

from benchmarks.material import photos
from benchmarks.measuring import Setup, Table, in_new_process

_MANY = """
import sys, time, captioner
from pathlib import Path
model = captioner.load(sys.argv[1] or None)
files = sorted(str(path) for path in Path(sys.argv[2]).glob("*.jpg"))
wanted = int(sys.argv[3])
sources = (files[i % len(files)] for i in range(wanted))
next(captioner.caption_many(model, files[:1]))
start = time.perf_counter()
done = sum(1 for _ in captioner.caption_many(model, sources))
result = {"work_s": time.perf_counter() - start, "done": done}
"""


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    files = photos(setup.folder, setup.size(256, 16))
    folder = files[0].rsplit("/", 1)[0]
    rows = []
    for count in (10, 100, 1000, 10_000):
        count = min(count, 40) if setup.quick else count
        result = in_new_process(_MANY, str(setup.model or ""), folder, str(count))
        rows.append(
            [
                count,
                result["work_s"],
                1000 * result["work_s"] / count,
                count / result["work_s"],
                round(result["peak_mb"]),
            ]
        )
    columns = ["photos", "seconds", "ms/photo", "captions/s", "peak MB"]
    return [Table("More photos", columns, rows, ["Beam 3, batch 16, each in a process of its own, the model loaded."])]
