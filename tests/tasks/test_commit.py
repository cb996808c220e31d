"""The moment in which work becomes an effect: the database may go away at any point of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from db import jobs
from db.session import engine, transaction
from rl.errors import DatabaseUnavailable, Drained, OutOfMemory
from tasks import carry
from tasks.carry import Lease, carry_out
from tests.tasks.rows import add_line, asked, effect, effects, job, one
from worker import drain

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry.time, "sleep", lambda _: None)


@pytest.fixture
def _draining() -> Iterator[None]:
    drain.begin()
    yield
    drain.reset()


def done(*_: object) -> Any:
    return effect


def test_work_that_is_done_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    finish, tries = jobs.finish, []

    def away_twice(*args: Any) -> Mapping[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise DatabaseUnavailable
        return finish(*args)

    monkeypatch.setattr(jobs, "finish", away_twice)
    wanted = asked(add_line())
    assert carry_out(wanted, done).endswith("succeeded")
    assert (len(tries), effects(), job(wanted).attempt) == (3, 1, 1)


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Mapping[str, Any]:
        raise DatabaseUnavailable

    monkeypatch.setattr(jobs, "finish", away)
    monkeypatch.setattr(carry, "COMMIT_SECONDS", -1.0)
    wanted = asked(add_line())
    assert carry_out(wanted, done).endswith("queued (DatabaseUnavailable: The database did not answer.)")
    assert effects() == 0


def test_a_commit_whose_answer_was_lost_counts_once() -> None:
    lost = []

    def hear_nothing(connection: Any) -> None:
        """The commit is done, and the connection is gone before it can say so."""
        if not lost and connection.info.get("effect"):
            lost.append(connection.connection.dbapi_connection.info.backend_pid)
            connection.connection.dbapi_connection.commit()
            with transaction() as session:
                session.execute(text("select pg_terminate_backend(:pid)"), {"pid": lost[0]})

    def marked(session: Session) -> Mapping[str, Any]:
        session.connection().info["effect"] = True
        return effect(session)

    event.listen(engine(), "commit", hear_nothing)
    try:
        wanted = asked(add_line())
        assert carry_out(wanted, lambda *_: marked).endswith("succeeded")
    finally:
        event.remove(engine(), "commit", hear_nothing)
    assert len(lost) == 1
    assert (effects(), job(wanted).state, job(wanted).fence) == (1, "succeeded", 1)


def test_work_that_leaves_is_handed_back_at_once_with_its_state(_draining: None) -> None:  # noqa: PT019 - its effect
    wanted = asked(add_line())

    def work(_: jobs.Claim, lease: Lease) -> Any:
        lease.keep()
        lease.beat()
        raise AssertionError("it should have left")

    assert "the worker is going down" in carry_out(wanted, work, leaves=True).lower()
    assert (job(wanted).state, job(wanted).attempt, job(wanted).interruptions) == ("queued", 0, 1)


def test_what_was_saved_goes_back_with_the_job() -> None:
    wanted, state = asked(add_line()), {"path": "/out/state-4", "step": 4, "sha256": "1" * 64}

    def work(*_: object) -> Any:
        raise Drained("after step 4", state)

    carry_out(wanted, work)
    assert (job(wanted).resume, job(wanted).attempt, job(wanted).error) == (state, 0, "after step 4")


def test_other_work_has_the_time_of_the_soft_shutdown(_draining: None) -> None:  # noqa: PT019 - its effect
    wanted = asked(add_line())

    def work(_: jobs.Claim, lease: Lease) -> Any:
        lease.beat()
        return effect

    assert carry_out(wanted, work).endswith("succeeded")


def test_an_attempt_without_memory_says_what_the_next_one_changes() -> None:
    wanted, before = asked(add_line()), one("select now()")[0]

    def work(*_: object) -> Any:
        raise OutOfMemory("12 GiB were wanted", adjust={"token_budget": 512})

    carry_out(wanted, work)
    assert (job(wanted).state, job(wanted).attempt, job(wanted).adjust) == ("queued", 0, {"token_budget": 512})
    assert job(wanted).run_at >= before + timedelta(seconds=2), "after a back-off"


def test_an_unexpected_error_is_told_without_what_was_in_the_rows() -> None:
    wanted = asked(add_line())

    def refused(session: Session) -> Mapping[str, Any]:
        session.execute(
            text("insert into rlfleet.jobs (kind, line_id, dedup_key, queue) values ('k', null, :said, 'score')"),
            {"said": "what an agent said"},
        )
        return {}

    carry_out(wanted, lambda *_: refused)
    error = job(wanted).error
    assert error.startswith('IntegrityError: (psycopg2.errors.NotNullViolation) null value in column "line_id"')
    assert "what an agent said" not in error
