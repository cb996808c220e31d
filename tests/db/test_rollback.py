"""A rollback moves the pointer and sticks: nothing brings the version back that was left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import controls, decisions, deployments, freezing, lines, planning, releases
from db.session import transaction
from db.tables import Decision, Line, Version
from rl.config import Release as Policy
from rl.errors import InvalidInput
from rl.planner import Want, plan
from rl.release_plan import Plan
from tests.conftest_database import released
from tests.db import judged
from tests.db.trained import add_line, add_version, evaluate, run_of, start_run

HOUR = "2025-01-15T10:00"
ROOT = Path(__file__).parents[2]
STARTED = """
import json, sys
from db import releases
from db.session import transaction
with transaction() as session:
    live = [(one.stage, one.version, one.share) for one in releases.live(session, "main")]
    print(json.dumps([live, releases.version_named(session, sys.argv[1]).state]))
"""


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def history(session: Session, *shares: int) -> tuple[Line, list[Version]]:
    """A line with versions that were stable one after the other, at those shares."""
    line = add_line(session)
    made = [add_version(session, line, HOUR, state="ready") for _ in shares]
    for version, share in zip(made, shares, strict=True):
        evaluate(session, version, 50, 100)
        released(session, line.id, version.id, share)
    return line, made


def back(session: Session, line: Line, to: str | None = None) -> int:
    return releases.roll_back(session, line.id, to, "it stalls", "ann")


def canary(session: Session, line: Line) -> Version:
    version = add_version(session, line, HOUR, state="ready")
    decision_id = decisions.by_person(session, line.id, version.id, "try it", "a test")
    releases.start_canary(session, line.id, version.id, decision_id, Plan(), "try it")
    return version


def live(session: Session) -> list[tuple[str, str, int]]:
    return [(one.stage, one.version, one.share) for one in releases.live(session, "main")]


def newest(session: Session) -> Decision:
    return session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()


def test_the_pointer_moves_back_with_its_share_and_a_decision(session: Session) -> None:
    line, (first, second) = history(session, 40, 100)
    back(session, line)
    assert live(session) == [("stable", first.name, 40)]
    session.refresh(second)
    assert (second.state, second.reason) == ("rejected", "rolled back by ann: it stalls")
    decision = newest(session)
    assert (decision.policy, decision.version_id, decision.stable_id) == ("rollback", first.id, second.id)
    assert (decision.released, decision.reason, decision.actor) == (True, "it stalls", "ann")


def test_going_back_twice_needs_a_name(session: Session) -> None:
    line, (first, second, third) = history(session, 100, 100, 100)
    made = back(session, line)
    assert live(session) == [("stable", second.name, 100)]
    with pytest.raises(InvalidInput, match=f"one that was gone back to; to go further, name one of: {first.name}$"):
        back(session, line)
    assert back(session, line, second.name) == made
    back(session, line, first.name)
    assert live(session) == [("stable", first.name, 100)]
    with pytest.raises(InvalidInput, match="it is rejected; those that can be gone back to: none"):
        back(session, line, third.name)


def test_with_a_live_canary_it_is_the_canary_that_ends(session: Session) -> None:
    line, (first, second) = history(session, 100, 100)
    tried = canary(session, line)
    back(session, line)
    assert live(session) == [("stable", second.name, 100)]
    session.refresh(tried)
    assert (tried.state, tried.reason) == ("rejected", "rolled back by ann: it stalls")
    decision = newest(session)
    assert (decision.policy, decision.version_id, decision.stable_id) == ("rollback", tried.id, second.id)
    assert not decision.released
    with pytest.raises(
        InvalidInput, match=f"{tried.name}, the last canary, was rolled back already; .*: {first.name}$"
    ):
        back(session, line)
    back(session, line, first.name)
    assert live(session) == [("stable", first.name, 100)]


def test_a_person_who_comes_after_the_watch_does_not_lose_the_stable_version(session: Session) -> None:
    line, (first, second) = history(session, 100, 100)
    canary(session, line)
    (one,) = releases.canaries(session)
    releases.roll_back_canary(session, one.release_id, "worse")
    with pytest.raises(InvalidInput, match=f"the last canary, was rolled back already; .*: {first.name}$"):
        back(session, line)
    assert live(session) == [("stable", second.name, 100)]


def test_with_a_name_both_are_left_and_the_canary_may_be_tried_again(session: Session) -> None:
    line, (first, second) = history(session, 100, 100)
    tried = canary(session, line)
    back(session, line, first.name)
    assert live(session) == [("stable", first.name, 100)]
    session.refresh(second)
    session.refresh(tried)
    assert (second.state, tried.state) == ("rejected", "ready")


def pinned(session: Session) -> str | None:
    held = releases.by_line(session)["main"].pinned
    return held.name if held else None


def test_with_a_name_the_canary_loses_its_pin_and_other_pins_hold(session: Session) -> None:
    line, (_, second, _) = history(session, 100, 100, 100)
    tried = canary(session, line)
    controls.pin(session, line.id, tried.id, "it is fine", "ann")
    back(session, line, second.name)
    assert (live(session), pinned(session)) == ([("stable", second.name, 100)], None)
    canary(session, line)
    controls.pin(session, line.id, second.id, "an incident", "ann")
    back(session, line, second.name)
    assert (live(session), pinned(session)) == ([("stable", second.name, 100)], second.name)


def test_what_cannot_be_gone_back_to_says_what_can(session: Session) -> None:
    line = add_line(session)
    with pytest.raises(InvalidInput, match="no released version; there is nothing to go back from"):
        back(session, line)
    only = add_version(session, line, state="ready")
    released(session, line.id, only.id)
    with pytest.raises(
        InvalidInput, match=r"no other version was stable before.*rlfleet kill --on --line main --reason TEXT"
    ):
        back(session, line)
    never = add_version(session, line, state="ready")
    for name in (never.name, "babylon-agent-v1.0.99"):
        with pytest.raises(InvalidInput, match="never stable on this line; those that can be gone back to: none"):
            back(session, line, name)
    assert live(session) == [("stable", only.name, 100)]


def test_no_planner_asks_for_the_version_that_was_left(session: Session) -> None:
    line, (first, _) = history(session, 100, 100)
    back(session, line)
    state = planning.line_state(session, lines.named(session, "main"))
    assert state.stable == first.name
    assert [one for one in plan(state) if isinstance(one, Want) and one.kind in ("decide", "evaluate")] == []


def test_training_goes_on_from_the_version_that_is_stable_again(session: Session) -> None:
    line, (first, second) = history(session, 100, 100)
    assert freezing.goes_on_from(session, line.id, {"lora": {}}) == second.name
    back(session, line)
    assert freezing.goes_on_from(session, line.id, {"lora": {}}) == first.name


def test_a_run_that_began_at_it_stops(session: Session) -> None:
    line, (first, second) = history(session, 100, 100)
    run_id, other = start_run(session, second), start_run(session, first, "other")
    back(session, line)
    assert run_of(session, run_id) == ("stopped", "its base: rolled back by ann: it stalls")
    assert run_of(session, other) == ("running", None)


def test_its_pin_is_taken_away_and_it_is_neither_pinned_nor_deployed_again(session: Session) -> None:
    line, (_, second) = history(session, 100, 100)
    controls.pin(session, line.id, second.id, "keep it", "a test")
    back(session, line)
    assert releases.by_line(session)["main"].pinned is None
    with pytest.raises(InvalidInput, match="it is rejected; only a ready version can be pinned"):
        controls.pin(session, line.id, second.id, "again", "a test")
    with pytest.raises(InvalidInput, match=r"it was rejected \(rolled back by ann: it stalls\)"):
        deployments.deploy(session, second.name, "again", "bob", strategy="immediate")
    with pytest.raises(InvalidInput, match="the version is rejected"):
        released(session, line.id, second.id)


def test_what_is_trained_next_is_compared_with_the_version_that_is_stable_again(session: Session) -> None:
    line, (first, _) = history(session, 100, 100)
    back(session, line)
    child = add_version(session, line, HOUR)
    evaluate(session, child, 100, 100)
    state = planning.line_state(session, lines.named(session, "main"))
    (want,) = [one for one in plan(state) if isinstance(one, Want) and one.kind == "decide"]
    assert (want.inputs["candidate"], want.inputs["base"]) == (child.name, first.name)


def test_a_decision_that_was_asked_for_before_finds_it_rejected(fresh: str) -> None:
    judged.line_with(Policy(**judged.GATE))
    claim = judged.to_decide(judged.candidate())
    with transaction() as session:
        deployments.deploy(session, judged.V1, "we want it", "ann")
    with transaction() as session:
        releases.roll_back(session, claim.line_id, None, "it stalls", "ann")
    assert judged.decide(claim) == {"candidate": judged.V1, "undecided": f"{judged.V1} is rejected already"}
    assert judged.live() == [("stable", judged.V0, 100)]


def test_a_process_that_starts_later_sees_the_same(fresh: str) -> None:
    with transaction() as session:
        line, (first, second) = history(session, 100, 100)
        back(session, line)
        names = first.name, second.name
    shown = subprocess.run(
        [sys.executable, "-c", STARTED, names[1]], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(shown.stdout) == [[["stable", names[0], 100]], "rejected"]
