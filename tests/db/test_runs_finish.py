"""Runs that a person finishes while a round of theirs cannot be finished."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from db import lines, runs, windows
from db.session import transaction
from db.tables import Version
from rl.windows import round_of
from tests.db.test_runs import V, jobs_of, look, start, told
from tests.db.trained import HELD_OUT, evaluate

pytestmark = pytest.mark.usefixtures("fresh")

ROUND = "run/demo/0002"


def waits(state: str) -> None:
    """The round after a trained one is in ``state``, and the job that is to move it on is asked for."""
    start(40, 90)
    with transaction() as session:
        line, run = lines.named(session, "main"), lines.run_named(session, "demo")
        windows.ensure(session, line.id, round_of("demo", 2), state=state, run_id=run.id)
    look()


def end(kind: str, state: str) -> None:
    statement = "update rlfleet.jobs set state = :state where kind = :kind and inputs::text like :name returning id"
    with transaction() as session:
        session.execute(text(statement), {"kind": kind, "state": state, "name": f"%{ROUND}%"}).one()


def finish() -> tuple[str, str | None]:
    """Have the run finished; what became of its last round."""
    with transaction() as session:
        assert runs.finish(session, "demo") == "main"
    look()
    with transaction() as session:
        row = windows.named(session, lines.named(session, "main").id, ROUND)
        return row.state, row.reason


@pytest.mark.parametrize("ended", ["failed", "dead", "cancelled"])
@pytest.mark.parametrize(("state", "kind"), [("closed", "collect"), ("collected", "score"), ("scored", "train")])
def test_a_round_whose_job_ended_in_vain_does_not_hold_up_the_end(state: str, kind: str, ended: str) -> None:
    waits(state)
    end(kind, ended)
    assert finish() == ("skipped", "its run was finished")
    assert jobs_of("evaluate") == [{"version": V[0]}, {"version": V[1]}]
    with transaction() as session:
        for name, right in ((V[0], 0), (V[1], 1)):
            evaluate(session, session.scalars(select(Version).where(Version.name == name)).one(), right, 1, HELD_OUT)
    look()
    assert [one["candidate"] for one in jobs_of("decide")] == [V[1]]


@pytest.mark.parametrize(("state", "kind"), [("closed", "collect"), ("collected", "score"), ("scored", "train")])
@pytest.mark.parametrize("job", ["queued", "succeeded"])
def test_a_round_whose_job_goes_on_is_waited_for(state: str, kind: str, job: str) -> None:
    waits(state)
    end(kind, job)
    assert finish() == (state, None)


def test_a_job_that_ends_in_vain_afterwards_is_left_out_by_finishing_again() -> None:
    waits("scored")
    assert finish() == ("scored", None)
    end("train", "failed")
    look()
    assert any(f"train {ROUND}: job" in one for one in told()["waits"])
    assert finish() == ("skipped", "its run was finished")
