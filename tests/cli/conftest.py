"""Fixtures of the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli import app


@pytest.fixture
def run(capfd):
    """Runs a command in this process: (exit status, standard output, standard error)."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            app([str(argument) for argument in arguments], prog_name="captioner")
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Six different photos in a tree."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("1.png", "2.jpg", "10.png", "sub/a.png", "sub/b.JPG", "sub/deep/c.webp"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return folder
