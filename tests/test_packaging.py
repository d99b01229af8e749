"""The package as pip installs it."""

import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

import captioner

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone called captioner, installed as the README says into an environment beside it: ``(python, folder)``."""
    pytest.importorskip("setuptools", minversion="64")
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("parent")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "captioner"], check=True)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    # The dependencies are those of this environment: nothing is fetched.
    packages = next((folder / "env" / "lib").iterdir()) / "site-packages"
    packages.joinpath("base.pth").write_text(str(Path(np.__file__).resolve().parents[1]) + "\n")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", folder / "captioner"]
    subprocess.run([python, *install], check=True)
    return python, folder


def test_the_installed_package_is_found_in_the_folder_that_holds_the_clone(clone):
    python, folder = clone
    command = "import captioner; print(captioner.__version__, captioner.list_models())"
    found = subprocess.run([python, "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout == f"{captioner.__version__} {captioner.list_models()}\n"
