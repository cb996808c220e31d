"""What an attempt leaves for the next one: saved states, changed configs, interruptions, and the messages that came."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import dispatch, job_views, jobs, workers
from db.dispatch import Spec
from db.job_states import State
from db.jobs import MAX_INTERRUPTIONS, Claim
from db.session import transaction
from rl.errors import Fenced
from tests.conftest_database import add_line

STATE = {"path": "/artifacts/jobs/1/fence-1/state-40", "step": 40, "sha256": "0" * 64}


@pytest.fixture
def line(fresh: str) -> int:
    with transaction() as session:
        return add_line(session).id


def asked(line: int, **fields: Any) -> int:
    values = {"kind": "train", "inputs": {}, "config": {}, "queue": "gpu"} | fields
    with transaction() as session:
        return dispatch.request(session, Spec(line_id=line, **values))


def claimed(job: int, **options: Any) -> Claim:
    hurry()
    claim = jobs.claim(job, "me", 60, **options)
    assert claim is not None
    return claim


def hurry() -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set run_at = now()"))


def clock() -> datetime:
    """What the database's clock says."""
    with transaction() as session:
        now: datetime = session.execute(text("select now()")).scalar_one()
        return now


def row(job: int) -> Any:
    with transaction() as session:
        return session.execute(text("select * from rlfleet.jobs where id = :id"), {"id": job}).one()


def deliveries() -> list[tuple[str, int, str]]:
    with transaction() as session:
        found = session.execute(text("select message_id, job_id, outcome from rlfleet.deliveries order by id"))
        return [(one[0], one[1], one[2]) for one in found]


def test_a_state_that_was_saved_is_there_for_the_next_claim(line: int) -> None:
    job = asked(line)
    first = claimed(job)
    assert first.resume is None
    jobs.heartbeat(first, 60, resume=STATE)
    jobs.heartbeat(first, 60, {"step": 45})
    assert jobs.release(first, "going down")
    second = claimed(job)
    assert second.resume == STATE
    jobs.release(second, "going down", STATE | {"step": 60})
    third = claimed(job)
    assert third.resume == STATE | {"step": 60}
    jobs.fail(third, "no", retry=False)
    assert jobs.requeue(job)
    assert claimed(job).resume is None, "a person who opens it again wants it done anew"


def test_an_attempt_that_got_on_is_free_and_waits_as_any_other(line: int) -> None:
    job = asked(line, max_attempts=2)
    for _ in range(4):
        claim, before = claimed(job), clock()
        assert jobs.fail(claim, "away", retry=True, free=True) is State.QUEUED
        assert row(job).attempt == 0
        assert before <= row(job).run_at - timedelta(seconds=2) <= clock()
    ends = [jobs.fail(claimed(job), "away", retry=True) for _ in range(2)]
    assert ends == [State.QUEUED, State.DEAD]


def test_drains_are_free_until_there_were_too_many(line: int) -> None:
    job = asked(line, max_attempts=2)
    for _ in range(MAX_INTERRUPTIONS):
        assert jobs.release(claimed(job), "going down")
    assert (row(job).state, row(job).attempt, row(job).interruptions) == ("queued", 0, MAX_INTERRUPTIONS)
    assert jobs.release(claimed(job), "going down")
    assert (row(job).state, row(job).attempt) == ("queued", 1)
    assert jobs.release(claimed(job), "going down")
    assert (row(job).state, row(job).attempt) == ("dead", 2)
    assert row(job).finished_at is not None
    assert jobs.requeue(job)
    assert row(job).interruptions == 0


def test_what_waits_until_tomorrow_has_all_attempts_then(line: int) -> None:
    job = asked(line, max_attempts=2)
    jobs.fail(claimed(job), "away", retry=True)
    assert jobs.release(claimed(job), "the budget is spent", tomorrow=True)
    assert (row(job).state, row(job).attempt, row(job).interruptions) == ("queued", 0, 1)
    due = row(job).run_at.astimezone(UTC)
    assert due.time() == time(0)
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(days=1)
    assert jobs.claim(job, "me", 60) is None


def test_an_attempt_that_changes_the_config_is_not_charged(line: int) -> None:
    job = asked(line, max_attempts=1)
    first = claimed(job)
    assert jobs.fail(first, "out of memory", retry=True, adjust={"token_budget": 512}) is State.QUEUED
    second = claimed(job)
    assert (second.adjust, second.attempt, second.fence) == ({"token_budget": 512}, 1, 2)
    assert jobs.fail(second, "the engine is away", retry=True) is State.DEAD
    assert row(job).adjust == {"token_budget": 512}
    assert jobs.requeue(job)
    assert claimed(job).adjust is None


def test_a_holder_without_the_fence_leaves_nothing(line: int) -> None:
    job = asked(line)
    old = claimed(job)
    jobs.release(old, "going down")
    new = claimed(job)
    with pytest.raises(Fenced):
        jobs.heartbeat(old, 60, resume=STATE)
    with pytest.raises(Fenced):
        jobs.fail(old, "?", retry=True, adjust={"token_budget": 1})
    assert not jobs.release(old, "again", STATE)
    assert (row(job).resume, row(job).adjust, row(job).fence) == (None, None, new.fence)


def test_a_job_is_finished_only_for_the_claim_that_finished_it(line: int) -> None:
    job = asked(line)
    old = claimed(job)
    jobs.release(old, "going down")
    new = claimed(job)
    assert job_views.result_of(new) is None
    with transaction() as session:
        jobs.finish(session, new, lambda _: {"answer": 42})
    assert job_views.result_of(new) == {"answer": 42}
    assert job_views.result_of(old) is None


def test_a_worker_with_too_few_devices_leaves_the_job_to_another(line: int) -> None:
    job = asked(line, devices=2)
    assert dispatch.due(60) == []
    workers.announce("gpu0@here", ["gpu"], 1, "gpu0.0+gpu0.1", 1)
    assert dispatch.due(60) == [(job, "train")]
    assert jobs.claim(job, "me", 60, devices=1) is None
    assert claimed(job, devices=2).job_id == job


def test_each_message_is_written_down_with_what_it_led_to(line: int) -> None:
    job = asked(line)
    claimed(job, message_id="first")
    assert jobs.claim(job, "another", 60, "second") is None
    assert jobs.claim(job, "another", 60) is None
    assert jobs.claim(job + 1, "another", 60, "of no job") is None
    assert deliveries() == [("first", job, "claimed"), ("second", job, "skipped")]


def test_a_second_training_of_a_busy_line_is_due_again_as_soon_as_the_first_ends(line: int) -> None:
    first, second = asked(line), asked(line, inputs={"n": 2})
    holder = claimed(first)
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set last_sent_at = now() where id = :id"), {"id": second})
    assert jobs.claim(second, "another", 60, "early") is None
    assert deliveries() == [("early", second, "skipped")]
    assert dispatch.due(60, {"gpu": 1}) == []
    with transaction() as session:
        jobs.finish(session, holder, lambda _: {})
    assert dispatch.due(60, {"gpu": 1}) == [(second, "train")]


@pytest.mark.parametrize(("retry", "name"), [(False, "job_failed"), (True, "job_dead")])
def test_a_job_that_a_person_must_see_raises_one_alert(line: int, retry: bool, name: str) -> None:
    job = asked(line, max_attempts=1)
    claim = claimed(job)
    jobs.fail(claim, "what happened", retry=retry)
    with transaction() as session:
        found = session.execute(text("select name, subject, detail from rlfleet.alerts")).all()
    about = {"job": job, "kind": "train", "line": "main", "attempt": 1, "fence": 1, "error": "what happened"}
    assert [tuple(one) for one in found] == [(name, f"job {job}", about)]
