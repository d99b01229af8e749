"""Photos to captions: files to captions at several beams and batches, on both runtimes, beside the parts alone."""

from __future__ import annotations

import numpy as np

import captioner
from benchmarks.material import photos
from benchmarks.measuring import Setup, Table, cores, in_new_process, rates
from captioner.media.images import read_image
from captioner.models.search import SearchOptions

BEAMS = (1, 3, 5)
BATCHES = (1, 16, 64)
TARGET = 150.0  # captions a second on two cores


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    return [*_sweep(setup), _parts(setup), _memory(setup)]


def _sweep(setup: Setup) -> list[Table]:
    files = photos(setup.folder, setup.size(256, 16))
    ways = (("openvino", "auto"), ("openvino", "int8"), ("openvino", "f32"), ("keras", "auto"))
    loaded = [captioner.load(setup.model, runtime=runtime, precision=precision) for runtime, precision in ways]
    models = {(model.runtime.name, model.runtime.precision): model for model in loaded}
    images = np.stack([read_image(file, size=loaded[0].image_size) for file in files])
    programs = {}
    for (name, precision), model in models.items():
        # Keras is an order of magnitude slower: fewer photos, and only the middle of the table.
        count = len(files) // 4 if name == "keras" else len(files)
        programs[name, precision, "encoder"] = _encoding(model, images[:count])
        for beam in BEAMS:
            for batch in BATCHES:
                if name == "keras" and batch != 16:
                    continue
                programs[name, precision, beam, batch] = _program(model, files[:count], beam, batch)
    measured = rates(programs, setup.repeats)
    slowest = measured["keras", "f32", 3, 16].median
    rows = [
        [*map(str, key), rate.median, rate.low, rate.high, rate.median / slowest]
        for key, rate in measured.items()
        if "encoder" not in key
    ]
    shares = []
    for engine in models:
        encoder, pipeline = measured[*engine, "encoder"].median, measured[*engine, 3, 16].median
        shares.append([*engine, encoder, pipeline, pipeline / encoder])
    sweep = Table(
        "From JPEG files to captions",
        ["runtime", "precision", "beam", "batch", "captions/s", "lower quarter", "upper quarter", "times Keras"],
        rows,
        [
            f"{len(files)} different JPEG files of 640x480, read, encoded and captioned by `captioner.caption_many` on "
            f"{cores()} cores; medians of {setup.repeats} rounds in turns. Aim at beam 3, batch 16, two cores: "
            f"{TARGET:g}.",
        ],
    )
    beside = Table(
        "Beside the encoder alone",
        ["runtime", "precision", "encoder, images/s", "pipeline, captions/s", "share"],
        shares,
        ["The pipeline at beam 3 and batch 16 of the table above; the encoder's images are in memory already."],
    )
    return [sweep, beside]


def _program(model, files, beam: int, batch: int):
    options = {"beam_size": beam, "batch_size": batch}
    return lambda: sum(1 for _ in captioner.caption_many(model, files, **options))


def _encoding(model, images: np.ndarray):
    return lambda: sum(len(model.encode(images[i : i + 16])) for i in range(0, len(images), 16))


def _parts(setup: Setup) -> Table:
    """The pipeline beside each of its parts alone."""
    files = photos(setup.folder, setup.size(256, 16))
    model = captioner.load(setup.model)
    size = model.image_size
    images = np.stack([read_image(file, size=size) for file in files])
    features = model.encode(images)
    options = SearchOptions()

    def read_all():
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(cores()) as pool:
            return sum(1 for _ in pool.map(lambda file: read_image(file, size=size), files))

    def search_all():
        batches = (features[i : i + 16] for i in range(0, len(images), 16))
        return sum(len(model.caption_features(batch, options)) for batch in batches)

    def one_after_the_other():
        for i in range(0, len(files), 16):
            batch = np.stack([read_image(file, size=size) for file in files[i : i + 16]])
            model.caption_features(model.encode(batch), options)
        return len(files)

    names = {
        "reading files": read_all,
        "encoder": _encoding(model, images),
        "search, beam 3": search_all,
        "one after the other": one_after_the_other,
        "pipeline": _program(model, files, 3, 16),
    }
    measured = rates(names, setup.repeats)
    alone = min(measured[name].median for name in ("reading files", "encoder", "search, beam 3"))
    # On c cores no order of work can beat the sum of what the parts cost when each has all the cores.
    bound = 1 / sum(1 / measured[name].median for name in ("reading files", "encoder", "search, beam 3"))
    pipeline = measured["pipeline"].median
    return Table(
        "The parts",
        ["what", "images/s", "lower quarter", "upper quarter"],
        [[name, rate.median, rate.low, rate.high] for name, rate in measured.items()],
        [
            f"{model.runtime.name}, {model.runtime.precision}, batch 16, each part with all {cores()} cores to itself.",
            f"The pipeline reaches {pipeline / alone:.2f} of the slowest part alone, "
            f"{pipeline / measured['encoder'].median:.2f} of the encoder alone, and {pipeline / bound:.2f} of what the "
            f"parts together allow on these cores ({bound:.0f} images/s).",
        ],
    )


_PEAK = """
import sys, captioner
model = captioner.load(sys.argv[1] or None, runtime=sys.argv[2])
done = sum(1 for _ in captioner.caption_many(model, sys.argv[4:], batch_size=int(sys.argv[3])))
result = {"done": done}
"""


def _memory(setup: Setup) -> Table:
    files = photos(setup.folder, setup.size(256, 16))
    rows = []
    for runtime, batch in (("openvino", 16), ("openvino", 64), ("keras", 16)):
        result = in_new_process(_PEAK, str(setup.model or ""), runtime, str(batch), *files)
        rows.append([runtime, batch, round(result["peak_mb"])])
    return Table(
        "Memory", ["runtime", "batch", "peak MB"], rows, [f"Most memory of a process that captions {len(files)} files."]
    )
