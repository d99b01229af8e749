"""What is damaged: small right files of every kind, made by code, once in a process."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from media_makers import grey_frames, noisy_picture, smooth_picture, wav, write_film, write_mjpeg
from PIL import Image

_FILMS = [
    ("a.mp4", {"sound": 0.5}),
    ("b.mp4", {"codec": "mpeg4"}),
    ("c.mkv", {"codec": "libvpx-vp9"}),
    ("d.webm", {"codec": "libvpx"}),
    ("e.avi", {"codec": "mpeg4"}),
    ("f.ts", {"codec": "mpeg2video"}),
    ("g.mpg", {"codec": "mpeg1video"}),
    ("h.mov", {"codec": "prores", "pixels": "yuv422p10le"}),
    ("i.wmv", {"codec": "wmv2"}),
    ("j.flv", {"codec": "flv"}),
    ("k.mkv", {"codec": "ffv1"}),
    ("l.mp4", {"codec": "libsvtav1"}),
    ("m.ogv", {"codec": "libtheora"}),
    ("n.h264", {"form": "h264"}),
    ("o.mjpeg", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    ("p.mp4", {"codec": "libx265"}),
    ("q.3gp", {"codec": "h263"}),
    ("r.gif", {"codec": "gif", "pixels": "rgb8"}),
    ("s.mxf", {"codec": "mpeg2video"}),
    ("t.nut", {"codec": "huffyuv", "pixels": "yuv422p"}),
]


@functools.cache
def images() -> list[bytes]:
    """Images of every format that this Pillow writes, in its modes."""
    smooth, noise = Image.fromarray(smooth_picture(96, 64)), Image.fromarray(noisy_picture(33, 31))
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))
    real = Image.fromarray(np.linspace(0, 1, 64 * 48).reshape(48, 64).astype(np.float32))
    frames = [Image.fromarray(frame) for frame in grey_frames(4)]
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted = [
        (smooth, "PNG", {}),
        (noise, "PNG", {"compress_level": 0}),
        (deep, "PNG", {}),
        (smooth.convert("RGBA"), "PNG", {}),
        (smooth.convert("P"), "PNG", {"transparency": 3}),
        (smooth.convert("1"), "PNG", {}),
        (smooth.convert("LA"), "PNG", {}),
        (smooth, "JPEG", {"exif": exif}),
        (noise, "JPEG", {"progressive": True}),
        (smooth.convert("CMYK"), "JPEG", {}),
        (smooth.convert("L"), "JPEG", {}),
        (frames[0], "GIF", {"save_all": True, "append_images": frames[1:]}),
        (smooth, "WEBP", {}),
        (smooth.convert("RGBA"), "WEBP", {"lossless": True}),
        (frames[0], "WEBP", {"save_all": True, "append_images": frames[1:]}),
        (smooth, "BMP", {}),
        (smooth, "PPM", {}),
        (smooth, "TGA", {}),
        (smooth, "ICO", {}),
        (smooth, "JPEG2000", {}),
        (smooth, "AVIF", {}),
        (real, "TIFF", {}),
        (deep, "TIFF", {}),
        (smooth, "PCX", {}),
        (smooth, "SGI", {}),
        (smooth, "DDS", {}),
        (smooth, "MPO", {}),
        *[(smooth, "TIFF", {"compression": one}) for one in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")],
    ]
    made = []
    for image, kind, options in wanted:
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, KeyError, ValueError):  # this Pillow does not write it
            image.save(buffer, kind, **options)
            made.append(buffer.getvalue())
    return [*made, b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"]


@functools.cache
def films() -> list[tuple[str, bytes]]:
    """Extension and content of films in every container and codec that this FFmpeg writes."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name, options in _FILMS:
            path = Path(folder) / name
            with contextlib.suppress(Exception, pytest.skip.Exception):  # this FFmpeg does not write it
                write_film(path, grey_frames(20, 176, 144), **{"g": "8", **options})
                made.append((path.suffix, path.read_bytes()))
        made.append((".avi", write_mjpeg(Path(folder) / "z.avi", grey_frames(6)).read_bytes()))
    return [*made, (".wav", wav()), (".mp4", b""), (".mkv", b"\x1aE\xdf\xa3")]


RUN = {
    "format": 1,
    "source": {"path": "/in/a", "size": 3, "mtime_ns": 4},
    "settings": "5",
    "failed": False,
    "sidecars": [],
}
RECORDS = [
    {
        "run": RUN,
        "file": "a.jpg",
        "caption": "a dog runs",
        "score": -1.5,
        "confidence": 0.5,
        "familiarity": 0.25,
        "finished": True,
        "model": "m",
        "words": [{"word": "a", "logprob": -0.1}],
        "alternatives": [{"caption": "a cat", "score": -2.0, "confidence": 0.25}],
        "thumbnail": "AAAA",
    },
    {
        "run": RUN,
        "file": "a.mp4",
        "duration": 2.5,
        "width": 64,
        "height": 48,
        "fps": 25.0,
        "label": "run",
        "truncated": False,
        "model": "m",
        "classifier": "c",
        "segments": [
            {
                "start": 0,
                "end": 2.5,
                "caption": "a dog runs",
                "confidence": 0.5,
                "labels": [{"label": "run", "probability": 1}],
                "thumbnail": "AAAA",
            }
        ],
        "windows": [{"start": 0, "end": 2, "label": None, "probability": 0.5, "known": 0.25}],
        "novelty": [{"time": 0.0, "value": 1.5, "unusual": True}],
    },
    {
        "run": RUN,
        "file": "a",
        "label": "run",
        "probability": 0.75,
        "probabilities": {"run": 0.75, "walk": 0.25},
        "known": 0.5,
        "windows": [],
    },
    {"run": RUN, "file": "a.jpg", "error": {"type": "ImageReadError", "kind": "empty", "message": "a.jpg: is empty"}},
]
"""Records of every kind, as a run stores them."""

_COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat , grey"}],
}
_KARPATHY = {
    "images": [{"filename": name, "split": "train", "sentences": [{"raw": "a dog"}]} for name in ("a.jpg", "b.jpg")]
}
CAPTIONS = {
    "x.token.txt": b"a.jpg#0\ta dog\na.jpg#1\ttwo dogs\nb.jpg#0\ta cat\n",
    "captions.txt": b'image,caption\na.jpg,a dog , brown\nb.jpg,"a ""cat"""\n',
    "captions_train.json": json.dumps(_COCO).encode(),
    "dataset_x.json": json.dumps(_KARPATHY).encode(),
    "metadata.jsonl": b'{"file_name": "a.jpg", "captions": ["a dog"]}\n{"file_name": "b.jpg", "text": "a cat"}\n',
    "captions.json": json.dumps(
        [{"file": "a.jpg", "caption": "a dog"}, {"file": "b.jpg", "captions": ["a cat"]}]
    ).encode(),
}
"""Name and content of files of captions, one for each layout."""


@functools.cache
def models() -> dict[str, Path]:
    """Model folders of every kind, with random weights; they go when the process ends."""
    from clip_makers import known_head, save_classifier
    from tiny_models import WORDS, make_translator

    from captioner.captions.familiarity import Familiarity
    from captioner.captions.tags import Tagger
    from captioner.models.decoder_config import DecoderConfig, decoder_shapes
    from captioner.models.encoder_config import encoder_shapes
    from captioner.models.saving import save_model
    from captioner.models.tokenizer import Tokenizer
    from captioner.videos.forecaster import ForecasterConfig, weight_shapes

    folder = Path(models.folder.name)
    rng = np.random.default_rng(0)
    decoder = DecoderConfig(len(WORDS) + 4, units=24, embedding_units=12, memory_units=16, heads=4)
    shapes = {f"encoder/{name}": shape for name, shape in encoder_shapes("lite0").items()}
    shapes |= {f"decoder/{name}": shape for name, shape in decoder_shapes(decoder).items()}
    known, familiarity = Familiarity.fit(rng.uniform(0, 1, (20, 1280)), prototypes=3).saved()
    tagger = Tagger(["dog", "sand"], {"dogs": "dog"}, {"dog": "a dog"}, rng.normal(0, 1, (1280, 2)), [0, -1], 0.6)
    layer, tags = tagger.saved()
    texts = {
        "tokenizer.json": Tokenizer(WORDS).to_json(),
        **familiarity,
        **tags,
        "ranges.json": json.dumps({"conv_stem": [-1.0, 1.0], "conv_head": [-20.0, 20.0]}),
    }
    settings = {"search": {"beam_size": 3, "n_best": 2}, "calibration": {"slope": 0.5}}
    forecaster = ForecasterConfig(6, 4, 5)
    return {
        "captioner": save_model(
            folder / "captioner",
            kind="captioner",
            texts=texts,
            metadata={},
            card="",
            config={"encoder": {"name": "lite0", "image_size": 33}, "decoder": decoder.to_dict(), **settings},
            weights={**{name: np.abs(rng.normal(0, 0.1, shape)) for name, shape in shapes.items()}, **known, **layer},
        ),
        "network": save_classifier(folder / "network", known=known_head(3)),
        "ridge": save_classifier(folder / "ridge", cell="ridge", members=1),
        "forecaster": save_model(
            folder / "forecaster",
            kind="forecaster",
            texts={},
            metadata={},
            card="",
            config={"forecaster": forecaster.to_dict(), "encoder": {"model": "fake", "sha256": "abc"}},
            weights={
                f"forecaster/{name}": rng.normal(0, 0.5, shape) for name, shape in weight_shapes(forecaster).items()
            },
        ),
        "translator": make_translator(folder / "translator"),
    }


models.folder = tempfile.TemporaryDirectory(prefix="captioner-fuzz-")
