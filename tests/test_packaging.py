"""The package as pip installs it."""

import importlib
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from media_makers import smooth_picture, write_video
from PIL import Image

import captioner
from captioner.errors import needs_extra

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


def test_everything_but_code_is_in_the_wheel_too(clone):
    python, folder = clone
    wheel = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, folder / "captioner"]
    subprocess.run([python, *wheel], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        packed = set(archive.namelist())
    listed = subprocess.run(
        ["git", "ls-files", "captioner", "saved_models"], cwd=folder / "captioner", capture_output=True, text=True
    ).stdout.split()
    listed = [path if path.startswith("captioner/") else f"captioner/{path}" for path in listed]
    assert {path for path in listed if path != "captioner/saved_models"} <= packed


# What the extras install is hidden, as if it were not there.
LIGHT = "import sys; sys.modules.update(dict.fromkeys(['keras', 'tensorflow', 'matplotlib', 'nltk'])); "


def light(*arguments):
    """Runs a command of a light installation: (exit status, standard output, standard error)."""
    code = LIGHT + "from captioner.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "captions", "--data", "data", "--output", "new"], "train"),
        (["train", "clips", "--data", "data", "--output", "new"], "train"),
        (["train", "forecaster", "--data", "data", "--output", "new"], "train"),
        (["image", "photo.png", "--runtime", "keras"], "train"),
        (["image", "photo.png", "--attention-dir", "looks"], "plots"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else value,
)
def test_what_is_not_installed_is_named_with_its_extra(arguments, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48), "teal").save("photo.png")
    status, out, err = light(*arguments)
    assert status == 2 and out == ""
    assert err.rstrip().endswith(f'pip install "captioner[{extra}]"') and err.count("\n") == 1


def test_what_the_package_itself_lacks_is_no_matter_of_an_extra():
    with pytest.raises(ModuleNotFoundError, match=r"captioner\.nothing"), needs_extra("this needs that", "train"):
        importlib.import_module("captioner.nothing")


def test_captions_videos_and_labels_need_nothing_of_the_extras(tmp_path):
    Image.fromarray(smooth_picture(64, 48)).save(tmp_path / "photo.png")
    write_video(tmp_path / "clip.avi", [smooth_picture(64, 48)] * 50)
    for command in (["image", tmp_path / "photo.png"], ["classify", tmp_path / "clip.avi"]):
        status, out, err = light(*command)
        assert status == 0 and out, err
    status, _, err = light("video", tmp_path / "clip.avi", "--output", tmp_path / "out", "--formats", "jsonl,html")
    assert status == 0 and (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 1, err
