"""The web page of ``captioner serve``: a photo to captions and where the model looked, a video to what happens when.

Files come from whoever reaches the page. Gradio hands them on as they are, so that only `captioner.media` decodes them;
they lie in a folder that only this user can enter, and are deleted after use.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import ipaddress
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from captioner.errors import CaptionerError, needs_extra
from captioner.media.images import name_of
from captioner.names import printable
from captioner.results import NOTHING_KNOWN

if TYPE_CHECKING:
    from captioner.results import Caption, VideoAnalysis

MAX_UPLOAD = 200 * 2**20
"""Bytes of the largest file, and of the largest request, that the page takes."""

MAX_STORED = 10 * MAX_UPLOAD
"""Bytes of all files that wait for their turn."""

KEPT_SECONDS = 600
"""Seconds after which a file is deleted that was sent and not used, and the picture of a result."""

CLIP_SECONDS = 300
"""Seconds that a clip may be computed, and all files of a visitor together."""

Rows = list[list[str]]
Progress = Callable[[float], None]


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
        self._analyzer = VideoAnalyzer(self._captioner, classifier)
        self._lock = threading.Lock()  # one computation at a time uses all cores already

    def caption_photo(self, path: str, beam_size: int = 3) -> tuple[str, str, dict[str, float], Rows, list]:
        """Captions a photo.

        Args:
            path: The file.
            beam_size: Captions followed, and shown.

        Returns:
            The caption as a sentence; how sure it is; tags with their probabilities; rows of caption and confidence,
            best first; pairs of picture, uint8 (H, W, 3), and text: the photo, then where the model looked, by word.

        Raises:
            CaptionerError: The photo cannot be read.
        """
        from captioner.media.images import read_image
        from captioner.outputs.plots import attention_overlays

        image = read_image(path)
        with self._lock:
            caption = self._captioner.caption(path, beam_size=beam_size, n_best=beam_size)
        rows = [[printable(one.text), f"{one.confidence:.0%}"] for one in (caption, *caption.alternatives)]
        image = image[:: max(1, image.shape[0] // 400), :: max(1, image.shape[1] // 400)]
        shares = [word.probability if word.confidence is None else word.confidence for word in caption.words]
        texts = [f"{printable(word.text)} {share:.0%}" for word, share in zip(caption.words, shares, strict=True)]
        looks = [(image, "the photo"), *zip(attention_overlays(image, caption), texts, strict=True)]
        return printable(str(caption)), _sureness(caption), dict(caption.tags), rows, looks

    def watch_clip(
        self, path: str, progress: Progress = lambda fraction: None, film: str | None = None
    ) -> tuple[dict[str, float], str, dict[str, str]]:
        """Says what happens in a video.

        Args:
            path: The file.
            progress: Is told the share that is done, 0..1.
            film: Where a browser finds the video, relative to the page; None for a report without a player.

        Returns:
            Label to probability over the whole video, nothing known among them, empty without a classifier; the report
            as HTML; files, from name to text: subtitles, tables, the record.

        Raises:
            CaptionerError: The video cannot be read, or takes longer than `CLIP_SECONDS`.
        """
        from captioner.outputs.records import record_of, with_thumbnails
        from captioner.outputs.report import video_page
        from captioner.outputs.writers import video_sidecars

        analysis = self._watch(path, time.monotonic() + CLIP_SECONDS, progress)
        seconds = sum(window.end - window.start for window in analysis.labels)
        labels: dict[str, float] = {}
        for window in analysis.labels:
            weight = (1.0 if window.known is None else window.known) * (window.end - window.start) / seconds
            for label, probability in window.probabilities.items():
                labels[label] = labels.get(label, 0.0) + probability * weight
        if labels and analysis.label is None:  # the page headlines what is likeliest
            labels = {NOTHING_KNOWN: 1.0 - max(labels.values())}
        record = with_thumbnails(record_of(os.path.basename(path), analysis), analysis.segments)
        files = {f"captions.{extension}": make(record) for extension, make in video_sidecars().items()}
        return labels, video_page(record, film), files

    def caption_files(
        self, paths: Sequence[str], progress: Progress = lambda fraction: None
    ) -> tuple[Rows, dict[str, str]]:
        """Captions photos and videos; one that cannot be read is said in its place.

        Args:
            paths: The files.
            progress: Is told the share that is done, 0..1.

        Returns:
            Rows of file, time, caption, confidence, why it is unsure, and tags; files, from name to text.
        """
        from captioner.media.videos import VIDEO_EXTENSIONS
        from captioner.outputs.records import json_line, record_of, with_thumbnail, with_thumbnails, without_thumbnails
        from captioner.outputs.report import images_page, videos_page
        from captioner.outputs.writers import clock, to_csv

        deadline = time.monotonic() + CLIP_SECONDS
        photos, films, rows = [], [], []
        for number, path in enumerate(paths):
            name, is_film = os.path.basename(path), os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS
            try:
                if is_film:
                    share = lambda fraction, done=number: progress((done + fraction) / len(paths))  # noqa: E731
                    analysis = self._watch(path, deadline, share)
                    record = with_thumbnails(record_of(name, analysis), analysis.segments)
                else:
                    self._check_time(path, deadline)
                    with self._lock:
                        caption = self._captioner.caption(path, attention=False)
                    record = with_thumbnail(record_of(name, caption), caption.picture and caption.picture())
            except CaptionerError as error:
                record = record_of(name, error)
                rows.append([printable(name), "", printable(_unnamed(error, path)), "", "", ""])
            else:
                for one in record.get("segments", [record]):
                    found = ", ".join(f"{tag['tag']} {tag['probability']:.0%}" for tag in one["tags"])
                    at = clock(one["start"]) if is_film else ""
                    said = [printable(one["caption"]), f"{one['confidence']:.0%}", one["unsure"] or "", found]
                    rows.append([printable(name), at, *said])
            (films if is_film else photos).append(record)
            progress((number + 1) / len(paths))
        lines = "".join(json_line(without_thumbnails(record)) + "\n" for record in (*photos, *films))
        files = {"captions.jsonl": lines}
        if photos:
            files |= {"photos.csv": to_csv(photos, "image"), "photos.html": images_page((one, None) for one in photos)}
        if films:
            files |= {"videos.csv": to_csv(films, "video"), "videos.html": videos_page((one, None) for one in films)}
        return rows, files

    def _watch(self, path: str, deadline: float, progress: Progress) -> VideoAnalysis:
        def go_on(fraction: float) -> None:
            self._check_time(path, deadline)
            progress(fraction)

        with self._lock:
            return self._analyzer.analyze(path, go_on)

    def _check_time(self, path: str, deadline: float) -> None:
        if time.monotonic() > deadline:
            message = f"{name_of(path)}: takes longer than {CLIP_SECONDS} s; send shorter or fewer files"
            raise CaptionerError(message, kind="timeout")


def _sureness(caption: Caption) -> str:
    familiarity = "" if caption.familiarity is None else f", familiarity {caption.familiarity:.0%}"
    unsure = f", unsure: {caption.unsure}" if caption.unsure else ""
    return f"confidence {caption.confidence:.0%}{familiarity}{unsure}"


def _unnamed(error: CaptionerError, path: str) -> str:
    """The message without the file's name, which is of Gradio's making and says nothing to the visitor."""
    return str(error).replace(name_of(path), "The file")


class Uploads:
    """The folder in which Gradio keeps what visitors send, and pictures of results, for a while."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="captioner-page-")  # which nobody else may enter
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    def keep(self, files: Mapping[str, str]) -> list[str]:
        """Writes files, from name to text, for the visitor to fetch; gives their paths."""
        folder = Path(tempfile.mkdtemp(dir=self.path))
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
        return [str(folder / name) for name in files]

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
        if "file=" in scope["path"] and "://" in scope["path"]:  # Gradio would fetch it
            return 403, "Addresses are not fetched."
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
    from captioner.media.examples import example_film

    photos, film = _examples()
    gr.set_static_paths([os.path.dirname(film)] if film else [])

    @contextlib.contextmanager
    def explained(paths: Sequence[str | None]) -> Iterator[None]:
        if not paths or None in paths:
            raise gr.Error("Choose a file first.")
        try:
            yield
        except CaptionerError as error:
            raise gr.Error(printable(_unnamed(error, str(paths[0])))) from error

    def caption(path: str, beam_size: int = 3):
        """Captions a photo: sentence, how sure it is, tags, captions with confidence, where it looked by word."""
        with explained([path]):
            try:
                return page.caption_photo(path, int(beam_size))
            finally:
                uploads.remove(path)

    def watch(path: str, progress=gr.Progress()):  # noqa: B008 (so that Gradio knows it)
        """Says what happens when in a video: labels, a report as HTML, files (json, srt, vtt, csv, txt)."""
        with explained([path]):
            # The film stays for the player until it is swept away.
            labels, report, files = page.watch_clip(path, progress, f"gradio_api/file={path}")
            return labels, _framed(report), uploads.keep(files)

    def caption_files(paths: list[str], progress=gr.Progress()):  # noqa: B008
        """Captions several: rows of file, time, caption, confidence, unsure, tags; files (jsonl, csv, html)."""
        with explained(paths):
            try:
                rows, files = page.caption_files(paths, progress)
            finally:
                for path in paths:
                    uploads.remove(path)
            return rows, uploads.keep(files)

    def file(label: str, count: str = "single") -> Any:
        component = gr.File(label=label, file_count=count)
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
                    chosen = photos and gr.Gallery(
                        photos, label="Or one of these", columns=4, height=150, allow_preview=False, interactive=False
                    )
                with gr.Column():
                    sentence = gr.Textbox(label="Caption", lines=2)
                    sureness = gr.Textbox(label="How sure")
                    tags = gr.Label(label="Tags")
                    others = gr.Dataframe(
                        headers=["caption", "confidence"], label="Captions, best first", wrap=True, interactive=False
                    )
            looks = gr.Gallery(
                label="Where it looked, word by word", columns=4, height="auto", object_fit="contain", interactive=False
            )
            answers = [sentence, sureness, tags, others, looks]
            look.click(caption, [photo, beam_size], answers, concurrency_limit=1, api_name="caption").then(
                None, None, photo, js="() => null"
            )
            if photos:

                def caption_example(beam_size, selected):
                    return page.caption_photo(photos[selected.index], int(beam_size))

                caption_example.__annotations__["selected"] = gr.SelectData  # Gradio looks for it, and not in here
                chosen.select(caption_example, beam_size, answers, concurrency_limit=1, api_visibility="private")
        with gr.Tab("Video"):
            with gr.Row():
                with gr.Column():
                    clip = file("Video")
                    watch_it = gr.Button("Watch", variant="primary")
                    example = film and gr.Button("Or watch this example")
                with gr.Column():
                    label = gr.Label(label="What happens", num_top_classes=5)
                    subtitles = gr.File(label="Subtitles and tables", file_count="multiple", interactive=False)
            report = gr.HTML(min_height=20)
            watched = [label, report, subtitles]
            watch_it.click(watch, clip, watched, concurrency_limit=1, api_name="watch").then(
                None, None, clip, js="() => null"
            )
            if film:

                def watch_example(progress=gr.Progress()):  # noqa: B008
                    if not os.path.exists(film):
                        example_film(photos, film)
                    return watch(film, progress)

                example.click(watch_example, None, watched, concurrency_limit=1, api_visibility="private")
        with gr.Tab("Several files"):
            several = file("Photos and videos", "multiple")
            caption_all = gr.Button("Caption all", variant="primary")
            table = gr.Dataframe(
                headers=["file", "time", "caption", "confidence", "unsure", "tags"],
                label="Captions",
                wrap=True,
                interactive=False,
            )
            results = gr.File(label="Tables and reports", file_count="multiple", interactive=False)
            caption_all.click(
                caption_files, several, [table, results], concurrency_limit=1, api_name="caption_files"
            ).then(None, None, several, js="() => null")
    return blocks


def _examples() -> tuple[list[str], str | None]:
    """Photos to click on, and where a film is to be made of them; none where scikit-image is not installed."""
    from captioner.media.examples import example_photos

    try:
        photos = example_photos()
    except CaptionerError:
        return [], None
    folder = tempfile.mkdtemp(prefix="captioner-example-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copies = [shutil.copy(photo, folder) for photo in photos]  # so that addresses do not tell where packages lie
    return copies, os.path.join(folder, "example.webm")


def _framed(report: str) -> str:
    """A report as a page within the page."""
    style = "width: 100%; height: 85vh; border: 0"
    return f'<iframe title="Report" srcdoc="{html.escape(report)}" style="{style}"></iframe>'


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
            server_name=host, server_port=port, share=False, max_file_size=MAX_UPLOAD, theme=theme,
            footer_links=["api"], run_history=False, ssr_mode=False,
            app_kwargs={"middleware": [Middleware(Guard, names=names, uploads=uploads)]},
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
