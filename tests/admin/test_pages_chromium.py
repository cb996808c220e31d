"""In Chromium: from the overview to a trajectory, to the version that learned from it, and a release rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from db.session import transaction
from tests.admin.browser import WIDTHS, Tab, chromium, tab
from tests.admin.conftest import token
from tests.admin.looked import HOUR, V0, V1, V2, Site, site, stable_of, version_state
from tests.admin.test_pages_versions import start_run

pytestmark = pytest.mark.slow
PATHS = (
    f"/trajectories?window={HOUR}",
    "/trajectories/a1",
    "/trajectories/z1",
    "/versions",
    f"/versions/{V1}",
    f"/versions/{V2}",
    "/releases",
    "/releases/rollback?line=main",
    "/runs",
    "/runs/demo",
    "/environments",
)


@pytest.fixture(scope="module")
def shown(database: str, broker: object) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        start_run()
        yield made


@pytest.fixture(scope="module")
def reader(shown: Site) -> Iterator[Tab]:
    with chromium() as browser, tab(browser, shown.url) as opened:
        opened.sign_in(token("olga", "operator"))
        yield opened


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_sound_in_both_themes_and_on_a_phone(reader: Tab, path: str, theme: str) -> None:
    reader.complaints.clear()
    for width in WIDTHS:
        reader.theme(theme, width)  # type: ignore[arg-type]
        reader.open(path)
        assert "404" not in reader.page.title()
        assert reader.overflow() <= 0, width
        assert reader.findings() == []
    assert (reader.complaints, reader.strangers) == ([], [])


def test_from_the_overview_to_a_rollback(reader: Tab) -> None:
    reader.theme("light")
    page = reader.open("/")
    page.get_by_role("link", name="Trajectories", exact=True).click()
    page.get_by_label("Window").select_option(HOUR)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="a1", exact=True).click()
    expect(page.locator(".tok.trained").first).to_be_visible()
    expect(page.get_by_text("Trained on by")).to_be_visible()
    page.get_by_label("Facts").get_by_role("link", name=V1).click()
    expect(page.get_by_role("heading", name=V1)).to_be_visible()
    page.get_by_role("link", name="Releases", exact=True).click()
    page.get_by_role("link", name="Roll back").click()
    page.get_by_label("Why").fill("it stalls")
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_url("**/releases?line=main")
    expect(page.get_by_text(f"{V0}, stable 40 %")).to_be_visible()
    with transaction() as session:
        assert stable_of(session) == (V0, 40)
    assert version_state(V1) == "rejected"
    assert (reader.complaints, reader.strangers) == ([], [])
