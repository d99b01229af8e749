"""Models by name or folder: the one place that knows all kinds of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from captioner.errors import CaptionerError, ModelLoadError

if TYPE_CHECKING:
    from captioner.captions.captioner import Image, ImageCaptioner
    from captioner.clips.classifier import ClipClassifier
    from captioner.results import Caption
    from captioner.translation.translator import Translator

ShippedCaptioner = Literal["flickr8k", "photos"]
ShippedClassifier = Literal["actions", "fights"]
ShippedTranslator = Literal["translator"]

DEFAULT_MODEL = "photos"
"""The captioner that is used where none is named."""


@overload
def load(
    name: ShippedCaptioner | None = None, *, runtime: str = ..., precision: str = ..., threads: int | None = ...
) -> ImageCaptioner: ...


@overload
def load(
    name: ShippedClassifier, *, runtime: str = ..., precision: str = ..., threads: int | None = ...
) -> ClipClassifier: ...


@overload
def load(
    name: ShippedTranslator, *, runtime: str = ..., precision: str = ..., threads: int | None = ...
) -> Translator: ...


@overload
def load(
    name: str | os.PathLike[str], *, runtime: str = ..., precision: str = ..., threads: int | None = ...
) -> ImageCaptioner | ClipClassifier | Translator: ...


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> ImageCaptioner | ClipClassifier | Translator:
    """Loads a model.

    Args:
        name: Name of a shipped model (see `list_models`) or path of a model folder; None is the default captioner.
        runtime: ``auto`` (OpenVINO where it is installed), ``openvino`` or ``keras``.
        precision: ``auto`` (bfloat16 where the CPU computes in it), ``f32``, ``bf16`` or ``int8``.
        threads: Cores to use; None for all that this process may use.

    Returns:
        An `ImageCaptioner`, a `ClipClassifier` or a `Translator` of `captioner`, by the kind of the model.

    Raises:
        ModelLoadError: There is no such model, or its folder is incomplete or altered.
    """
    from captioner.captions.captioner import ImageCaptioner
    from captioner.models.saving import read_model

    saved = read_model(DEFAULT_MODEL if name is None else name)
    if saved.kind == "clip_classifier":
        from captioner.clips.classifier import ClipClassifier

        return ClipClassifier(saved, runtime=runtime, precision=precision, threads=threads)
    if saved.kind == "translator":
        from captioner.translation.translator import Translator

        return Translator.open(saved, runtime=runtime, precision=precision, threads=threads)
    if saved.kind != "captioner":
        raise ModelLoadError(f"{saved.folder}: is a {saved.kind}, which is no model to be loaded by itself")
    return ImageCaptioner.open(saved, runtime=runtime, precision=precision, threads=threads)


@overload
def caption_many(images: Iterable[Image], /, **options: Any) -> Iterator[Caption | CaptionerError]: ...


@overload
def caption_many(
    model: ImageCaptioner | None, images: Iterable[Image], /, **options: Any
) -> Iterator[Caption | CaptionerError]: ...


def caption_many(model: Any, images: Any = None, /, **options: Any) -> Iterator[Caption | CaptionerError]:
    """`captioner.ImageCaptioner.caption_many` of a model, or of the default one: ``caption_many(paths, beam_size=5)``.

    Args:
        model: The captioner; may be left out.
        images: As many as you like.
        **options: As for the method: ``prefix``, ``batch_size``, ``beam_size`` and so on.

    Yields:
        For every image its `captioner.Caption`, or the `captioner.CaptionerError` that says why it could not be read.

    Raises:
        CaptionerError: An option makes no sense, or a word is not in the vocabulary.
    """
    if images is None:
        model, images = None, model
    return (load() if model is None else model).caption_many(images, **options)


def list_models(kinds: Iterable[str] | None = None) -> list[str]:
    """Names of the shipped models, of some kinds or all."""
    from captioner.models.saving import model_kind, model_names

    wanted = None if kinds is None else set(kinds)
    return [name for name in model_names() if wanted is None or model_kind(name) in wanted]
