"""Pictures of the pages: ``pytest tests/admin/screenshots.py`` writes ``docs/pages/NAME-{light,dark}-{1280,390}.png``.

With ``RLFLEET_PICTURES`` they go to that folder instead. It also prints what each page took until its first paint.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from tests.admin import looked
from tests.admin.browser import WIDTHS, Tab, Theme, chromium, tab
from tests.admin.conftest import token
from tests.admin.shown import Shown, paths, shown
from tests.admin.test_pages_versions import start_run

__all__ = ["shown"]

FOLDER = Path(os.environ.get("RLFLEET_PICTURES") or Path(__file__).parents[2] / "docs" / "pages")
PAINTS = 5
VIEWER = {
    "trajectory": "/trajectories/a1",
    "trajectories": f"/trajectories?window={looked.HOUR}",
    "runs": "/runs",
    "run": "/runs/demo",
    "error": "/jobs/999999",
}
"""Of a fleet with conversations and a run, by the name of the picture."""


@pytest.mark.slow
def test_every_page_is_drawn(shown: Shown) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        with tab(browser, shown.url) as reader:
            draw(reader, "login", "/login")
            reader.sign_in(shown.operator)
            for name, path in paths(shown.story).items():
                if name != "trajectories":
                    draw(reader, name, path)
        with tab(browser, shown.url) as reader:
            reader.sign_in(shown.operator)
            for name, path in paths(shown.story).items():
                found = [paint(reader, path) for _ in range(PAINTS)]
                said = f"{name}: first paint after {statistics.median(found):.0f} ms, at most {max(found):.0f} ms"
                sys.stdout.write(f"{said}\n")


@pytest.mark.slow
def test_the_viewer_is_drawn(database: str, broker: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked, "EVIL", "and wait for the price")
    with looked.site(monkeypatch) as made, chromium() as browser, tab(browser, made.url) as reader:
        start_run()
        reader.sign_in(token("olga", "operator"))
        for name, path in VIEWER.items():
            draw(reader, name, path)


def draw(reader: Tab, name: str, path: str) -> None:
    for theme in get_args(Theme):
        for width in WIDTHS:
            reader.theme(theme, width, 900 if width > 600 else 844)
            reader.open(path)
            file = FOLDER / f"{name}-{theme}-{width}.png"
            reader.page.screenshot(path=file, full_page=True, animations="disabled")
            with Image.open(file) as drawn:
                drawn.convert("RGB").quantize(224).save(file, optimize=True)


def paint(reader: Tab, path: str) -> float:
    reader.open(path)
    return reader.first_paint()
