"""``captioner demo``."""

from __future__ import annotations

import base64
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captioner.cli.options import Model, app, command
from captioner.cli.terminal import is_watched

if TYPE_CHECKING:
    from captioner.outputs.records import Record

FILM = "photos.webm"
_CELLS = {"photo": 28, "film": 16}  # columns of a picture on a terminal

NEXT = """
Now try:
  captioner photo.jpg clip.mp4 holiday/                           your own photos, videos and folders of both
  captioner image holiday/ --output captions/ --formats html      a folder, with a page to look through
  captioner serve                                                 the same in a browser (extra app)"""


@command(app, "demo")
def demo(
    model: Model = None,
    show: Annotated[bool, typer.Option("--open", help="Open a page with the results in the browser.")] = False,
) -> int:
    """Captions the real photographs inside scikit-image, and a short film made of them."""
    from captioner.cli.progress import note
    from captioner.media.examples import example_film, example_photos
    from captioner.runs.inputs import Input
    from captioner.runs.jobs import CaptionImages, WatchVideos, answers

    photos = example_photos()
    task = CaptionImages(model, pictures=True)
    records, say = [], _printer()
    for record in answers(task, [Input(path, path) for path in photos]):
        records.append({**record, "file": os.path.basename(record["file"])})
        say(records[-1])
    folder = Path(tempfile.mkdtemp(prefix="captioner-demo-"))
    try:
        film = example_film(photos, folder / FILM)
        [record] = answers(WatchVideos(model), [Input(str(film), FILM)])
        say(film_record := {**record, "file": FILM})
        if show:
            pages = _open_pages(folder, records, film_record)
            note("\n".join(f"written: {page}" for page in pages))
    finally:
        if not show:
            shutil.rmtree(folder)
    note(NEXT)
    return 0


def _say_plainly(record: Record) -> None:
    from captioner.outputs.writers import RecordWriter

    RecordWriter(sys.stdout, "text", None).write(record)


def _printer() -> Callable[[Record], None]:
    """What prints a record: with pictures on a terminal that can show colours, else as text."""
    if not is_watched() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return _say_plainly
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)  # a terminal that does not answer is no concern
    try:
        from textual_image.renderable import Image  # asks the terminal what it can
    except ImportError:
        return _say_plainly
    return partial(_say_with_picture, Image)


def _say_with_picture(picture: type, record: Record) -> None:
    """A photo beside its caption, or the segments of a film, each with its picture."""
    from PIL import Image
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from captioner.outputs.writers import clock

    layout = Table.grid(padding=(0, 2))
    for one in record.get("segments", [record]):
        times = f"{record['file']}, {clock(one['start'])} to {clock(one['end'])}" if "start" in one else record["file"]
        text = Text("\n").join(
            Text(line, style)
            for line, style in ((one["caption"], "bold"), (_sureness(one), ""), (_tags(one), ""), (times, "dim"))
            if line
        )
        shown = Image.open(io.BytesIO(base64.b64decode(one["thumbnail"])))
        width = _CELLS["film" if "start" in one else "photo"]
        layout.add_row(picture(shown, width=width, height="auto"), text)
        layout.add_row()
    Console(highlight=False).print(layout)


def _sureness(record: Record) -> str:
    unsure = f", unsure: {record['unsure']}" if record["unsure"] else ""
    return f"confidence {record['confidence']:.0%}{unsure}"


def _tags(record: Record) -> str:
    return ", ".join(f"{one['tag']} {one['probability']:.0%}" for one in record["tags"])


def _open_pages(folder: Path, photos: Sequence[Record], film: Record) -> list[Path]:
    """Writes the pages of the photos and of the film, and opens them in the browser."""
    import webbrowser

    from captioner.media.examples import example_photos
    from captioner.outputs.report import images_page, video_page

    links = [os.path.relpath(path, folder) for path in example_photos()]
    pages = {
        folder / "photos.html": images_page(zip(photos, links, strict=True)),
        folder / "film.html": video_page(film, FILM),
    }
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
        webbrowser.open(page.as_uri())
    return list(pages)
