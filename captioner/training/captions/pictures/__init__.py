"""Pictures that are no photos of a scene, drawn by code, with plain captions, to teach a captioner what they are.

Films are full of black frames, title cards, slides and screens; folders hold scans, charts and screenshots. A captioner
that has seen photos only calls all of them something it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from captioner.training.captions.pictures import charts, drawings, pages, screens, surfaces
from captioner.training.captions.pictures.canvas import compressed, worn

# How often each kind comes, relative to the others: what films and folders hold most comes most.
KINDS = {
    surfaces.blank: 4, surfaces.black: 4, surfaces.darkness: 4, surfaces.blurred: 5, surfaces.noise: 4,
    surfaces.gradient: 4, surfaces.bricks: 4, surfaces.checks: 2, surfaces.stripes: 3, surfaces.wood: 3,
    surfaces.cloth: 3, surfaces.spots: 2, surfaces.rough: 3, surfaces.tiles: 2, pages.printed: 8, pages.newspaper: 2,
    pages.written: 4, pages.form: 3, pages.receipt: 3, pages.music: 2, pages.title_card: 6, pages.slide: 5,
    pages.formulas: 2, pages.bar_code: 1, pages.square_code: 2, pages.signature_curve: 1, charts.bars: 6,
    charts.lines: 6, charts.scatter: 4, charts.pie: 4, charts.heat_map: 2, charts.table: 4, charts.diagram: 4,
    charts.graph: 2, charts.street_map: 3, charts.land_map: 2, screens.program: 4, screens.dialog: 1,
    screens.web_page: 3, screens.phone: 4, screens.terminal: 3, screens.code: 4, screens.spreadsheet: 3,
    screens.desktop: 2, screens.player: 2, screens.test_card: 2, screens.game: 1, screens.icon: 4, drawings.shapes: 4,
    drawings.house: 3, drawings.figures: 3, drawings.face: 2, drawings.plant: 2, drawings.vehicle: 3,
    drawings.silhouette: 5, drawings.skyline: 2, drawings.logo: 3, drawings.abstract: 3, drawings.spiral: 1,
}  # fmt: skip
_AS_DRAWN = {surfaces.black, surfaces.blank, surfaces.darkness}  # a border or a fade would make their captions untrue


def make_pictures(
    folder: str | Path, count: int = 900, seed: int = 0, *, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Draws pictures and writes them with their captions as a data set that the caption reader knows.

    The same seed gives the same pictures, whatever the count, with the same versions of Pillow and NumPy and the same
    fonts (Matplotlib's, if it is installed, beside Pillow's own).

    Args:
        folder: Gets `images/` and `captions.json`, a list of `{"file", "captions", "author", "source"}`; made if it is
            missing.
        count: How many pictures; their shorter side is about 256 pixels.
        seed: Chooses the pictures.
        progress: Called with how many are done.

    Returns:
        The path of `captions.json`.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    kinds, weights = list(KINDS), np.array(list(KINDS.values()), float)
    entries = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        draw = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        image, captions = draw(rng)
        image = image.resize((image.width // 2, image.height // 2)) if draw in _AS_DRAWN else worn(rng, image)
        name = f"made-{seed}-{index:05d}.jpg"
        (folder / "images" / name).write_bytes(compressed(rng, image))
        entries.append({"file": name, "captions": captions, "author": "code", "source": f"drawn: {draw.__name__}"})
        progress(index + 1)
    path = folder / "captions.json"
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return path
