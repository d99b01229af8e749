"""Subtitles, read back by parsers that are stricter than players."""

import html
import random
import re

import pytest

from captioner.outputs.subtitles import to_srt, to_vtt
from captioner.results import Caption, Segment

SRT_TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")
VTT_TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def segment(start, end, caption="a dog runs"):
    return {"start": start, "end": end, "caption": caption, "confidence": 0.5, "labels": []}


def seconds(groups):
    hours, minutes, whole, thousandths = map(int, groups)
    return ((hours * 60 + minutes) * 60 + whole) * 1000 + thousandths


def parse_srt(text):
    if not text:
        return []
    assert text.endswith("\n") and not text.endswith("\n\n")
    cues = []
    for expected, block in enumerate(text.rstrip("\n").split("\n\n"), 1):
        number, time, caption = block.split("\n")
        match = SRT_TIME.fullmatch(time)
        assert int(number) == expected and match, block
        assert "-->" not in caption and not re.search(r"<[^>]*>|\{[^}]*\}", caption)
        cues.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), caption))
    return cues


def parse_vtt(text):
    head, *blocks = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    cues = []
    for block in blocks:
        time, caption = block.split("\n")
        match = VTT_TIME.fullmatch(time)
        assert match and "-->" not in caption and "<" not in caption
        assert not re.search(r"&(?!amp;|lt;|gt;)", caption)
        cues.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), html.unescape(caption)))
    return cues


def test_the_exact_text():
    segments = [segment(0, 4), segment(3725.5, 3730.0004, "a man & a <b>")]
    assert to_srt(segments) == (
        "1\n00:00:00,000 --> 00:00:04,000\na dog runs\n\n2\n01:02:05,500 --> 01:02:10,000\na man & a ‹b›\n"
    )
    assert to_vtt(segments) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:04.000\na dog runs\n"
        "\n01:02:05.500 --> 01:02:10.000\na man &amp; a &lt;b&gt;\n"
    )


def test_segment_objects_and_records_give_the_same():
    objects = [Segment(1.25, 2.5, Caption("a cat", (), -1.0, 0.5, True))]
    assert to_srt(objects) == to_srt([one.to_dict() for one in objects])
    assert to_vtt(iter(objects)) == to_vtt([one.to_dict() for one in objects])


@pytest.mark.parametrize("write, parse", [(to_srt, parse_srt), (to_vtt, parse_vtt)])
@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "blank\n\nline\r\n",
        "a --> b",
        "<i>x</i> {\\an8}",
        "1",
        "00:00:01,000 --> 00:00:02,000",
        "\x1b[0mé😀",
    ],
)
def test_hostile_text_stays_one_line_of_one_cue(write, parse, text):
    cues = parse(write([segment(0, 1, text), segment(1, 2, "the next")]))
    assert [cue[:2] for cue in cues] == [(0, 1000), (1000, 2000)]
    assert cues[1][2] == "the next"


@pytest.mark.parametrize("write, parse", [(to_srt, parse_srt), (to_vtt, parse_vtt)])
def test_nothing_and_empty_captions_give_no_cue(write, parse):
    assert parse(write([])) == []
    assert parse(write([segment(0, 1, ""), segment(1, 2, " \n "), segment(2, 3, None)])) == []
    assert parse(write([segment(0, 1, ""), segment(1, 2, "here")])) == [(1000, 2000, "here")]


@pytest.mark.parametrize("write, parse", [(to_srt, parse_srt), (to_vtt, parse_vtt)])
def test_cues_are_ordered_apart_and_never_of_zero_length(write, parse):
    source = random.Random(0)
    for _ in range(300):
        segments = []
        for number in range(source.randint(1, 6)):
            start = source.choice([0, -0.5, 0.0001, 0.0004, 1.0, source.random() * 3, 400000.0])
            segments.append(segment(start, start + source.choice([-1, 0, 0.0001, 0.5, 2]), f"caption {number}"))
        cues = parse(write(segments))
        assert len(cues) == len(segments)
        ends = 0
        for start, end, _ in cues:
            assert ends <= start < end
            ends = end


@pytest.mark.parametrize("write, parse", [(to_srt, parse_srt), (to_vtt, parse_vtt)])
def test_good_times_are_kept_to_the_millisecond(write, parse):
    times = [(0.0, 1.0), (1.0, 1.04), (1.04, 61.0006), (3599.9996, 3600.5)]
    expected = [(0, 1000), (1000, 1040), (1040, 61001), (3600000, 3600500)]
    assert [cue[:2] for cue in parse(write([segment(*time) for time in times]))] == expected
