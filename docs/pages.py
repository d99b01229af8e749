"""Hook of MkDocs: the site shows README, notebooks, model cards and benchmarks, which lie elsewhere in the checkout."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = (
    "*.md",
    "notebooks/*.ipynb",
    "saved_models/*/*.md",
    "saved_models/*/*.png",
    "benchmarks/*.md",
    "benchmarks/*.png",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages; new notebooks, models and benchmarks come by themselves."""
    config.nav = [
        {"Overview": "README.md"},
        {"Unsure captions": "unsure.md"},
        {"The web page": "serve.md"},
        {"Reference": "reference.md"},
        {"Notebooks": found("notebooks/*.ipynb")},
        {"Models": [{Path(card).parent.name: card} for card in found("saved_models/*/README.md")]},
        {"Benchmarks": found("benchmarks/*.md")},
        {"Project": [page for page in found("*.md") if page != "README.md"]},
    ]
    return config


@event_priority(100)  # before the plugin that looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Gives every page the place that it has in the repository, so that links between them hold."""
    for path in (path for pattern in ELSEWHERE for path in found(pattern)):
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Leads links from the repository into ``docs/``, which is the root of the site."""
    return markdown.replace("](docs/", "](")


def on_page_content(html: str, **_: object) -> str:
    """Leads links between notebooks to their pages."""
    return re.sub(r'href="(\w+)\.ipynb"', r'href="../\1/"', html)


def found(pattern: str) -> list[str]:
    """Paths of files relative to the repository, sorted."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
