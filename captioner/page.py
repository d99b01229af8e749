"""The web page of ``captioner serve``: a photo to captions and where the model looked, a clip to what happens.

Files come from whoever reaches the page. Gradio hands them on as they are, so that only `captioner.media` decodes them;
they lie in a folder that only this user can enter, and are deleted after use.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from captioner.errors import CaptionerError, needs_extra
from captioner.media.images import name_of
from captioner.names import printable
from captioner.results import NOTHING_KNOWN

MAX_UPLOAD = 200 * 2**20
"""Bytes of the largest file, and of the largest request, that the page takes."""

MAX_STORED = 10 * MAX_UPLOAD
"""Bytes of all files that wait for their turn."""

KEPT_SECONDS = 600
"""Seconds after which a file is deleted that was sent and not used, and the picture of a result."""

CLIP_SECONDS = 300
"""Seconds that a clip may be computed."""

Rows = list[list[str]]


class Page:
    """What the page does, without the page: safe to be called from several threads.

    Args:
        model: Name or folder of a captioner; None is the default one.
        classifier: Name or folder of a clip classifier; None for clips without labels.

    Raises:
        ModelLoadError: A model cannot be loaded.
    """

    def __init__(self, model: str | None = None, classifier: str | None = None):
        from captioner.loading import load
        from captioner.videos.analyzer import VideoAnalyzer

        self._captioner = load(model)
        self._analyzer = VideoAnalyzer(self._captioner, classifier, thumbnails=False)
        self._lock = threading.Lock()  # one computation at a time uses all cores already

    def caption_photo(self, path: str, beam_size: int = 3) -> tuple[str, Rows, Any]:
        """Captions a photo.

        Args:
            path: The file.
            beam_size: Captions followed, and shown.

        Returns:
            The caption as a sentence; rows of caption and confidence, best first; a picture of where the model looked,
            uint8 (H, W, 3).

        Raises:
            CaptionerError: The photo cannot be read.
        """
        import io

        from captioner.media.images import read_image
        from captioner.outputs.plots import attention_figure

        image = read_image(path)
        with self._lock:
            caption = self._captioner.caption(path, beam_size=beam_size, n_best=beam_size)
        rows = [[printable(one.text), f"{one.confidence:.0%}"] for one in (caption, *caption.alternatives)]
        looks = read_image(io.BytesIO(attention_figure(image, caption).to_png()))
        return printable(str(caption)), rows, looks

    def watch_clip(self, path: str) -> tuple[dict[str, float], Rows]:
        """Says what happens in a clip.

        Returns:
            Label to probability over the whole clip, nothing known among them, empty without a classifier; rows of
            start, end, caption.

        Raises:
            CaptionerError: The clip cannot be read, or takes longer than `CLIP_SECONDS`.
        """
        from captioner.outputs.writers import clock

        with self._lock:
            deadline = time.monotonic() + CLIP_SECONDS

            def go_on(fraction: float) -> None:
                if time.monotonic() > deadline:
                    message = f"{name_of(path)}: takes longer than {CLIP_SECONDS} s; send a shorter clip"
                    raise CaptionerError(message, kind="timeout")

            analysis = self._analyzer.analyze(path, go_on)
        rows = [[clock(one.start), clock(one.end), printable(str(one.caption))] for one in analysis.segments]
        seconds = sum(window.end - window.start for window in analysis.labels)
        labels: dict[str, float] = {}
        for window in analysis.labels:
            weight = (1.0 if window.known is None else window.known) * (window.end - window.start) / seconds
            for label, probability in window.probabilities.items():
                labels[label] = labels.get(label, 0.0) + probability * weight
        if labels and analysis.label is None:  # the page headlines what is likeliest
            labels = {NOTHING_KNOWN: 1.0 - max(labels.values())}
        return labels, rows


class Uploads:
    """The folder in which Gradio keeps what visitors send, and pictures of results, for a while."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="captioner-page-")  # which nobody else may enter
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    def remove(self, path: str) -> None:
        """Deletes a file that has been used."""
        if os.path.realpath(path).startswith(os.path.join(os.path.realpath(self.path), "")):
            with contextlib.suppress(OSError):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))  # Gradio makes one for each file

    def sweep(self) -> int:
        """Deletes what is older than `KEPT_SECONDS`; gives the bytes of the rest."""
        left = 0
        for folder, _, names in os.walk(self.path, topdown=False):
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(folder, name))
                    if time.time() - status.st_mtime > KEPT_SECONDS:
                        os.unlink(os.path.join(folder, name))
                    else:
                        left += status.st_size
            if folder != self.path:
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(folder)
        return left

    def sweep_for_ever(self) -> None:
        """Sweeps every minute, visitors or not."""
        while True:
            time.sleep(60)
            self.sweep()


class Guard:
    """ASGI middleware that answers only what comes from the page itself, and takes no more than the disk can hold.

    A browser sends what any web page tells it to, also to ``localhost``. A foreign page shows in ``Origin``; one whose
    name was pointed at this machine after it was loaded (DNS rebinding) in ``Host``.

    Args:
        app: The application behind it.
        names: Host names under which the page may be reached, besides addresses, which no foreign page can take.
        uploads: Where files are kept.
    """

    def __init__(self, app: Any, names: Collection[str], uploads: Uploads):
        self._app = app
        self._names = {name.lower() for name in names}
        self._uploads = uploads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, or refuses it."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text = refusal
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        def header(name: bytes) -> str:
            return b",".join(value for key, value in scope["headers"] if key.lower() == name).decode("latin-1").lower()

        host, origin, length = header(b"host"), header(b"origin"), header(b"content-length")
        if not self._is_own(host):
            return 403, "This page does not answer under that name; start it with --allow-host NAME."
        if origin and urlsplit(origin).netloc != host:
            return 403, "This page answers only what it asks itself."
        if scope.get("method") in ("GET", "HEAD", "OPTIONS", None):
            return None
        if not length.isdecimal():
            return 411, "Say how long the request is."
        if int(length) > MAX_UPLOAD + 2**20:
            return 413, f"More than {MAX_UPLOAD // 2**20} MB."
        if scope["path"].rstrip("/").endswith("/upload") and self._uploads.sweep() + int(length) > MAX_STORED:
            return 503, "Too many files are waiting; try again later."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port  # which is looked at, as it may be none
            return name in self._names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def build_page(page: Page, uploads: Uploads | None = None) -> Any:
    """The page as Gradio blocks.

    Args:
        page: What it does.
        uploads: Where files are kept; None makes a folder.

    Raises:
        CaptionerError: Gradio is not installed.
    """
    uploads = uploads or Uploads()
    os.environ["GRADIO_TEMP_DIR"] = uploads.path
    gr = _gradio()

    def explained(function):
        def call(path, *arguments):
            if path is None:
                raise gr.Error("Choose a file first.")
            try:
                return function(path, *arguments)
            except CaptionerError as error:
                # The file has a name of Gradio's own making, which says nothing to the visitor.
                raise gr.Error(printable(str(error).replace(name_of(str(path)), "The file"))) from error
            finally:
                uploads.remove(path)

        return call

    def file(label: str) -> Any:
        component = gr.File(label=label)
        keep = component.async_move_resource_to_block_cache

        async def keep_unless_address(path):
            if "://" in str(path):  # Gradio would fetch it
                raise gr.Error("Addresses are not fetched; download the file and send it.")
            return await keep(path)

        component.async_move_resource_to_block_cache = keep_unless_address
        component._process_single_file = lambda sent: sent.path  # Gradio would leave an empty file beside it
        return component

    with gr.Blocks(title="captioner", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# captioner\nSays what is in photographs and videos. Nothing leaves the machine that runs this page."
        )
        with gr.Tab("Photo"):
            with gr.Row():
                with gr.Column():
                    photo = file("Photo")
                    beam_size = gr.Slider(2, 10, value=3, step=1, label="Captions to follow")
                    look = gr.Button("Caption", variant="primary")
                with gr.Column():
                    sentence = gr.Textbox(label="Caption")
                    others = gr.Dataframe(headers=["caption", "confidence"], label="Captions, best first")
            looks = gr.Image(label="Where it looked for each word", interactive=False)
            look.click(
                explained(page.caption_photo), [photo, beam_size], [sentence, others, looks],
                concurrency_limit=1, api_name="caption",
            ).then(None, None, photo, js="() => null")  # fmt: skip
        with gr.Tab("Clip"):
            with gr.Row():
                with gr.Column():
                    clip = file("Clip")
                    watch = gr.Button("Watch", variant="primary")
                with gr.Column():
                    label = gr.Label(label="What happens", num_top_classes=5)
                    segments = gr.Dataframe(headers=["from", "to", "caption"], label="What it shows")
            watch.click(
                explained(page.watch_clip), [clip], [label, segments], concurrency_limit=1, api_name="watch"
            ).then(None, None, clip, js="() => null")
    return blocks


def serve(
    host: str,
    port: int,
    model: str | None = None,
    classifier: str | None = None,
    *,
    allow_hosts: Collection[str] = (),
) -> None:
    """Serves the page until the process is interrupted.

    Args:
        host: Address to listen on; ``127.0.0.1`` lets nobody but this machine in.
        port: Port.
        model: See `Page`.
        classifier: See `Page`.
        allow_hosts: Names under which the page is reached, besides ``localhost``, this machine's name and addresses.

    Raises:
        CaptionerError: Gradio is not installed, a model cannot be loaded, or the port is taken.
    """
    gr = _gradio()
    from starlette.middleware import Middleware

    os.umask(0o077)  # what visitors send is nobody else's business
    uploads = Uploads()
    blocks = build_page(Page(model, classifier), uploads).queue(max_size=20)
    threading.Thread(target=uploads.sweep_for_ever, daemon=True).start()
    names = {"localhost", host, socket.gethostname(), *allow_hosts}
    # Fonts of the system: the usual theme would fetch some from the network.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        blocks.launch(
            server_name=host, server_port=port, share=False, max_file_size=MAX_UPLOAD, theme=theme, footer_links=[],
            ssr_mode=False, app_kwargs={"middleware": [Middleware(Guard, names=names, uploads=uploads)]},
        )  # fmt: skip
    except OSError as error:
        raise CaptionerError(f"cannot listen on {host}:{port}: {error}; choose another --port", kind="usage") from error
    finally:
        shutil.rmtree(uploads.path, ignore_errors=True)


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with needs_extra("the page needs Gradio", "app"):
        import gradio
    return gradio
