"""The pages in real Chromium: signing in and out, nothing from elsewhere, no complaint, fit for all readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.browser import Theme, chromium, tab
from tests.admin.shown import Shown, paths, shown

__all__ = ["shown"]

pytestmark = pytest.mark.slow

HEADINGS = {
    "overview": "Overview",
    "windows": "Windows",
    "window": "Window {window}",
    "jobs": "Jobs",
    "job": "Job {running}: train",
    "job-dead": "Job {dead}: score",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


def test_a_person_signs_in_and_out(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        page = reader.open("/jobs?state=dead")
        assert page.url == f"{shown.url}/login?next=/jobs%3Fstate%3Ddead"
        page.get_by_label("Token").fill("rlf_1_" + "a" * 43)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("This token is nobody's, was revoked or has expired.")
        page.get_by_label("Token").fill(shown.viewer)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{shown.url}/jobs?state=dead")
        expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{shown.url}/login")
        reader.open("/")
        assert page.url.startswith(f"{shown.url}/login")
        # Of the wrong token the browser says that the form was answered with 401.
        assert [said for said in reader.complaints if "401" not in said] == []
        assert reader.strangers == []


def test_every_page_is_accessible_in_both_themes_and_asks_nobody_else(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        reader.open("/login")
        for theme in get_args(Theme):
            reader.theme(theme)
            assert reader.findings() == []
        reader.sign_in(shown.operator)
        for name, path in paths(shown.story).items():
            for theme in get_args(Theme):
                reader.theme(theme)
                page = reader.open(path)
                heading = HEADINGS.get(name, "").format(**vars(shown.story))
                expect(page.get_by_role("heading", level=1)).to_have_count(1)
                expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
                assert reader.findings() == [], (name, theme)
        assert len(reader.requests) > 20
        assert reader.strangers == []
        assert reader.complaints == []
        for theme in get_args(Theme):
            reader.theme(theme)
            expect(reader.open("/jobs/999999").get_by_role("heading", level=1)).to_have_text("There is no job 999999")
            assert reader.findings() == [], theme


def test_each_page_is_painted_within_a_second(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        reader.sign_in(shown.operator)
        found: dict[str, float] = {}
        for name, path in paths(shown.story).items():
            times = []
            for _ in range(5):
                reader.open(path)
                times.append(reader.first_paint())
            found[name] = min(times)
    assert {name: taken for name, taken in found.items() if taken >= 1000} == {}


def test_no_page_is_wider_than_a_phone(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        reader.theme("light", 390)
        reader.sign_in(shown.operator)
        wider = {}
        for name, path in paths(shown.story).items():
            reader.open(path)
            wider[name] = reader.overflow()
            assert reader.findings() == [], name
        assert wider == dict.fromkeys(paths(shown.story), 0)


def test_a_log_in_use_goes_on_and_a_page_that_is_not_kept_up_says_so(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        reader.sign_in(shown.viewer)
        page = reader.open(f"/jobs/{shown.story.running}")
        log = page.locator("pre.log")
        log.focus()
        longer = page.request.get(f"{shown.url}/jobs/{shown.story.running}/live").text()
        longer = longer.replace("step 37 of 60", "step 38 of 60")
        page.route("**/live", lambda route: route.fulfill(body=longer, content_type="text/html"))
        expect(log).to_contain_text("step 38 of 60")
        expect(log).to_be_focused()
        expect(page.locator("#stale")).to_be_hidden()
        page.unroute("**/live")
        page.route("**/live", lambda route: route.abort())
        expect(page.locator("#stale")).to_be_visible(timeout=30_000)


def test_the_first_tab_stop_leads_past_the_menu(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url) as reader:
        reader.sign_in(shown.viewer)
        page = reader.open("/windows")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/windows#content")


def test_all_of_it_works_without_scripts(browser: Browser, shown: Shown) -> None:
    with tab(browser, shown.url, script=False) as reader:
        reader.sign_in(shown.viewer)
        page = reader.open(f"/jobs/{shown.story.running}")
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "37")
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_on_a_phone_a_table_hides_no_column_and_stays_a_table(browser: Browser, shown: Shown) -> None:
    hidden = """() => [...document.querySelectorAll(".scroll")]
        .filter(box => box.scrollWidth > box.clientWidth).map(box => box.ariaLabel)"""
    with tab(browser, shown.url) as reader:
        reader.theme("light", 390)
        reader.sign_in(shown.viewer)
        for name, path in paths(shown.story).items():
            assert reader.open(path).evaluate(hidden) == [], name
        page = reader.open("/windows")
        row = page.get_by_role("table").get_by_role("row").filter(has_text=shown.story.window)
        expect(row.get_by_role("rowheader")).to_have_text(shown.story.window)
        expect(row.get_by_role("cell")).to_have_count(7)
        became = row.get_by_role("cell").nth(2)
        assert became.evaluate("cell => getComputedStyle(cell, '::before').content").startswith('"Became"')
        became.scroll_into_view_if_needed()
        expect(became.get_by_role("link")).to_be_in_viewport(ratio=1)
        expect(page.get_by_role("columnheader", name="Became")).to_have_count(1)


def test_the_keyboard_reaches_all_there_is_to_press_and_leaves_it_again(browser: Browser, shown: Shown) -> None:
    count = "document.querySelectorAll('a[href], button, input:not([type=hidden]), select, [tabindex]').length"
    focused = """() => {
        const at = document.activeElement, style = getComputedStyle(at);
        return [at.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
    }"""
    with tab(browser, shown.url) as reader:
        reader.sign_in(shown.operator)
        for path in ("/releases", "/releases/pin?line=main", "/jobs", f"/jobs/{shown.story.dead}"):
            page = reader.open(path)
            stops = []
            for _ in range(page.evaluate(count) + 30):
                page.keyboard.press("Tab")
                stops.append(page.evaluate(focused))
                if stops[-1][0] == "BODY":
                    break
            assert stops[-1][0] == "BODY", path
            assert len(stops) > page.evaluate(count) // 2
            assert [tag for tag, is_seen in stops[:-1] if not is_seen] == [], path
