"""Training a clip classifier: it learns order, resumes exactly, augments as it says, and writes a usable folder."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media_makers import write_video
from PIL import Image

from captioner.clips.head import STREAMS
from captioner.errors import CaptionerError, DatasetError
from captioner.models.saving import find_model
from captioner.training.clips import fitting as clip_fitting
from captioner.training.clips.data import Clip, ClipWindows
from captioner.training.clips.fitting import (
    ClipOptions,
    augmented,
    best_temperature,
    clip_probabilities,
    fit_network,
    fit_networks,
    held_out,
    smoothed_targets,
)

SMALL = ClipOptions(
    streams=("appearance",), projection=8, units=8, epochs=25, patience=25, learning_rate=0.03, weight_decay=0.0,
    dropout=0.0, batch_size=16, seeds=(0,), shortest_crop=1.0, speed=1.0,
)  # fmt: skip


def ordered_clips(count: int = 60, frames: int = 6):
    """Two classes with the same frames: rising in one, falling in the other. Frames alone say nothing."""
    rng = np.random.default_rng(0)
    clips, measured = [], {}
    for number in range(count):
        label = "up" if number % 2 else "down"
        steps = np.sort(rng.normal(0, 1, (frames, 3)), axis=0)[:: 1 if label == "up" else -1].astype(np.float32)
        clip = Clip(
            f"c{number}", Path(f"c{number}"), label, f"g{number // 2}", "val" if number >= 0.7 * count else "train"
        )
        clips.append(clip)
        measured[clip.name] = [ClipWindows(((0.0, 1.0),), ({"appearance": steps},))]
    return clips, measured


def accuracy(networks, clips, labels=("down", "up")):
    logits = [network.logits for network in networks]
    judged = [clip for clip in clips if any(clip.name in part for part in logits)]
    chosen = clip_probabilities(logits, judged).argmax(axis=1)
    return np.mean([labels[i] == clip.label for i, clip in zip(chosen, judged, strict=True)])


def test_recurrence_learns_order_and_the_mean_cannot():
    clips, measured = ordered_clips()
    assert accuracy(fit_networks(clips, measured, ("down", "up"), SMALL), clips) > 0.9
    baseline = fit_networks(clips, measured, ("down", "up"), replace(SMALL, cell="mean", epochs=10))
    assert accuracy(baseline, clips) < 0.75


def test_training_resumes_exactly(tmp_path):
    clips, measured = ordered_clips(20, 4)
    train, val = clips[:14], clips[14:]
    options = replace(SMALL, epochs=4, dropout=0.3, shortest_crop=0.5)
    fit = {"labels": ("down", "up"), "options": options, "seed": 3}
    whole = fit_network(train, val, measured, **fit, folder=tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(name, epoch, epochs, step, steps, loss):
        if epoch == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit_network(train, val, measured, **fit, folder=tmp_path / "parts", progress=stop)
    resumed = fit_network(train, val, measured, **fit, folder=tmp_path / "parts")
    assert len(resumed.rows) == 4
    for name, value in whole.weights.items():
        np.testing.assert_allclose(resumed.weights[name], value, atol=1e-6, err_msg=name)
    with open(tmp_path / "parts" / "network.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"] and {"loss", "val_loss", "val_accuracy"} <= set(
        rows[0]
    )
    with pytest.raises(DatasetError, match="other settings"):
        fit_network(train, val, measured, **{**fit, "seed": 4}, folder=tmp_path / "parts")


def test_early_stopping_keeps_the_best(tmp_path):
    clips, measured = ordered_clips(24, 3)
    shuffled = [replace(clip, label=label) for clip, label in zip(clips, ["up", "up", "down", "down"] * 6, strict=True)]
    options = replace(SMALL, epochs=40, patience=3)
    network = fit_network(shuffled[:16], shuffled[16:], measured, ("down", "up"), options, seed=0)
    losses = [row["val_loss"] for row in network.rows]
    assert len(losses) < 40 and losses.index(min(losses)) == len(losses) - 4
    truth = [("down", "up").index(clip.label) for clip in shuffled[16:]]
    shares = clip_probabilities([network.logits], shuffled[16:])
    assert -np.log(shares[np.arange(len(truth)), truth]).mean() == pytest.approx(min(losses), abs=1e-4)


def test_class_weights_and_label_smoothing():
    targets = smoothed_targets([0, 0, 0, 1], 2, 0.2)
    np.testing.assert_allclose(targets[0] / targets[0].sum(), [0.9, 0.1], atol=1e-6)
    sums = targets.sum(axis=1)
    assert sums[:3].sum() == pytest.approx(sums[3]) and sums.mean() == pytest.approx(1)


def numbered_view(count: int, offset: int = 0) -> ClipWindows:
    return ClipWindows(((0.0, 1.0),), ({"appearance": np.arange(count, dtype=np.float32)[:, None] + offset},))


def test_augmentation_crops_and_changes_speed():
    options = ClipOptions(streams=("appearance",), shortest_crop=0.5, speed=1.5)
    rng = np.random.default_rng(0)
    lengths, starts, repeated, skipped = Counter(), Counter(), 0, 0
    for _ in range(400):
        rows = augmented([numbered_view(20)], options, rng)["appearance"][:, 0]
        steps = np.diff(rows)
        assert 1 <= len(rows) <= 20 and set(steps) <= {0, 1, 2} and rows.min() >= 0 and rows.max() <= 19
        lengths[len(rows)] += 1
        starts[rows[0]] += 1
        repeated += (steps == 0).any()
        skipped += (steps == 2).any()
    assert len(lengths) > 8 and len(starts) > 5 and repeated > 100 and skipped > 100


def test_without_augmentation_the_window_stays():
    rng = np.random.default_rng(0)
    options = ClipOptions(streams=("appearance",), shortest_crop=1.0, speed=1.0)
    for _ in range(10):
        np.testing.assert_array_equal(augmented([numbered_view(9)], options, rng)["appearance"][:, 0], range(9))
    one = augmented([numbered_view(1)], replace(options, shortest_crop=0.05, speed=2.0), rng)
    assert len(one["appearance"]) == 1


def test_augmentation_uses_every_view():
    rng = np.random.default_rng(0)
    options = ClipOptions(streams=("appearance",), shortest_crop=1.0, speed=1.0)
    seen = {augmented([numbered_view(3), numbered_view(3, 100)], options, rng)["appearance"][0, 0] for _ in range(30)}
    assert seen == {0, 100}


def test_folds_hold_out_every_clip_once_and_whole_groups():
    rng = np.random.default_rng(1)
    clips = [
        Clip(f"{g}-{label}-{i}", Path("x"), label, f"g{g}", "train")
        for g in range(25)
        for label in "ab"
        for i in range(rng.integers(1, 5))
    ]
    parts = held_out(clips, 5, 0)
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == len(clips)
    for part in parts:
        inside = {clip.group for clip in clips if clip.name in part}
        assert not inside & {clip.group for clip in clips if clip.name not in part}
        assert 0.1 < len(part) / len(clips) < 0.3
        assert {clip.label for clip in clips if clip.name in part} == {"a", "b"}
    assert parts != held_out(clips, 5, 1)


@pytest.mark.parametrize(("folds", "judges"), [(0, False), (4, False), (4, True)])
def test_what_networks_are_trained_stopped_and_judged_on(monkeypatch, folds, judges):
    clips = [Clip(f"{g}-{n}", Path("x"), n, f"g{g}", "val" if g > 9 else "train") for g in range(12) for n in "ab"]
    calls = []

    def fit_one(train, val, measured, labels, options, *, judged, **_):
        calls.append([{clip.name for clip in part} for part in (train, val, judged)])

    monkeypatch.setattr(clip_fitting, "fit_network", fit_one)
    monkeypatch.setattr(clip_fitting, "compiled_network", lambda *_: None)
    fit_networks(clips, {}, ["a", "b"], ClipOptions(folds=folds, seeds=(0,)), judges=judges)
    everything = {clip.name for clip in clips}
    for train, val, judged in calls:
        assert train and val and judged and train | val | judged == everything and not train & (val | judged)
        assert not val & judged if judges else val == judged
    assert len(calls) == max(1, folds)
    if folds:
        assert set().union(*(judged for *_, judged in calls)) == everything


def test_without_folds_val_is_held_out():
    clips = [Clip("a", Path("a"), "x", "1", "train"), Clip("b", Path("b"), "x", "2", "val")]
    assert held_out(clips, 0, 0) == [{"b"}]


def test_temperature_is_found():
    rng = np.random.default_rng(0)
    clips = [Clip(str(i), Path(str(i)), "x", str(i)) for i in range(800)]
    logits = rng.normal(0, 1.5, (800, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = [int(rng.choice(3, p=row)) for row in shares]
    sharpened = {clip.name: 2.5 * row[None] for clip, row in zip(clips, logits, strict=True)}
    assert best_temperature([sharpened], clips, truth) == pytest.approx(2.5, rel=0.2)


@pytest.mark.parametrize(
    ("reached", "right", "threshold"),
    [
        ([0.9, 0.8, 0.7], [1, 1, 0], 0.5),  # nobody is below a half
        ([0.9, 0.4567, 0.48], [1, 1, 1], 0.456),  # two right ones would be lost
        ([0.9, 0.4, 0.45, 0.48], [1, 0, 1, 1], 0.48),  # one lost, one mistake avoided; one more would be too many
        ([0.9, 0.4, 0.45], [1, 1, 0], 0.5),
        ([0.3, 0.35], [1, 1], 0.3),
    ],
)
def test_a_label_is_withheld_where_it_is_as_likely_wrong(reached, right, threshold):
    from captioner.training.clips.run import lowest_useful_threshold

    shares = np.array([[p, *[(1 - p) / 4] * 4] for p in reached])
    assert lowest_useful_threshold(shares, [0 if one else 1 for one in right]) == threshold


def test_averages_only_networks_that_have_not_seen_the_clip():
    clips = [Clip("a", Path("a"), "x", "1"), Clip("b", Path("b"), "x", "2")]
    first, second = {"a": np.array([[9.0, 0.0]])}, {"b": np.array([[0.0, 9.0], [0.0, 0.0]])}
    shares = clip_probabilities([first, second], clips)
    assert shares[0, 0] > 0.99 and shares[1, 1] == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(
    "wrong",
    [{"folds": 2}, {"folds": -1}, {"seeds": ()}, {"epochs": 0}, {"dropout": 1.0}, {"cell": "x"}, {"streams": ("x",)},
     {"window": 0.0}, {"speed": 0.5}],
)  # fmt: skip
def test_wrong_options(wrong):
    with pytest.raises(CaptionerError) as caught:
        ClipOptions(**wrong)
    assert caught.value.kind == "usage"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": "3"}, "epochs must be in 1..10000, not '3'"),
        ({"speed": float("nan")}, "speed must be in 1..4, not nan"),
        ({"folds": 2}, "folds must be 0 or at least 3, not 2"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_may_be(wrong, message):
    with pytest.raises(CaptionerError) as caught:
        ClipOptions(**wrong)
    assert str(caught.value) == message


def test_defaults_depend_on_the_region():
    whole, region = ClipOptions(), ClipOptions(region=True, window=1.5)
    assert whole.streams == ("appearance", "change") and set(region.streams) == set(STREAMS) - {"appearance"}
    assert region.interval < whole.interval and region.stride == 1.5 and whole.stride == whole.window


@pytest.fixture(scope="module")
def bright_and_dark(tmp_path_factory):
    """Sixteen short clips of two classes that any encoder tells apart."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = ["clip,label,group"]
    for label, level in (("bright", 200), ("dark", 30)):
        for number in range(8):
            noise = rng.integers(-20, 20, (6, 48, 64, 3))
            write_video(root / f"{label}{number}.mp4", list((noise + level).clip(0, 255).astype(np.uint8)), fps=10.0)
            lines.append(f"{label}{number}.mp4,{label},{label}{number // 2}")
    (root / "bad.mp4").write_bytes(b"no video")
    (root / "labels.csv").write_text("\n".join([*lines, "bad.mp4,dark,bad", "gone.mp4,dark,gone"]) + "\n")
    return root


QUICK = ClipOptions(
    projection=6,
    units=6,
    epochs=6,
    seeds=(0, 1),
    interval=0.2,
    window=0.6,
    learning_rate=0.02,
    weight_decay=0.01,
    batch_size=8,
    dropout=0.1,
)


@pytest.fixture(scope="module")
def captioner(tiny_captioner):
    from captioner.loading import load

    return load(tiny_captioner, runtime="openvino", precision="f32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, bright_and_dark, captioner):
    from captioner.training.clips.run import train_clips

    output = tmp_path_factory.mktemp("out") / "light"
    return train_clips(
        bright_and_dark, output, QUICK, captioner=captioner, command="captioner train clips --data light"
    )


def test_trained_folder_classifies(trained, captioner, bright_and_dark):
    from captioner.clips.classifier import ClipClassifier
    from captioner.models.saving import read_model

    model = ClipClassifier(read_model(trained.folder), captioner)
    assert model.labels == ("bright", "dark") and len(model.heads) == 2
    for label in model.labels:
        prediction = model.classify(bright_and_dark / f"{label}0.mp4")
        assert prediction.label == label and prediction.probability > 0.5


def test_trained_folder_says_what_it_is(trained, captioner):
    assert {"config.json", "labels.json", "weights.npz", "metadata.json", "README.md", "confusion.png"} <= {
        path.name for path in trained.folder.iterdir()
    }
    assert trained.scores["accuracy"]["estimate"] == 1.0
    assert len(trained.warnings) == 2 and "gone.mp4" in trained.warnings[0] and "bad.mp4" in trained.warnings[1]
    metadata = json.loads((trained.folder / "metadata.json").read_text())
    assert metadata["left_out"] == ["bad.mp4"] and metadata["scores"]["clips"] == metadata["clips"]["val"]
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["encoder"]["sha256"] == captioner.encoder_sha256 and 0 <= config["threshold"] <= 0.5
    card = (trained.folder / "README.md").read_text()
    for part in ("# light", "bright, dark", "confusion.png", "captioner train clips --data light"):
        assert part in card
    assert "Does order matter" not in card
    assert find_model(re.search(r'captioner\.load\("(.+?)"\)', card)[1]) == trained.folder
    assert (trained.folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_finished_training_is_not_done_again_and_a_comparison_can_be_added(
    trained, bright_and_dark, captioner, monkeypatch, tmp_path
):
    from captioner.training.clips import run as clips

    monkeypatch.setattr(clip_fitting, "augmented", lambda *_: pytest.fail("trains again"))
    again = clips.train_clips(bright_and_dark, trained.folder, QUICK, captioner=captioner)
    assert again.scores == trained.scores
    monkeypatch.undo()
    monkeypatch.setattr(clips, "COMPARED", (("single frame", "single_frame"), ("GRU", "gru")))
    fitted = []
    monkeypatch.setattr(
        clips, "fit_networks", lambda *given, **chosen: fitted.append(chosen["folder"]) or fit(*given, **chosen)
    )
    fit = clip_fitting.fit_networks
    folder = tmp_path / "light"
    shutil.copytree(trained.folder, folder)
    compared = clips.train_clips(bright_and_dark, folder, QUICK, captioner=captioner, compare=True)
    rows = compared.comparison
    assert [(row["network"], row["motion"]) for row in rows] == [
        ("single frame", False), ("single frame", True), ("GRU", False), ("GRU", True),
    ]  # fmt: skip
    assert all(0 <= row["accuracy"] <= 1 and row["seeds"] == 5 for row in rows)
    assert compared.scores == trained.scores
    training = folder / "training"
    others = training / "compared"
    assert fitted == [
        training, others / "single_frame-appearance", others / "single_frame-appearance-change",
        others / "gru-appearance", training,
    ]  # fmt: skip
    card = (folder / "README.md").read_text()
    assert "| single frame | " in card and "| GRU | " in card and "over 5 seeds" in card
    # a comparison that was stopped trains no network twice
    monkeypatch.setattr(clip_fitting, "augmented", lambda *_: pytest.fail("trains again"))
    again = clips.train_clips(bright_and_dark, folder, QUICK, captioner=captioner, compare=True)
    assert again.comparison == rows


def test_a_ridge_regression_is_trained_saved_and_classifies(tmp_path, bright_and_dark, captioner):
    from captioner.clips.classifier import ClipClassifier
    from captioner.clips.ridge import RidgeHead
    from captioner.models.saving import read_model
    from captioner.training.clips.run import train_clips

    options = replace(QUICK, cell="ridge", streams=None, folds=3)
    output = tmp_path / "light"
    output.mkdir()
    (output / "notes.md").write_text("## What was tried\nThis and that.\n")
    training = train_clips(bright_and_dark, output, options, captioner=captioner)
    assert training.scores["clips"] == 16 and training.scores["accuracy"]["estimate"] == 1.0
    card = (output / "README.md").read_text()
    assert "Ridge regression looks at whole frames" in card and "appearance, change; and how things move" in card
    assert "on which it was not fitted (3-fold cross-validation" in card and "epoch" not in card
    assert "## What was tried\nThis and that.\n\n## Use" in card
    model = ClipClassifier(read_model(output), captioner)
    (head,) = model.heads
    assert isinstance(head, RidgeHead) and model.streams == (
        "appearance", "change", "local_motion", "scene",
    )  # fmt: skip
    for label in model.labels:
        prediction = model.classify(bright_and_dark / f"{label}0.mp4")
        assert prediction.label == label and prediction.probability > 0.5
    assert json.loads((output / "metadata.json").read_text())["options"]["seeds"] == [0]


def test_local_motion_is_kept_once_for_all_views(tmp_path, bright_and_dark, captioner):
    from captioner.training.clips.data import read_clips
    from captioner.training.clips.run import measure

    clips = read_clips(bright_and_dark).clips[:2]
    options = replace(QUICK, cell="ridge", streams=None)
    measured, failures = measure(clips, captioner, options, tmp_path, key="k")
    assert not failures
    for plain, mirrored in measured.values():
        for window, other in zip(plain.inputs, mirrored.inputs, strict=True):
            told = {"appearance", "change"}
            assert set(window) == {*told, "local_motion", "scene"} and set(other) == told


def test_comparison_with_a_ridge_regression(tmp_path, bright_and_dark, captioner, monkeypatch):
    from captioner.training.clips import run as clips

    monkeypatch.setattr(clips, "COMPARED", (("mean of the frames", "mean"), ("ridge regression", "ridge")))
    options = replace(QUICK, cell="ridge", streams=None, epochs=1)
    training = clips.train_clips(bright_and_dark, tmp_path / "light", options, captioner=captioner, compare=True)
    assert [(row["network"], row["motion"], row["seeds"]) for row in training.comparison] == [
        ("mean of the frames", False, 5), ("mean of the frames", True, 5),
        ("ridge regression", False, 5), ("ridge regression", True, 5),
    ]  # fmt: skip
    assert training.comparison[2]["accuracy"] == training.comparison[3]["accuracy"] == 1.0
    compared = {path.name for path in (tmp_path / "light" / "training" / "compared").iterdir()}
    assert compared == {"mean-appearance", "mean-appearance-change"}  # networks are not told local motion


def test_no_readable_clip(tmp_path, captioner):
    from captioner.training.clips.run import train_clips

    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            (tmp_path / label / f"{number}.mp4").write_bytes(b"no video")
    with pytest.raises(DatasetError, match="no clip can be read"):
        train_clips(tmp_path, tmp_path / "out", captioner=captioner)


def test_single_class_is_refused_before_anything_is_computed(tmp_path):
    from captioner.training.clips.run import train_clips

    (tmp_path / "a").mkdir()
    for number in range(6):
        (tmp_path / "a" / f"{number}.mp4").write_bytes(b"x")
    with pytest.raises(DatasetError, match="single class"):
        train_clips(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Clips and photos of colours, which are neither bright nor dark."""
    root = tmp_path_factory.mktemp("foreign") / "colours"
    rng = np.random.default_rng(1)
    lines = ["clip,label"]
    for number, (kind, colour) in enumerate((kind, colour) for kind, colour in COLOURS.items() for _ in range(3)):
        noise = rng.integers(-20, 20, (6, 48, 64, 3))
        frames = list((noise + colour).clip(0, 255).astype(np.uint8))
        (root / "Other").mkdir(parents=True, exist_ok=True)
        write_video(root / "Other" / f"{kind}_{number}.mp4", frames, fps=10.0)
        Image.fromarray(frames[0]).save(root / f"{kind}{number}.png")
        lines.append(f"Other/{kind}_{number}.mp4,Other")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.mark.parametrize("asked", ["class", "folder"])
def test_foreign_clips_teach_what_is_not_known(tmp_path, bright_and_dark, coloured, captioner, asked):
    from captioner.clips.classifier import ClipClassifier, is_open_set
    from captioner.models.saving import read_model
    from captioner.training.clips.foreign import read_foreign
    from captioner.training.clips.run import train_clips

    if asked == "class":
        data, foreign = [bright_and_dark, coloured], []
    else:
        data, foreign = bright_and_dark, read_foreign(coloured)
    options = replace(QUICK, seeds=(0,), epochs=4)
    training = train_clips(data, tmp_path / "open", options, captioner=captioner, negatives=foreign)
    model = ClipClassifier(read_model(training.folder), captioner)
    assert model.labels == ("bright", "dark") and model.known.config.background
    found = training.scores["foreign"]
    assert {"Other/red", "Other/green", "Other/blue"} <= set(found["kinds"])
    assert found["examples"] == (9 if asked == "class" else 18) and 0 <= found["labelled"] <= 1
    assert (is_open_set(model.metadata)) == (found["labelled"] <= 0.1 and found["auroc"] >= 0.97)
    assert model.classify(bright_and_dark / "dark0.mp4").label == "dark"
    strange = model.classify(coloured / "Other" / "red_0.mp4")
    assert strange.label is None and strange.known < 0.5
    card = (training.folder / "README.md").read_text()
    assert all(part in card for part in ("Other/red", "AUROC", "roc.png", "nothing known"))
    assert (training.folder / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_without_foreign_clips_the_card_says_how_far_it_goes(trained):
    card = (trained.folder / "README.md").read_text()
    assert "is not known" in card and "--negatives" in card and "roc.png" not in card
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["known"]["background"] is False and "foreign" not in trained.scores
