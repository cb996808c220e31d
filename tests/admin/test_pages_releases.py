"""Releases: the shares now, the history with who decided, and a person who deploys and rolls back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db import audit, releases
from db.session import transaction
from rl.contrast import Reward
from rl.live import Seen, looked
from tests.admin.looked import V0, V1, V2, Site, seen, site, stable_of, version_state


@pytest.fixture
def shown(database: str) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def post(shown: Site, path: str, **fields: str) -> int:
    """As the form of a page would be sent."""
    word = seen(shown.operator.get("/releases?line=main").text).field("word")
    return shown.operator.post(path, data={"word": word, "line": "main"} | fields).status_code


def bar(shown: Site) -> list[str]:
    """The parts of the bar, in per cent."""
    return [one["width"] for tag, one in shown.page("/releases").tags if tag == "rect"]


def test_shares_and_history_of_a_line(shown: Site) -> None:
    found = shown.page("/releases")
    assert bar(shown) == ["100.000"]
    assert f"{V2} waits for a person's approval" in found.text
    assert [row[:3] for row in found.rows[1:]] == [[V1, "stable", "100 %"], [V0, "stable", "40 %"]]
    assert found.rows[1][5:] == ["a test", "better"]
    assert found.rows[2][6] == "the first; ended: better"
    assert not found.count("form", action="/releases/deploy")
    assert shown.viewer.get("/releases?line=nobody").status_code == 404


def test_going_back_asks_first_then_moves_the_release_and_is_in_the_audit(shown: Site) -> None:
    asked = shown.operator.get("/releases/rollback?line=main").text
    assert f"{V0} becomes the stable version again; {V1} is rejected" in seen(asked).text
    assert post(shown, "/releases/rollback", reason=" ") == 400
    assert post(shown, "/releases/rollback", reason="it stalls") == 303
    with transaction() as session:
        assert stable_of(session) == (V0, 40)
        entry = audit.listing(session)[0]
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == ("otto", "rollback", "main", "done")
    assert entry.detail == {"reason": "it stalls"}
    assert version_state(V1) == "rejected"
    assert bar(shown) == ["40.000", "60.000"]
    assert shown.page("/releases").rows[1][5:] == ["otto", "it stalls"]
    assert "nothing to go back to" in shown.page("/releases/rollback?line=main").text
    assert post(shown, "/releases/rollback", reason="again") == 400
    with transaction() as session:
        assert audit.listing(session)[0].outcome == "refused"


def test_a_viewer_may_not_go_back(shown: Site) -> None:
    word = seen(shown.operator.get("/releases?line=main").text).field("word")
    for path in ("/releases/rollback", "/releases/deploy"):
        answer = shown.viewer.post(path, data={"word": word, "line": "main", "reason": "x", "version": V0})
        assert answer.status_code == 403
    assert "An operator may" in shown.page("/releases/rollback?line=main").text
    with transaction() as session:
        assert stable_of(session) == (V1, 100)


def test_a_canary_takes_its_agents_from_the_stable_version(shown: Site) -> None:
    assert post(shown, "/releases/deploy", version=V2, strategy="test", share="30", reason="try it") == 303
    assert bar(shown) == ["70.000", "30.000"]
    found = shown.page("/releases")
    assert f"{V1}, stable 70 %" in found.text
    assert f"{V2}, canary 30 %" in found.text
    assert "Nobody has looked at its traffic yet" in found.text
    look_at_it()
    found = shown.page("/releases")
    assert found.row("reward")[1:] == ["1 of 2", "0.500 of 2", "+0.500", "unknown to unknown"]
    assert "the test says wait" in found.text
    assert "This stage 2.5 of 0 hours, 40 of 0 requests, 2 of 0 rewards" in found.text
    says = shown.page("/releases/rollback?line=main").text
    assert f"the canary {V2} ends and is rejected; {V1} stays stable" in says
    assert post(shown, "/releases/rollback", reason="enough") == 303
    assert (version_state(V2), bar(shown)) == ("rejected", ["100.000"])


def look_at_it() -> None:
    """Two rewards of each version in one hour: too few to say anything."""
    earned = ((True, 1.0), (True, 1.0), (False, 1.0), (False, 0.0))
    rewards = [Reward(0, 0, f"u{place}", is_canary, total) for place, (is_canary, total) in enumerate(earned)]
    with transaction() as session:
        (canary,) = releases.canaries(session)
        found = looked(Seen(2.5, 40, {"reward": rewards}, frozenset({0})), canary.plan, canary.place)
        releases.looked(session, canary.release_id, found.model_dump(mode="json"))


@pytest.mark.parametrize(
    "fields",
    [
        {"share": "101"},
        {"share": "-1"},
        {"share": "\N{SUPERSCRIPT TWO}"},
        {"strategy": "sideways"},
        {"version": "nobody-v1.0.9"},
        {"version": "a\0b"},
        {"reason": ""},
        {"reason": "\0"},
        {"line": "nobody", "version": ""},
    ],
)
def test_forms_with_nonsense_are_refused(shown: Site, fields: dict[str, str]) -> None:
    expected = 404 if fields.get("version") in ("nobody-v1.0.9", "") else 400
    assert post(shown, "/releases/deploy", **({"version": V1, "reason": "x"} | fields)) == expected
