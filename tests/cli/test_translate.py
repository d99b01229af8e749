"""``captioner translate``: one line in, one line out."""

from __future__ import annotations

import io
import sys

import pytest
from tiny_models import make_translator

import captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_translator(tmp_path_factory.mktemp("models") / "tiny")


def test_lines_stay_in_order_and_as_many(run, folder, tmp_path, monkeypatch):
    texts = ["Two dogs play.", "", "A girl \x1b[31m sings", "A man."]
    lines = [one.text for one in captioner.load(folder).translate(texts, "fr")]
    assert lines[1] == "" and all(lines[::2])
    expected = "".join(line.replace("\x1b", "\\x1b") + "\n" for line in lines)
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    model = ("--model", folder, "--to", "fr")
    assert run("translate", *model, *texts) == (0, expected, "")
    assert run("translate", *model, "--input", tmp_path / "in.txt") == (0, expected, "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts)))
    assert run("translate", *model) == (0, expected, "")


def test_what_makes_no_sense(run, folder, tmp_path, tiny_captioner):
    for arguments, said in (
        (("a", "--to", "es"), "unknown language 'es'; this translator knows de, fr"),
        (("a", "--input", tmp_path / "x"), "not both"),
        (("--input", tmp_path / "x"), "cannot be read"),
    ):
        status, out, err = run("translate", "--model", folder, *arguments)
        assert (status, out) == (2, "") and said in err and err.count("\n") == 1
    assert "is not a translator" in run("translate", "--model", tiny_captioner, "a")[2]


def test_captions_of_photos(run, folder, photos, tiny_captioner):
    model, translator = captioner.load(tiny_captioner), captioner.load(folder)
    english = model.caption(photos / "1.png")
    german = model.caption(photos / "1.png", language="de", translator=translator, n_best=2)
    assert (german.english, german.language, english.language) == (english.text, "de", "en")
    assert str(german) == german.text == translator.translate(english.text, "de").text
    assert german.alternatives[0].language == "de"
    read = german.translation.source_words  # neighbours that it does not know are one
    assert " ".join(read) == english.text and german.words[0].attention.shape == (len(read),)
    assert german.to_dict()["english"] == english.text and "english" not in english.to_dict()
    with pytest.raises(captioner.CaptionerError, match="unknown language 'es'"):
        model.caption_many([], language="es", translator=translator)
    image = ("image", photos / "1.png", "--model", tiny_captioner)
    status, out, _ = run(*image, "--language", "de,fr", "--translator", folder)
    assert status == 0 and f"    de: {german.text}" in out.replace("\\", "") and "    fr: " in out
    assert "--translator needs --language" in run(*image, "--translator", folder)[2]


@pytest.mark.skipif("translator" in captioner.list_models(), reason="a translator is shipped")
def test_where_none_is_shipped_it_is_said_how_to_get_one(run, photos, tiny_captioner):
    said = "no translator comes with this package; train one with `captioner train translation` and name its folder"
    with pytest.raises(captioner.ModelLoadError, match=said):
        captioner.load("translator")
    with pytest.raises(captioner.ModelLoadError, match=said):
        captioner.load(tiny_captioner).caption(photos / "1.png", language="de")
    for arguments in (("translate", "a"), ("image", photos / "1.png", "--model", tiny_captioner, "--language", "de")):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and said in err
