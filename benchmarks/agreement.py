"""Whether the fast runtime says the same: captions and CIDEr-D of all dev photos, beside Keras in float32."""

from __future__ import annotations

import captioner
from benchmarks.measuring import Setup, Table
from captioner.evaluation.coco_metrics import CiderD
from captioner.evaluation.ptb import tokenize


def measure(setup: Setup) -> list[Table]:
    """See the module; needs ``setup.data``."""
    title, columns = "The same captions", ["runtime", "precision", "captions as Keras, %", "CIDEr-D", "difference"]
    if not setup.data:
        return [Table(title, columns, [], ["Left out: `--data` was not given."])]
    from captioner.training.captions.data import read_captions

    data = read_captions(setup.data[0])
    names = data.split("dev")[: setup.size(1_000_000, 20)]
    cider = CiderD({name: [tokenize(text) for text in data.captions[name]] for name in names})
    rows, expected = [], None
    for runtime, precision in (("keras", "f32"), ("openvino", "f32"), ("openvino", "bf16"), ("openvino", "int8")):
        model = captioner.load(setup.model, runtime=runtime, precision=precision)
        captions = [caption.text for caption in captioner.caption_many(model, [data.images[name] for name in names])]
        score = 100 * float(cider.score(names, map(tokenize, captions)).mean())
        expected = expected or (captions, score)
        same = sum(a == b for a, b in zip(expected[0], captions, strict=True)) / len(names)
        rows.append([runtime, precision, round(100 * same, 1), f"{score:.2f}", f"{score - expected[1]:+.2f}"])
    notes = [f"{len(names)} dev photos of {data.folder.name}, beam 3. Aims: 99 % the same in f32, CIDEr-D within 0.3."]
    return [Table(title, columns, rows, notes)]
