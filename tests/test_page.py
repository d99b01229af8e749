"""The web page: what it does without a browser, and over HTTP where Gradio is installed."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media_makers import png_header, write_video
from PIL import Image

import captioner
from captioner import page as page_module
from captioner.errors import CaptionerError
from captioner.outputs.writers import video_sidecars
from captioner.page import KEPT_SECONDS, MAX_UPLOAD, Guard, Page, Uploads, build_page, serve


@pytest.fixture(scope="module")
def page(tiny_captioner):
    return Page(str(tiny_captioner))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    return path


def test_a_photo(page, photo, tiny_captioner):
    sentence, sureness, tags, rows, looks = page.caption_photo(str(photo), 3)
    caption = captioner.load(tiny_captioner).caption(photo, beam_size=3, n_best=3)
    assert sentence == str(caption) and tags == dict(caption.tags)
    assert sureness.startswith(f"confidence {caption.confidence:.0%}") and f"unsure: {caption.unsure}" in sureness
    assert [text for text, _ in rows] == [caption.text, *(one.text for one in caption.alternatives)]
    assert all(picture.dtype == np.uint8 and picture.shape == (60, 80, 3) for picture, _ in looks)
    assert [text.split()[0] for _, text in looks[1:]] == [word.text for word in caption.words]


def noise(path, seconds=3):
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    codec = "VP80" if path.suffix == ".webm" else "mp4v"
    return str(write_video(path, [frame] * 10 * seconds, fps=10, codec=codec))


def test_a_clip(page, tmp_path):
    told = []
    labels, report, files = page.watch_clip(noise(tmp_path / "clip.mp4"), told.append, "files/clip.mp4")
    assert labels == {} and "clip.mp4</h1>" in report and 'src="./files/clip.mp4"' in report
    assert files["captions.vtt"].startswith("WEBVTT\n\n00:00:00.000 --> ") and set(files) == {
        f"captions.{extension}" for extension in video_sidecars()
    }
    assert told == sorted(told) and told[-1] == pytest.approx(1, abs=0.1)


def test_several_files(page, photo, tmp_path):
    (tmp_path / "text.png").write_text("no photo")
    told = []
    rows, files = page.caption_files(
        [str(photo), noise(tmp_path / "clip.mp4"), str(tmp_path / "text.png")], told.append
    )
    assert [row[:2] for row in rows] == [["photo.png", ""], ["clip.mp4", "0:00"], ["text.png", ""]]
    assert rows[2][2].startswith("The file: is not an image") and rows[0][4] in ("unfamiliar", "low confidence", "")
    assert told == sorted(told) and told[-1] == 1
    records = [json.loads(line) for line in files["captions.jsonl"].splitlines()]
    assert [record["file"] for record in records] == ["photo.png", "text.png", "clip.mp4"]
    assert "data:image/jpeg" in files["photos.html"] and "thumbnail" not in files["captions.jsonl"]
    assert [name for name in files if name.endswith(".csv")] == ["photos.csv", "videos.csv"]


def test_a_file_that_is_no_photo(page, tmp_path):
    (tmp_path / "text.png").write_text("no photo")
    with pytest.raises(CaptionerError, match=r"text\.png"):
        page.caption_photo(str(tmp_path / "text.png"))


def test_a_photo_has_the_caption_that_it_has_everywhere(page, tmp_path, tiny_captioner):
    """JPEG is decoded at a reduced size for the encoder, so that decoding it first would change the caption."""
    path = tmp_path / "large.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (600, 900, 3), np.uint8)
    Image.fromarray(noise).save(path)
    seen = []
    page._captioner, before = Recorder(page._captioner, seen), page._captioner
    try:
        page.caption_photo(str(path), 2)
    finally:
        page._captioner = before
    assert seen == [str(path)]


class Recorder:
    def __init__(self, model, seen):
        self._model, self._seen = model, seen

    def caption(self, source, **options):
        self._seen.append(source)
        return self._model.caption(source, **options)


def test_a_clip_that_takes_too_long(page, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "CLIP_SECONDS", -1)
    with pytest.raises(CaptionerError, match=r"clip\.mp4: takes longer than -1 s") as caught:
        page.watch_clip(noise(tmp_path / "clip.mp4"))
    assert caught.value.kind == "timeout"


# --- what visitors send ----------------------------------------------------------------------------------------------


def test_uploads_are_private_and_go_after_use_or_after_a_while(tmp_path):
    uploads = Uploads()
    assert os.stat(uploads.path).st_mode & 0o077 == 0
    used, old, fresh = (Path(uploads.path) / name / "photo.jpg" for name in "abc")
    outside = tmp_path / "outside.jpg"
    for path in (used, old, fresh, outside):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1234")
    os.utime(old, (1, time.time() - KEPT_SECONDS - 1))
    for path in (used, outside, Path(uploads.path) / "d/../../x"):
        uploads.remove(str(path))
    assert outside.exists() and not used.exists()
    assert uploads.sweep() == 4
    assert sorted(os.listdir(uploads.path)) == ["c"]


def asked(scope, names=("localhost",), stored=0):
    """Status of the answer of a guard; 200 where it passes the request on."""
    sent = []

    async def app(scope, receive, send):
        await send({"status": 200})

    async def send(message):
        sent.append(message)

    class Stored:
        sweep = staticmethod(lambda: stored)

    asyncio.run(Guard(app, names, Stored())(scope, None, send))
    return sent[0].get("status", sent[0].get("code"))


def request(method="GET", path="/", **headers):
    pairs = {"host": "localhost:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http", "method": method, "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:7860", 200), ("127.0.0.1:7860", 200), ("[::1]:7860", 200), ("192.168.1.7", 200),
        ("page.example", 200), ("evil.example", 403), ("evil.example:7860", 403), ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("", 403), ("[", 403), ("localhost@evil.example", 403), ("127.1", 403),
    ],
)  # fmt: skip
def test_only_its_own_names_are_answered(host, status):
    assert asked(request(host=host), names=("localhost", "Page.example")) == status
    assert asked({**request(host=host), "type": "websocket"}, ("localhost", "Page.example")) in (200, 1008)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7860", 200), ("https://LOCALHOST:7860", 200), ("http://localhost:8888", 403), ("null", 403),
        ("http://evil.example", 403), ("http://localhost:7860.evil.example", 403), ("http://127.0.0.1:7860", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_pages_are_not_answered(origin, status, method):
    assert asked(request(method, origin=origin, content_length="0")) == status


def test_two_hosts_are_none():
    scope = request()
    scope["headers"].append((b"host", b"localhost:7860"))
    assert asked(scope) == 403


def test_size_and_number_are_limited():
    post = ("POST", "/gradio_api/upload")
    assert asked(request(*post, content_length=str(MAX_UPLOAD))) == 200
    assert asked(request(*post, content_length=str(8 * 90 * 10**6))) == 413
    for headers in ({}, {"transfer_encoding": "chunked"}, {"content_length": "-1"}, {"content_length": "9,9"}):
        assert asked(request(*post, **headers)) == 411
    assert asked(request(*post, content_length="90000000"), stored=10 * MAX_UPLOAD - 90000000) == 200
    assert asked(request(*post, content_length="90000000"), stored=10 * MAX_UPLOAD) == 503
    assert asked(request("POST", "/gradio_api/queue/join", content_length="200"), stored=10 * MAX_UPLOAD) == 200


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
        sentence, *_ = client.predict(handle_file(str(photo)), 3, api_name="/caption")
        assert sentence == page.caption_photo(str(photo), 3)[0]
    finally:
        blocks.close()


@pytest.fixture
def served(tiny_captioner, tmp_path):
    """(port, folder of temporary files) of ``captioner serve`` in a process of its own."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "captioner", "serve", "--port", str(port), "--model", str(tiny_captioner)]
    # Whatever is on the search path that might be started, is not there.
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PATH": str(tmp_path / "bin")}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ghostscript-was-started\n")
    (tmp_path / "bin/gs").chmod(0o755)
    process = subprocess.Popen([*command, "--classifier", "none"], env=environment)
    try:
        deadline = time.monotonic() + 200
        while True:
            try:
                assert ask(port, "GET", "/config")[0] == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
        yield port, tmp_path
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace")


def upload(port, data, name="photo.jpg", **headers):
    start = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = start.encode() + data + b"\r\n--x--\r\n"
    return ask(port, "POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=x", **headers)


def caption(port, path):
    """What the page says of a file: the sentence, or the error."""
    data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, 3]}
    _, text = ask(port, "POST", "/gradio_api/call/caption", json.dumps(data), Content_Type="application/json")
    _, text = ask(port, "GET", f"/gradio_api/call/caption/{json.loads(text)['event_id']}")
    return text


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_served(served, photo):
    port, folder = served
    (uploads,) = folder.glob("captioner-page-*")

    def kept():
        return [path for path in uploads.rglob("*") if path.is_file()]

    status, text = upload(port, photo.read_bytes(), "photo.png")
    assert status == 200
    endpoints = json.loads(ask(port, "GET", "/gradio_api/info")[1])["named_endpoints"]
    assert set(endpoints) == {"/caption", "/watch", "/caption_files"}
    assert all(one["description"] for one in endpoints.values())
    (path,) = json.loads(text)
    assert kept() == [Path(path)] and os.stat(path).st_mode & 0o077 == os.stat(uploads).st_mode & 0o077 == 0
    said = caption(port, path)
    assert "event: complete" in said and not os.path.exists(path)
    assert kept() and all(one.suffix == ".webp" for one in kept()), "the pictures of where it looked"
    assert all(os.stat(one).st_mode & 0o077 == 0 for one in kept())

    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for data, message in [
        (eps, "is not an image in a known format"),
        (png_header(13_000, 13_000), "13000 x 13000 pixels is more than the limit"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC photo, which cannot be decoded here"),
    ]:
        (path,) = json.loads(upload(port, data, "photo.jpg")[1])
        assert message in caption(port, path) and not os.path.exists(path)
    assert not (folder / "ghostscript-was-started").exists()

    for path in ("/etc/hostname", "http://127.0.0.1:1/x.png", "https://example.com/x.png", str(photo)):
        assert "event: error" in caption(port, path)
    assert photo.exists()
    assert ask(port, "GET", "/gradio_api/file=https://example.com/x.png")[0] == 403

    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        before = kept()
        assert upload(port, photo.read_bytes(), **headers)[0] == 403
        assert ask(port, "GET", "/config", **headers)[0] == 403 and kept() == before
    assert upload(port, photo.read_bytes(), Origin=f"http://127.0.0.1:{port}")[0] == 200
