"""What agents are served as a version never changes, and a run with a version that a person released still ends."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from db import approvals, checkpoints, deployments, lines, releases, versions
from db.session import transaction
from db.tables import Decision
from rl.config import Release, TaskSet
from rl.errors import InvalidInput
from tests.db import chains
from tests.db.judged import V0, V1, V2, Rates, decide, live, play, to_decide, wanted
from tests.db.trained import release, run_of, start_run, states

pytestmark = pytest.mark.usefixtures("fresh")

VALIDATION = TaskSet(environment="g", split="validation", count=200)
HELD = TaskSet(environment="g", split="held_out", count=200)
NOW = Release(min_scenarios=1, strategy="immediate")


def start(policy: Release = NOW, rounds: int = 1, steps: tuple[int, ...] = (4, 8)) -> int:
    """The id of a run whose versions have checkpoints at those steps."""
    with transaction() as session:
        line = chains.add_line(session, release=policy.model_dump(), validation=VALIDATION.model_dump())
        base = chains.add_version(session, line, (4,))
        release(session, base)
        run_id = start_run(session, base, rounds=rounds, validation=VALIDATION, held_out=HELD, release=policy)
        for number in range(1, rounds + 1):
            chains.add_version(session, line, steps, f"run/demo/{number:04d}", state="candidate")
    return run_id


def deploy(*names: str) -> None:
    for name in names:
        with transaction() as session:
            deployments.deploy(session, name, "good", "ann", strategy="immediate")


def own(name: str) -> int:
    with transaction() as session:
        return versions.named(session, name)[1].step


BETTER_BEFORE: Rates = {(V0, 4): (50, 50), (V1, 4): (90, 80), (V1, 8): (60, 60), (V2, 4): (55, 55), (V2, 8): (58, 58)}


def test_a_run_does_not_exchange_the_checkpoint_of_the_stable_version() -> None:
    """Step 4 did best on validation, and a person released the version with step 8 before the run ended."""
    run_id = start()
    play(BETTER_BEFORE)
    deploy(V1)
    play(BETTER_BEFORE)
    claim = to_decide()
    assert "step" not in claim.inputs, "the only checkpoint of it that can be chosen is the one that is served"
    decide(claim)
    assert (own(V1), live()) == (8, [("stable", V1, 100)])
    with transaction() as session:
        assert run_of(session, run_id)[0] == "finished"


def test_a_rollback_brings_back_what_was_stable_and_not_what_a_run_refused_since() -> None:
    start(NOW.model_copy(update={"margin": 0.01}), rounds=2)
    rates = {**BETTER_BEFORE, (V1, 4): (90, 85), (V2, 8): (88, 85)}
    play(rates)
    deploy(V1, V2)
    play(rates)
    assert decide(to_decide())["released"] is False
    with transaction() as session:
        releases.roll_back(session, lines.named(session, "main").id, None, "bad", "ann")
    assert (own(V1), live()) == (8, [("stable", V1, 100)])


def test_a_decision_that_was_asked_for_before_the_release_decides_nothing_and_another_is_asked_for() -> None:
    """V1 was released and followed by what it was to be compared with, so nothing but its own state tells."""
    run_id = start()
    play(BETTER_BEFORE)
    claim = to_decide()
    assert claim.inputs["step"] == 4
    deploy(V1, V0)
    said = decide(claim)
    assert said["undecided"] == f"{V1} was released with another checkpoint, and keeps it: step 4 is not decided on"
    assert (own(V1), live()) == (8, [("stable", V0, 100)])
    with transaction() as session:
        assert session.scalars(select(Decision.id).where(Decision.run_id == run_id)).all() == []
        assert run_of(session, run_id)[0] == "running"
    play(BETTER_BEFORE)
    again = to_decide()
    assert (again.inputs["candidate"], "step" in again.inputs) == (V1, False)
    decide(again)
    with transaction() as session:
        assert run_of(session, run_id)[0] == "finished"
    assert own(V1) == 8


def test_a_candidate_takes_the_checkpoint_that_is_decided_on() -> None:
    start()
    play(BETTER_BEFORE)
    assert decide(to_decide())["released"] is True
    assert (own(V1), live()) == (4, [("stable", V1, 100)])


def test_retention_keeps_what_an_open_run_may_choose() -> None:
    """The evaluations of most checkpoints failed, and a person released the version meanwhile."""
    start(steps=(4, 8, 12, 16, 20, 24))
    with transaction() as session:
        base, version = (versions.named(session, name)[0] for name in (V0, V1))
        for one, step in ((base, 4), (version, 24)):
            chains.judge(session, one, step, {"A": (120, 200)}, VALIDATION)
    deploy(V1)
    settled()
    assert list(checkpoints.give_up()) == []
    with transaction() as session:
        session.execute(text("update rlfleet.runs set state = 'finished'"))
    (given_up,) = checkpoints.give_up()
    assert (given_up.version, 24 in given_up.steps) == (V1, False)


def test_a_run_whose_version_was_released_waits_for_its_own_checkpoint_alone() -> None:
    start(steps=(4, 8, 12, 16, 20, 24))
    deploy_unseen(V1)
    assert [dict(one.inputs) for one in wanted("evaluate")] == [{"version": V1}, {"version": V0}]


def test_an_approval_of_a_runs_version_that_is_outdated_says_what_is_left_to_do() -> None:
    run_id = start(NOW.model_copy(update={"approval": True}))
    play(BETTER_BEFORE)
    assert decide(to_decide())["approval"] == "waiting"
    with transaction() as session:
        release(session, chains.add_version(session, lines.named(session, "main"), (4,)))
    with transaction() as session, pytest.raises(InvalidInput) as refused:
        approvals.approve(session, V1, "ann")
    assert refused.value.remedy.endswith(
        "its run has ended, and no other decision is made by itself; to release it: "
        f"rlfleet deploy {V1} --reason TEXT; to give it up: rlfleet approve {V1} --refuse --reason TEXT"
    )
    with transaction() as session:
        assert run_of(session, run_id)[0] == "finished"
        approvals.refuse(session, V1, "late", "ann")
    with transaction() as session:
        assert states(session)[V1] == "rejected"


def deploy_unseen(name: str) -> None:
    with transaction() as session:
        deployments.deploy(session, name, "good", "ann", strategy="immediate", unevaluated=True)


def settled() -> None:
    """No job waits or runs."""
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set state = 'succeeded', finished_at = now() where finished_at is null")
        )
