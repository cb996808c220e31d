from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import controls, decisions, releases, versions
from db.session import transaction
from db.tables import Line, Version
from rl.errors import InvalidInput
from rl.release_plan import Plan
from tests.conftest_database import add_line, add_version, empty, released

PLAN = Plan(share=40)


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as opened:
        empty(opened)
        yield opened


def begin(session: Session, plan: Plan = PLAN) -> tuple[Line, Version, Version, int]:
    """A line with a stable version and a canary, and the id of the canary's release."""
    line = add_line(session)
    stable, canary = add_version(session, line), add_version(session, line)
    released(session, line.id, stable.id, 40, "the first one")
    return line, stable, canary, start(session, canary, plan)


def start(session: Session, version: Version, plan: Plan = PLAN) -> int:
    decision_id = decisions.by_person(session, version.line_id, version.id, "try it", "a test")
    return releases.start_canary(session, version.line_id, version.id, decision_id, plan, "try it")


def live(session: Session) -> list[tuple[str, str, int]]:
    return [(one.stage, one.version, one.share) for one in releases.live(session, "main")]


def test_a_canary_grows_through_its_plan_and_becomes_stable_at_the_plans_share(session: Session) -> None:
    _, stable, canary, first = begin(session)
    assert live(session) == [("canary", canary.name, 4), ("stable", stable.name, 40)]
    second = releases.advance(session, first, 50, "10 % to 50 %")
    third = releases.advance(session, second, 100, "50 % to 100 %")
    assert live(session) == [("canary", canary.name, 40), ("stable", stable.name, 40)]
    releases.finish(session, third, "it is better")
    assert live(session) == [("stable", canary.name, 40)]
    rows = session.execute(
        text("select stage, share, place, ended_reason from rlfleet.releases where version_id = :id order by id"),
        {"id": canary.id},
    )
    assert rows.all() == [
        ("canary", 4, 0, "10 % to 50 %"),
        ("canary", 20, 1, "50 % to 100 %"),
        ("canary", 40, 2, "it is better"),
        ("stable", 40, 0, None),
    ]
    same = session.execute(
        text("select count(distinct decision_id) from rlfleet.releases where version_id = :id"), {"id": canary.id}
    )
    assert same.scalar_one() == 1


def test_what_the_watch_needs_is_read_at_once(session: Session) -> None:
    line, stable, canary, first = begin(session)
    second = releases.advance(session, first, 50, "10 % to 50 %")
    releases.looked(session, second, {"say": "wait"})
    (one,) = releases.canaries(session)
    assert (one.release_id, one.line_id, one.line, one.version_id, one.version) == (
        second,
        line.id,
        "main",
        canary.id,
        canary.name,
    )
    assert (one.stable_id, one.stable, one.place, one.share, one.plan) == (stable.id, stable.name, 1, 20, PLAN)
    assert one.first_began < one.began
    assert (one.seen, one.seen_at is not None) == ({"say": "wait"}, True)


def test_a_canary_that_is_rolled_back_is_rejected_and_the_stable_version_stays(session: Session) -> None:
    line, stable, canary, first = begin(session)
    controls.pin(session, line.id, canary.id, "look at it", "a test")
    releases.roll_back_canary(session, first, "worse: 1 against 2")
    assert live(session) == [("stable", stable.name, 40)]
    found = releases.version_named(session, canary.name)
    assert found is not None
    assert (found.state, found.reason) == ("rejected", "worse: 1 against 2")
    assert releases.by_line(session)["main"].pinned is None
    assert releases.canaries(session) == []
    with pytest.raises(InvalidInput, match="the version is rejected; only a ready one can be released"):
        start(session, canary)
    with pytest.raises(InvalidInput, match="it is rejected; only a ready version can be pinned"):
        controls.pin(session, line.id, canary.id, "again", "a test")


def test_a_release_that_ended_is_not_moved_again(session: Session) -> None:
    _, _, _, first = begin(session)
    releases.advance(session, first, 50, "on")
    for move in (
        lambda: releases.advance(session, first, 100, "again"),
        lambda: releases.finish(session, first, "again"),
        lambda: releases.roll_back_canary(session, first, "again"),
    ):
        with pytest.raises(InvalidInput, match="it is no live canary"):
            move()


def test_starting_the_same_canary_again_changes_nothing_and_another_one_waits(session: Session) -> None:
    line, stable, canary, first = begin(session)
    assert start(session, canary) == first
    other = add_version(session, line)
    with pytest.raises(InvalidInput, match=rf"{canary.name} is the line's canary with 4 %"):
        start(session, other)
    with pytest.raises(InvalidInput, match="it is the stable version already"):
        start(session, stable)


def test_a_line_without_a_stable_version_has_no_canary(session: Session) -> None:
    version = add_version(session, add_line(session))
    with pytest.raises(InvalidInput, match="no stable version to compare a canary with"):
        start(session, version)


def test_lines_have_canaries_of_their_own(session: Session) -> None:
    begin(session)
    other = add_line(session, "other")
    stable, canary = (add_version(session, other, prefix="other") for _ in range(2))
    released(session, other.id, stable.id)
    start(session, canary, Plan())
    assert [(one.line, one.stable, one.share) for one in releases.canaries(session)] == [
        ("main", "babylon-agent-v1.0.0", 4),
        ("other", "other-v1.0.0", 10),
    ]


def test_the_kill_switch_and_the_pin_are_read_with_the_releases(session: Session) -> None:
    line, _, canary, _ = begin(session)
    before = releases.by_line(session)["main"]
    assert (before.killed, before.pinned) == (False, None)
    assert controls.kill(session, line.id, True, "it burns", "a test")
    assert not controls.kill(session, line.id, True, "it burns", "a test")
    assert controls.pin(session, line.id, canary.id, "look at it", "a test")
    after = releases.by_line(session)["main"]
    assert after.killed
    assert after.pinned == releases.version_named(session, canary.name)
    assert after.releases == before.releases
    assert controls.kill(session, line.id, False, "it is out", "a test")
    assert controls.pin(session, line.id, None, "seen enough", "a test")
    assert not controls.pin(session, line.id, None, "seen enough", "a test")
    assert releases.by_line(session)["main"] == before


def test_only_a_ready_version_of_the_line_is_pinned(session: Session) -> None:
    line = add_line(session)
    candidate = add_version(session, line, "candidate")
    other = add_version(session, add_line(session, "other"), prefix="other")
    for version, why in ((candidate, "it is candidate"), (other, "it is of another line")):
        with pytest.raises(InvalidInput, match=why):
            controls.pin(session, line.id, version.id, "no", "a test")
    versions.set_state(session, [candidate.id], "ready", "good")
    assert controls.pin(session, line.id, candidate.id, "yes", "a test")


BLOCKED = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")


def _is_blocked() -> bool:
    with transaction() as session:
        return bool(session.scalar(BLOCKED))


def test_a_version_that_is_being_rejected_is_not_pinned_just_before(database: str) -> None:
    with transaction() as first:
        empty(first)
        line, _, canary, release = begin(first)
    said: list[str] = []

    def pin() -> None:
        try:
            with transaction() as other:
                controls.pin(other, line.id, canary.id, "look at it", "a test")
            said.append("pinned")
        except InvalidInput as error:
            said.append(str(error))

    thread = threading.Thread(target=pin)
    with transaction() as first:
        releases.roll_back_canary(first, release, "worse: 1 against 2")
        thread.start()
        while thread.is_alive() and not _is_blocked():
            thread.join(0.01)
    thread.join()
    assert len(said) == 1
    assert "it is rejected; only a ready version can be pinned" in said[0]
