from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from db import jobs
from db.jobs import Claim
from rl.errors import Drained, EngineUnavailable, OffPolicyRefused, Tomorrow, TransientError
from tasks import carry
from tasks.carry import Lease, carry_out
from tests.tasks.conftest import HOUR
from tests.tasks.rows import Sent, add_line, add_window, asked, claimed, effect, effects, job, messages, one

pytestmark = pytest.mark.usefixtures("fresh")


def done(*_: object) -> Any:
    return effect


def raising(error: BaseException) -> Callable[..., Any]:
    def work(*_: object) -> Any:
        raise error

    return work


def test_the_effect_is_committed_and_the_answer_says_so() -> None:
    wanted = asked(add_line(), inputs={"window": HOUR})
    assert carry_out(wanted, done) == f"job {wanted} score main {HOUR}: succeeded"
    assert effects() == 1
    assert (job(wanted).result, job(wanted).lease_until) == ({"answer": 42}, None)


def test_the_worker_holds_the_job_while_it_works() -> None:
    wanted = asked(add_line(), inputs={"window": HOUR}, config={"method": "reward"})
    held = []

    def work(claim: jobs.Claim, lease: Lease) -> Any:
        held.append((claim.inputs, claim.config, lease.claim, job(wanted).state, job(wanted).owner))
        assert effects() == 0
        return effect

    carry_out(wanted, work)
    ((inputs, config, claim, state, owner),) = held
    assert (inputs, config, claim.fence) == ({"window": HOUR}, {"method": "reward"}, 1)
    assert (state, owner.rpartition(":")[2]) == ("running", str(os.getpid()))


def test_the_last_progress_is_stored_with_the_end_and_that_of_another_attempt_is_not() -> None:
    def moves(_: Claim, lease: Lease) -> Any:
        lease.renew({"done": 1, "total": 2})
        lease.keep({"done": 2, "total": 2})
        lease.keep()
        return effect

    wanted = asked(add_line())
    assert carry_out(wanted, moves).endswith("succeeded")
    assert job(wanted).progress == {"done": 2, "total": 2}

    def breaks_off(_: Claim, lease: Lease) -> Any:
        lease.renew({"done": 1, "total": 2})
        raise TransientError("the source is away")

    again = asked(add_line())
    carry_out(again, breaks_off)
    assert job(again).progress == {"done": 1, "total": 2}
    one("update rlfleet.jobs set run_at = now() where id = :id returning 1", id=again)
    assert carry_out(again, lambda *_: lambda _: {}).endswith("succeeded")
    assert job(again).progress is None, "there was nothing left to do"


def test_a_lease_is_as_long_as_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_LEASE_SECONDS", "600")
    wanted, left = asked(add_line()), []

    def work(_: jobs.Claim, lease: Lease) -> Any:
        left.append((lease.seconds, one("select lease_until - now() from rlfleet.jobs")[0]))
        return effect

    carry_out(wanted, work)
    assert left[0][0] == 600
    assert timedelta(seconds=500) < left[0][1] <= timedelta(seconds=600)


def test_a_job_that_another_holds_is_answered_and_not_worked_on() -> None:
    wanted = asked(add_line())
    claimed(wanted)
    assert carry_out(wanted, raising(AssertionError("worked on"))) == f"job {wanted} score main: running"


@pytest.mark.parametrize("kind", [EngineUnavailable, OffPolicyRefused, Drained, Tomorrow])
def test_what_a_model_or_a_server_wrote_does_not_keep_an_error_from_being_stored(kind: type[Exception]) -> None:
    wanted = asked(add_line())
    permanent = kind is OffPolicyRefused
    with pytest.raises(OffPolicyRefused) if permanent else nullcontext():
        carry_out(wanted, raising(kind("cannot read \ud800 and \0 here")))
    assert job(wanted).state == ("failed" if permanent else "queued")
    assert job(wanted).error.endswith("cannot read ? and \ufffd here")


@pytest.mark.parametrize(("gets_on", "attempts"), [(True, 0), (False, 1)])
def test_an_attempt_that_gets_on_is_not_charged_and_the_next_one_waits(gets_on: bool, attempts: int) -> None:
    wanted, before = asked(add_line()), one("select now()")[0]

    def work(_: jobs.Claim, lease: Lease) -> Any:
        lease.gets_on = gets_on
        raise EngineUnavailable

    carry_out(wanted, work)
    assert (job(wanted).state, job(wanted).attempt) == ("queued", attempts)
    assert job(wanted).run_at >= before + timedelta(seconds=2)


def test_a_message_that_comes_twice_has_one_effect() -> None:
    wanted = asked(add_line())
    answers = [carry_out(wanted, done) for _ in range(2)]
    assert answers[0] == answers[1] == f"job {wanted} score main: succeeded"
    assert effects() == 1


def test_a_number_that_is_no_job_is_answered() -> None:
    assert carry_out(10**9, done) == "job 1000000000: no such job"


def test_a_permanent_error_fails_the_job_and_the_task() -> None:
    wanted = asked(add_line())
    with pytest.raises(OffPolicyRefused):
        carry_out(wanted, raising(OffPolicyRefused("call c was spoken by another model")))
    assert (job(wanted).state, job(wanted).error) == ("failed", "OffPolicyRefused: call c was spoken by another model")
    assert carry_out(wanted, done).startswith(f"job {wanted} score main: failed (OffPolicyRefused")


@pytest.mark.parametrize("error", [EngineUnavailable("draining"), ZeroDivisionError("by zero")], ids=repr)
def test_any_other_error_queues_the_job_again_after_a_back_off(error: Exception) -> None:
    wanted = asked(add_line())
    text, before = f"{type(error).__name__}: {error}", one("select now()")[0]
    assert carry_out(wanted, raising(error)) == f"job {wanted} score main: queued ({text})"
    due, after = one("select run_at, now() from rlfleet.jobs")
    assert before + timedelta(seconds=2) <= due <= after + timedelta(seconds=2)
    assert (job(wanted).attempt, job(wanted).last_sent_at, effects()) == (1, None, 0)


def test_the_last_attempt_ends_dead() -> None:
    wanted = asked(add_line(), max_attempts=1)
    carry_out(wanted, raising(EngineUnavailable("away")))
    assert (job(wanted).state, job(wanted).error) == ("dead", "EngineUnavailable: away")


def test_an_effect_that_fails_leaves_nothing_of_itself() -> None:
    def half(session: Any) -> Any:
        effect(session)
        raise ZeroDivisionError

    wanted = asked(add_line())
    carry_out(wanted, lambda *_: half)
    assert (effects(), job(wanted).state) == (0, "queued")


def test_a_worker_that_goes_down_gives_the_job_back_uncharged() -> None:
    wanted = asked(add_line())
    with pytest.raises(SystemExit) as caught:
        carry_out(wanted, raising(SystemExit(0)))
    assert caught.value.code == 0
    row = job(wanted)
    assert (row.state, row.attempt, row.interruptions, row.last_sent_at) == ("queued", 0, 1, None)
    assert carry_out(wanted, done) == f"job {wanted} score main: succeeded"


def test_a_request_to_cancel_is_seen_at_the_next_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "BEAT_SECONDS", 0.0)
    wanted = asked(add_line())

    def work(_: jobs.Claim, lease: Lease) -> Any:
        lease.beat()
        jobs.cancel(wanted)
        lease.beat()
        return effect

    assert carry_out(wanted, work) == f"job {wanted} score main: cancelled (cancelled on request)"
    assert effects() == 0


def test_the_next_stage_is_asked_for_and_rung(broker: Redis) -> None:
    line = add_line(source="jsonl:///agent.jsonl", automatic=False)
    add_window(line, HOUR, "collected")
    carry_out(asked(line), done)
    found = one("select id, kind, inputs from rlfleet.jobs order by id desc limit 1")
    assert found[1:] == ("score", {"window": HOUR})
    assert messages(broker) == {"score": [Sent("rlfleet.score", [found[0]])]}


def test_a_broker_that_is_away_does_not_undo_what_was_done(broker_away: None) -> None:
    line = add_line(source="jsonl:///agent.jsonl", automatic=False)
    add_window(line, HOUR, "collected")
    wanted = asked(line)
    assert carry_out(wanted, done) == f"job {wanted} score main: succeeded"
    found = one("select kind, state, last_sent_at from rlfleet.jobs order by id desc limit 1")
    assert found == ("score", "queued", None), "asked for, and due when the broker is back"
