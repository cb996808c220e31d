"""A version that a person gives up: nothing waits for it, and its run goes on without it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text

from db import approvals, decisions, lines, planning, rejecting, runs, trajectories, windows
from db.session import transaction
from db.tables import Decision
from rl.config import Release as Policy
from rl.errors import InvalidInput
from rl.planner import Want, plan
from rl.records import Call, Message, Trajectory
from rl.windows import round_of
from tests.db.judged import GATE, V0, V1, candidate, decide, line_with, to_decide
from tests.db.test_runs import V, look, start, told
from tests.db.trained import states

pytestmark = pytest.mark.usefixtures("fresh")


def reject(name: str = V1) -> rejecting.Rejection:
    with transaction() as session:
        return rejecting.reject(session, name, "never judged", "ann")


def wanted() -> list[tuple[str, str]]:
    with transaction() as session:
        state = planning.line_state(session, lines.named(session, "main"))
        wants = [one for one in plan(state) if isinstance(one, Want)]
        return [(one.kind, str(one.inputs.get("version") or one.inputs.get("candidate"))) for one in wants]


def test_a_candidate_that_is_given_up_is_neither_evaluated_nor_decided_on() -> None:
    line_with(Policy(**GATE))
    candidate()
    assert wanted() == [("decide", V1)]
    assert reject() == rejecting.Rejection("main", V1, "rejected by ann: never judged", changed=True)
    assert (reject().changed, wanted()) == (False, [])
    with transaction() as session:
        decision = session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()
        assert (decision.policy, decision.actor, decision.released) == ("person", "ann", False)
        assert states(session) == {V0: "ready", V1: "rejected"}


def test_a_decision_under_way_is_not_made() -> None:
    line_with(Policy(**GATE))
    claim = to_decide(candidate())
    reject()
    assert decide(claim)["undecided"] == f"{V1} is rejected already"


def test_nobody_is_asked_for_an_approval_any_more() -> None:
    line_with(Policy(**GATE, approval=True))
    assert decide(to_decide(candidate()))["approval"] == "waiting"
    reject()
    with transaction() as session:
        assert not list(session.scalars(select(Decision).where(Decision.approval == decisions.WAITING)))
        with pytest.raises(InvalidInput):
            approvals.approve(session, V1, "ann")


def test_only_a_candidate_is_given_up() -> None:
    line_with(Policy(**GATE))
    with pytest.raises(InvalidInput, match="rlfleet rollback --line main --reason TEXT"):
        reject(V0)


def test_a_run_ends_without_the_version_that_could_not_be_judged() -> None:
    start(40, 80, None, rounds=2)
    look()
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set state = 'failed', error = 'no engine' where kind = 'evaluate'"))
    assert wanted() == [("evaluate", V[2])]
    (waits,) = told()["waits"]
    assert f"verdicts of {V[2]} on validation scenarios 0 to 99: job " in waits
    assert waits.endswith(f"`, or `rlfleet reject {V[2]} --reason TEXT`")
    reject(V[2])
    assert wanted() == [("evaluate", V[0]), ("evaluate", V[1])], "those that tie, or are stable, are confirmed"
    with transaction() as session:
        labels = [one["version"] for one in runs.told(session, lines.run_named(session, "demo"))["versions"]]
    assert labels == V[:2]


def test_the_next_round_is_played_by_the_newest_version_that_was_not_given_up() -> None:
    start(40, 80, 60, rounds=2)
    with transaction() as session:
        run = lines.run_named(session, "demo")
        windows.ensure(session, run.line_id, round_of("demo", 3), state="closed", run_id=run.id)
    played = [player()]
    for name in (V[2], V[1]):
        reject(name)
        played.append(player())
    assert played == [V[2], V[1], V[0]], "what the run started from is never given up"


def player() -> str:
    with transaction() as session:
        return planning.policy_of(session, windows.named(session, lines.named(session, "main").id, "run/demo/0003"))


@pytest.mark.parametrize("rights", [(40, 80, 60), (40,)])
def test_a_run_whose_base_and_player_were_rejected_can_be_ended(rights: tuple[int, ...]) -> None:
    start(*rights, rounds=3)
    number = len(rights)
    with transaction() as session:
        run = lines.run_named(session, "demo")
        windows.ensure(session, run.line_id, round_of("demo", number), state="closed", run_id=run.id)
        session.execute(text("update rlfleet.versions set state = 'rejected'"))
    assert ("collect", "None") in wanted()
    with transaction() as session:
        runs.finish(session, "demo")
    with transaction() as session:
        found = windows.named(session, lines.named(session, "main").id, f"run/demo/{number:04d}")
        assert (found.state, found.reason) == ("skipped", f"its player {V[0]} was rejected")
    assert wanted() == [("evaluate", V[0])], "what is released is confirmed; the decision follows"


def test_a_round_that_was_played_stays_its_players() -> None:
    start(40, 80, 60, rounds=2)
    now = datetime.now(UTC)
    with transaction() as session:
        run = lines.run_named(session, "demo")
        window_id = windows.ensure(session, run.line_id, round_of("demo", 3), state="closed", run_id=run.id)
        about = {"scenario_id": "s", "agent_id": V[2], "started_at": now, "ended_at": now, "reward": 1.0}
        said = {"call_id": "c", "turn": 0, "model": V[2], "messages": [{"role": "user", "content": "?"}]}
        call = Call(**said, response=Message(role="assistant", content="!"))
        one = Trajectory(trajectory_id="t", calls=[call], **about)
        trajectories.insert_trajectories(session, run.line_id, window_id, "run:grid", [one])
    reject(V[2])
    assert player() == V[2]
