"""A version that wins overall and collapses in one type of scenario, from its verdict rows to what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import lines, runs, versions
from db.session import transaction
from db.tables import Decision, Version
from rl.config import Release, TaskSet
from rl.windows import round_of
from tests.conftest_database import released
from tests.db.chains import Counts, add_line, add_version, judge
from tests.db.judged import decide, to_decide, wanted
from tests.db.trained import start_run

pytestmark = pytest.mark.usefixtures("fresh")

VALIDATION = TaskSet(environment="gridworld", split="validation", count=100)
HELD_OUT = TaskSet(environment="gridworld", split="held_out", count=100)
GATE = Release(min_probability=0.7, margin=0, min_scenarios=1, share=40, strategy="immediate")
V0, V1, V2 = (f"babylon-agent-v1.0.{number}" for number in range(3))

START: Counts = {"far": (5, 50), "near": (45, 50)}
COLLAPSED: Counts = {"far": (50, 50), "near": (25, 50)}
"""75 of 100 against 50 of 100, and P(near is worse) above 0.9999."""
SOUND: Counts = {"far": (15, 50), "near": (45, 50)}


def start(session: Session) -> Version:
    """The stable version, with its verdicts on both task sets."""
    line = add_line(session, validation=VALIDATION, release=GATE)
    stable = add_version(session, line)
    released(session, line.id, stable.id)
    for task_set in (VALIDATION, HELD_OUT):
        judge(session, stable, 4, START, task_set)
    return stable


def run_of(*validated: Counts) -> None:
    """A run from the stable version, all rounds trained, each version with these verdicts."""
    with transaction() as session:
        stable = start(session)
        line = lines.named(session, "main")
        start_run(session, stable, rounds=len(validated), validation=VALIDATION, held_out=HELD_OUT, release=GATE)
        for number, counts in enumerate(validated, start=1):
            name = round_of("demo", number)
            judge(session, add_version(session, line, (4,), name.text, state="candidate"), 4, counts, VALIDATION)


def decide_wanted() -> Mapping[str, Any]:
    """What came of the one job that the planner asks for, which is a decision."""
    assert [one.kind for one in wanted()] == ["decide"]
    return decide(to_decide())


def fates() -> dict[str, str]:
    with transaction() as session:
        return {row.name: row.state for row in session.execute(select(Version.name, Version.state))}


def evidence() -> Mapping[str, Any]:
    """Of the newest decision that a job made."""
    with transaction() as session:
        query = select(Decision.evidence).where(Decision.job_id.is_not(None)).order_by(Decision.id.desc())
        return session.scalars(query.limit(1)).one()


def test_a_run_whose_best_version_collapsed_in_a_type_is_no_improvement() -> None:
    run_of(COLLAPSED)
    with transaction() as session:
        told = runs.told(session, lines.run_named(session, "demo"))
    assert [one["counts"] for one in told["versions"]] == [[50, 100], [75, 100]]
    assert (told["best"], told["tie_set"]) == (V0, [V0])
    assert [(one["name"], one["version"]) for one in told["alarms"]] == [("FORGETTING", V1)]
    assert decide_wanted()["reason"] == f"no improvement: {V0} itself did best on the validation scenarios"
    assert fates() == {V0: "ready", V1: "rejected"}
    (veto,) = evidence()["selection"]["vetoed"]
    assert (veto["version"], veto["type"]) == (V1, "near")
    assert veto["p"] > 0.9999
    assert evidence()["selection"]["types"][V1] == {"far": [50, 50], "near": [25, 50]}


def test_a_run_goes_on_with_a_version_that_won_less_and_lost_nothing() -> None:
    run_of(COLLAPSED, SOUND)
    assert [(one.kind, one.inputs) for one in wanted()] == [("evaluate", {"version": V2})]
    with transaction() as session:
        judge(session, versions.named(session, V2)[0], 4, SOUND, HELD_OUT)
    assert decide_wanted()["released"] is True
    assert fates() == {V0: "ready", V1: "rejected", V2: "ready"}
    assert [one["version"] for one in evidence()["selection"]["vetoed"]] == [V1]


def test_a_type_that_has_another_name_in_the_new_version_is_vetoed_and_said() -> None:
    run_of({"far": (50, 50), "close": (25, 50)})
    with transaction() as session:
        told = runs.told(session, lines.run_named(session, "demo"))
    assert told["remarks"] == [
        f"type close is not compared between all: verdicts of it are 50 at {V1}, none at {V0}",
        f"type near is not compared between all: verdicts of it are 50 at {V0}, none at {V1}",
    ]
    decide_wanted()
    found = evidence()["selection"]
    assert [(one["version"], one["type"]) for one in found["vetoed"]] == [(V1, "other types")]
    assert found["remarks"] == told["remarks"]


def test_of_several_checkpoints_the_one_that_collapsed_is_not_chosen() -> None:
    with transaction() as session:
        start(session)
        version = add_version(session, lines.named(session, "main"), (10, 20), "2025-01-15T10:00", state="candidate")
        judge(session, version, 10, SOUND, VALIDATION)
        judge(session, version, 20, COLLAPSED, VALIDATION)
    assert [(one.kind, one.inputs) for one in wanted()] == [("evaluate", {"version": V1, "step": 10})]
    with transaction() as session:
        judge(session, versions.named(session, V1)[0], 10, SOUND, HELD_OUT)
    assert decide_wanted()["released"] is True
    assert [one["version"] for one in evidence()["selection"]["vetoed"]] == [f"{V1}@20"]
    with transaction() as session:
        assert versions.named(session, V1)[1].step == 10


def test_the_only_checkpoint_of_a_version_is_vetoed_by_the_decision() -> None:
    with transaction() as session:
        start(session)
        version = add_version(session, lines.named(session, "main"), (10,), "2025-01-15T10:00", state="candidate")
        judge(session, version, 10, COLLAPSED, VALIDATION)
    told = decide_wanted()
    assert (told["released"], told["reason"].startswith("vetoed by type: near 25/50 against 45/50")) == (False, True)
    assert fates() == {V0: "ready", V1: "rejected"}
    assert [one["type"] for one in evidence()["worse"]] == ["near"]
