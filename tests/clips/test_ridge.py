"""Ridge regression of clips: against closed and slow forms, and what it learns from clips made for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clip_makers import ridge_weights

from captioner.clips.head import CLIP
from captioner.clips.local_motion import (
    CELL_SIZE,
    DESCRIPTORS,
    LOCAL_MOTION,
    SLOWEST,
    local_descriptors,
    mirrored_cells,
)
from captioner.clips.ridge import Codebook, RidgeConfig, RidgeHead, summary
from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.schema import decode
from captioner.training.clips import ridge as ridge_training
from captioner.training.clips.data import Clip, ClipWindows
from captioner.training.clips.fitting import VIEWS, ClipOptions, clip_logits
from captioner.training.clips.ridge import fit_codebook, fit_ridge, fit_ridges, ridge

SMALL = RidgeConfig(3, ("appearance", "change", "motion", LOCAL_MOTION), channels=5, components=4, words=3)


def random_cells(frames: int, seed: int, sideways: float = 0.0) -> np.ndarray:
    """Cells that move fast enough; ``sideways`` adds to the first direction of the boundaries."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(0, 1, (frames, 4, 5, CELL_SIZE)).astype(np.float32)
    cells[..., 0] += SLOWEST
    cells[..., 1] += sideways
    return cells


def random_window(seed: int, frames: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    window = {name: rng.normal(0, 1, (frames, SMALL.width(name))).astype(np.float32) for name in SMALL.vectors}
    window["change"][0] = window["motion"][0] = 0
    return {**window, LOCAL_MOTION: random_cells(frames - 1, seed)}


def slow_logits(config: RidgeConfig, w: dict[str, np.ndarray], window: dict[str, np.ndarray]) -> np.ndarray:
    """One window, number by number."""
    logits = w["output/bias"].astype(float).copy()
    values = []
    for name in config.vectors:
        rows = [list(map(float, row)) for row in window[name]]
        rows = rows if name == "appearance" or len(rows) == 1 else rows[1:]
        columns = list(zip(*rows, strict=True))
        means = [sum(column) / len(column) for column in columns]
        values += means
        values += [
            (sum((v - m) ** 2 for v in column) / len(column)) ** 0.5 for column, m in zip(columns, means, strict=True)
        ]
    for i, value in enumerate(values):
        standard = min(max((value - w["summary/mean"][i]) * w["summary/scale"][i], -CLIP), CLIP)
        logits += standard / len(values) ** 0.5 * w["summary/kernel"][i]
    sums = {}
    for kind, descriptors in local_descriptors(window[LOCAL_MOTION]).items():
        sums[kind] = np.zeros((config.words, config.components))
        for descriptor in descriptors.astype(float):
            point = sum(
                (descriptor - w[f"{kind}/mean"])[i] * w[f"{kind}/projection"][i] for i in range(len(descriptor))
            )
            distances = [np.sum((point - word) ** 2) for word in w[f"{kind}/words"]]
            sums[kind][int(np.argmin(distances))] += point - w[f"{kind}/words"][int(np.argmin(distances))]
    vlad = []
    for kind in DESCRIPTORS:
        values = [np.sign(v) * abs(v) ** 0.5 for v in sums[kind].ravel()]
        length = sum(v * v for v in values) ** 0.5
        vlad += [v / length / len(DESCRIPTORS) ** 0.5 for v in values]
    return logits + np.array(vlad) @ w["vlad/kernel"]


def test_logits_against_a_slow_reference_and_alone_as_together():
    weights = ridge_weights(SMALL)
    head = RidgeHead(SMALL, weights)
    windows = [random_window(seed, frames) for seed, frames in enumerate([9, 8, 14, 2])]
    windows[1]["change"][1:] *= 100  # far outside, cut off
    (logits,) = head.logits(windows)
    assert logits.shape == (4, 3) and logits.dtype == np.float32
    for window, row in zip(windows, logits, strict=True):
        np.testing.assert_allclose(row, slow_logits(SMALL, weights, window), atol=1e-4)
        np.testing.assert_allclose(head.logits([window])[0, 0], row, atol=1e-6)


def test_a_window_in_which_nothing_moves_and_one_of_one_frame():
    head = RidgeHead(SMALL, ridge_weights(SMALL))
    still = random_window(0) | {LOCAL_MOTION: np.zeros((8, 4, 5, CELL_SIZE), np.float32)}
    single = {name: value[:1] for name, value in random_window(1).items() if name != LOCAL_MOTION}
    single[LOCAL_MOTION] = np.zeros((0, 4, 5, CELL_SIZE), np.float32)
    assert np.isfinite(head.logits([still, single])).all()
    assert not head.codebook.encode(still[LOCAL_MOTION]).any()
    assert not summary(single, ["change"])[SMALL.channels :].any()


def test_vlad_has_length_one_and_does_not_tell_where_in_the_picture():
    codebook = Codebook(ridge_weights(SMALL))
    cells = random_cells(8, 0)
    code = codebook.encode(cells)
    assert code.shape == (SMALL.vlad_size,) and np.sum(code**2) == pytest.approx(1, abs=1e-5)
    left, right = (np.pad(cells, ((0, 0), (0, 0), sides, (0, 0))) for sides in ((1, 4), (4, 1)))
    np.testing.assert_allclose(codebook.encode(left), codebook.encode(right), atol=1e-5)
    assert not np.allclose(code, codebook.encode(random_cells(8, 1)), atol=0.01)


@pytest.mark.parametrize("width", [4, 40])
def test_ridge_has_no_slope_left(width):
    """At the minimum the gradient is 0, in both forms of the system; the bias is free."""
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(2, 1, (15, width)), rng.normal(-3, 1, (15, 2))
    weights, penalty = rng.uniform(0.5, 2, 15), 0.7
    kernel, bias = (value.astype(float) for value in ridge(rows, targets, weights, penalty))
    errors = rows @ kernel + bias - targets
    np.testing.assert_allclose(weights @ errors, 0, atol=1e-4)
    np.testing.assert_allclose(rows.T @ (weights[:, None] * errors) + penalty * kernel, 0, atol=1e-4)


def test_codebook_components_are_white_and_words_lie_among_them():
    windows = [random_cells(14, seed, sideways=seed % 3) for seed in range(6)]
    config = replace(SMALL, components=6, words=5)
    weights = fit_codebook(iter(windows), config, seed=0)
    again = fit_codebook(iter(windows), config, seed=0)
    for kind in DESCRIPTORS:
        descriptors = np.concatenate([local_descriptors(cells)[kind] for cells in windows])
        points = Codebook(weights).project(kind, descriptors)
        np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.05)
        np.testing.assert_allclose(np.cov(points, rowvar=False), np.eye(6), atol=0.1)
        words = weights[f"{kind}/words"]
        nearest = ((points[:, None] - words) ** 2).sum(axis=-1).argmin(axis=1)
        for number, word in enumerate(words):
            np.testing.assert_allclose(word, points[nearest == number].mean(axis=0), atol=0.3)
        np.testing.assert_array_equal(words, again[f"{kind}/words"])


def test_clips_in_which_nothing_moves_have_no_words():
    with pytest.raises(DatasetError, match="hardly anything moves"):
        fit_codebook(iter([np.zeros((8, 4, 5, CELL_SIZE), np.float32)]), SMALL, seed=0)


def labelled(streams=("appearance", LOCAL_MOTION), tell="both", count=24, views=1):
    """Two classes that differ in the spread of one channel, in the direction of the boundaries, or in both."""
    rng = np.random.default_rng(0)
    clips, measured = [], {}
    for number in range(count):
        label = "ab"[number % 2]
        frames = rng.normal(0, 1, (8, 3)).astype(np.float32)
        frames[:, 0] *= 1 + 2 * (label == "b" and tell != "local")
        cells = random_cells(7, number, sideways=4.0 * (label == "b" and tell != "spread"))
        inputs = {"appearance": frames, LOCAL_MOTION: cells}
        clip = Clip(f"c{number}", Path("x"), label, f"g{number // 2}", "val" if number >= 0.7 * count else "train")
        clips.append(clip)
        window = {name: inputs[name] for name in streams}
        later = {name: value for name, value in window.items() if name != LOCAL_MOTION}
        measured[clip.name] = [ClipWindows(((0.0, 1.0),), (window if view == 0 else later,)) for view in range(views)]
    return clips, measured


def options(streams, **more):
    return ClipOptions(cell="ridge", streams=streams, **more)


@pytest.mark.parametrize(
    ("streams", "tell"),
    [(("appearance",), "spread"), ((LOCAL_MOTION,), "local"), (("appearance", LOCAL_MOTION), "both")],
)
def test_it_learns_what_each_part_tells_and_nothing_else(streams, tell):
    def right(tell):
        clips, measured = labelled(streams, tell, views=2)
        (head,) = fit_ridges(clips, measured, ["a", "b"], options(streams))
        judged = [clip for clip in clips if clip.split == "val"]
        assert sorted(head.logits) == sorted(clip.name for clip in judged)
        return np.mean(["ab"[head.logits[clip.name].mean(axis=0).argmax()] == clip.label for clip in judged])

    assert right(tell) > 0.85
    if len(streams) == 1:
        assert right({"spread": "local", "local": "spread"}[tell]) < 0.85


def test_folds_judge_every_clip_and_the_shipped_one_is_fitted_to_all():
    clips, measured = labelled(views=2)
    chosen = options(("appearance", LOCAL_MOTION), folds=3, seeds=(0, 1))
    judges = fit_ridges(clips, measured, ["a", "b"], chosen, judges=True)
    assert len(judges) == 6
    for three in (judges[:3], judges[3:]):
        names = [name for judge in three for name in judge.logits]
        assert sorted(names) == sorted(clip.name for clip in clips)
    (shipped,) = fit_ridges(clips, measured, ["a", "b"], chosen)
    assert not shipped.logits
    whole = fit_ridge(clips, measured, ["a", "b"], chosen, seed=0)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(shipped.weights[name], value)


def test_classes_and_clips_weigh_the_same_however_many_windows_they_have():
    clips, measured = labelled(("appearance",), "spread")
    view = measured["c1"][0]  # c0 looks like one of the other class, and drags all the others along if it weighs more
    logits = []
    for times in (1, 20):
        changed = {**measured, "c0": [ClipWindows(view.spans * times, view.inputs * times)]}
        head = fit_ridge(clips, changed, ["a", "b"], options(("appearance",), penalty=5.0), seed=0)
        logits.append(np.concatenate([row for row in clip_logits(head, clips[1:], measured).values()]))
    # Mean and spread for standardising do move a little.
    np.testing.assert_allclose(logits[1], logits[0], atol=0.2)
    few = [clip for clip in clips if clip.label == "a" or clip.name in ("c1", "c3")]
    head = fit_ridge(few, measured, ["a", "b"], options(("appearance",), penalty=0.5), seed=0)
    logits = {name: row[0, 1] for name, row in clip_logits(head, few, measured).items()}
    means = [np.mean([logits[clip.name] for clip in few if clip.label == label]) for label in "ab"]
    assert np.mean(means) == pytest.approx(0, abs=1e-4)  # as the weighted targets, thanks to the bias
    head = fit_ridge(few, measured, ["a", "b"], options(("appearance",), penalty=1e6), seed=0)
    # With weights next to 0 it says the weighted mean of the targets: as likely one as the other.
    np.testing.assert_allclose(clip_logits(head, few, measured)["c0"], 0, atol=1e-3)


def test_mirrored_views_are_fitted_with_mirrored_motion(monkeypatch):
    clips, measured = labelled((LOCAL_MOTION,), "local", views=2)
    assert [view.flip for view in VIEWS[False]] == [False, True]
    fitted = []
    monkeypatch.setattr(ridge_training, "ridge", lambda rows, *others: fitted.append(rows) or ridge(rows, *others))
    head = fit_ridge(clips, measured, ["a", "b"], options((LOCAL_MOTION,)), seed=0)
    (rows,) = fitted
    assert len(rows) == 2 * len(clips)
    for clip, pair in zip(clips, rows.reshape(len(clips), 2, -1), strict=True):
        cells = measured[clip.name][0].inputs[0][LOCAL_MOTION]
        np.testing.assert_allclose(pair[0], head.codebook.encode(cells), atol=1e-6)
        np.testing.assert_allclose(pair[1], head.codebook.encode(mirrored_cells(cells)), atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": 1}, {"streams": ("sound",)}, {"streams": ()}, {"streams": ("motion", "motion")}, {"words": 0},
        {"components": 97},
    ],
)  # fmt: skip
def test_wrong_settings(wrong):
    (name,) = wrong
    with pytest.raises(CaptionerError, match=name):
        RidgeConfig(**{"classes": 2, **wrong})


def test_settings_as_json():
    assert decode(json.dumps(SMALL.to_dict()), RidgeConfig, "x") == SMALL
    with pytest.raises(ModelLoadError, match="x: lacks classes"):
        decode("{}", RidgeConfig, "x")


@pytest.mark.parametrize("change", ["lacks", "holds", "shape"])
def test_foreign_weights_are_refused(change):
    weights = ridge_weights(SMALL)
    if change == "lacks":
        del weights["vlad/kernel"]
    elif change == "holds":
        weights["cell/kernel"] = np.zeros(3)
    else:
        weights["contours/words"] = weights["contours/words"][:2]
    with pytest.raises(ModelLoadError, match=f"somewhere.*{change}"):
        RidgeHead(SMALL, weights, "somewhere")


def test_options_of_a_ridge():
    region = ClipOptions(cell="ridge", region=True)
    assert region.streams == ("change", "grid_change", "motion", LOCAL_MOTION)
    assert ClipOptions(cell="ridge").streams == ("appearance", "change", LOCAL_MOTION)
    for wrong in ({"cell": "gru", "streams": (LOCAL_MOTION,)}, {"cell": "ridge", "penalty": 0.0}):
        with pytest.raises(CaptionerError) as caught:
            ClipOptions(**wrong)
        assert caught.value.kind == "usage"
