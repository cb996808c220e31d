"""A pin and the kill switch on the pages: asked first, in the audit, and what the database holds afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from db import audit, released
from db.session import transaction
from tests.admin.browser import chromium, tab
from tests.admin.conftest import token
from tests.admin.looked import V0, V1, V2, Site, seen, site, stable_of


@pytest.fixture
def shown(database: str) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def held() -> tuple[str | None, bool]:
    """The pinned version of the line, and whether all were taken away; the releases are as they were."""
    with transaction() as session:
        now = released.by_line(session)["main"]
        assert stable_of(session) == (V1, 100)
    return (now.pinned.name if now.pinned else None), now.killed


def entries() -> list[tuple[str, str, str, str]]:
    with transaction() as session:
        found = [(one.actor, one.action, one.outcome, one.detail["reason"]) for one in audit.listing(session)]
    return found[::-1]


@pytest.mark.slow
def test_a_person_pins_and_takes_all_versions_away_and_back(shown: Site) -> None:
    with chromium() as browser, tab(browser, shown.url) as reader:
        reader.sign_in(token("olga", "operator"), "/releases?line=main")
        page = reader.page

        def said(link: str, button: str, why: str, version: str | None = None) -> tuple[str | None, bool]:
            page.get_by_role("link", name=link).last.click()
            if version is not None:
                page.get_by_label("Who answers").select_option(version)
            page.get_by_label("Why").fill(why)
            assert reader.findings() == []
            page.get_by_role("button", name=button).click()
            page.wait_for_url("**/releases?line=main")
            return held()

        page.get_by_role("link", name="Pin a version").click()
        page.get_by_role("link", name="Leave it as it is").click()
        page.wait_for_url("**/releases?line=main")
        assert held() == (None, False)
        assert said("Pin a version", "Pin it", "a demo", V0) == (V0, False)
        expect(page.get_by_text(f"{V0} is pinned")).to_be_visible()
        assert said("Take all versions away", "Take them away", "it is rude") == (V0, True)
        expect(page.get_by_text("All versions of this line are taken away")).to_be_visible()
        assert said("Give the versions back", "Give them back", "mended") == (V0, False)
        assert said("Change the pin", "Change the pin", "over", "") == (None, False)
        assert (reader.complaints, reader.strangers) == ([], [])
    assert entries() == [
        ("olga", "pin", "done", "a demo"),
        ("olga", "kill", "done", "it is rude"),
        ("olga", "kill off", "done", "mended"),
        ("olga", "pin", "done", "over"),
    ]


def test_only_ready_versions_are_offered_and_taken(shown: Site) -> None:
    offered = seen(shown.operator.get("/releases/pin?line=main").text)
    word = offered.field("word")
    assert (V0 in offered.text, V1 in offered.text, V2 in offered.text) == (True, True, False)
    for path, fields in (
        ("pin", {"version": V2}),
        ("pin", {"version": "nobody-v1.0.9"}),
        ("pin", {"version": V0, "reason": " "}),
        ("pin", {"version": V0, "line": "nobody"}),
        ("kill", {"on": "perhaps"}),
        ("kill", {"on": "yes", "line": "nobody"}),
    ):
        sent = {"word": word, "line": "main", "reason": "x"} | fields
        expected = 404 if fields.get("version") == "nobody-v1.0.9" else 400
        assert shown.operator.post(f"/releases/{path}", data=sent).status_code == expected, sent
    assert held() == (None, False)


def test_a_viewer_and_a_form_of_another_page_change_nothing(shown: Site) -> None:
    word = seen(shown.operator.get("/releases/kill?line=main").text).field("word")
    for path, fields in (("pin", {"version": V0}), ("kill", {"on": "yes"})):
        fields |= {"line": "main", "reason": "x"}
        assert shown.viewer.post(f"/releases/{path}", data=fields | {"word": word}).status_code == 403
        assert shown.operator.post(f"/releases/{path}", data=fields | {"word": "another"}).status_code == 403
        found = shown.page(f"/releases/{path}?line=main")
        assert "An operator may" in found.text
        assert not found.count("form", action=f"/releases/{path}")
        assert shown.viewer.get(f"/releases/{path}?line=nobody").status_code == 404
    assert held() == (None, False)
    assert entries() == []
