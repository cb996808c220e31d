"""Random histories of one job, held against a model of what each operation may do, on a real Postgres."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import job_views, jobs
from db.jobs import TRANSITIONS, Claim, Spec, State
from db.session import transaction
from rl.errors import Cancelled, Fenced
from tests.conftest_database import add_line, empty

OWNERS = ("first", "second")
AT_ANY_TIME = ("claim", "back-off passes", "lease runs out", "reap", "cancel", "requeue")
OF_A_HOLDER = ("heartbeat", "finish", "fail", "fail for good", "release", "end cancelled")
LIKELY = {
    State.QUEUED: ("claim", "claim", "back-off passes", "back-off passes", "cancel"),
    State.RUNNING: (*OF_A_HOLDER, "cancel", *("lease runs out",) * 4),
    State.SUCCEEDED: ("requeue", "cancel"),
    State.FAILED: ("requeue",),
    State.DEAD: ("requeue",),
    State.CANCELLED: ("requeue",),
}
"""Operations that do something in a state; those of ``OF_A_HOLDER`` when the holder is the newest."""
STEPS = st.tuples(st.integers(0, 59), st.sampled_from((1, 1, 1, 2, 3)), st.sampled_from((True, True, False)))
"""Which operation, which claim acts (1 is the newest, the others are zombies), whether it is a likely one."""
HISTORIES = st.lists(STEPS, min_size=10, max_size=40)


@pytest.fixture(scope="module")
def line(database: str) -> int:
    with transaction() as session:
        empty(session)
        return add_line(session).id


@dataclass
class Model:
    """What the job should be, kept in plain Python; ``step`` does one operation to both and compares the answer."""

    job_id: int
    max_attempts: int
    state: State = State.QUEUED
    fence: int = 0
    attempt: int = 0
    unwanted: bool = False
    lapsed: bool = False
    waits: bool = False
    effects: int = 0
    claims: list[Claim] = field(default_factory=list)

    def step(self, number: int, which: int, likely: bool) -> None:
        choice = self.likely() if likely else (*AT_ANY_TIME, *OF_A_HOLDER)
        operation = choice[number % len(choice)]
        method = getattr(self, operation.replace(" ", "_").replace("-", "_"))
        if operation in AT_ANY_TIME:
            method(which)
        elif self.claims:
            claim = self.claims[-min(which, len(self.claims))]
            method(claim, self.state is State.RUNNING and claim.fence == self.fence)

    def likely(self) -> tuple[str, ...]:
        if self.state is State.RUNNING and self.lapsed:
            return ("claim", "reap", "heartbeat", "finish", "cancel")
        return LIKELY[self.state]

    def claim(self, which: int) -> None:
        free = self.state is State.QUEUED or (self.state is State.RUNNING and self.lapsed)
        may = free and not self.waits and not self.unwanted and self.attempt < self.max_attempts
        claim = jobs.claim(self.job_id, OWNERS[which % 2], 600)
        assert (claim is not None) == may
        if claim is not None:
            self.state, self.fence, self.attempt, self.lapsed = State.RUNNING, self.fence + 1, self.attempt + 1, False
            assert (claim.fence, claim.attempt) == (self.fence, self.attempt)
            self.claims.append(claim)

    def heartbeat(self, claim: Claim, held: bool) -> None:
        if not held:
            with pytest.raises(Fenced):
                jobs.heartbeat(claim, 600)
            return
        self.lapsed = False
        if self.unwanted:
            with pytest.raises(Cancelled):
                jobs.heartbeat(claim, 600)
        else:
            jobs.heartbeat(claim, 600)

    def finish(self, claim: Claim, held: bool) -> None:
        def effect(session: Session) -> dict[str, Any]:
            row = {"name": f"{claim.job_id}/{secrets.token_hex(4)}"}
            session.execute(
                text("insert into rlfleet.engines (name, url, device, pid) values (:name, 'u', 'cpu', 1)"), row
            )
            return row

        if held:
            with transaction() as session:
                jobs.finish(session, claim, effect)
            self.state, self.effects = State.SUCCEEDED, self.effects + 1
        else:
            with pytest.raises(Fenced), transaction() as session:
                jobs.finish(session, claim, effect)

    def fail(self, claim: Claim, held: bool) -> None:
        if not held:
            with pytest.raises(Fenced):
                jobs.fail(claim, "again", retry=True)
            return
        self.lost()
        assert jobs.fail(claim, "again", retry=True) is self.state

    def lost(self) -> None:
        """The attempt ended without a result."""
        if self.unwanted:
            self.state = State.CANCELLED
        elif self.attempt >= self.max_attempts:
            self.state = State.DEAD
        else:
            self.state, self.waits = State.QUEUED, True

    def fail_for_good(self, claim: Claim, held: bool) -> None:
        if not held:
            with pytest.raises(Fenced):
                jobs.fail(claim, "no", retry=False)
            return
        assert jobs.fail(claim, "no", retry=False) is State.FAILED
        self.state = State.FAILED

    def release(self, claim: Claim, held: bool) -> None:
        assert jobs.release(claim, "going down") is held
        if held:
            self.state, self.attempt = State.CANCELLED if self.unwanted else State.QUEUED, self.attempt - 1

    def end_cancelled(self, claim: Claim, held: bool) -> None:
        jobs.end_cancelled(claim)
        if held:
            self.state = State.CANCELLED

    def lease_runs_out(self, _: int) -> None:
        if self.state is State.RUNNING:
            self._set("lease_until = now() - interval '1 second'")
            self.lapsed = True

    def back_off_passes(self, _: int) -> None:
        self._set("run_at = least(run_at, now())")
        self.waits = False

    def reap(self, _: int) -> None:
        lapsed = self.state is State.RUNNING and self.lapsed
        assert (self.job_id in jobs.reap(limit=1000)) == lapsed
        if lapsed:
            self.lost()

    def cancel(self, _: int) -> None:
        before = self.state
        if before is State.QUEUED:
            self.state = State.CANCELLED
        self.unwanted = before in (State.QUEUED, State.RUNNING)
        assert jobs.cancel(self.job_id) is self.state

    def requeue(self, _: int) -> None:
        ended = self.state in (State.FAILED, State.DEAD, State.CANCELLED)
        assert jobs.requeue(self.job_id) is ended
        if ended:
            self.state, self.attempt, self.unwanted, self.waits = State.QUEUED, 0, False, False

    def _set(self, what: str) -> None:
        with transaction() as session:
            session.execute(text(f"update rlfleet.jobs set {what} where id = :id"), {"id": self.job_id})  # noqa: S608


def check(model: Model) -> None:
    """The row is the model's, and replaying its events gives the row."""
    with transaction() as session:
        row = session.execute(
            text("select state, fence, attempt, cancel_requested from rlfleet.jobs where id = :id"),
            {"id": model.job_id},
        ).one()
        effects = session.execute(
            text("select count(*) from rlfleet.engines where name like :name"), {"name": f"{model.job_id}/%"}
        ).scalar_one()
    assert tuple(row) == (model.state, model.fence, model.attempt, model.unwanted)
    assert effects == model.effects == (model.state is State.SUCCEEDED)
    assert not (model.state is State.QUEUED and model.unwanted), "it would wait for ever"
    assert replayed(model) == tuple(row[:3])


def replayed(model: Model) -> tuple[State, int, int]:
    now: State | None = None
    fence = attempt = 0
    for event in job_views.events(model.job_id):
        before = State(event["from"]) if event["from"] else None
        assert before is now
        now = State(event["to"])
        assert now in TRANSITIONS[before], f"{before} -> {now}"
        assert event["fence"] == fence + (now is State.RUNNING), "the fence grows with each claim, and only then"
        assert 0 <= event["attempt"] <= model.max_attempts
        fence, attempt = event["fence"], event["attempt"]
    assert now is not None
    return now, fence, attempt


def play(line: int, max_attempts: int, history: list[tuple[int, int, bool]]) -> None:
    with transaction() as session:
        spec = Spec("score", line, {"n": secrets.token_hex(8)}, {}, "score", max_attempts=max_attempts)
        model = Model(jobs.request(session, spec), max_attempts)
    for step in history:
        model.step(*step)
    check(model)


@given(max_attempts=st.integers(1, 2), history=HISTORIES)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_every_history_replays_to_the_row(line: int, max_attempts: int, history: list[tuple[int, int, bool]]) -> None:
    play(line, max_attempts, history)


@pytest.mark.slow
@given(max_attempts=st.integers(1, 2), history=HISTORIES)
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_many_histories_replay_to_the_row(line: int, max_attempts: int, history: list[tuple[int, int, bool]]) -> None:
    play(line, max_attempts, history)
