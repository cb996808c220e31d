"""Runs that stop early, wait for a person and go on; alarms that are told once; evaluations that move up."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import dispatch, lines, planning, runs, versions, windows
from db.session import transaction
from db.tables import Run, Version
from rl.config import EarlyStop
from rl.errors import InvalidInput
from rl.planner import alarms, plan
from rl.windows import round_of
from tests.db.trained import HELD_OUT, add_line, add_version, evaluate, release, run_config

pytestmark = pytest.mark.usefixtures("fresh")

V = [f"babylon-agent-v1.0.{number}" for number in range(8)]


def start(*rights: int | None, early_stop: EarlyStop | None = None, rounds: int = 6) -> None:
    """A run from a stable version: right verdicts of 100 of that and of the version of each round trained."""
    config = run_config(rounds=rounds, early_stop=early_stop)
    with transaction() as session:
        line = add_line(session)
        base = add_version(session, line, state="ready")
        release(session, base)
        lines.start_run(session, line.id, config, base.id)
        judge(session, base, rights[0])
    for number, right in enumerate(rights[1:], start=1):
        play(number, right)


def judge(session: Session, version: Version, right: int | None) -> None:
    if right is not None:
        evaluate(session, version, right, 100)


def play(number: int, right: int | None) -> None:
    """Round ``number`` is played and trained, and its version evaluated."""
    with transaction() as session:
        line = lines.named(session, "main")
        run = lines.run_named(session, "demo")
        windows.ensure(session, line.id, round_of("demo", number), state="trained", run_id=run.id)
        judge(session, add_version(session, line, f"run/demo/{number:04d}"), right)


def look() -> None:
    """What the fleet does at each look."""
    with transaction() as session:
        line = lines.named(session, "main")
        state = planning.line_state(session, line)
        for wanted in plan(state):
            planning.carry_out(session, line.id, wanted)
        planning.raise_alarms(session, alarms(state))


def jobs_of(kind: str) -> list[dict[str, Any]]:
    with transaction() as session:
        query = text("select inputs from rlfleet.jobs where kind = :kind and not inputs ? 'n' order by priority, id")
        return [row for row in session.scalars(query, {"kind": kind}) if "task_set" not in row]


def state_of() -> tuple[str, str | None]:
    with transaction() as session:
        run = lines.run_named(session, "demo")
        return run.state, run.reason


def told_alerts() -> list[tuple[str, str]]:
    with transaction() as session:
        return [
            (row[0], row[1]) for row in session.execute(text("select name, subject from rlfleet.alerts order by id"))
        ]


def told() -> dict[str, Any]:
    with transaction() as session:
        return runs.told(session, lines.run_named(session, "demo"))


REASON = f"early stop at {V[3]}: 2 evaluated versions in a row did not improve on the best before"


def test_a_run_that_does_not_improve_waits_and_says_so_once() -> None:
    start(40, 60, 60, 58, early_stop=EarlyStop())
    for _ in range(3):
        look()
    assert state_of() == ("paused", REASON)
    assert told_alerts() == [("early_stop", "demo")]
    assert jobs_of("collect") == []
    found = told()
    assert (found["best"], found["early_stop"]["said"]) == (V[1], REASON)
    assert found["waits"] == [f"{REASON}; `rlfleet resume demo` goes on, `rlfleet finish demo` decides"]


def test_a_person_has_it_go_on_and_its_patience_counts_anew() -> None:
    start(40, 60, 60, 58, early_stop=EarlyStop())
    look()
    with transaction() as session:
        assert runs.resume(session, "demo") == "main"
    look()
    assert (state_of(), jobs_of("collect")) == (("running", None), [{"window": "run/demo/0004"}])
    play(4, 55)
    look()
    assert state_of() == ("running", None)
    play(5, 58)
    look()
    assert state_of()[0] == "paused"
    assert told_alerts() == [("early_stop", "demo"), ("early_stop", "demo")]


def test_a_person_has_it_end_with_what_it_has() -> None:
    start(40, 90, 60, 50, early_stop=EarlyStop())
    look()
    with transaction() as session:
        assert runs.finish(session, "demo") == "main"
    look()
    assert state_of() == ("running", None)
    assert jobs_of("evaluate") == [{"version": V[0]}, {"version": V[1]}]
    with transaction() as session:
        for name, right in ((V[0], 0), (V[1], 1)):
            evaluate(session, session.scalars(select(Version).where(Version.name == name)).one(), right, 1, HELD_OUT)
    look()
    assert [one["candidate"] for one in jobs_of("decide")] == [V[1]]


def test_one_that_may_end_by_itself_does() -> None:
    start(40, 90, 60, 50, early_stop=EarlyStop(then="finish"))
    look()
    assert (state_of()[0], jobs_of("collect")) == ("running", [])
    assert jobs_of("evaluate") == [{"version": V[0]}, {"version": V[1]}]


def test_a_round_that_is_being_played_ends_while_the_run_waits() -> None:
    start(40, 60, 60, 58, early_stop=EarlyStop())
    look()
    with transaction() as session:
        line, run = lines.named(session, "main"), lines.run_named(session, "demo")
        windows.ensure(session, line.id, round_of("demo", 4), state="collected", run_id=run.id)
    look()
    assert jobs_of("score") == [{"window": "run/demo/0004"}]


def test_only_a_paused_run_is_resumed_and_only_one_that_goes_on_is_finished() -> None:
    start(40)
    with transaction() as session, pytest.raises(InvalidInput, match="it is running, and only a paused run is resumed"):
        runs.resume(session, "demo")
    with transaction() as session:
        lines.end_run(session, lines.run_named(session, "demo").id, "stopped", "by a person")
    for change in (runs.resume, runs.finish):
        with transaction() as session, pytest.raises(InvalidInput, match="run = 'demo': it is stopped"):
            change(session, "demo")
    with transaction() as session, pytest.raises(InvalidInput, match="no such run; the newest are: demo"):
        runs.finish(session, "other")


def test_an_alarm_of_a_version_is_told_once() -> None:
    start(80, 82, 50)
    for _ in range(3):
        look()
    with transaction() as session:
        session.execute(text("update rlfleet.alerts set created_at = now() - interval '2 days'"))
    look()
    assert told_alerts() == [("FORGETTING", V[2])]
    assert [(one["name"], one["version"]) for one in told()["alarms"]] == [("FORGETTING", V[2])]


def diverge() -> None:
    """The training of the run's first version went far from its reference."""
    with transaction() as session:
        version = session.scalars(select(Version).where(Version.name == V[1])).one()
        version.manifest = {"config": {"kl": {"target": 0.01}}}
        session.execute(
            text("update rlfleet.checkpoints set metrics = :metrics where id = :id"),
            {"metrics": '{"reference_kl": 0.06}', "id": version.checkpoint_id},
        )


@pytest.mark.parametrize("rights", [(80, 82), (80, None), (None, None)])
def test_an_alarm_of_a_training_is_told_once_and_listed_without_verdicts_too(rights: tuple[int | None, ...]) -> None:
    start(*rights)
    diverge()
    for _ in range(2):
        look()
    assert told_alerts() == [("KL", V[1])]
    assert [(one["name"], one["version"]) for one in told()["alarms"]] == [("KL", V[1])]


def test_the_alarms_of_two_looks_at_once_are_one() -> None:
    start(80, 82, 50)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(look) for _ in range(4)]:
            one.result()
    assert told_alerts() == [("FORGETTING", V[2])]


def test_the_newest_version_is_evaluated_before_older_ones_that_wait() -> None:
    start(None, None, None)
    look()
    assert jobs_of("evaluate") == [{"version": V[2]}, {"version": V[0]}, {"version": V[1]}]
    play(3, None)
    look()
    order = [{"version": V[3]}, {"version": V[0]}, {"version": V[2]}, {"version": V[1]}]
    assert jobs_of("evaluate") == order


def test_a_job_that_was_rung_keeps_its_priority() -> None:
    start(None, None)
    look()
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set last_sent_at = now() where inputs ->> 'version' = :v"), {"v": V[1]}
        )
    play(2, None)
    look()
    with transaction() as session:
        query = text("select inputs ->> 'version', priority from rlfleet.jobs where kind = 'evaluate'")
        assert {row[0]: row[1] for row in session.execute(query)} == {V[0]: 121, V[1]: 120, V[2]: 120}


def test_a_run_says_which_verdicts_are_missing_and_what_became_of_their_job() -> None:
    start(40, 90, rounds=1)
    look()
    with transaction() as session:
        failed = text("update rlfleet.jobs set state = 'failed', error = 'no room' where inputs = :inputs returning id")
        number = session.scalar(failed, {"inputs": f'{{"version": "{V[1]}"}}'})
    assert told()["waits"] == [
        f"verdicts of {V[0]} on held_out scenarios 0 to 0: job {number - 1} is queued",
        f"verdicts of {V[1]} on held_out scenarios 0 to 0: job {number} is failed (no room); "
        f"`rlfleet jobs requeue {number}`, or `rlfleet reject {V[1]} --reason TEXT`",
    ]


def test_a_finished_run_keeps_the_versions_that_its_decision_rejected_and_their_alarms() -> None:
    start(40, 90, 30, 20, early_stop=EarlyStop())
    before = told()
    assert (len(before["versions"]), bool(before["alarms"])) == (4, True)
    with transaction() as session:
        lines.end_run(session, lines.run_named(session, "demo").id, "finished", "better")
        rejected = [versions.named(session, name)[0].id for name in V[2:4]]
        versions.set_state(session, rejected, "rejected", f"{V[1]} was chosen among the run's versions")
    found = told()
    for name in ("best", "tie_set", "alarms", "early_stop"):
        assert found[name] == before[name]
    assert [(one["version"], one["state"]) for one in found["versions"]][2:] == [(V[2], "rejected"), (V[3], "rejected")]
    assert found["early_stop"]["said"] is not None


def test_what_ended_is_told_too() -> None:
    start(40, 90)
    with transaction() as session:
        lines.end_run(session, lines.run_named(session, "demo").id, "finished", "better")
    found = told()
    assert (found["state"], found["best"], found["waits"]) == ("finished", V[1], [])
    assert [one["counts"] for one in found["versions"]] == [[40, 100], [90, 100]]
    with transaction() as session:
        assert [run.name for run in runs.newest(session, 5)] == ["demo"]
        assert session.scalars(select(Run.state)).one() == "finished"


def test_requesting_the_same_job_with_another_priority_moves_it_while_it_waits() -> None:
    with transaction() as session:
        line = add_line(session)
        spec = dispatch.Spec("evaluate", line.id, inputs={"version": "v"}, config={}, queue="gpu", priority=130)
        first = dispatch.request(session, spec)
        moved = dispatch.Spec("evaluate", line.id, inputs={"version": "v"}, config={}, queue="gpu", priority=120)
        assert dispatch.request(session, moved) == first
        assert session.scalar(text("select priority from rlfleet.jobs where id = :id"), {"id": first}) == 120
