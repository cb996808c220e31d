from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import dispatch, jobs, workers
from db.dispatch import Spec
from db.session import transaction
from tests.conftest_database import add_line


@pytest.fixture
def line(fresh: str) -> int:
    with transaction() as session:
        return add_line(session).id


def asked(line: int, number: int, **fields: Any) -> int:
    values = {"kind": "score", "inputs": {"n": number}, "config": {}, "queue": "score"} | fields
    with transaction() as session:
        return dispatch.request(session, Spec(line_id=line, **values))


def age_rings(by: timedelta) -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set last_sent_at = last_sent_at - :by"), {"by": by})


def sends(job: int) -> int:
    with transaction() as session:
        return int(session.execute(text("select sends from rlfleet.jobs where id = :id"), {"id": job}).scalar_one())


def test_twice_a_queues_capacity_is_rung_and_the_rest_waits(line: int) -> None:
    ids = [asked(line, number) for number in range(7)]
    assert dispatch.due(60, {"score": 2}) == [(job, "score") for job in ids[:4]]
    assert dispatch.due(60, {"score": 2}) == []

    claim = jobs.claim(ids[1], "me", 60)
    assert claim is not None
    assert dispatch.due(60, {"score": 2}) == [(ids[4], "score")]


def test_queues_are_counted_apart_and_an_unknown_one_has_a_capacity_of_one(line: int) -> None:
    score = [asked(line, number) for number in range(3)]
    gpu = [asked(line, number, kind="evaluate", queue="gpu") for number in range(3)]
    assert [job for job, _ in dispatch.due(60, {"score": 1})] == score[:2] + gpu[:2]


def test_the_best_priority_is_rung_first_and_then_the_oldest(line: int) -> None:
    plain, late, urgent, second = (
        asked(line, number, priority=priority) for number, priority in enumerate((100, 120, 50, 100))
    )
    assert [job for job, _ in dispatch.due(60, {"score": 10})] == [urgent, plain, second, late]


def test_a_job_with_a_better_priority_does_not_push_out_what_is_rung(line: int) -> None:
    rung = [asked(line, number) for number in range(2)]
    assert len(dispatch.due(60, {"score": 1})) == 2
    urgent = asked(line, 9, priority=1)
    assert dispatch.due(60, {"score": 1}) == []
    assert jobs.claim(rung[0], "me", 60) is not None
    assert dispatch.due(60, {"score": 1}) == [(urgent, "score")]


def test_what_nobody_answered_is_rung_again(line: int) -> None:
    job = asked(line, 0)
    assert dispatch.due(60, {}) == [(job, "score")]
    age_rings(timedelta(seconds=30))
    assert dispatch.due(60, {}, {"score": 0}) == []
    age_rings(timedelta(seconds=31))
    assert dispatch.due(60, {}) == [], "nobody looked whether its message is lost"
    assert dispatch.due(60, {}, {"score": 1}) == [], "its message waits"
    assert dispatch.due(60, {}, {"score": 0}) == [(job, "score")]
    assert sends(job) == 2


def test_as_many_are_rung_again_as_messages_are_lost_the_oldest_first(line: int) -> None:
    ids = [asked(line, number) for number in range(4)]
    dispatch.due(60, {"score": 2})
    age_rings(timedelta(seconds=61))
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set last_sent_at = last_sent_at - interval '1 s' where id > 2"))
    assert dispatch.due(60, {"score": 2}, {"score": 2}) == [(job, "score") for job in ids[2:]]
    assert dispatch.due(60, {"score": 2}, {"score": 4}) == []


def test_of_a_line_one_training_is_rung_and_none_while_one_runs(line: int) -> None:
    first, second = (asked(line, number, kind="train", queue="gpu") for number in range(2))
    assert dispatch.due(60, {"gpu": 4}) == [(first, "train")]
    assert dispatch.due(60, {"gpu": 4}) == []
    claim = jobs.claim(first, "me", 60)
    assert claim is not None
    assert dispatch.due(60, {"gpu": 4}) == []
    jobs.fail(claim, "no", retry=False)
    assert dispatch.due(60, {"gpu": 4}) == [(second, "train")]


def test_a_paused_kind_is_neither_rung_nor_claimed(line: int) -> None:
    job = asked(line, 0)
    with transaction() as session:
        session.execute(text("insert into rlfleet.pauses (kind, reason) values ('score', 'five are dead')"))
    assert dispatch.due(60, {}) == []
    assert jobs.claim(job, "me", 60) is None
    with transaction() as session:
        session.execute(text("delete from rlfleet.pauses"))
    assert dispatch.due(60, {}) == [(job, "score")]


def test_what_was_not_sent_is_due_at_once(line: int) -> None:
    ids = [asked(line, number) for number in range(2)]
    dispatch.due(60, {})
    dispatch.unsend(ids[1:])
    assert dispatch.due(60, {}) == [(ids[1], "score")]


def test_what_runs_ended_or_was_cancelled_is_not_rung(line: int) -> None:
    running, cancelled, backing_off = (asked(line, number) for number in range(3))
    assert jobs.claim(running, "me", 60) is not None
    jobs.cancel(cancelled)
    claim = jobs.claim(backing_off, "me", 60)
    assert claim is not None
    jobs.fail(claim, "again", retry=True)
    with transaction() as session:
        later = text("update rlfleet.jobs set run_at = run_at + interval '1 hour' where id = :id and state = 'queued'")
        session.execute(later, {"id": backing_off})
    assert dispatch.due(60, {"score": 10}) == []


def test_a_released_job_is_rung_again_without_waiting(line: int) -> None:
    job = asked(line, 0)
    dispatch.due(60, {})
    claim = jobs.claim(job, "me", 60)
    assert claim is not None
    jobs.release(claim, "going down")
    assert dispatch.due(60, {}) == [(job, "score")]


def test_two_dispatchers_ring_each_job_once(line: int) -> None:
    ids = [asked(line, number) for number in range(20)]
    barrier, rung = threading.Barrier(2), []

    def ring() -> None:
        barrier.wait()
        rung.extend(dispatch.due(60, {"score": 10}))

    threads = [threading.Thread(target=ring) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rung) == [(job, "score") for job in ids]
    assert {sends(job) for job in ids} == {1}


def test_a_job_that_no_worker_has_the_devices_for_does_not_hold_up_the_others(line: int) -> None:
    for number in range(2):
        asked(line, number, kind="evaluate", queue="gpu", devices=2)
    plain = asked(line, 2, kind="evaluate", queue="gpu")
    workers.announce("gpu0@here", ["gpu"], 1, "gpu0", 1)
    assert dispatch.due(60) == [(plain, "evaluate")]
    workers.announce("gpu1@here", ["gpu"], 1, "gpu1.0+gpu1.1", 2)
    assert [job for job, _ in dispatch.due(60)] == [1, 2]


def test_a_training_for_fewer_devices_is_not_held_up_by_one_for_more(line: int) -> None:
    asked(line, 0, kind="train", queue="gpu", devices=2)
    small = asked(line, 1, kind="train", queue="gpu")
    workers.announce("gpu0@here", ["gpu"], 1, "gpu0", 1)
    assert dispatch.due(60) == [(small, "train")]
