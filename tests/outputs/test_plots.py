"""Figures: what is drawn is what the numbers say, every axis is named, and nothing global changes."""

import io
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from captioner.errors import ImageReadError
from captioner.outputs import plots
from captioner.results import Caption, NoveltyPoint, Segment, VideoAnalysis, Window, Word

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning"),
    # matplotlib complains of the machine where placing a legend took more than a second
    pytest.mark.filterwarnings('ignore:Creating legend with loc="best" can be slow with large amounts of data'),
]


def one_cell(row, column, size=9):
    attention = np.full((size, size), 1e-4, np.float32)
    attention[row, column] = 1
    return attention / attention.sum()


def caption(*cells):
    words = tuple(Word(f"word{number}", math.log(0.5), one_cell(*cell)) for number, cell in enumerate(cells))
    return Caption(" ".join(word.text for word in words), words, -0.5, 0.6, True)


def video(segments=4, windows=True, novelty=True):
    captions = ["a man $rides_ a bike", "two dogs\nplay", "x" * 200, ""]
    parts = tuple(
        Segment(3.0 * i, 3.0 * i + 3, Caption(captions[i % 4], (), -1, 0.5, True), (("diving", 0.8),))
        for i in range(segments)
    )
    labels = tuple(Window(2.0 * i, 2.0 * i + 2, [None, "diving", "$r^_n"][i % 3], 0.7) for i in range(6))
    curve = tuple(NoveltyPoint(float(t), t % 5 / 2, t == 9) for t in range(12))
    duration = max(3.0 * segments, 12.0)
    return VideoAnalysis(duration, 320, 240, 25.0, parts, None, labels * windows, curve * novelty)


def texts(picture):
    return [text.get_text() for text in picture.findobj(lambda thing: hasattr(thing, "get_text"))]


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.to_png())).convert("RGB")).astype(int)


HISTORY = [
    {"epoch": e, "loss": 3.0 / e, "val_loss": None if e == 2 else 4.0 / e, "cider_d": 50.0 + e} for e in (1, 2, 3)
]
PICTURES = {
    "attention": lambda: plots.attention_figure(np.full((60, 90, 3), 200, np.uint8), caption((0, 0), (8, 8))),
    "timeline": lambda: plots.timeline_figure(video()),
    "timeline of many": lambda: plots.timeline_figure(video(segments=60)),
    "timeline of none": lambda: plots.timeline_figure(video(segments=0, windows=False, novelty=False)),
    "confusion": lambda: plots.confusion_figure(np.array([[5, 1], [0, 0]]), ["a$b", "c"]),
    "reliability": lambda: plots.reliability_figure(np.linspace(0, 1, 50), np.arange(50) > 20),
    "risk": lambda: plots.risk_coverage_figure(np.linspace(0, 1, 50), np.arange(50)),
    "training": lambda: plots.training_figure(HISTORY, {"loss (nats)": ["loss", "val_loss"], "CIDEr-D": ["cider_d"]}),
    "bars": lambda: plots.bar_figure({"a": 3.0, "b": (4.0, 3.5, 4.5)}, value_label="score (points)", title="t"),
    "lines": lambda: plots.line_figure(
        {"a": ([1, 10], [[1, 2], [3, 4]]), "b": ([1, 10], [2, 1])}, x_label="x (s)", y_label="y", title="t", log_x=True
    ),
    "heat": lambda: plots.heat_figure(np.eye(3), columns="abc", y_label="unit", value_label="openness", title="t"),
    "scatter": lambda: plots.scatter_figure(np.eye(2), ["a", "b"], x_label="first", y_label="second", title="t"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_figure_has_a_title_and_named_axes_and_draws(name, tmp_path):
    picture = PICTURES[name]()
    assert picture.get_suptitle()
    shown = [axes for axes in picture.axes if axes.axison]
    assert shown
    assert any(axes.get_xlabel() for axes in shown)
    assert any(axes.get_ylabel() for axes in shown) or name in ("attention", "bars")
    picture.save(tmp_path / "deep" / "picture.png")
    with Image.open(tmp_path / "deep" / "picture.png") as image:
        width, height = image.size
    assert 300 <= width <= 1600 and 200 <= height <= 1800
    shown_in_notebooks = (picture._repr_png_(), picture._repr_jpeg_())
    if name == "attention":
        assert shown_in_notebooks[0] is None and shown_in_notebooks[1].startswith(b"\xff\xd8")
    else:
        assert shown_in_notebooks[0].startswith(b"\x89PNG") and shown_in_notebooks[1] is None
    sizes = [
        text.get_fontsize() for text in picture.findobj(lambda thing: hasattr(thing, "get_fontsize")) if text.get_text()
    ]
    assert min(sizes) >= 10


def test_bars_of_nothing_are_an_error():
    with pytest.raises(ValueError, match="'found' has no values to draw"):
        plots.bar_figure({}, value_label="share (percent)", title="found")


@pytest.mark.parametrize("row, column", [(0, 0), (4, 7), (8, 2)])
def test_attention_is_drawn_where_it_lies(row, column):
    photo = np.full((300, 600, 3), 255, np.uint8)
    image = pixels(plots.attention_figure(photo, caption((row, column)), columns=2))
    picture = plots.attention_figure(photo, caption((row, column)), columns=2)
    picture.draw_without_rendering()
    left, bottom, width, height = picture.axes[1].get_position().bounds
    panel = image[
        round((1 - bottom - height) * image.shape[0]) : round((1 - bottom) * image.shape[0]),
        round(left * image.shape[1]) : round((left + width) * image.shape[1]),
    ]
    colour = panel.max(axis=2) - panel.min(axis=2)  # the faded photo is grey
    yellow = (panel[..., 0] > 180) & (panel[..., 2] < 120)
    assert colour.max() > 100 and yellow.any()
    y, x = np.argwhere(yellow).mean(axis=0) / yellow.shape
    assert abs(y - (row + 0.5) / 9) < 0.06 and abs(x - (column + 0.5) / 9) < 0.06


def test_attention_panels_carry_words_and_probabilities():
    found = texts(plots.attention_figure(np.zeros((50, 50, 3), np.uint8), caption((0, 0), (1, 1))))
    assert "word0  50%" in found and "word1  50%" in found and "the photo" in found


def test_attention_of_a_caption_without_words_or_maps(tmp_path):
    photo = np.zeros((50, 50, 3), np.uint8)
    plots.attention_figure(photo, Caption("", (), 0.0, 0.0, True)).to_png()
    with pytest.raises(ValueError, match="attention=True"):
        plots.attention_figure(photo, Caption("a", (Word("a", -1.0),), 0.0, 0.0, True))
    with pytest.raises(ImageReadError, match=r"absent\.jpg"):
        plots.attention_figure(tmp_path / "absent.jpg", caption((0, 0)))


def test_photos_stand_above_their_texts():
    photos = [np.full((60, 90, 3), 200, np.uint8), np.zeros((90, 40, 3), np.uint8)]
    picture = plots.photos_figure(photos, ["a $dog_ runs", "x " * 60], title="two photos")
    assert picture.get_suptitle() == "two photos"
    first, second = picture.axes
    assert [text.get_text() for text in first.texts] == ["a $dog_ runs"]
    assert second.texts[0].get_text().count("\n") >= 3
    np.testing.assert_array_equal(second.images[0].get_array(), photos[1])
    picture.draw_without_rendering()
    for axes in picture.axes:
        box = axes.texts[0].get_window_extent()
        assert box.y1 <= axes.get_window_extent().y0 and box.y0 >= 0
        assert box.x0 >= 0 and box.x1 <= picture.bbox.x1
    assert len(plots.photos_figure(photos * 2, "abcd", title="four").axes) == 6
    with pytest.raises(ImageReadError, match=r"absent\.jpg"):
        plots.photos_figure(["absent.jpg"], [""], title="none")


def test_timeline_shows_captions_labels_and_the_unusual_moment():
    analysis = video()
    picture = plots.timeline_figure({"file": "folder/my $video_1.mp4", **analysis.to_dict()})
    found = texts(picture)
    assert "a man $rides_ a bike" in found and any("my $video_1.mp4" in text for text in found)
    assert {"diving", "unusual"} <= set(found)
    assert len(picture.axes[1].patches) == sum(window.label is not None for window in analysis.labels) > 0
    marks = [line for line in picture.axes[2].lines if line.get_marker() == "o"]
    assert marks[0].get_xdata() == [9.0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in picture.axes[0].patches]
    assert bars == [(segment.start, segment.end) for segment in analysis.segments]
    assert len(plots.timeline_figure(video(windows=False, novelty=False)).axes) == 1


def test_the_roc_curve_marks_the_threshold():
    known, foreign = np.array([0.9, 0.8, 0.4, 0.95]), np.array([0.1, 0.2, 0.7])
    curve, mark, _ = plots.roc_figure(known, foreign, 0.5).axes[0].lines
    assert mark.get_xydata().tolist() == [[pytest.approx(1 / 3), 0.75]]
    area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
    assert area == pytest.approx(np.mean([p > n for p in known for n in foreign]))
    assert curve.get_xydata()[0].tolist() == [0, 0] and curve.get_xydata()[-1].tolist() == [1, 1]


def test_what_can_be_predicted_but_is_never_true_has_no_row():
    picture = plots.confusion_figure(np.array([[3, 0, 1], [0, 4, 0]]), ["a", "b", "nothing known"])
    assert [text.get_text() for text in picture.axes[0].get_yticklabels()] == ["a", "b"]
    assert "87.5% of 8 correct" in picture.get_suptitle()


def test_reliability_states_the_expected_calibration_error():
    source = np.random.default_rng(1)
    confidence = source.uniform(size=500)
    correct = source.uniform(size=500) < confidence**2
    error = 0.0
    for low in np.arange(10) / 10:
        inside = [(c, k) for c, k in zip(confidence, correct, strict=True) if low <= c < low + 0.1]
        error += len(inside) / 500 * abs(np.mean([c for c, _ in inside]) - np.mean([k for _, k in inside]))
    picture = plots.reliability_figure(confidence, correct)
    assert f"{error:.3f}" in picture.get_suptitle() and error > 0.05
    assert "0.000" in plots.reliability_figure(np.ones(4), np.ones(4)).get_suptitle()


def test_risk_coverage_ends_at_the_mean_and_follows_confidence():
    quality = np.array([1.0, 5.0, 3.0, 7.0])
    curves = plots.risk_coverage_figure(np.array([0.1, 0.9, 0.4, 0.5]), quality).axes[0].lines
    np.testing.assert_allclose(curves[1].get_ydata(), [5, 6, 5, 4])
    np.testing.assert_allclose(curves[0].get_ydata(), [7, 6, 5, 4])


def test_confusion_writes_counts_and_accuracy():
    found = texts(plots.confusion_figure(np.array([[8, 2], [1, 9]]), ["cat", "dog"]))
    assert {"8", "2", "1", "9", "cat", "dog"} <= set(found)
    assert any("85.0% of 20" in text for text in found)


def test_nothing_global_changes_and_pyplot_knows_nothing():
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams)\n"
        "import numpy as np; from captioner.outputs import plots\n"
        "plots.confusion_figure(np.eye(2, dtype=int), ['a', 'b']).to_png()\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "import matplotlib.pyplot; assert matplotlib.pyplot.get_fignums() == []\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_emoji_in_a_file_name_only_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plots.timeline_figure({"file": "😀\n</script>\udcff.mp4", **video().to_dict()}).to_png()
