"""Models by name or folder: the one place that knows all kinds of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from captioner.errors import ModelLoadError

DEFAULT_MODEL = "flickr8k"
"""The captioner that is used where none is named."""


def load(
    name: str | os.PathLike | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Any:
    """Loads a model.

    Args:
        name: Name of a shipped model (see `list_models`) or path of a model folder; None is the default captioner.
        runtime: ``auto`` (OpenVINO where it is installed), ``openvino`` or ``keras``.
        precision: ``auto`` (bfloat16 where the CPU computes in it), ``f32``, ``bf16`` or ``int8``.
        threads: Cores to use; None for all that this process may use.

    Returns:
        A `captioner.ImageCaptioner` or a `captioner.ClipClassifier`, by the kind of the model.

    Raises:
        ModelLoadError: There is no such model, or its folder is incomplete or altered.
    """
    from captioner.captions.captioner import ImageCaptioner
    from captioner.models.runtime import open_runtime
    from captioner.models.saving import read_model

    saved = read_model(DEFAULT_MODEL if name is None else name)
    if saved.kind == "clip_classifier":
        from captioner.clips.classifier import ClipClassifier

        return ClipClassifier(saved, runtime=runtime, precision=precision, threads=threads)
    if saved.kind != "captioner":
        raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, neither a captioner nor a clip classifier")
    engine = open_runtime(saved, runtime=runtime, precision=precision, threads=threads)
    return ImageCaptioner(saved, engine)


def list_models(kinds: Iterable[str] | None = None) -> list[str]:
    """Names of the shipped models, of some kinds or all."""
    from captioner.models.saving import model_kind, model_names

    wanted = None if kinds is None else set(kinds)
    return [name for name in model_names() if wanted is None or model_kind(name) in wanted]
