"""Reports of runs and versions from real rows, with numbers by hand."""

from __future__ import annotations

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from db import checkpoints, decisions, dispatch, lines, report, versions
from db.session import transaction
from db.tables import Decision, Line, Version
from rl.config import EarlyStop, GrpoTrain, Optimizer, Release, Rollout, RunConfig, TaskSet
from rl.errors import InvalidInput
from rl.held_out import LoggedSet
from tests.conftest_database import released
from tests.db import chains

pytestmark = pytest.mark.usefixtures("fresh")

HELD_OUT = TaskSet(environment="gridworld", split="held_out", count=20)
RUN = RunConfig(
    name="practice",
    rounds=3,
    rollout=Rollout(environment="gridworld", scenarios=1, episodes=2),
    train=GrpoTrain(optimizer=Optimizer(learning_rate=0.001)),
    validation=chains.VALIDATION,
    held_out=HELD_OUT,
    release=Release(min_scenarios=1),
    early_stop=EarlyStop(patience=1),
)
LOGGED = LoggedSet(
    split="validation",
    since="2025-01-15T00:00",
    until="2025-01-15T12:00",
    share=0.1,
    salt="",
    count=50,
    against="babylon-agent-v1.0.0",
)


def start_run(session: Session, line: Line, base: Version) -> int:
    return lines.start_run(session, line.id, RUN, base.id)


def add_round(session: Session, line: Line, run: int, number: int, rewards: list[float], k: int | None) -> Version:
    window = f"run/practice/{number:04d}"
    chains.play(session, line, window, rewards, run)
    version = chains.add_version(session, line, (4 * number,), window)
    if k is not None:
        chains.judge(session, version, 4 * number, {"go": (k // 2, 10), "open": (k - k // 2, 10)})
    return version


def test_a_run_is_its_versions_in_order_with_the_rewards_of_their_rounds() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        base = chains.add_version(session, line)
        chains.judge(session, base, 4, {"go": (2, 10), "open": (2, 10)})
        run = start_run(session, line, base)
        add_round(session, line, run, 1, [0.2, 0.4], 16)
        add_round(session, line, run, 2, [0.5, 0.7], 14)
        add_round(session, line, run, 3, [0.1, 0.1], None)
    with transaction() as session:
        found = report.report(session, "practice")
    assert (found.kind, found.title, found.axis) == ("run", "run practice of line main: running", "version")
    assert [one.label for one in found.points] == ["v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3"]
    assert [one.step for one in found.points] == [0, 1, 2, 3]
    assert [one.overall and (one.overall.k, one.overall.n) for one in found.points] == [
        (4, 20),
        (16, 20),
        (14, 20),
        None,
    ]
    assert [one.training_score for one in found.points] == [
        None,
        pytest.approx(0.3),
        pytest.approx(0.6),
        pytest.approx(0.1),
    ]
    assert (found.points[1].types["go"].k, found.points[1].types["open"].k) == (8, 8)
    assert [one.hollow for one in found.points] == [False, False, False, True]
    assert found.points[3].left_out == "not evaluated"
    assert (found.pick, found.early_stop) == (1, 2)
    assert [(one.name, one.step) for one in found.alarms if one.name == "COLLAPSE"] == [("COLLAPSE", 3)]
    assert found.judged_on == "20 validation scenarios of gridworld, 0 to 19"
    assert found.decision == ""


def test_a_run_that_has_ended_with_rejected_versions_is_still_drawn() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        base = chains.add_version(session, line)
        chains.judge(session, base, 4, {"go": (2, 20)})
        run = start_run(session, line, base)
        version = add_round(session, line, run, 1, [0.5], 18)
        decided = decisions.by_person(session, line.id, version.id, "it is better", "a test")
        session.execute(text("update rlfleet.decisions set run_id = :r where id = :d"), {"r": run, "d": decided})
        versions.set_state(session, [version.id], "rejected", "set by a test")
        lines.end_run(session, run, "finished", "it is over")
    with transaction() as session:
        found = report.report(session, "practice")
    assert [one.label for one in found.points] == ["v1.0.0", "v1.0.1"]
    assert found.title.endswith("finished")
    assert found.decision == "Decided: babylon-agent-v1.0.1 is released: it is better"


def test_a_version_is_its_checkpoints_by_the_steps_of_its_own_training() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        stable = chains.add_version(session, line, (10,))
        chains.judge(session, stable, 10, {"go": (8, 20)})
        released(session, line.id, stable.id)
        version = chains.add_version(session, line, (14, 18, 22), scores=(0.25, 0.5, 0.75), updates=12, parent=stable)
        for step, k in ((14, 12), (18, 19), (22, 13)):
            chains.judge(session, version, step, {"go": (k, 20)}, missing=2 if step == 22 else 0)
        version.checkpoint_id = checkpoints.at_step(session, version, 18).id
    with transaction() as session:
        found = report.report(session, "v1.0.1")
    assert (found.kind, found.axis) == ("version", "optimizer step")
    assert [(one.step, one.label) for one in found.points] == [(0, "v1.0.0"), (4, "4"), (8, "8"), (12, "12")]
    assert [one.overall.k for one in found.points if one.overall] == [8, 12, 19, 13]
    assert [one.training_score for one in found.points] == [None, 0.25, 0.5, 0.75]
    assert (found.pick, found.tie_set) == (8, [8])
    assert [one.name for one in found.alarms if one.step == 12] == ["FORGETTING", "OVEROPTIMISATION"]
    assert found.early_stop is None, "one checkpoint without an improvement is not two"


def test_alarms_of_the_training_stand_beside_those_of_the_verdicts() -> None:
    rows = {"used": 1, "skipped": {"no advantage in its group": 9}}
    with transaction() as session:
        line = chains.add_line(session)
        stable = chains.add_version(session, line, (10,), rows=rows)
        chains.judge(session, stable, 10, {"go": (8, 20)})
        released(session, line.id, stable.id)
        version = chains.add_version(session, line, (14, 18), updates=8, parent=stable, rows=rows)
        for step in (14, 18):
            chains.judge(session, version, step, {"go": (12, 20)})
    with transaction() as session:
        found = report.report(session, version.name)
    (alarm,) = found.alarms
    assert (alarm.name, alarm.step) == ("NO_VARIANCE", 8)
    assert alarm.evidence == "9 of 10 trajectories are of groups whose scores are equal; the limit is 80%"


def test_fewer_than_nineteen_of_twenty_verdicts_are_drawn_hollow_and_not_ranked() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        version = chains.add_version(session, line, (2, 4))
        chains.judge(session, version, 2, {"go": (10, 20)})
        chains.judge(session, version, 4, {"go": (17, 17)}, missing=3)
    with transaction() as session:
        first, second = report.report(session, "babylon-agent-v1.0.0").points
    assert (first.step, first.hollow, first.picked) == (2, False, True)
    assert (second.step, second.hollow, second.coverage) == (4, True, 0.85)
    assert second.left_out == "85% of the verdicts are there; at least 95% are needed"
    assert second.overall is not None
    assert (second.overall.k, second.overall.n) == (17, 17)


def test_another_judge_is_not_ranked_with_the_newest() -> None:
    with transaction() as session:
        version = chains.add_version(session, chains.add_line(session), (2, 4))
        chains.judge(session, version, 2, {"go": (10, 20)}, by="an older one")
        chains.judge(session, version, 4, {"go": (12, 20)}, by="a newer one")
    with transaction() as session:
        points = report.report(session, "v1.0.0").points
    assert [(one.hollow, one.picked) for one in points] == [(True, False), (False, True)]
    assert points[0].left_out.startswith("judged by another judge")


def test_duels_with_the_stable_version_count_ties_as_halves_and_it_ties_with_itself() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        stable = chains.add_version(session, line, (10,))
        released(session, line.id, stable.id)
        version = chains.add_version(session, line, (14, 18), updates=8)
        chains.judge(session, version, 14, {"talk": (10, 20)}, LOGGED, by="pairwise/m/r", ties=4)
        chains.judge(session, version, 18, {"talk": (18, 20)}, LOGGED, by="pairwise/m/r")
    with transaction() as session:
        found = report.report(session, "v1.0.1")
    # 10 wins of which 4 are ties: 6 + 4 / 2.
    assert [(one.step, one.overall and one.overall.k) for one in found.points] == [(0, 10), (4, 8), (8, 18)]
    assert found.pick == 8
    assert any("against" in note or "a tie is half" in note for note in found.notes)
    assert "against babylon-agent-v1.0.0" in found.judged_on


def test_what_is_not_there_is_named_with_what_is() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        start_run(session, line, chains.add_version(session, line))
    with transaction() as session:
        with pytest.raises(InvalidInput, match=r"the newest runs are practice, the versions babylon-agent-v1\.0\.0"):
            report.report(session, "nothing")
        with pytest.raises(InvalidInput, match=r"it has no verdicts: no evaluation .*; `rlfleet status`"):
            report.report(session, "v1.0.0")
        found = report.report(session, "practice")
    assert (found.pick, [one.overall for one in found.points]) == (None, [None])
    assert found.reason == "there is nothing to rank: no checkpoint has its verdicts"


def test_a_version_without_verdicts_says_what_holds_them_up() -> None:
    with transaction() as session:
        version = chains.add_version(session, chains.add_line(session, "shop", validation=None))
    with transaction() as session:
        expected = r"line shop evaluates nothing: give it \[validation\] or \[held_out\]"
        with pytest.raises(InvalidInput, match=expected):
            report.report(session, version.name)
        inputs = {"version": version.name}
        spec = dispatch.Spec("evaluate", version.line_id, inputs=inputs, config={}, queue="gpu", priority=130)
        number = dispatch.request(session, spec)
        session.execute(
            text("update rlfleet.jobs set state = 'failed', error = 'no room' where id = :id"), {"id": number}
        )
        with pytest.raises(InvalidInput, match=rf"job {number} is failed \(no room\); `rlfleet jobs requeue {number}`"):
            report.report(session, version.name)


def decided(stable: str | None, **values: object) -> str:
    """What the report says of the newest decision on ``v1.0.1``, which was compared with ``stable``."""
    with transaction() as session:
        line = chains.add_line(session)
        made = {one: chains.add_version(session, line, state="candidate") for one in ("v1.0.0", "v1.0.1")}
        version, rival = made["v1.0.1"], made[stable] if stable else None
        chains.judge(session, version, 4, {"go": (2, 20)})
        number = decisions.by_person(
            session, line.id, version.id, "so it is", "a test", stable_id=rival.id if rival else None
        )
        session.execute(update(Decision).where(Decision.id == number).values(**values))
        if values.get("approval") == "refused":
            versions.set_state(session, [version.id], "rejected", "refused by ann: too terse")
    with transaction() as session:
        return report.report(session, "v1.0.1").decision


@pytest.mark.parametrize(
    ("stable", "values", "said"),
    [
        ("v1.0.0", {"released": False}, "is not released: so it is"),
        ("v1.0.1", {"released": False}, "stays the stable version: so it is"),
        (None, {"evidence": {"evaluated": False}}, "is released, unevaluated: so it is"),
        ("v1.0.0", {"released": False, "approval": "waiting"}, "is released once a person approves: so it is"),
        (
            "v1.0.0",
            {"released": False, "approval": "refused", "approved_by": "ann"},
            "is not released: so it is; refused by ann: too terse",
        ),
    ],
)
def test_the_decision_in_words(stable: str | None, values: dict[str, object], said: str) -> None:
    assert decided(stable, **values) == f"Decided: babylon-agent-v1.0.1 {said}"
