"""What waits in each queue: counted as the jobs can begin, of a line's trainings one at a time."""

from __future__ import annotations

import pytest

from db import jobs, metrics, pauses, queues, workers
from db.dispatch import due
from db.jobs import Claim
from db.queues import Queue
from db.session import transaction
from tests.tasks import rows

pytestmark = pytest.mark.usefixtures("fresh")


def gpu() -> Queue:
    with transaction() as session:
        return next(one for one in queues.listing(session) if one.name == "gpu")


def counted() -> tuple[int, int, int]:
    """Jobs of queue gpu that could begin, that wait, and that run."""
    found = gpu()
    return found.depth, found.waiting, found.running


def train(line: int, **fields: object) -> int:
    return rows.asked(line, kind="train", queue="gpu", **fields)


def finish(claim: Claim) -> None:
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})


def test_of_a_lines_trainings_one_can_begin_and_the_others_wait() -> None:
    line = rows.add_line()
    first, second, third = (train(line) for _ in range(3))
    assert counted() == (1, 2, 0)
    rows.asked(line, kind="evaluate", queue="gpu")
    other = train(rows.add_line("other"))
    assert counted() == (3, 2, 0), "of another line, and of another kind"
    claim = rows.claimed(first)
    assert counted() == (2, 2, 1)
    assert {job_id for job_id, _ in due(60)} >= {other}
    assert not {second, third} & {job_id for job_id, _ in due(0)}, "rung as they are counted"
    finish(claim)
    assert counted() == (3, 1, 0)


def test_one_that_is_put_off_cancelled_or_too_large_keeps_no_other_waiting() -> None:
    line = rows.add_line()
    first = train(line, priority=1)
    assert train(line)
    assert counted() == (1, 1, 0)
    for state in ("run_at = now() + interval '1 day'", "run_at = now(), devices = 2", "devices = 1"):
        rows.rows(f"update rlfleet.jobs set {state} where id = :id returning 1", id=first)  # noqa: S608 (of these words)
        assert counted()[0] == (2 if "devices = 2" in state else 1)
    rows.rows("update rlfleet.jobs set cancel_requested = true where id = :id returning 1", id=first)
    assert counted() == (1, 1, 0)


def test_a_training_waits_since_the_one_before_has_ended() -> None:
    line = rows.add_line()
    first = train(line)
    assert train(line)
    rows.rows("update rlfleet.jobs set run_at = now() - interval '5 hours' returning 1")
    assert 5 * 3600 <= (gpu().oldest_seconds or 0) < 5 * 3600 + 600
    claim = rows.claimed(first)
    assert (counted(), gpu().oldest_seconds) == ((0, 1, 1), None)
    assert workers.alert_old_queues(3600, {"gpu": 1}) == [], "it is not the queue that is slow"
    finish(claim)
    rows.rows("update rlfleet.jobs set finished_at = now() - interval '2 hours' where id = :id returning 1", id=first)
    assert 2 * 3600 <= (gpu().oldest_seconds or 0) < 2 * 3600 + 600
    assert workers.alert_old_queues(3600, {"gpu": 1}) == ["gpu"]


def waits(job_id: int, hours: float) -> None:
    """The job's time came so many hours ago."""
    rows.rows(
        "update rlfleet.jobs set run_at = now() - make_interval(secs => :seconds) where id = :id returning 1",
        id=job_id,
        seconds=hours * 3600,
    )


def alike(hours: float) -> None:
    """The oldest job of queue gpu waits for so many hours, in the queues, in a scrape, and for the alert."""
    (due,) = (row for row in metrics.snapshot().rows["due"] if row["queue"] == "gpu")
    for seconds in (gpu().oldest_seconds, float(due["oldest_seconds"])):
        assert seconds is not None
        assert hours * 3600 - 1 <= seconds < hours * 3600 + 600
    rows.rows("delete from rlfleet.alerts returning 1")
    assert workers.alert_old_queues(1800, {"gpu": 1}) == (["gpu"] if hours > 0.5 else [])


def test_the_end_of_a_pause_begins_the_wait() -> None:
    job_id = train(rows.add_line())
    waits(job_id, 5)
    pauses.pause("train", "a test")
    assert gpu().oldest_seconds is None
    pauses.resume("train")
    alike(0)
    rows.rows("update rlfleet.resumes set resumed_at = now() - interval '2 hours' returning 1")
    alike(2)
    waits(job_id, 1)
    alike(1)


def test_a_job_that_was_handed_back_did_not_wait_while_it_ran() -> None:
    job_id = rows.asked(rows.add_line(), kind="evaluate", queue="gpu")
    waits(job_id, 5)
    jobs.release(rows.claimed(job_id), "the worker is going down")
    alike(0)
    rows.rows("update rlfleet.job_events set at = now() - interval '2 hours' returning 1")
    alike(2)


def test_a_training_waits_since_the_one_before_left_its_holder() -> None:
    line = rows.add_line()
    first, second = train(line, priority=1), train(line)
    for job_id in (first, second):
        waits(job_id, 5)
    jobs.release(rows.claimed(first), "the budget is spent", tomorrow=True)
    alike(0)
    rows.rows("update rlfleet.job_events set at = now() - interval '2 hours' returning 1")
    alike(2)
    jobs.cancel(first)
    alike(2)


def test_a_training_that_is_cancelled_before_it_began_held_nobody_up() -> None:
    line = rows.add_line()
    first, second = train(line, priority=1), train(line)
    for job_id in (first, second):
        waits(job_id, 5)
    jobs.cancel(first)
    alike(5)
