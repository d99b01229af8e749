"""Says what is in photographs and videos: captions, actions and unusual moments, on a CPU, offline.

```python
import captioner

model = captioner.load()
print(model.caption("photo.jpg"))

analysis = captioner.VideoAnalyzer().analyze("clip.mp4")
labels = captioner.load("actions").classify("clip.avi")
```
"""

from __future__ import annotations

import importlib
import sqlite3  # noqa: F401 (before TensorFlow, whose own copy takes its place otherwise and has no full-text search)
from typing import TYPE_CHECKING

from captioner.errors import CaptionerError, DatasetError, ImageReadError, ModelLoadError, VideoReadError

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner
    from captioner.clips.classifier import ClipClassifier
    from captioner.loading import caption_many, list_models, load
    from captioner.models.search import SearchOptions
    from captioner.results import (
        Caption,
        ClipPrediction,
        NoveltyPoint,
        Segment,
        Translation,
        VideoAnalysis,
        Window,
        Word,
    )
    from captioner.translation.translator import Translator
    from captioner.videos.analyzer import VideoAnalyzer

__version__ = "0.2.0"

# Loaded when first used, so that ``import captioner`` and ``captioner --help`` take no time.
_LAZY = {
    "load": "captioner.loading",
    "list_models": "captioner.loading",
    "caption_many": "captioner.loading",
    "ImageCaptioner": "captioner.captions.captioner",
    "ClipClassifier": "captioner.clips.classifier",
    "SearchOptions": "captioner.models.search",
    "Translator": "captioner.translation.translator",
    "VideoAnalyzer": "captioner.videos.analyzer",
    **dict.fromkeys(
        ("Caption", "ClipPrediction", "NoveltyPoint", "Segment", "Translation", "VideoAnalysis", "Window", "Word"),
        "captioner.results",
    ),
}

__all__ = [
    "Caption",
    "CaptionerError",
    "ClipClassifier",
    "ClipPrediction",
    "DatasetError",
    "ImageCaptioner",
    "ImageReadError",
    "ModelLoadError",
    "NoveltyPoint",
    "SearchOptions",
    "Segment",
    "Translation",
    "Translator",
    "VideoAnalysis",
    "VideoAnalyzer",
    "VideoReadError",
    "Window",
    "Word",
    "caption_many",
    "list_models",
    "load",
]


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str):
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
