"""Records in other languages: what a run adds to the captions, without captioning again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from captioner.outputs.records import Record
from captioner.runs.jobs import Computing

if TYPE_CHECKING:
    from captioner.translation.translator import Translator


@dataclass(frozen=True)
class Translations:
    """Adds captions in other languages to records.

    Attributes:
        languages: Their codes.
        computing: What the translator is run on.
        model: Name or folder of the translator; None is the shipped one.

    Raises:
        CaptionerError: The translator does not know a language (``kind="usage"``).
    """

    languages: tuple[str, ...]
    computing: Computing
    model: str | None = None

    def __post_init__(self):
        for language in self.languages:
            self._translator.check(language)

    @cached_property
    def _translator(self) -> Translator:
        from captioner.translation.translator import SHIPPED_TRANSLATOR

        precision = self.computing.precision
        computing = replace(self.computing, runtime="auto", precision="auto" if precision == "int8" else precision)
        return computing.load(self.model or SHIPPED_TRANSLATOR, "translator")

    def __call__(self, record: Record) -> Record:
        """The record with a translation of every caption; the same object where none lacks.

        A photo's record, and every segment of a video's, gets ``translations``: language to ``{"caption"}``.
        """
        if "error" in record:
            return record
        parts = record.get("segments", [record])
        texts: dict[str, list[str]] = {}
        for language in self.languages:
            if any(language not in part.get("translations", {}) for part in parts):
                found = self._translator.translate([part["caption"] for part in parts], language)
                texts[language] = [one.text for one in found]
        if not texts:
            return record
        translated = [
            {
                **part,
                "translations": part.get("translations", {})
                | {language: {"caption": lines[place]} for language, lines in texts.items()},
            }
            for place, part in enumerate(parts)
        ]
        return {**record, "segments": translated} if "segments" in record else translated[0]

    def subtitles(self, make: Mapping[str, Callable[[Record], str]]) -> dict[str, Callable[[Record], str]]:
        """Subtitles of a video in every language, of each kind, ``srt`` or ``vtt``, that is made in English.

        Args:
            make: Extension to function of the record, such as those of `captioner.outputs.writers.video_sidecars`.

        Returns:
            ``de.srt`` and so on, likewise.
        """
        return {
            f"{language}.{extension}": lambda record, language=language, write=make[extension]: write(
                _in_language(record, language)
            )
            for language in self.languages
            for extension in ("srt", "vtt")
            if extension in make
        }


def _in_language(record: Record, language: str) -> Record:
    """The record of a video whose captions are in a language."""
    segments = [{**one, "caption": one["translations"][language]["caption"]} for one in record["segments"]]
    return {**record, "segments": segments}


def chosen_translations(text: str, model: str | None, computing: Computing) -> Translations | None:
    """What ``--language`` means: languages with commas between them; None for English, in which captions are anyway.

    Args:
        text: The languages.
        model: Name or folder of the translator; None is the shipped one.
        computing: What it is run on.

    Raises:
        CaptionerError: The translator does not know a language, or there is none (``kind`` ``usage``, ``missing``).
    """
    languages = dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip())
    languages.pop("en", None)
    return Translations(tuple(languages), computing, model) if languages else None
