"""Pages: well-formed, self-contained, closed to hostile names, and showing what the records say."""

import base64
import hashlib
import html.parser
import io
import json
import os
import re
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from captioner.errors import VideoReadError
from captioner.names import printable
from captioner.outputs import report
from captioner.outputs.records import json_line, record_of, with_thumbnail, with_thumbnails
from captioner.outputs.report import images_page, video_page, videos_page
from captioner.outputs.thumbnails import smaller, thumbnail
from captioner.outputs.writers import video_sidecars
from captioner.results import Caption, NoveltyPoint, Segment, VideoAnalysis, Window

HOSTILE_NAMES = [
    "</title></script><script>document.title='taken'</script>.mp4",
    '"><img src=x onerror=alert(1)>.mp4',
    "a\nb\r\u2028\u202e\x00\x1b.mp4",
    "😀 {{ 7 * 7 }} {% raw %} &amp; &lt;.mp4",
    "javascript:alert(1).mp4",
    "https:..evil.example.mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
    "=cmd|' /C calc'!A0.mp4",
    "x" * 250,
]
VOID = {"meta", "img", "input", "track"}


ALLOWED = {"img": "data:image/jpeg;base64,", "track": "data:text/vtt;base64,"}
"""How addresses begin, by element; those of others begin with # or ./."""


class Page(html.parser.HTMLParser):
    """A strict reader: tags must be known, balanced and harmless; collects text, links and elements."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.style, self.script, self.csp, self.source = "", "", None, text
        text.encode("utf-8")
        assert text.lstrip().startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), "an attribute twice"
        assert tag not in {"iframe", "object", "embed", "link", "base", "form"}
        assert tag != "script" or not (attributes or self.script), "a script of somebody else's"
        for name, value in attributes:
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in {"src", "href", "data", "srcset", "xlink:href", "action"}:
                assert value.startswith(ALLOWED.get(tag, ("#", "./"))), (tag, value)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.csp = values["content"]
        self.elements.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        elif self.open and self.open[-1] == "script":
            self.script += data
        else:
            self.text.append(data)

    def all(self, tag):
        return [values for name, values in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def photo(colour=(200, 30, 30), size=(120, 160)):
    return thumbnail(np.full((*size, 3), colour, np.uint8))


def video(name="clips/a.mp4", count=4, length=5.0, caption="a dog & a <cat>", **changes):
    segments = tuple(
        Segment(
            i * length,
            (i + 1) * length,
            Caption(f"{caption} {i}", (), -1.0, 0.25, True, tags=(("dog", 0.914),) if i == 1 else ()),
            (("long jump", 0.8),),
            photo() if i % 2 else None,
        )
        for i in range(count)
    )
    duration = count * length
    windows = tuple(
        Window(i * duration / 4, (i + 1) * duration / 4, label, 0.5)
        for i, label in enumerate(["running", None, "</svg><b>", "running"])
    )
    novelty = tuple(NoveltyPoint(i * duration / 10, float(i % 4), i == 7) for i in range(10))
    values = dict(label="running", labels=windows, novelty=novelty, model="flickr8k", classifier="actions")
    analysis = VideoAnalysis(duration, 320, 240, 29.97, segments, **{**values, **changes})
    return with_thumbnails(record_of(name, analysis), segments)


def image(name="a.jpg", picture=True, tags=()):
    caption = Caption("a dog", (), -1.0, 0.5, True, (Caption("a cat", (), -2.0, 0.25, True),), "flickr8k", tags=tags)
    return with_thumbnail(record_of(name, caption), photo() if picture else None)


def failed(name="bad.mp4"):
    return record_of(name, VideoReadError(f"{name}: no video stream; is it a sound file?", kind="no_video_stream"))


def all_pages(name):
    return {
        "video": video_page(video(name, caption=name), film=f"../{name}"),
        "failed video": video_page(failed(name)),
        "videos": videos_page(
            [(video(name, caption=name, label=name), name + ".html"), (failed(name), None)], title=name
        ),
        "images": images_page([(image(name), f"../{name}"), (failed(name), None)], title=name),
    }


def test_tags_stand_with_their_probabilities():
    old = image("old.jpg")
    del old["tags"]  # a record of an earlier version
    text = Page(images_page([(image(tags=(("dog", 0.914), ("<b>", 0.8))), None), (old, None)])).words
    assert text.count("dog 91%, <b> 80%") == 1
    assert Page(video_page(video())).words.count("dog 91%") == 1


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_text_and_nothing_else(name):
    usual = {kind: Page(text) for kind, text in all_pages("usual.mp4").items()}
    for kind, text in all_pages(name).items():
        page = Page(text)
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in usual[kind].elements]
        shown = " ".join(printable(name).split())
        assert shown in page.words, kind
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", text)


def test_the_policy_forbids_everything_but_the_page_s_own_style_and_script():
    for text in all_pages("a.mp4").values():
        page = Page(text)
        style, script = (
            base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (page.style, page.script)
        )
        assert page.csp.split("; ") == [
            "default-src 'none'",
            "img-src data:",
            "media-src 'self' file: data:",
            f"style-src 'sha256-{style}'",
            f"script-src 'sha256-{script}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
        head = text[: text.index("<style>")]
        assert "Content-Security-Policy" in head and "<img" not in head
        assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\b|\bimport\b", text)
        assert "width=device-width" in head and "prefers-color-scheme: dark" in page.style


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_links_lead_to_the_very_file(name):
    page = Page(videos_page([(video(), f"sub folder/{name}.html")]))
    film = Page(video_page(video(), film=f"sub folder/{name}.html")).all("video")[0]["src"]
    photo = Page(images_page([(image(), f"sub folder/{name}.html")])).all("a")[0]["href"]
    for link in (*(one["href"] for one in page.all("a")), film, photo):
        assert link.startswith("./sub%20folder/")
        path = urllib.parse.unquote_to_bytes(urllib.parse.urlsplit(link).path)
        assert os.fsdecode(path) == f"./sub folder/{name}.html"


def test_a_video_s_page_shows_its_segments():
    page = Page(video_page(video()))
    assert len([one for one in page.all("li") if "segment" in one.get("class", "")]) == 4
    for text in ("a.mp4", "0:20.0 long", "320 × 240", "29.97 frames", "4 segments", "label running", "long jump 80%",
                 "a dog & a <cat> 3", "0:15.0 – 0:20.0", "25% confidence", "captions by flickr8k", "labels by actions",
                 "Unusual moments: 0:14.0", "empty where nothing known happens"):  # fmt: skip
        assert text in page.words, text
    assert "cut short" not in page.words
    pictures = [Image.open(io.BytesIO(base64.b64decode(one["src"].split(",")[1]))) for one in page.all("img")]
    assert [picture.size for picture in pictures] == [(160, 120)] * 2
    targets = {one["id"] for one in page.all("li") if "id" in one}
    assert {one["href"][1:] for one in page.all("a")} == targets | {"over-time"} and len(targets) == 4
    assert "cut short" in Page(video_page(video(truncated=True))).words
    assert "the clock leaps" in Page(video_page(video(warnings=["the clock leaps"]))).words


def test_the_timeline_covers_the_video_from_end_to_end():
    rectangles = [one for one in Page(video_page(video())).all("rect") if one.get("height") == "26"]
    edges = [(float(one["x"][:-1]), float(one["x"][:-1]) + float(one["width"][:-1])) for one in rectangles]
    assert edges == [(0, 25), (25, 50), (50, 75), (75, 100)]


def test_the_novelty_curve_and_its_marks():
    page = Page(video_page(video()))
    (curve,) = page.all("polyline")
    points = [tuple(map(float, point.split(","))) for point in curve["points"].split()]
    assert [x for x, _ in points] == [i * 100 for i in range(10)]
    assert points[3][1] == 6 and points[0][1] == 100 and points[1][1] == pytest.approx(100 - 94 / 3, abs=0.1)
    (mark,) = page.all("circle")
    assert mark["cx"] == "70.0%"


def test_lanes_without_data_are_left_out():
    page = Page(video_page(video(labels=(), novelty=(), label=None, classifier=None)))
    assert page.all("polyline") == [] and "Action labels" not in page.words and "Novelty" not in page.words
    empty = video(count=0)
    empty["duration"] = 0.0
    assert "No segment" in Page(video_page(empty)).words
    flat = video(novelty=(NoveltyPoint(0.0, 0.0),))
    assert Page(video_page(flat)).all("polyline")


@pytest.mark.parametrize("classifier", ["actions", None])
def test_nothing_known_in_a_video_is_never_written_as_none(classifier):
    windows = (Window(0.0, 20.0, None, 0.4),) if classifier else ()
    record = video(label=None, labels=windows, classifier=classifier)
    record["segments"] = [{**segment, "labels": [], "thumbnail": None} for segment in record["segments"]]
    texts = {name: write(record) for name, write in video_sidecars().items()}
    texts |= {"html": video_page(record), "index": videos_page([(record, None)])}
    assert [name for name, text in texts.items() if "None" in text] == []
    for format in ("html", "index", "txt", "csv"):
        assert ("nothing known" in texts[format]) == bool(classifier), format
    assert json.loads(texts["json"])["label"] is None


def test_stretches_without_a_label_are_empty():
    windows = (Window(0.0, 5.0, "a", 0.8, known=0.5), Window(5.0, 10.0, None, 0.9, known=0.1))
    page = Page(video_page(video(labels=windows)))
    assert "a 40%" in page.words and "90%" not in page.words
    (bar,) = [one for one in page.all("rect") if one.get("y")]
    assert (bar["x"], bar["width"], float(bar["height"])) == ("0.0%", "25.0%", 25.6)


def test_the_run_s_page_counts_labels_and_names_nothing_known_last():
    entries = [(video(label=label), None) for label in (None, "b", None, "a", "a", None)]
    assert "Labels: a 2, b 1, nothing known 3" in Page(videos_page(entries)).words
    without = video(label=None, labels=(), classifier=None)
    assert "nothing known" not in Page(videos_page([(without, None)])).words


def test_a_failed_video_s_page_says_why():
    page = Page(video_page(failed()))
    assert "no video stream" in page.words and "Over time" not in page.words


def test_the_page_of_a_run_lists_videos_and_failures():
    entries = [(video("x/b.mp4"), "x/b.mp4.html"), (failed(), None), (video("c.mp4", count=3, label=None), None)]
    page = Page(videos_page(iter(entries), title="My run"))
    for text in ("My run", "2 videos", "0:35 long together", "7 segments", "1 failed", "b.mp4", "c.mp4",
                 "Labels: running 1", "bad.mp4: no video stream", "1 more"):  # fmt: skip
        assert text in page.words, text
    links = [one["href"] for one in page.all("a")]
    assert links == ["#failures", "./x/b.mp4.html", *(f"./x/b.mp4.html#s{number}" for number in (1, 2, 3, 4))]
    assert "a dog & a <cat> 3" in page.words  # folded away, but there to be found
    for one in page.all("img"):
        assert max(Image.open(io.BytesIO(base64.b64decode(one["src"].split(",")[1]))).size) <= 120
    nothing = Page(videos_page([]))
    assert "0 videos" in nothing.words and "failed" not in nothing.words
    assert "1 video " in Page(videos_page(entries[:1])).words


def test_the_page_of_photos():
    page = Page(images_page(iter([(image(), None), (image("b.jpg", picture=False), "b.jpg"), (failed("c.jpg"), None)])))
    for text in ("2 photos", "1 failed", "a dog", "50% confidence", "1 more", "a cat", "25%", "c.jpg: no video stream"):
        assert text in page.words, text
    assert len(page.all("img")) == 1


def test_what_is_unsure_is_marked_with_its_reason():
    old, unsure = image("old.jpg"), {**image(), "unsure": "unfamiliar"}
    del old["unsure"]  # a record of an earlier version
    page = Page(images_page([({**image(), "unsure": None}, None), (unsure, None), (old, None)]))
    marked = [one for one in page.all("li") if "unsure" in one.get("class", "")]
    assert len(marked) == 1 and page.words.count("unsure: unfamiliar") == 1
    assert "1 unsure" in page.words and "all 3 sure 2 unsure 1" in page.words
    record = video()
    for number, segment in enumerate(record["segments"]):
        segment["unsure"] = "low confidence" if number == 1 else None
    for text in (video_page(record), videos_page([(record, None)])):
        page = Page(text)
        assert page.words.count("unsure: low confidence") == 1 and "all 4 sure 3 unsure 1" in page.words
    assert not [one for one in Page(images_page([(old, None)])).all("input") if one["type"] == "radio"]


def test_many_photos_keep_their_page_small():
    several = [(with_thumbnail(image(f"{i}.jpg"), photo((i % 256, 0, 0), (240, 320))), None) for i in range(302)]
    for count, width in ((300, 320), (302, 160)):
        pictures = Page(images_page(several[:count])).all("img")
        assert len(pictures) == count
        for one in (pictures[0], pictures[299], pictures[-1]):
            assert Image.open(io.BytesIO(base64.b64decode(one["src"].split(",")[1]))).width == width


def test_pages_can_be_made_again_from_the_disk(tmp_path):
    record = video()
    (tmp_path / "a.json").write_text(json_line(record))
    again = json.loads((tmp_path / "a.json").read_text())
    assert video_page(again) == video_page(record)
    assert videos_page([(again, None)]) == videos_page([(record, None)])


def test_a_picture_that_is_none_is_left_out():
    broken = video()
    broken["segments"][1]["thumbnail"] = '"><script>alert(1)</script>'
    broken["segments"][3]["thumbnail"] = base64.b64encode(b"GIF89a not a jpeg").decode()
    assert Page(videos_page([(broken, None)])).all("img") == []
    assert smaller("", 10) is None and smaller("%%%", 10) is None


def test_a_long_video_keeps_its_page_small():
    count = 400
    record = video(count=count, length=10.0)
    record["novelty"] = [{"time": t / 2, "value": float(t == 6001), "unusual": t == 6001} for t in range(8000)]
    record["segments"] = [{**one, "thumbnail": record["segments"][1]["thumbnail"]} for one in record["segments"]]
    page = Page(video_page(record))
    points = page.all("polyline")[0]["points"].split()
    assert len(points) <= 1500
    assert min(float(point.split(",")[1]) for point in points) == 6  # the one peak is not lost
    assert len(page.all("img")) == count and "1:06:40 long" in page.words
    assert max(Image.open(io.BytesIO(base64.b64decode(page.all("img")[0]["src"].split(",")[1]))).size) <= 160


@pytest.mark.parametrize("duration", [0.04, 0.5, 1, 7, 60, 61, 3600, 3 * 86400, 1e7])
def test_ticks_are_few_round_and_inside(duration):
    ticks = report._ticks(duration)
    assert 1 <= len(ticks) <= 7
    assert ticks[0]["x"] == 0 and all(tick["x"] <= 100 for tick in ticks)
    assert len({tick["text"] for tick in ticks}) == len(ticks)


def test_thumbnails_keep_their_shape_and_are_never_enlarged():
    for size, expected in [
        ((480, 640), (320, 240)),
        ((640, 480), (240, 320)),
        ((10, 20), (20, 10)),
        ((4, 9000), (320, 1)),
    ]:
        picture = Image.open(io.BytesIO(thumbnail(np.full((*size, 3), 99, np.uint8))))
        assert picture.size == expected and picture.format == "JPEG"
    assert abs(int(np.asarray(picture).mean()) - 99) <= 2
