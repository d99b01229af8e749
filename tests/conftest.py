"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import captioner  # noqa: F401 (before TensorFlow, as its first lines say, in whichever order the tests run)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, or one process would be left alone with them while the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real data sets; tests that need it skip where it is absent."""
    root = Path(os.environ.get("CAPTIONER_DATA", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "flickr8k").is_dir():
        pytest.skip("the data beside the project is absent")
    return root


@pytest.fixture(scope="session")
def tiny_captioner(tmp_path_factory) -> Path:
    """Folder of a small captioner with random weights; see `tiny_models.make_captioner`."""
    from tiny_models import make_captioner

    return make_captioner(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that Playwright drives; tests skip where one of them is absent."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts here: {error.message.splitlines()[0]}")
        yield chromium
        chromium.close()
