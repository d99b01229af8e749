"""What the tests of pages ask a browser; see the fixture ``browser``."""

from __future__ import annotations

VIEWS = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
"""Contexts in which pages are looked at."""


def complaints(page) -> list[str]:
    """What axe-core finds serious or critical on a page, and whether it is wider than its window."""
    import pytest

    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in axe.Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than its window")
    return found


def until(page, expression: str, arg=None) -> None:
    """Waits for an expression to hold; Playwright's own way evaluates in the page, which its policy forbids."""
    for _ in range(300):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never so: {expression}")
