"""What one look at a line finds: its own run and decision, and results by what they were judged on."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from db import lines, overview, windows
from db.session import transaction
from db.tables import Decision, Version
from rl.windows import round_of
from tests.db.trained import HELD_OUT, VALIDATION, add_line, add_version, evaluate, release, start_run

pytestmark = pytest.mark.usefixtures("fresh")

MORE = HELD_OUT.model_copy(update={"count": 300})


def _decide(session: Session, version: Version, reason: str, run_id: int | None = None, waits: bool = False) -> None:
    asked = {"line_id": version.line_id, "version_id": version.id, "run_id": run_id, "actor": "a test"}
    told = {"policy": "person", "released": False, "reason": reason, "evidence": {}}
    session.add(Decision(**asked, **told, approval="waiting" if waits else None))
    session.flush()


def test_a_result_is_of_the_task_set_that_is_asked_for() -> None:
    with transaction() as session:
        version = add_version(session, add_line(session), state="ready")
        evaluate(session, version, 7, 128, HELD_OUT)
        evaluate(session, version, 70, 300, MORE)
        name = version.name
    facts = overview.read("main")
    found = [facts.result(name, task_set) for task_set in (HELD_OUT, MORE, VALIDATION)]
    assert [one and (one.k, one.n, one.split) for one in found] == [(7, 128, "held_out"), (70, 300, "held_out"), None]
    assert facts.result("another", MORE) is None


def test_the_run_and_the_decision_are_those_called_as_the_line() -> None:
    with transaction() as session:
        line = add_line(session)
        version = add_version(session, line, state="ready")
        release(session, version)
        mine = start_run(session, version, "main")
        lines.end_run(session, mine, "finished", "it is over")
        _decide(session, version, "of the run", mine)
    before = overview.read("main")
    assert (before.run_state, (before.decision or {})["reason"], before.rounds) == (
        "finished",
        "of the run",
        ["run/main/0001", "run/main/0002"],
    )
    with transaction() as session:
        version = session.merge(version)
        other = start_run(session, version, "other")
        windows.ensure(session, version.line_id, round_of("other", 3), state="open", run_id=other)
        _decide(session, version, "of another run", other)
        _decide(session, version, "of a person")
    after = overview.read("main")
    assert (after.run_state, after.decision, after.rounds) == (before.run_state, before.decision, before.rounds)


def test_versions_have_their_states_and_who_waits() -> None:
    with transaction() as session:
        line = add_line(session)
        names = [add_version(session, line, state=state).name for state in ("ready", "rejected", "candidate")]
        waiting = add_version(session, line)
        _decide(session, waiting, "good enough", waits=True)
        names.append(waiting.name)
    found = overview.read("main").versions
    assert found == dict(zip(names, ("ready", "rejected", "candidate", "waiting"), strict=True))
