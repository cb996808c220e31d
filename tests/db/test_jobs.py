from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import dispatch, job_views, jobs
from db.dispatch import Spec
from db.job_states import State
from db.jobs import Claim
from db.session import transaction
from rl.errors import Cancelled, Fenced
from tests.conftest_database import add_line

pytestmark = pytest.mark.usefixtures("fresh")


def one(statement: str, **values: object) -> Any:
    with transaction() as session:
        return session.execute(text(statement), values).one()


def clock() -> datetime:
    """What the database's clock says."""
    now: datetime = one("select now()")[0]
    return now


def change(job_id: int, what: str) -> None:
    with transaction() as session:
        session.execute(text(f"update rlfleet.jobs set {what} where id = :id"), {"id": job_id})  # noqa: S608


def line_id(name: str = "main") -> int:
    with transaction() as session:
        return add_line(session, name).id


def asked(line: int, **fields: Any) -> int:
    """A new job's id."""
    values = {"kind": "score", "inputs": {"n": secrets.token_hex(4)}, "config": {}, "queue": "score"} | fields
    with transaction() as session:
        return dispatch.request(session, Spec(line_id=line, **values))


def claimed(job_id: int, lease_seconds: float = 60) -> Claim:
    claim = jobs.claim(job_id, "me", lease_seconds)
    assert claim is not None
    return claim


def done(claim: Claim) -> None:
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})


def state(job_id: int) -> str:
    found = job_views.summary(job_id)
    assert found is not None
    return found.state


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, each made in a thread of its own at the same moment."""
    barrier, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place: int) -> None:
        barrier.wait()
        answers[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


END: dict[str, Callable[[Claim], object]] = {
    "succeeded": done,
    "failed": lambda claim: jobs.fail(claim, "no", retry=False),
    "dead": lambda claim: jobs.fail(claim, "no", retry=True),
    "cancelled": jobs.end_cancelled,
    "queued": lambda claim: jobs.release(claim, "going down"),
    "running": lambda claim: None,
}


@pytest.mark.parametrize("end", END)
def test_equal_work_is_one_row_whatever_became_of_it(end: str) -> None:
    line = line_id()
    spec: dict[str, Any] = {"inputs": {"a": 1, "b": 2}, "config": {"c": [1]}, "max_attempts": 1}
    first = asked(line, **spec)
    END[end](claimed(first))
    assert state(first) == end

    assert asked(line, **spec | {"inputs": {"b": 2, "a": 1}, "priority": 1, "after": (first,)}) == first
    assert len({first, asked(line, **spec | {"config": {"c": [2]}}), asked(line, **spec | {"kind": "decide"})}) == 3


def test_the_same_request_from_two_sessions_is_one_row() -> None:
    line = line_id()
    ids = at_once(*[lambda: asked(line, inputs={"a": 1})] * 4)
    assert len(set(ids)) == 1


def test_one_of_two_claims_wins_and_the_other_gets_nothing() -> None:
    job = asked(line_id())
    answers = at_once(lambda: jobs.claim(job, "first", 60), lambda: jobs.claim(job, "second", 60))
    assert sorted(answer is None for answer in answers) == [False, True]
    assert one("select state, fence, attempt from rlfleet.jobs") == ("running", 1, 1)


def test_a_claim_says_what_is_to_be_done() -> None:
    line = line_id("other")
    job = asked(line, inputs={"window": "2025-01-15T10:00"}, config={"method": "reward"})
    claim = claimed(job)
    assert claim == Claim(
        job, "score", line, "other", {"window": "2025-01-15T10:00"}, {"method": "reward"}, fence=1, attempt=1
    )


def test_the_fence_grows_with_every_claim_and_never_falls() -> None:
    job = asked(line_id(), max_attempts=2)
    fences = [claimed(job, lease_seconds=0).fence for _ in range(2)]
    jobs.reap()
    assert state(job) == "dead"
    assert jobs.requeue(job)
    first = claimed(job)
    jobs.release(first, "going down")
    assert [*fences, first.fence, claimed(job).fence] == [1, 2, 3, 4]


def test_a_lease_that_ran_out_can_be_claimed_over_but_not_beyond_the_attempts() -> None:
    job = asked(line_id(), max_attempts=2)
    assert claimed(job, lease_seconds=0).attempt == 1
    assert claimed(job, lease_seconds=0).attempt == 2
    assert jobs.claim(job, "third", 60) is None


def test_a_heartbeat_renews_the_lease_and_keeps_the_progress() -> None:
    claim = claimed(asked(line_id()), lease_seconds=1)
    jobs.heartbeat(claim, 600, {"step": 3})
    jobs.heartbeat(claim, 900)
    left, progress = one("select extract(epoch from lease_until - now()), progress from rlfleet.jobs")
    assert 600 < left <= 900
    assert progress == {"step": 3}


def test_how_long_it_takes_is_told_of_what_runs_and_the_last_progress_stays() -> None:
    moved = {"step": 3, "total": 9, "metrics": {"loss": 0.5, "eta_seconds": 2.5}}
    claim = claimed(asked(line_id()))
    jobs.heartbeat(claim, 60, moved | {"curves": {"step": [3]}})
    assert told(claim.job_id).progress == moved
    jobs.fail(claim, "the disk is full", retry=False)
    assert told(claim.job_id).progress == moved | {"metrics": {"loss": 0.5}}
    other = claimed(asked(line_id()))
    jobs.heartbeat(other, 60, moved)
    with transaction() as session:
        jobs.finish(session, other, effect, {"step": 9, "total": 9})
    assert told(other.job_id).progress == {"step": 9, "total": 9}


def told(job_id: int) -> job_views.Summary:
    found = job_views.summary(job_id)
    assert found is not None
    return found


def test_a_lost_lease_is_heard_of_at_the_next_heartbeat() -> None:
    job = asked(line_id())
    first = claimed(job, lease_seconds=0)
    second = claimed(job)
    with pytest.raises(Fenced, match=f"job {job} fence 1"):
        jobs.heartbeat(first, 60)
    jobs.heartbeat(second, 60)
    done(second)
    with pytest.raises(Fenced):
        jobs.heartbeat(second, 60)


def test_the_holder_hears_of_a_request_to_cancel() -> None:
    claim = claimed(asked(line_id()))
    assert jobs.cancel(claim.job_id) is State.RUNNING
    with pytest.raises(Cancelled):
        jobs.heartbeat(claim, 60)
    jobs.end_cancelled(claim)
    assert state(claim.job_id) == "cancelled"


def effect(session: Session) -> dict[str, int]:
    session.execute(text("insert into rlfleet.engines (name, url, device, pid) values ('e', 'http://e', 'cpu', 1)"))
    return {"answer": 42}


def engines() -> int:
    return int(one("select count(*) from rlfleet.engines")[0])


def test_the_effect_and_the_end_are_one_transaction() -> None:
    claim = claimed(asked(line_id()))
    with transaction() as session:
        assert jobs.finish(session, claim, effect) == {"answer": 42}
        assert (engines(), state(claim.job_id)) == (0, "running"), "another session saw half of it"
    assert engines() == 1
    assert one("select state, result, lease_until from rlfleet.jobs") == ("succeeded", {"answer": 42}, None)


def test_an_effect_that_raises_leaves_the_job_running() -> None:
    claim = claimed(asked(line_id()))

    def half(session: Session) -> dict[str, int]:
        effect(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction() as session:
        jobs.finish(session, claim, half)
    assert (engines(), state(claim.job_id)) == (0, "running")


def test_nothing_is_committed_after_the_lease_was_lost() -> None:
    job = asked(line_id())
    first = claimed(job, lease_seconds=0)
    second = claimed(job)

    def early(session: Session) -> None:
        effect(session)
        jobs.finish(session, first, effect)

    with pytest.raises(Fenced, match="before its effect was committed"), transaction() as session:
        early(session)
    assert engines() == 0
    done(second)


def test_nobody_takes_a_job_over_while_its_effect_is_being_committed() -> None:
    claim = claimed(asked(line_id()), lease_seconds=0)
    asking, answers = threading.Event(), []

    def take_over() -> None:
        asking.set()
        answers.append(jobs.claim(claim.job_id, "other", 60))

    def slow(session: Session) -> dict[str, int]:
        thread.start()
        asking.wait(60)
        assert jobs.reap() == [], "a row that is locked is passed over"
        return effect(session)

    thread = threading.Thread(target=take_over)
    with transaction() as session:
        jobs.finish(session, claim, slow)
    thread.join(60)
    assert answers == [None]
    assert (engines(), state(claim.job_id)) == (1, "succeeded")


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (30, 300)])
def test_the_back_off_doubles_up_to_five_minutes(attempt: int, seconds: int) -> None:
    job = asked(line_id(), max_attempts=50)
    change(job, f"attempt = {attempt - 1}")
    claim, before = claimed(job), clock()
    assert jobs.fail(claim, "try again", retry=True) is State.QUEUED
    due, error, lease = one("select run_at, error, lease_until from rlfleet.jobs")
    assert before <= due - timedelta(seconds=seconds) <= clock()
    assert (error, lease) == ("try again", None)
    change(job, "run_at = run_at + interval '1 hour'")
    assert jobs.claim(job, "me", 60) is None, "not due yet"


def test_the_last_attempt_ends_dead_and_a_permanent_error_failed() -> None:
    line = line_id()
    last, permanent = asked(line, max_attempts=1), asked(line)
    assert jobs.fail(claimed(last), "oom", retry=True) is State.DEAD
    assert jobs.fail(claimed(permanent), "bad", retry=False) is State.FAILED
    found = one("select count(*) from rlfleet.jobs where finished_at is not null and lease_until is null")
    assert found == (2,)


def test_a_zombie_cannot_fail_release_or_cancel_what_another_holds() -> None:
    job = asked(line_id())
    zombie = claimed(job, lease_seconds=0)
    claimed(job)
    with pytest.raises(Fenced):
        jobs.fail(zombie, "late", retry=True)
    assert jobs.release(zombie, "late") is False
    jobs.end_cancelled(zombie)
    assert one("select state, fence, error from rlfleet.jobs") == ("running", 2, None)


def test_a_release_is_not_charged() -> None:
    job = asked(line_id(), max_attempts=1)
    for turn in range(3):
        claim = claimed(job)
        assert (claim.attempt, claim.fence) == (1, turn + 1)
        assert jobs.release(claim, "the worker is going down")
    found = one("select state, attempt, interruptions, lease_until, last_sent_at from rlfleet.jobs")
    assert found == ("queued", 0, 3, None, None)


@pytest.mark.parametrize("end", ["fail", "release"])
def test_a_job_that_is_to_be_cancelled_is_not_queued_again(end: str) -> None:
    claim = claimed(asked(line_id()))
    jobs.cancel(claim.job_id)
    if end == "fail":
        assert jobs.fail(claim, "lost", retry=True) is State.CANCELLED
    else:
        assert jobs.release(claim, "going down")
    assert one("select state, finished_at is not null from rlfleet.jobs") == ("cancelled", True)


def test_two_reapers_take_back_each_job_once() -> None:
    line = line_id()
    lost = [asked(line) for _ in range(6)]
    held, last, unwanted = asked(line), asked(line, max_attempts=1), asked(line)
    for job in (*lost, last, unwanted):
        claimed(job, lease_seconds=0)
    claimed(held)
    jobs.cancel(unwanted)

    taken = at_once(jobs.reap, jobs.reap)

    assert sorted(taken[0] + taken[1]) == sorted([*lost, last, unwanted])
    assert {state(job) for job in lost} == {"queued"}
    assert [state(job) for job in (held, last, unwanted)] == ["running", "dead", "cancelled"]


def test_a_reaper_passes_over_a_row_that_another_session_holds() -> None:
    line = line_id()
    locked, free = asked(line), asked(line)
    for job in (locked, free):
        claimed(job, lease_seconds=0)
    with transaction() as session:
        session.execute(text("select 1 from rlfleet.jobs where id = :id for update"), {"id": locked})
        assert jobs.reap() == [free]
    assert jobs.reap() == [locked]


def test_the_first_loss_is_made_good_after_a_second_and_not_at_once_for_ever() -> None:
    job = asked(line_id())
    claimed(job, lease_seconds=0)
    before = clock()
    jobs.reap()
    due, error = one("select run_at, error from rlfleet.jobs")
    assert before <= due - timedelta(seconds=1) <= clock()
    assert error == "the lease ran out"


@pytest.mark.parametrize("end", ["queued", "failed", "dead", "cancelled", "running"])
def test_a_job_waits_until_what_it_comes_after_has_succeeded(end: str) -> None:
    line = line_id()
    first = asked(line, max_attempts=1)
    second = asked(line, after=(first,))
    claim = claimed(first)
    END[end](claim)
    assert jobs.claim(second, "me", 60) is None
    assert second not in [job for job, _ in dispatch.due(60, {"score": 10})]


def test_a_job_goes_on_once_everything_before_it_has_succeeded() -> None:
    line = line_id()
    before = asked(line), asked(line)
    last = asked(line, after=before)
    done(claimed(before[0]))
    assert jobs.claim(last, "me", 60) is None
    found = job_views.summary(last)
    assert found is not None
    assert found.waits_for == [before[1]]
    done(claimed(before[1]))
    assert claimed(last).attempt == 1


@pytest.mark.parametrize("end", ["failed", "dead", "cancelled"])
def test_a_job_that_waits_in_vain_says_for_what_and_how_to_go_on(end: str) -> None:
    line = line_id()
    first, sound = asked(line, max_attempts=1), asked(line)
    second = asked(line, after=(first,))
    third = asked(line, after=(second, sound))
    assert _summary(third).blocked_by == {}
    END[end](claimed(first))
    for waiting in (second, third):
        assert _summary(waiting).blocked_by == {str(first): end}
        assert str(_summary(waiting)).endswith(
            f"; waits for job {first}, which is {end}: `rlfleet jobs requeue {first}`"
        )
    assert (_summary(first).blocked_by, _summary(sound).blocked_by) == ({}, {})
    jobs.requeue(first)
    assert _summary(third).blocked_by == {}


def _summary(job_id: int) -> job_views.Summary:
    found = job_views.summary(job_id)
    assert found is not None
    return found


def test_a_job_is_not_done_before_its_time() -> None:
    line, now = line_id(), datetime.now(UTC)
    early = asked(line, not_before=now + timedelta(hours=1))
    past = asked(line, not_before=now - timedelta(hours=1))
    assert jobs.claim(early, "me", 60) is None
    assert dispatch.due(60, {"score": 10}) == [(past, "score")]
    assert claimed(past).attempt == 1


def test_training_is_serial_within_a_line_and_free_between_lines() -> None:
    main, other = line_id(), line_id("other")
    train = {"kind": "train", "queue": "gpu"}
    first, second, elsewhere = asked(main, **train), asked(main, **train), asked(other, **train)
    claim = claimed(first)
    assert jobs.claim(second, "me", 60) is None
    assert claimed(elsewhere).line == "other"
    assert claimed(asked(main, kind="evaluate", queue="gpu")).attempt == 1
    done(claim)
    assert (claimed(second).attempt, claim.fence) == (1, 1)


def test_two_trainings_of_a_line_claimed_at_once_are_one() -> None:
    line = line_id()
    ids = [asked(line, kind="train", queue="gpu") for _ in range(2)]
    answers = at_once(*[lambda job=job: jobs.claim(job, "me", 60) for job in ids])
    assert sum(answer is not None for answer in answers) == 1


def test_a_queued_job_is_cancelled_at_once_and_can_be_opened_again() -> None:
    job = asked(line_id())
    assert jobs.cancel(job) is State.CANCELLED
    assert jobs.claim(job, "me", 60) is None
    assert jobs.requeue(job)
    assert claimed(job).attempt == 1


@pytest.mark.parametrize("end", ["failed", "dead"])
def test_one_that_failed_is_put_aside_with_its_error_and_can_be_opened_again(end: str) -> None:
    job = asked(line_id(), max_attempts=1)
    END[end](claimed(job))
    before = one("select finished_at from rlfleet.jobs")
    assert jobs.cancel(job) is State.CANCELLED
    assert one("select finished_at from rlfleet.jobs") == before
    said = f"{end}, put aside: no"
    assert one("select error, cancel_requested from rlfleet.jobs") == (said, False)
    event = one("select from_state, to_state, reason from rlfleet.job_events order by id desc limit 1")
    assert event == (end, "cancelled", said)
    assert jobs.requeue(job)


def test_what_has_ended_stays_as_it_ended() -> None:
    job = asked(line_id())
    done(claimed(job))
    assert jobs.cancel(job) is State.SUCCEEDED
    assert jobs.requeue(job) is False
    assert jobs.cancel(10**9) is None


@pytest.mark.parametrize("end", ["failed", "dead", "cancelled"])
def test_a_requeue_opens_all_attempts_again(end: str) -> None:
    job = asked(line_id(), max_attempts=1)
    END[end](claimed(job))
    assert jobs.requeue(job)
    assert one("select state, attempt, fence, finished_at, cancel_requested from rlfleet.jobs") == (
        "queued",
        0,
        1,
        None,
        False,
    )
    claim = claimed(job)
    assert (claim.fence, claim.attempt) == (2, 1)


@pytest.mark.parametrize("end", ["succeeded", "queued", "running"])
def test_only_what_ended_without_success_is_requeued(end: str) -> None:
    job = asked(line_id())
    END[end](claimed(job))
    assert jobs.requeue(job) is False
