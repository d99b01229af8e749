"""What a type checker knows of the API; mypy reads this file, nobody runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
from PIL import Image

import captioner
from captioner import (
    Caption,
    CaptionerError,
    ClipClassifier,
    ClipPrediction,
    ImageCaptioner,
    Translation,
    Translator,
    VideoAnalysis,
)


def loading(folder: Path) -> None:
    assert_type(captioner.load(), ImageCaptioner)
    assert_type(captioner.load("flickr8k", threads=1), ImageCaptioner)
    assert_type(captioner.load("actions", runtime="openvino"), ClipClassifier)
    assert_type(captioner.load("translator"), Translator)
    assert_type(captioner.load(folder), ImageCaptioner | ClipClassifier | Translator)
    assert_type(captioner.list_models(), list[str])


def captions(model: ImageCaptioner, pixels: np.ndarray, picture: Image.Image, paths: list[str]) -> None:
    for image in ("a.jpg", Path("a.jpg"), b"", pixels, picture):
        assert_type(model.caption(image), Caption)
    assert_type(model.caption(paths, beam_size=5), list[Caption])
    assert_type(model.caption(path for path in paths), Iterator[Caption])
    assert_type(captioner.caption_many(paths, beam_size=5), Iterator[Caption | CaptionerError])
    assert_type(captioner.caption_many(model, paths), Iterator[Caption | CaptionerError])
    assert_type(model.caption("a.jpg").words[0].attention, np.ndarray | None)


def clips(classifier: ClipClassifier, paths: list[Path]) -> None:
    assert_type(classifier.classify("a.mp4"), ClipPrediction)
    assert_type(classifier.classify(paths, stride=1.0), list[ClipPrediction])
    assert_type(captioner.VideoAnalyzer(interval=0.5).analyze("a.mp4"), VideoAnalysis)


def translations(translator: Translator) -> None:
    assert_type(translator.translate("a dog", "de"), Translation)
    assert_type(translator.translate(["a dog"], "de", beam_size=1), list[Translation])


def mistakes(model: ImageCaptioner) -> None:
    captioner.lod()  # type: ignore[attr-defined]
    model.caption(3)  # type: ignore[call-overload]
    captioner.load(runtime=3)  # type: ignore[call-overload]
