"""What ``import captioner`` gives."""

import subprocess
import sys
from typing import get_args

import captioner
from captioner.loading import ShippedCaptioner, ShippedClassifier


def test_nothing_but_the_api_is_listed():
    assert dir(captioner) == sorted([*captioner.__all__, "__version__"])
    assert captioner.__all__ == sorted(captioner.__all__)
    for name in captioner.__all__:
        assert getattr(captioner, name).__doc__, name


def test_the_import_brings_nothing_heavy():
    code = "import sys, captioner; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not modules & {"numpy", "PIL", "cv2", "openvino", "typer", "dataclasses", "inspect", "asyncio"}
    assert {name for name in modules if name.startswith("captioner.")} == {"captioner.errors", "captioner.names"}


def test_the_types_know_the_shipped_models():
    assert [*get_args(ShippedCaptioner)] == captioner.list_models(["captioner"])
    assert [*get_args(ShippedClassifier)] == captioner.list_models(["clip_classifier"])
