from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from db import alerts, approvals, lines, releases, versions
from db.session import transaction
from db.tables import Alert, Decision, Release
from rl.config import Release as Policy
from rl.errors import InvalidInput
from tests.conftest_database import released
from tests.db.judged import GATE, HOUR, V0, V1, V2, candidate, decide, line_with, live, to_decide
from tests.db.trained import add_line, add_version, evaluate, release, states

pytestmark = pytest.mark.usefixtures("fresh")

ASKS = Policy(**GATE, approval=True)


@pytest.fixture
def waits(fresh: str) -> None:
    """``V0`` is stable, and the decision to release ``V1`` waits for a person; ``fresh`` comes first."""
    line_with(ASKS)
    assert decide(to_decide(candidate()))["approval"] == "waiting"


def approve(name: str = V1, actor: str = "ann") -> approvals.Approval:
    with transaction() as session:
        return approvals.approve(session, name, actor)


def refuse(name: str = V1, actor: str = "ann") -> approvals.Approval:
    with transaction() as session:
        return approvals.refuse(session, name, "too terse", actor)


def newest() -> Decision:
    with transaction() as session:
        return session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()


def now() -> dict[str, str]:
    with transaction() as session:
        return states(session)


@pytest.mark.usefixtures("waits")
def test_nothing_is_released_before_a_person_says_so() -> None:
    assert (live(), now()) == ([("stable", V0, 100)], {V0: "ready", V1: "candidate"})
    decision = newest()
    assert (decision.released, decision.approval, decision.approved_by) == (False, "waiting", None)
    assert decision.evidence["gate"]["approval"] is True
    with transaction() as session:
        alert = session.scalars(select(Alert)).one()
        assert (alert.name, alert.subject) == ("approval_waiting", V1)
        assert alert.detail["remedy"] == f"rlfleet approve {V1}"


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("say", [approve, refuse])
def test_nobody_is_told_any_more_that_it_waits_once_a_person_has_said(say: Callable[[], object]) -> None:
    assert [one.name for one in alerts.waiting()] == ["approval_waiting"]
    say()
    assert alerts.waiting() == []


@pytest.mark.usefixtures("waits")
def test_approval_carries_the_decision_out_once() -> None:
    first = approve()
    assert (first.approval, first.by, first.changed, first.stage) == ("given", "ann", True, "canary")
    assert (live(), now()[V1]) == ([("canary", V1, 10), ("stable", V0, 100)], "ready")
    assert (newest().released, newest().approval, newest().approved_by) == (True, "given", "ann")
    again = approve(actor="bob")
    assert (again.by, again.at, again.changed, again.stage) == ("ann", first.at, False, None)
    with transaction() as session:
        assert session.scalars(select(Release.decision_id).where(Release.stage == "canary")).all() == [newest().id]
    with pytest.raises(
        InvalidInput, match=r"ann approved it; to take it back: `rlfleet rollback --line main --reason TEXT`"
    ):
        refuse()


@pytest.mark.usefixtures("waits")
def test_refusal_rejects_the_version_for_good() -> None:
    assert refuse().changed
    assert (live(), now()[V1]) == ([("stable", V0, 100)], "rejected")
    with transaction() as session:
        assert versions.named(session, V1)[0].reason == "refused by ann: too terse"
    assert (newest().released, newest().approval) == (False, "refused")
    assert not refuse(actor="bob").changed
    with pytest.raises(InvalidInput, match="ann refused it"):
        approve()


@pytest.mark.usefixtures("waits")
def test_what_waits_already_is_not_decided_again_against_the_same_version() -> None:
    with transaction() as session:
        line, stable = lines.named(session, "main"), versions.named(session, V0)[0]
        released(session, line.id, stable.id, 60)
    again = decide(to_decide(V1))
    assert again == {"candidate": V1, "undecided": f"{V1} waits for approval already, compared with {V0}"}
    with transaction() as session:
        assert session.scalars(select(Decision.approval).where(Decision.approval.is_not(None))).all() == ["waiting"]
    assert approve().stage == "canary"


@pytest.mark.usefixtures("waits")
def test_of_two_at_once_one_releases_and_the_other_hears_of_it() -> None:
    found: list[approvals.Approval] = []
    threads = [threading.Thread(target=lambda who=who: found.append(approve(actor=who))) for who in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(one.changed for one in found) == [False, True]
    assert len({one.by for one in found}) == 1
    assert live() == [("canary", V1, 10), ("stable", V0, 100)]


@pytest.mark.usefixtures("waits")
def test_a_decision_against_a_version_that_is_no_longer_stable_is_not_approved() -> None:
    with transaction() as session:
        release(session, add_version(session, lines.named(session, "main"), state="ready"))
    match = (
        rf"compared with {V0}, and {V2} is stable now; a decision on that is made by itself, or: rlfleet deploy {V1}"
    )
    with pytest.raises(InvalidInput, match=match):
        approve()
    assert live() == [("stable", V2, 100)]
    assert newest().policy == "person"


@pytest.mark.usefixtures("waits")
def test_a_version_that_was_rejected_meanwhile_is_not_approved() -> None:
    with transaction() as session:
        versions.set_state(session, [versions.named(session, V1)[0].id], "rejected", "by hand")
    with pytest.raises(
        InvalidInput, match=rf"rejected meanwhile \(by hand\); refuse it with `rlfleet approve {V1} --refuse --reason"
    ):
        approve()
    assert refuse().changed


@pytest.mark.usefixtures("waits")
def test_a_second_one_waits_for_the_canary_of_the_first() -> None:
    second = candidate(70)
    decide(to_decide(second))
    approve(V1)
    with pytest.raises(InvalidInput, match=rf"{V1} is the line's canary with 10 %; wait .* once that has ended"):
        approve(second)
    with transaction() as session:
        (canary,) = releases.canaries(session)
        releases.roll_back_canary(session, canary.release_id, "worse")
    assert approve(second).stage == "canary"


def test_the_first_version_waits_too_and_is_stable_at_once() -> None:
    with transaction() as session:
        line = add_line(session)
        config = lines.config_of(line)
        lines.put(session, "main", config.model_copy(update={"release": ASKS}))
        session.expire_all()
        evaluate(session, add_version(session, line, HOUR), 50, 100)
    decide(to_decide(V0))
    assert live() == []
    assert approve(V0).stage == "stable"
    assert live() == [("stable", V0, 100)]


def test_what_does_not_wait_says_what_does() -> None:
    line_with(ASKS)
    with pytest.raises(InvalidInput, match="no decision about it waits for approval; those that do: none"):
        approve(V0)
    decide(to_decide(candidate()))
    with pytest.raises(InvalidInput, match=f"those that do: {V1}"):
        approve(V0)
    with pytest.raises(InvalidInput, match="no such version; near ones are"):
        approve("babylon-agent-v1.0.7")


def test_a_worse_version_waits_for_nobody() -> None:
    line_with(ASKS)
    assert "approval" not in decide(to_decide(candidate(40)))
    assert (now()[V1], newest().approval) == ("rejected", None)
    with transaction() as session:
        assert session.execute(text("select count(*) from rlfleet.alerts")).scalar_one() == 0
