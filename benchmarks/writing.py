"""Results to ``results.json``, ``RESULTS.md`` and a plot; every section can be measured again by itself."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import SECTIONS
from benchmarks.measuring import Table

_HEAD = """# What it costs

Written by `python -m benchmarks`; every section says when and on what it was measured. Figures within a table were
taken in turns in the same process, so their ratios mean more than their sizes. Where the load before the start is not
near 0, other programs were at work on the same cores and took their share of every figure.
"""


class Results:
    """The results in a folder.

    Args:
        folder: Where ``results.json`` lies or will lie.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._json = self._folder / "results.json"
        self._sections = json.loads(self._json.read_text(encoding="utf-8")) if self._json.exists() else {}

    def add(self, section: str, tables: list[Table], machine: dict, seconds: float) -> None:
        """Puts a section in place of its last results, and writes everything."""
        self._sections[section] = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine,
            "seconds": round(seconds),
            "tables": [asdict(table) for table in tables],
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        self._json.write_text(json.dumps(self._sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        known = [name for name in SECTIONS if name in self._sections]
        parts = [_HEAD, *self._plot(), *(self.text(name) for name in known)]
        (self._folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")

    def text(self, section: str) -> str:
        """A section as Markdown."""
        record = self._sections[section]
        machine = record["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        lines = []
        for table in record["tables"]:
            lines += [f"## {table['title']}", ""]
            lines += [
                "| " + " | ".join(table["columns"]) + " |",
                "| " + " | ".join("---" for _ in table["columns"]) + " |",
            ]
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table["rows"]]
            lines += ["", *(f"{note}\n" for note in table["notes"])]
        lines.append(
            f"_{record['date']}; {machine['processor']}, {machine['cores']} cores ({', '.join(machine['features'])}), "
            f"{machine['memory_gb']:g} GB; load before the start {machine['load']:g}; Python {machine['python']}, "
            f"{versions}._\n"
        )
        return "\n".join(lines)

    def _plot(self) -> list[str]:
        """Captions a second beside the alternatives, as a picture."""
        if "peers" not in self._sections:
            return []
        from captioner.outputs.plots import bar_figure

        rows = self._sections["peers"]["tables"][0]["rows"]
        figure = bar_figure(
            {row[0]: (row[1], row[2], row[3]) for row in rows},
            value_label=f"captions a second, {self._sections['peers']['machine']['cores']} cores",
            title="From JPEG files to captions",
            highlight=rows[0][0],
        )
        figure.savefig(self._folder / "peers.png", dpi=100)
        return ["![Captions a second beside the alternatives](peers.png)\n"]


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
