"""The training commands: their defaults, and that what is asked for arrives."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

from captioner.cli import app, training_commands
from captioner.training.captions.data import read_captions
from captioner.training.captions.options import STAGES, CaptionTrainingOptions


def parameters(command: str) -> dict:
    train = typer.main.get_command(app).commands["train"]
    return {one.name: one for one in train.commands[command].params}


def assert_shown(given: dict, options: object, names: list[str]) -> None:
    for name in names:
        assert given[name].default is None and given[name].show_default == str(getattr(options, name)), name


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        app([str(argument) for argument in arguments], prog_name="captioner")
    return stop.value.code


def test_defaults_of_caption_training():
    given = parameters("captions")
    assert_shown(
        given, CaptionTrainingOptions(), ["encoder", "min_count", "precision", "memory_dropout", "channel_dropout"]
    )
    assert given["stages"].default == ",".join(STAGES)
    assert given["seed"].show_default == str(CaptionTrainingOptions().decoder.seed)


def test_defaults_of_the_other_trainings():
    from captioner.training.clips.run import ClipOptions
    from captioner.training.forecaster import ForecasterTraining

    shown = parameters("clips")
    assert_shown(shown, ClipOptions(), ["cell", "window", "epochs", "folds"])
    assert shown["seeds"].show_default == str(len(ClipOptions().seeds)) and shown["region"].default is False
    defaults = f"{ClipOptions(region=True).interval:g} with --region, else {ClipOptions().interval:g}"
    assert shown["interval"].default is None and shown["interval"].show_default == defaults
    assert_shown(parameters("forecaster"), ForecasterTraining(), ["steps"])


@pytest.fixture
def asked(monkeypatch):
    """What arrives at the training, which does nothing."""
    calls = []

    def train_captions(data, output, options, *, dev, stages, progress):
        calls.append((data, str(output), options, stages, [str(folder) for folder in dev]))
        progress("decoder", 1, 2, 3, 4, 0.5)
        logging.getLogger("captioner.training").info("decoder, epoch 1, loss 0.5")
        return {stage: {"rows": [{}, {}], "seconds": 90.0, "best": 51.26} for stage in (*stages, "calibration")}

    monkeypatch.setitem(sys.modules, "captioner.training.captions.run", SimpleNamespace(train_captions=train_captions))
    return calls


def test_options_arrive(asked, capsys):
    options = [
        "--encoder",
        "lite0",
        "--cell",
        "gru",
        "--channel-dropout",
        "0.3",
        "--finetune-epochs",
        3,
        "--seed",
        7,
        "--stages",
        "decoder,finetune",
        "--start-from",
        "flickr8k",
        "--dev",
        "elsewhere",
    ]
    assert run("train", "captions", "--data", "photos", "--data", "more:0.5@short", "--output", "runs", *options) == 0
    ((data, output, chosen, stages, dev),) = asked
    assert (data, output, stages) == (["photos", "more:0.5@short"], "runs", ["decoder", "finetune"])
    assert (dev, chosen.start_from) == (["elsewhere"], "flickr8k")
    assert (chosen.encoder, chosen.cell, chosen.channel_dropout, chosen.finetune.epochs) == ("lite0", "gru", 0.3, 3)
    assert {chosen.decoder.seed, chosen.finetune.seed, chosen.self_critical.seed} == {7}
    assert chosen.decoder.epochs == CaptionTrainingOptions().decoder.epochs
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "stage     epochs  minutes  dev CIDEr-D",
        "decoder   2       1.5      51.3",
        "finetune  2       1.5      51.3",
        f"model: {Path('runs/finetune')}",
    ]  # fmt: skip
    assert re.fullmatch(r"\d\d:\d\d:\d\d decoder, epoch 1, loss 0.5\n", err)


def test_what_is_imported_for_a_training_says_nothing_before_it_begins(capfd):
    with training_commands._silenced():
        os.write(2, b"from C++")
        with pytest.raises(ModuleNotFoundError):
            import no_such_module  # noqa: F401
    os.write(2, b"after it")
    assert capfd.readouterr().err == "after it"


def test_no_options_are_the_defaults(asked):
    assert run("train", "captions", "--data", "photos", "--output", "runs") == 0
    assert asked[0][2] == CaptionTrainingOptions() and asked[0][3] == list(STAGES)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--stages", "decoder,nonsense"], "nonsense"),
        (["--cell", "transformer"], "cell"),
        (["--decoder-epochs", "0"], "epochs"),
        (["--min-count", "0"], "min_count"),
        (["--channel-dropout", "1"], "channel_dropout"),
    ],
)
def test_senseless_requests(asked, capsys, options, reason):
    assert run("train", "captions", "--data", "photos", "--output", "runs", *options) == 2
    assert not asked and reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--interval", "0"], "interval must be above 0 seconds, not 0.0"),
        (["--interval", "nan"], "interval must be above 0 seconds, not nan"),
        (["--steps", "0"], "steps must be at least 1, not 0"),
    ],
)
def test_senseless_requests_for_a_forecaster(tmp_path, capfd, options, reason):
    assert run("train", "forecaster", "--data", tmp_path, "--output", tmp_path / "runs", *options) == 2
    assert f"captioner: {reason}\n" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["captions", "clips", "forecaster"])
def test_data_that_are_not_there(tiny_captioner, tmp_path, capsys, kind):
    model = [] if kind == "captions" else ["--model", tiny_captioner]
    assert run("train", kind, "--data", tmp_path / "nowhere", "--output", tmp_path / "runs", *model) in (1, 2)
    assert "nowhere" in capsys.readouterr().err


def test_pictures_are_drawn_as_a_data_set(tmp_path, capfd):
    assert run("train", "pictures", "--output", tmp_path / "drawn", "--count", "3") == 0
    data = read_captions(tmp_path / "drawn")
    assert len(data.split("train")) == 3 and data.written_by(data.images).keys() == {"code"}
    assert str(tmp_path / "drawn" / "captions.json") in capfd.readouterr().err
