"""Captions in other languages in the folder of a run: added once, also later, found and written beside the video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from batch_tasks import make, results, run
from tiny_models import make_translator

import captioner
from captioner.errors import CaptionerError
from captioner.outputs.index import search_folder
from captioner.outputs.report import images_page
from captioner.outputs.writers import image_text, video_sidecars
from captioner.runs.jobs import Computing
from captioner.runs.translations import Translations, chosen_translations

EXACT = Computing(precision="f32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_translator(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shipped(folder, monkeypatch):
    """The small translator is the one that is shipped."""
    monkeypatch.setattr("captioner.translation.translator.SHIPPED_TRANSLATOR", str(folder))
    return captioner.load(folder, precision="f32")


@dataclass(frozen=True)
class Says:
    """Captions a photo, or the segments of a film, with what is in the file; counts how often in a file beside it."""

    ahead: int = 1

    def start(self):
        return lambda paths, report: map(self._answer, paths)

    def _answer(self, path):
        with open(f"{path}.count", "a") as count:
            count.write("x")
        said = {"confidence": 0.5, "labels": []}
        lines = Path(path).read_text().splitlines()
        segments = [{"start": i, "end": i + 1, "caption": line, **said} for i, line in enumerate(lines)]
        return {
            "duration": 2.0, "width": 8, "height": 8, "fps": 1.0, "segments": segments, "label": None,
            "truncated": False, "model": None, "classifier": None,
        }  # fmt: skip


def test_a_language_is_added_without_captioning_again(shipped, tmp_path):
    make(tmp_path / "in", "a.mp4", text="two dogs play\na girl sings")
    make(tmp_path / "in", "b.mp4", text="\n")
    german = Translations(("de",), EXACT)

    def caption(also, extensions=("srt",)):
        make = video_sidecars()
        sidecars = also.subtitles({name: make[name] for name in extensions}) if also else {}
        options = {"also": also} if also else {}
        summary = run(tmp_path / "in", tmp_path / "out", Says(), sidecars=sidecars, **options)
        assert summary.exit_status == 0
        return [segment.get("translations") for segment in results(tmp_path / "out")[0]["segments"]]

    assert caption(None) == [None, None]
    first = caption(german)
    expected = [one.text for one in shipped.translate(["two dogs play", "a girl sings"], "de")]
    assert [one["de"]["caption"] for one in first] == expected
    assert expected[0].split()[0] in (tmp_path / "out/a.mp4.de.srt").read_text()
    assert (tmp_path / "out/b.mp4.de.srt").read_text() == "" and not (tmp_path / "out/a.mp4.de.vtt").exists()
    both = caption(Translations(("de", "fr"), EXACT), ("srt", "vtt"))
    assert [one["de"] for one in both] == [one["de"] for one in first] and all("fr" in one for one in both)
    assert {path.name for path in (tmp_path / "out").glob("a.mp4.*.*t")} == {
        "a.mp4.de.srt", "a.mp4.de.vtt", "a.mp4.fr.srt", "a.mp4.fr.vtt"
    }  # fmt: skip
    assert (tmp_path / "in/a.mp4.count").read_text() == "x", "captioned once"
    before = (tmp_path / "out/a.mp4.json").stat().st_mtime_ns
    caption(german)
    assert (tmp_path / "out/a.mp4.json").stat().st_mtime_ns == before, "nothing lacked"


def test_both_languages_are_found_and_shown(tmp_path):
    record = {
        "file": "a.jpg", "caption": "two dogs", "score": 0.0, "confidence": 0.5, "alternatives": [],
        "translations": {"de": {"caption": "Zwei Hunde laufen."}},
    }  # fmt: skip
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n")
    for words in ("dog", "hunde"):
        assert [hit.caption for hit in search_folder(tmp_path, words)] == ["two dogs"]
    assert image_text(record) == "two dogs\n    de: Zwei Hunde laufen."
    page = images_page([(record | {"unsure": None, "tags": [], "familiarity": None}, None)])
    assert '<p class="caption" lang="de">Zwei Hunde laufen.</p>' in page


def test_records_of_photos_and_failures(shipped):
    add = Translations(("fr", "de"), EXACT)
    failed = {"file": "a.jpg", "error": {"type": "x", "message": "y"}}
    assert add(failed) is failed
    photo = {"file": "a.jpg", "caption": "a dog"}
    assert list(add(photo)["translations"]) == ["fr", "de"] and "translations" not in photo
    assert add(add(photo)) is not None and add(done := add(photo)) is done
    empty = {"file": "a.mp4", "segments": []}
    assert add(empty) is empty


def test_languages_as_they_are_asked_for(shipped):
    assert chosen_translations("", None, EXACT) is None and chosen_translations("en", None, EXACT) is None
    assert chosen_translations(" De, fr,en,de", None, EXACT).languages == ("de", "fr")
    with pytest.raises(CaptionerError, match=r"unknown language 'es'.*de, fr"):
        chosen_translations("de,es", None, EXACT)
