"""What reads the damaged files: a function for each kind of file, which gives something or raises `CaptionerError`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clip_makers import CHANNELS, FakeCaptioner
from fuzz import seeds
from fuzz.mutations import damaged_bytes, damaged_json, json_text
from tiny_models import reseal

from captioner.errors import CaptionerError
from captioner.names import printable


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        make: Writes a damaged file, or several, into an empty folder; all that is random comes from the generator.
        read: Reads what is in the folder.
        share: Of the cases of a long run.
        from_bytes: Writes the bytes that a fuzzer chose; None where a case is more than one file.
    """

    make: Callable[[random.Random, Path], None]
    read: Callable[[Path], None]
    share: float
    from_bytes: Callable[[bytes, Path], None] | None = None


def run(target: str, number: int, folder: Path) -> str:
    """Makes case ``number`` of a target in an empty folder and reads it: ``accepted`` or ``refused``.

    Raises:
        AssertionError: It is refused with a message that says too much or steers a terminal.
    """
    TARGETS[target].make(random.Random(f"{target} {number}"), folder)
    return read(target, folder)


def read(target: str, folder: Path) -> str:
    """Reads a case that lies in a folder; see `run`."""
    try:
        TARGETS[target].read(folder)
    except CaptionerError as error:
        assert printable(str(error)) == str(error), f"a message that is no plain line: {error!r}"
        assert len(str(error)) < 2000, f"a message of {len(str(error))} characters"
        return "refused"
    return "accepted"


def _make_image(rng: random.Random, folder: Path) -> None:
    (folder / "case").write_bytes(damaged_bytes(rng.choice(seeds.images()), rng))


def _read_image(folder: Path) -> None:
    from captioner.media.images import read_image

    image = read_image(folder / "case")
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert read_image((folder / "case").read_bytes(), size=40).shape == (40, 40, 3)


def _make_film(rng: random.Random, folder: Path) -> None:
    extension, data = rng.choice(seeds.films())
    (folder / f"case{extension}").write_bytes(damaged_bytes(data, rng))


def _read_film(folder: Path) -> None:
    from captioner.media.videos import VideoReader

    (path,) = folder.iterdir()
    with VideoReader(path, every=0.1, size=32, threads=1) as reader:
        last = -1.0
        for count, frame in enumerate(reader):
            assert frame.time > last and frame.image.shape == (32, 32, 3)
            last = frame.time
            if count > 500:
                break
        assert reader.duration >= last and all(printable(text) == text for text in reader.warnings)


def _make_model(rng: random.Random, folder: Path) -> None:
    model = folder / "model"
    shutil.copytree(seeds.models()[rng.choice(["captioner", "network", "ridge", "forecaster", "translator"])], model)
    files = sorted(path for path in model.iterdir() if path.suffix == ".json" and path.name != "metadata.json")
    match rng.randrange(12):
        case 0:
            path = model / "weights.npz"
            path.write_bytes(damaged_bytes(path.read_bytes(), rng))
        case 1:
            _make_weights(model / "weights.npz", rng)
        case 2:
            path = model / "metadata.json"
            path.write_bytes(json_text(damaged_json(_json(path), rng), rng))
            return
        case 3:
            path = rng.choice(list(model.iterdir()))
            path.unlink()
            with contextlib.suppress(OSError):
                rng.choice([os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])(path)
            return
        case 4 | 5:
            path = rng.choice(files)
            path.write_bytes(json_text(damaged_json(_json(path), rng), rng))
        case _:
            path = model / "config.json"
            path.write_bytes(json_text(damaged_json(_json(path), rng), rng))
    if rng.random() < 0.95:
        reseal(model)


def _make_weights(path: Path, rng: random.Random) -> None:
    """Arrays of which some have other names, shapes and types."""
    with np.load(path) as arrays:
        weights = dict(arrays)
    for name in rng.sample(sorted(weights), min(3, len(weights))):
        value = weights.pop(name)
        other = rng.choice([name, name + "x", "evil/x", name.split("/")[0], "../" + name, ""])
        change = rng.randrange(6)
        if change == 0:
            value = value.astype(rng.choice([np.int8, np.complex64, np.float64, "U3", bool]))
        elif change == 1:
            value = np.zeros((0, *value.shape[1:]), np.float16)
        elif change == 2:
            value = value.reshape(-1)
        elif change == 3:
            value = np.full_like(value, rng.choice([np.nan, np.inf, 6e4, -6e4]))
        elif change == 4:
            value = np.asfortranarray(value)
        else:
            value = np.zeros((1000, 1000, rng.choice([1, 30])), np.float16)
        weights[other] = value
    (np.savez_compressed if rng.random() < 0.5 else np.savez)(path, **weights)


def _json(path: Path):
    import json

    return json.loads(path.read_text(encoding="utf-8"))


def _read_model(folder: Path) -> None:
    from captioner.models.saving import read_model

    saved = read_model(folder / "model")
    use = {
        "captioner": _use_captioner,
        "clip_classifier": _use_classifier,
        "forecaster": _use_forecaster,
        "translator": _use_translator,
    }
    use[saved.kind](saved)


def _use_captioner(saved) -> None:
    import zlib

    from captioner.captions.captioner import ImageCaptioner
    from captioner.captions.config import CaptionerConfig
    from captioner.captions.runtime import open_runtime
    from captioner.models.decoder_config import decoder_shapes
    from captioner.models.encoder_config import LITE_VARIANTS, encoder_shapes
    from captioner.models.runtime import saved_ranges

    config = saved.settings(CaptionerConfig)
    # Building the graphs takes a second: every twentieth is enough.
    if config.encoder.name in LITE_VARIANTS and zlib.crc32(repr(config).encode()) % 20 == 0:
        model = ImageCaptioner(saved, open_runtime(saved, precision="f32", threads=1))
        picture = np.zeros((8, 8, 3), np.uint8)
        assert len(model.caption([picture, picture + 99])) == 2
        return
    saved.part("encoder", encoder_shapes(config.encoder.name) or {})
    saved.part("decoder", decoder_shapes(config.decoder))
    saved_ranges(saved)
    ImageCaptioner(saved, _NoRuntime())


class _NoRuntime:
    """In the place of the networks where only the files beside them are read."""

    image_size, positions, channels, encode_batch = 64, 4, 1280, 1
    name, precision, threads = "none", "f32", 1


def _use_classifier(saved) -> None:
    from captioner.clips.classifier import ClipClassifier

    model = ClipClassifier(saved, FakeCaptioner())
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 48, 64, 3)).astype(np.uint8)
    stream = model.stream()
    for number, frame in enumerate(frames):
        stream.push(0.1 * number, frame)
    prediction = stream.finish(0.6)
    assert set(prediction.probabilities) == set(model.labels)


def _use_forecaster(saved) -> None:
    from captioner.videos.forecaster import Forecaster

    model = Forecaster.from_saved(saved)
    assert len(model.values(np.ones((3, model.config.channels), np.float32))) == 3
    assert CHANNELS > 0


def _use_translator(saved) -> None:
    from captioner.translation.translator import Translator

    model = Translator.open(saved, precision="f32", threads=1)
    for language in model.languages[:1]:
        assert len(model.translate(["a dog in Q7", ""], language, max_length=5)) == 2


def _make_run(rng: random.Random, folder: Path) -> None:
    for number in range(rng.choice([1, 2, 5])):
        record = rng.choice(seeds.RECORDS)
        source = {**seeds.RUN["source"], "path": f"/in/{number}"}
        record = {**record, "run": {**seeds.RUN, "source": source, "failed": "error" in record}}
        record = damaged_json(record, rng) if rng.random() < 0.8 else record
        (folder / f"{number}.json").write_bytes(json_text(record, rng) + b"\n")


def _read_run(folder: Path) -> None:
    """Scans the folder as a run does, and makes all that is made from its records."""
    from captioner.outputs.index import search_folder
    from captioner.outputs.report import images_page, video_page, videos_page
    from captioner.outputs.writers import image_sidecars, to_csv, video_sidecars
    from captioner.runs.folder import RunFolder

    with RunFolder(folder) as run:
        records = list(run.records())
        run.write_results()
    for record in records:
        is_video, is_photo = "segments" in record, "caption" in record and "segments" not in record
        if "error" in record:
            video_page(record)
        elif is_video:
            video_page(record)
            videos_page([(record, "a.html")])
            for make in video_sidecars().values():
                make(record)
        elif is_photo:
            images_page([(record, "a.jpg")])
            for make in image_sidecars().values():
                make(record)
        elif "probabilities" in record:
            to_csv([record], "clip")
    search_folder(folder, "dog")


def _make_lines(rng: random.Random, folder: Path) -> None:
    import json

    record = rng.choice(seeds.RECORDS)
    lines = [json_text(damaged_json(record, rng) if rng.random() < 0.5 else record, rng)]
    lines += [json.dumps(rng.choice(seeds.RECORDS)).encode() for _ in range(rng.randrange(4))]
    rng.shuffle(lines)
    (folder / "results.jsonl").write_bytes(b"\n".join(lines) + rng.choice([b"\n", b"", b"\r\n", b"\0"]))
    if rng.random() < 0.3:
        from captioner.outputs.index import build_index

        with contextlib.suppress(CaptionerError):
            build_index(folder / "results.jsonl", folder / "index.sqlite")
            path = folder / "index.sqlite"
            path.write_bytes(damaged_bytes(path.read_bytes(), rng))


def _read_lines(folder: Path) -> None:
    from captioner.outputs.index import search_folder

    for hit in search_folder(folder, "dog run"):
        assert printable(str(hit)) == str(hit)


def _make_captions(rng: random.Random, folder: Path) -> None:
    import json

    name = rng.choice(sorted(seeds.CAPTIONS))
    text = seeds.CAPTIONS[name]
    if name.endswith(".json") and rng.random() < 0.7:
        text = json_text(damaged_json(json.loads(text), rng), rng)
    elif name.endswith(".jsonl") and rng.random() < 0.7:
        text = b"\n".join(json_text(damaged_json(json.loads(line), rng), rng) for line in text.splitlines())
    else:
        text = damaged_bytes(text, rng)
    (folder / name).write_bytes(text)
    for photo in ("a.jpg", "b.jpg"):
        (folder / photo).write_bytes(seeds.images()[0])


def _read_captions(folder: Path) -> None:
    from captioner.training.captions.data import read_captions

    data = read_captions(folder)
    assert len(data.images) > 0


def _make_clips(rng: random.Random, folder: Path) -> None:
    text = b"clip,label,split,group\na.mp4,run,train,1\nb.mp4,walk,val,2\n"
    (folder / "clips.csv").write_bytes(damaged_bytes(text, rng))
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"")


def _read_clips(folder: Path) -> None:
    from captioner.training.clips.data import read_clips

    assert len(read_clips(folder / "clips.csv").clips) > 0


def _alone(name: str) -> Callable[[bytes, Path], None]:
    def write(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)

    return write


TARGETS = {
    "images": Target(_make_image, _read_image, 0.45, _alone("case")),
    "films": Target(_make_film, _read_film, 0.2, _alone("case.mp4")),
    "models": Target(_make_model, _read_model, 0.1),
    "runs": Target(_make_run, _read_run, 0.1, _alone("0.json")),
    "lines": Target(_make_lines, _read_lines, 0.05, _alone("results.jsonl")),
    "captions": Target(_make_captions, _read_captions, 0.05, _alone("captions.txt")),
    "clips": Target(_make_clips, _read_clips, 0.05, _alone("clips.csv")),
}
