"""The web page of ``captioner serve``: a photo to captions and where the model looked, a clip to what happens."""

from __future__ import annotations

import os
import threading
from typing import Any

from captioner.errors import CaptionerError, needs_extra
from captioner.names import printable
from captioner.results import NOTHING_KNOWN

MAX_UPLOAD = 200 * 2**20
"""Bytes of the largest file that the page takes."""

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
            caption = self._captioner.caption(image, beam_size=beam_size, n_best=beam_size)
        rows = [[printable(one.text), f"{one.confidence:.0%}"] for one in (caption, *caption.alternatives)]
        looks = read_image(io.BytesIO(attention_figure(image, caption).to_png()))
        return printable(str(caption)), rows, looks

    def watch_clip(self, path: str) -> tuple[dict[str, float], Rows]:
        """Says what happens in a clip.

        Returns:
            Label to probability over the whole clip, nothing known among them, empty without a classifier; rows of
            start, end, caption.

        Raises:
            CaptionerError: The clip cannot be read.
        """
        from captioner.outputs.writers import clock

        with self._lock:
            analysis = self._analyzer.analyze(path)
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


def build_page(page: Page) -> Any:
    """The page as Gradio blocks.

    Raises:
        CaptionerError: Gradio is not installed.
    """
    gr = _gradio()

    def explained(function):
        def call(path, *arguments):
            if path is None:
                raise gr.Error("Choose a file first.")
            try:
                return function(path, *arguments)
            except CaptionerError as error:
                # The file has a name of Gradio's own making, which says nothing to the visitor.
                raise gr.Error(str(error).replace(str(path), "The file")) from error

        return call

    with gr.Blocks(title="captioner", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# captioner\nSays what is in photographs and videos. Nothing leaves the machine that runs this page."
        )
        with gr.Tab("Photo"):
            with gr.Row():
                with gr.Column():
                    photo = gr.Image(type="filepath", sources=["upload", "clipboard"], label="Photo")
                    beam_size = gr.Slider(2, 10, value=3, step=1, label="Captions to follow")
                    look = gr.Button("Caption", variant="primary")
                with gr.Column():
                    sentence = gr.Textbox(label="Caption")
                    others = gr.Dataframe(headers=["caption", "confidence"], label="Captions, best first")
            looks = gr.Image(label="Where it looked for each word", interactive=False)
            look.click(
                explained(page.caption_photo), [photo, beam_size], [sentence, others, looks],
                concurrency_limit=1, api_name="caption",
            )  # fmt: skip
        with gr.Tab("Clip"):
            with gr.Row():
                with gr.Column():
                    clip = gr.Video(sources=["upload"], label="Clip")
                    watch = gr.Button("Watch", variant="primary")
                with gr.Column():
                    label = gr.Label(label="What happens", num_top_classes=5)
                    segments = gr.Dataframe(headers=["from", "to", "caption"], label="What it shows")
            watch.click(explained(page.watch_clip), [clip], [label, segments], concurrency_limit=1, api_name="watch")
    return blocks


def serve(host: str, port: int, model: str | None = None, classifier: str | None = None) -> None:
    """Serves the page until the process is interrupted.

    Args:
        host: Address to listen on; ``127.0.0.1`` lets nobody but this machine in.
        port: Port.
        model: See `Page`.
        classifier: See `Page`.

    Raises:
        CaptionerError: Gradio is not installed, a model cannot be loaded, or the port is taken.
    """
    gr = _gradio()
    blocks = build_page(Page(model, classifier)).queue(max_size=20)
    # Fonts of the system: the usual theme would fetch some from the network.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        blocks.launch(
            server_name=host, server_port=port, share=False, max_file_size=MAX_UPLOAD, theme=theme, footer_links=[],
        )  # fmt: skip
    except OSError as error:
        raise CaptionerError(f"cannot listen on {host}:{port}: {error}; choose another --port", kind="usage") from error


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with needs_extra("the page needs Gradio", "app"):
        import gradio
    return gradio
