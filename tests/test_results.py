"""What results look like: one short line as text, pictures in a notebook."""

import io
import pickle
import xml.etree.ElementTree as ElementTree
from functools import partial

import numpy as np
import pytest
from PIL import Image

from captioner.errors import ImageReadError
from captioner.results import Caption, ClipPrediction, NoveltyPoint, Segment, VideoAnalysis, Window, Word


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


def gone():
    raise ImageReadError("photo.jpg: no such file", kind="missing")


WORDS = tuple(Word(text, -0.5, np.full((9, 9), 1 / 81), 0.6) for text in ("a", "<b>", "runs"))
OTHER = Caption("a cat runs", (), -0.6, 0.5, True)
CAPTION = Caption("a <b> runs", WORDS, -0.5, 0.612, True, (OTHER,), "tiny", 0.5, (("<wok>", 0.912),))
VIDEO = VideoAnalysis(
    8.04, 320, 240, 25.0,
    (Segment(0, 6, CAPTION, (("Surfing & more", 0.91),), jpeg()), Segment(6, 8.04, CAPTION)),
    label="Surfing & more",
    labels=(Window(0, 8, "Surfing & more", 0.91, {"Surfing & more": 0.91, "PlayingPiano": 0.09}),),
    novelty=(NoveltyPoint(1, 0.5), NoveltyPoint(4, 3.25, True)),
    truncated=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (CAPTION, "Caption('a <b> runs', confidence 0.61)"),
        (OTHER, "Caption('a cat runs', confidence 0.50, unsure: low confidence)"),
        (WORDS[0], "Word('a', 0.61)"),
        (VIDEO, "VideoAnalysis(8.0 s, 2 segments, label 'Surfing & more', truncated)"),
        (VIDEO.segments[0], "Segment(0.0-6.0 s, 'a <b> runs')"),
        (VIDEO.labels[0], "Window(0.0-8.0 s, label 'Surfing & more', 0.91)"),
        (VIDEO.novelty[1], "NoveltyPoint(4.0 s, 3.25, unusual)"),
        (ClipPrediction(None, 0.3, {"a": 0.3}, VIDEO.labels), "ClipPrediction(nothing known, 0.30, 1 window)"),
        (
            ClipPrediction("a", 0.9, {"a": 0.9}, VIDEO.labels, 0.75),
            "ClipPrediction(label 'a', 0.90, known 0.75, 1 window)",
        ),
        (VideoAnalysis(2.0, 4, 3, 25.0, (), classifier="actions"), "VideoAnalysis(2.0 s, 0 segments, nothing known)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_repr_is_one_short_line(result, expected):
    assert repr(result) == expected


def shown(result):
    """The elements of a notebook's view, which must be well-formed: texts are escaped and every element is closed."""
    return ElementTree.fromstring(result._repr_html_().replace("<br>", "<br/>").replace('px">', 'px"/>', 1))


def test_a_notebook_shows_a_caption_with_its_photo():
    caption = Caption(**{**vars(CAPTION), "picture": partial(bytes, jpeg())})
    view = shown(caption)
    assert view.find("img").get("src").startswith("data:image/jpeg;base64,/9j/")
    text = "".join(view.itertext())
    assert "A <b> runs." in text and "61%" in text and "A cat runs." in text and "<wok> 91%" in text
    assert pickle.loads(pickle.dumps(caption)).picture() == jpeg()


def test_tags_are_in_the_records():
    records = (CAPTION.to_dict(), VIDEO.to_dict()["segments"][0])
    assert all(record["tags"] == [{"tag": "<wok>", "probability": 0.912}] for record in records)


@pytest.mark.parametrize("picture", [None, gone])
def test_a_caption_whose_photo_is_gone_is_shown_without_it(picture):
    html = Caption(**{**vars(CAPTION), "picture": picture})._repr_html_()
    assert "img" not in html and "A &lt;b&gt; runs." in html


def test_a_notebook_shows_a_video_as_its_timeline():
    view = shown(VIDEO)
    bars = [div for div in view.iter("div") if div.get("title")]
    assert [bar.get("title") for bar in bars] == ["a <b> runs", "a <b> runs", "unusual at 4.0 s"]
    places = [bar.get("style").split("min-width")[0] for bar in bars]
    assert places[0] == "position:absolute;left:0.00%;width:74.63%;"
    assert places[1] == "position:absolute;left:74.63%;width:25.37%;"
    assert places[2] == "position:absolute;left:49.75%;width:0.00%;"
    rows = [["".join(cell.itertext()) for cell in row] for row in view.iter("tr")]
    assert rows == [["0.0-6.0 s", "", "A <b> runs.", "Surfing & more 91%"], ["6.0-8.0 s", "", "A <b> runs.", ""]]
    assert len(list(view.iter("img"))) == 1
    assert "truncated" in "".join(view.itertext())


def test_a_video_without_frames_has_a_timeline_too():
    assert shown(VideoAnalysis(0.0, 1, 1, 0.0, ())) is not None


@pytest.mark.parametrize(
    ("confidence", "familiarity", "why"),
    [
        (0.6, 0.1, None),
        (0.9, None, None),
        (0.599, 0.5, "low confidence"),
        (0.599, None, "low confidence"),
        (0.9, 0.099, "unfamiliar"),
        (0.3, 0.0, "unfamiliar"),
    ],
)
def test_a_caption_is_unsure_for_one_reason_wherever_it_is_shown(confidence, familiarity, why):
    caption = Caption("a dog", (), -0.5, confidence, True, familiarity=familiarity)
    segment = Segment(0, 6, caption)
    assert caption.unsure == caption.to_dict()["unsure"] == segment.to_dict()["unsure"] == why
    assert segment.to_dict()["familiarity"] == familiarity
    for shown in (repr(caption), caption._repr_html_(), VideoAnalysis(6, 4, 3, 25.0, (segment,))._repr_html_()):
        assert (f"unsure: {why}" in shown) == (why is not None)
