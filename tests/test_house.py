"""The house: which part of the package may import which, read from the imports; see CONTRIBUTING."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import captioner

ROOT = Path(captioner.__file__).parent

# From the doors down. A part imports from itself and from the rows below its own, never from its neighbours in a row.
ROWS = (
    ("__main__",),
    ("cli",),
    ("page",),
    ("lessons",),
    ("runs", "training.captions", "training.clips", "training.translation"),
    ("training",),  # what trainings share
    ("videos",),
    ("evaluation", "loading"),
    ("captions", "clips"),
    ("translation",),
    ("outputs",),
    ("models", "media"),
    ("results", "schema"),
    ("atomic", "files"),
    ("errors",),
    ("names",),
)
HEIGHT = {part: height for height, row in enumerate(reversed(ROWS)) for part in row}


def modules() -> dict[str, Path]:
    """Dotted names below ``captioner`` to files; without the package itself, whose names are lazy."""
    paths = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}
    named = {name.removesuffix("__init__").strip("/").replace("/", "."): path for name, path in paths.items()}
    return {name: path for name, path in named.items() if name.split(".")[0] not in ("", "saved_models")}


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules that a file imports, at its top or in a function; not those for annotations alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("captioner.") in known else node.module for name in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("captioner.") for name in found if name.startswith("captioner.")} & known


def part_of(module: str) -> str:
    """The part of the house in which a module lies."""
    names = module.split(".")
    parts = [".".join(names[:length]) for length in range(len(names), 0, -1)]
    return next((part for part in parts if part in HEIGHT), module)


ARROWS = {name: imports(path, set(modules())) - {name} for name, path in modules().items()}


def test_every_part_has_its_place():
    assert {part for part in map(part_of, ARROWS) if part not in HEIGHT} == set()


def test_imports_point_down():
    back = [
        f"{module} imports {other}"
        for module, others in sorted(ARROWS.items())
        for other in sorted(others)
        if part_of(module) != part_of(other) and HEIGHT[part_of(module)] <= HEIGHT[part_of(other)]
    ]
    assert back == []


def test_no_circle_of_imports():
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_at_most_ten_files_at_the_root():
    assert len(list(ROOT.glob("*.py"))) <= 10


def test_imports_in_functions_count_and_imports_for_annotations_do_not(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport captioner.errors\n"
        "if TYPE_CHECKING:\n    from captioner.results import Word\n"
        "def late():\n    from captioner.media import images\n    from captioner.names import printable\n"
    )
    assert imports(path, {"errors", "results", "media", "media.images", "names"}) == {"errors", "media.images", "names"}
