"""Rounds while something that they need is away: an engine, what a gateway should have stored, a row that is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

import environments
from db import holding, jobs
from db.session import transaction
from rl.config import Rollout
from rl.errors import Drained, EngineUnavailable
from tasks import rollout
from tasks.carry import Lease, carry_out
from tasks.collect import _work
from tasks.rollout import from_rollout
from tests.gateway.conftest import world
from tests.tasks.rollout_double import WINDOW, Model, Round, be_patient, every, walks
from tests.tasks.rows import claimed, job, one, rows
from tests.tasks.test_rollout import Make, _outcome, make, make_due, shard_of

__all__ = ["make", "world"]


@pytest.mark.parametrize(("stall", "seconds"), [(300, 120), (100, 50), (60, 30)])
def test_an_engine_that_is_away_is_asked_for_two_minutes_or_half_a_stall(stall: float, seconds: float) -> None:
    asked = Rollout(environment="babyai-goto", scenarios=1, episodes=2, stall_seconds=stall)
    client = rollout._client(asked, environments.load("babyai-goto"), "v1", WINDOW)
    assert (client._outage_seconds, client._patience_seconds) == (seconds, seconds)


@pytest.mark.slow
def test_an_attempt_that_stored_something_is_not_charged_and_the_next_one_waits(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.carry._what_is_next", lambda _: None)
    be_patient(monkeypatch)
    round_ = make(stall_seconds=6, concurrency=1)
    (job_id,) = round_.jobs
    round_.engine.most = 9
    attempts = []
    for _ in range(3):
        make_due(job_id)
        before = one("select now()")[0]
        assert "EngineUnavailable" in carry_out(job_id, _work)
        attempts.append(job(job_id).attempt)
        assert job(job_id).run_at >= before + timedelta(seconds=2)
    assert attempts == [0, 1, 2], "only the first one got on"
    assert 0 < len(round_.stored()) < 8
    round_.engine.most = None
    make_due(job_id)
    carry_out(job_id, _work)
    assert (job(job_id).state, round_.episodes()) == ("succeeded", every(4, 2))


def losing(round_: Round, after: int, then: Callable[[], object] = lambda: None) -> Model:
    """Walks; at call ``after`` the calls of an episode that is over are taken away, and ``then`` is called."""

    def says(body: dict[str, Any]) -> str:
        if len(round_.engine.asked) == after:
            rows("delete from rlfleet.calls where trajectory_id = :id returning 1", id=f"{WINDOW}/0/0/fence-1")
            then()
        return walks(body)

    return says


def test_episodes_whose_calls_are_stored_do_not_wait_for_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "STORE_SECONDS", 60)
    round_ = make(scenarios=6, concurrency=1)
    (job_id,) = round_.jobs
    round_.engine.model = losing(round_, 10)
    claim = claimed(job_id)
    lease = Lease(claim, 60)
    told = rf"^0 of \d+ calls of {WINDOW}/0/0/fence-1 are stored: .*RLFLEET_CAPTURE=spooled or required"
    with pytest.raises(EngineUnavailable, match=told):
        from_rollout(claim, lease)
    assert (round_.episodes(), lease.gets_on) == (every(6, 2)[1:], True)
    make_due(job_id)
    assert round_.play(job_id)["trajectories"] == 12
    assert round_.state() == "collected"


def test_a_drain_stays_a_drain_where_calls_are_missing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "STORE_SECONDS", 60)
    round_ = make(scenarios=6, concurrency=1)
    round_.engine.model = losing(round_, 10, lambda: monkeypatch.setattr("tasks.carry.draining", lambda: True))
    claim = claimed(round_.jobs[0])
    with pytest.raises(Drained):
        from_rollout(claim, Lease(claim, 60))
    assert round_.episodes()[0] == "0/1"


def awaited(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waits_for_a_lock() -> bool:
    """Whether a session waits for a row; statements of other tests do not lie in this database."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    return bool(one(query)[0])


@pytest.mark.slow
def test_a_store_that_waits_for_the_round_does_not_hold_up_its_own_heartbeat(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "LOCK_TIMEOUT", text("set local lock_timeout = '6s'"))  # time to see it wait
    round_ = make()
    claim = claimed(round_.jobs[0])
    shard = shard_of(claim, round_.world.names[0])
    shard.waiting = [_outcome()]
    storing = threading.Thread(target=shard.store)
    with transaction() as session:
        session.execute(text("select 1 from rlfleet.windows where name = :name for update"), {"name": WINDOW})
        storing.start()
        awaited(waits_for_a_lock)
        jobs.heartbeat(claim, 60, {"done": 1})
        storing.join(30)
        assert not storing.is_alive()
        assert len(shard.waiting) == 1, "it goes on waiting"
    shard.store()
    assert shard.waiting == []
