"""The web page: what it does without a browser, and over HTTP where Gradio is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from media_makers import write_video
from PIL import Image

import captioner
from captioner.errors import CaptionerError
from captioner.page import Page, build_page, serve


@pytest.fixture(scope="module")
def page(tiny_captioner):
    return Page(str(tiny_captioner))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    return path


def test_a_photo(page, photo, tiny_captioner):
    sentence, rows, looks = page.caption_photo(str(photo), 3)
    caption = captioner.load(tiny_captioner).caption(photo, beam_size=3, n_best=3)
    assert sentence == str(caption)
    assert [text for text, _ in rows] == [caption.text, *(one.text for one in caption.alternatives)]
    assert looks.dtype == np.uint8 and looks.shape[2] == 3


def test_a_clip(page, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    labels, rows = page.watch_clip(str(write_video(tmp_path / "clip.mp4", [frame] * 30, fps=10)))
    assert labels == {} and rows[0][0] == "0:00" and all(len(row) == 3 for row in rows)


def test_a_file_that_is_no_photo(page, tmp_path):
    (tmp_path / "text.png").write_text("no photo")
    with pytest.raises(CaptionerError, match=r"text\.png"):
        page.caption_photo(str(tmp_path / "text.png"))


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(CaptionerError, match=r"captioner\[app\]"):
        serve("127.0.0.1", 7860)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_over_http(page, photo, tmp_path):
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    blocks = build_page(page).queue()
    _, address, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False)
    try:
        assert address.startswith("http://127.0.0.1:")
        client = Client(address, verbose=False)
        sentence, _, _ = client.predict(handle_file(str(photo)), 3, api_name="/caption")
        assert sentence == page.caption_photo(str(photo), 3)[0]
    finally:
        blocks.close()
