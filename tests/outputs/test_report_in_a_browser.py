"""Pages in a real browser: search, filter, player, and what axe-core says of them."""

from __future__ import annotations

import numpy as np
import pytest
from browsing import VIEWS, complaints, until
from media_makers import grey_frames, write_video

from captioner.outputs.records import record_of, with_thumbnail, with_thumbnails
from captioner.outputs.report import images_page, video_page, videos_page
from captioner.outputs.thumbnails import thumbnail
from captioner.results import Caption, NoveltyPoint, Segment, VideoAnalysis, Window

FILM = "films/ä film #1?.webm"
SENTENCES = ("a dog runs & <b>jumps</b>", "a cat sleeps", "a dog on a beach", "a café in <script>alert(1)</script>")


def caption(number, tags=()):
    return Caption(SENTENCES[number], (), -1.0, 0.4 + 0.1 * number, True, model="photos", familiarity=0.5, tags=tags)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder of pages beside a film."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "films").mkdir()
    write_video(folder / FILM, grey_frames(40), fps=5, codec="VP80")
    picture = thumbnail(np.full((60, 80, 3), 99, np.uint8))
    tags = (("grass", 0.9),)
    segments = tuple(Segment(2.0 * i, 2.0 * i + 2, caption(i, tags if i == 1 else ()), (), picture) for i in range(4))
    analysis = VideoAnalysis(
        8.0, 64, 48, 5.0, segments, "running", (Window(0.0, 4.0, "running", 0.9),),
        (NoveltyPoint(1.0, 1.0), NoveltyPoint(5.0, 3.0, True)), classifier="actions",
    )  # fmt: skip
    record = with_thumbnails(record_of(FILM, analysis), segments)
    photos = [
        (with_thumbnail(record_of(f"{i}.jpg", caption(i, tags if i == 1 else ())), picture), None) for i in range(4)
    ]
    broken = record_of("bad.jpg", ValueError("no photo"))
    texts = {
        "photos": images_page([*photos, (broken, None)]),
        "many": images_page([(record_of(f"{i}.jpg", caption(i % 4)), None) for i in range(500)]),
        "film": video_page(record, FILM),
        "lost": video_page(record, "films/lost.webm"),
        "films": videos_page([(record, "film.html"), (broken, None)]),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens a page by its name; it must say nothing on the console and ask for nothing but itself and the film."""
    context = browser.new_context(**VIEWS["wide"])
    said, asked = [], []

    def open_page(name):
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((pages / f"{name}.html").as_uri())
        return page

    yield open_page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((pages.as_uri(), "data:"))] == []


def shown(page, selector=".found"):
    return page.locator(f"{selector}:visible").count()


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_serious_is_found(browser, pages, view):
    context = browser.new_context(**VIEWS[view])
    page = context.new_page()
    found = {}
    for name in ("photos", "film", "films"):
        page.goto((pages / f"{name}.html").as_uri())
        found[name] = complaints(page)
    context.close()
    assert found == {"photos": [], "film": [], "films": []}


def test_search_and_filter(opened):
    page = opened("photos")
    assert shown(page) == 4 and page.locator("#count").text_content() == ""
    for words, count in (
        ("dog", 2),
        ("DOG beach", 1),
        ("grass", 1),
        ("cafe", 1),
        ("3.jpg", 1),
        ("script", 1),
        ("cow", 0),
    ):
        page.fill("#words", words)
        assert shown(page) == count, words
        assert page.locator("#count").text_content() == f"{count} of 4 found"
    page.keyboard.press("Escape")
    assert shown(page) == 4
    page.check("input[value=unsure]")  # below a confidence of 0.6
    assert page.locator(".found:visible .caption").all_inner_texts() == list(SENTENCES[:2])
    page.check("input[value=sure]")
    assert shown(page) == 2
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("beach")
    assert page.locator("#words").input_value() == "beach" and shown(page) == 1


def test_many_photos_are_laid_out_some_at_a_time(opened):
    page = opened("many")
    assert shown(page) == 200
    page.locator("#more").click()
    assert shown(page) == 400
    page.fill("#words", "beach")
    assert shown(page) == 125 and page.locator("#count").text_content() == "125 of 500 found"
    assert not page.locator("#more").is_visible()


def test_search_over_films(opened):
    page = opened("films")
    assert shown(page) == 3  # the fourth is folded away
    page.fill("#words", "cafe")
    assert page.locator(".found:visible .caption").all_inner_texts() == [SENTENCES[3]]
    page.fill("#words", "film #1")  # its name
    assert shown(page) == 4
    page.fill("#words", "cow")
    assert shown(page, ".group") == 0


def test_a_click_jumps(opened):
    page = opened("film")
    until(page, "document.querySelector('video').readyState > 0")
    assert shown(page, "#unplayable") == 0
    for link, time, sentence in (("#s3 a", 4.0, 2), (".strip a >> nth=1", 2.0, 1), (".quiet a", 5.0, 2)):
        page.locator(link).click()
        until(
            page,
            "([time, name]) => Math.abs(document.querySelector('video').currentTime - time) < 1.5"
            " && document.querySelector('[aria-current]')?.id === name",
            arg=[time, f"s{sentence + 1}"],
        )
        said = SENTENCES[sentence] + " (unsure)" * (sentence == 1)
        cues = (
            "[...document.querySelector('video').textTracks[0].activeCues].map((cue) => cue.getCueAsHTML().textContent)"
        )
        until(page, f"JSON.stringify({cues}) === JSON.stringify([{said!r}])")


def test_a_link_to_a_segment_starts_there(opened):
    page = opened("films")
    page.locator(".found a").nth(2).click()
    until(page, "document.querySelector('video')?.currentTime === 4")


def test_a_film_that_is_gone_leaves_the_page_usable(browser, pages):
    page = browser.new_page()
    page.goto((pages / "lost.html").as_uri())
    page.wait_for_selector("#unplayable:visible")
    page.locator("#s3 a").click()
    assert page.url.endswith("#s3")
    page.close()
