"""Random histories of one job, held against a model of what each operation may do, on a real Postgres.

``python -m bench.faults.model --examples 1000 --seed 0`` runs them against the database in ``DATABASE_URL``, which must
be one of its own: workers and reconcilers would take part. It prints how many histories held as JSON.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.orm import Session

from bench.faults.expected import Expected, replayed
from db import dispatch, jobs, lines
from db.job_states import State
from db.jobs import MAX_INTERRUPTIONS, Claim
from db.migrate import migrate
from db.session import transaction
from rl.config import LineConfig
from rl.errors import Cancelled, Fenced

KIND, LEASE_SECONDS = "score", 600.0
STEPS = 30
ENDED = frozenset({State.FAILED, State.DEAD, State.CANCELLED})

HOLDERS = ("heartbeat", "finish", "fail", "adjust", "fail_for_good", "release", "end_cancelled")


class JobHistories(RuleBasedStateMachine):
    """One job, two owners, a reconciler, a person, the clock, and holders that come back with a claim they lost."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Expected()
        self.claims: list[Claim] = []
        self.effects = 0
        self.paused = False

    @initialize(max_attempts=st.integers(1, 3), devices=st.sampled_from((1, 1, 2)), taken=st.integers(0, 3))
    def ask(self, max_attempts: int, devices: int, taken: int) -> None:
        self.max_attempts, self.devices = max_attempts, devices
        with transaction() as session:
            session.execute(text("delete from rlfleet.pauses"))
            line = lines.put(session, "model", LineConfig(base_model="none"))
        self.spec = dispatch.Spec(
            KIND, line, {"n": secrets.token_hex(8)}, {}, "score", max_attempts=max_attempts, devices=devices
        )
        self.job_id = self._ask()
        if taken:
            self.claim("first", 2)

    @rule()
    def ask_again(self) -> None:
        assert self._ask() == self.job_id

    @rule(owner=st.sampled_from(("first", "second")), devices=st.sampled_from((1, 2)))
    def claim(self, owner: str, devices: int) -> None:
        now = self.now
        allowed = not (now.waits or now.unwanted or self.paused) and devices >= self.devices
        claim = jobs.claim(self.job_id, owner, LEASE_SECONDS, secrets.token_hex(8), devices)
        assert (claim is not None) == (now.free and allowed and now.attempt < self.max_attempts)
        if claim is None:
            return
        now.state, now.fence, now.attempt, now.lapsed = State.RUNNING, now.fence + 1, now.attempt + 1, False
        assert (claim.fence, claim.attempt) == (now.fence, now.attempt)
        assert (claim.adjust is not None) == now.adjusted
        self.claims.append(claim)

    @precondition(lambda self: self.now.free and not self.now.waits and not self.paused)
    @rule(owner=st.sampled_from(("first", "second")))
    def take(self, owner: str) -> None:
        self.claim(owner, 2)

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule(saved=st.sampled_from((None, {"path": "/state", "step": 3, "sha256": "0"})))
    def heartbeat(self, saved: dict[str, Any] | None) -> None:
        try:
            jobs.heartbeat(self.claims[-1], LEASE_SECONDS, {"step": 1}, saved)
            assert not self.now.unwanted
        except Cancelled:
            assert self.now.unwanted
        self.now.lapsed = False

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def finish(self) -> None:
        self._finish(self.claims[-1])
        self.now.state = State.SUCCEEDED
        self.effects += 1

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def fail(self) -> None:
        self.now.lost(self.max_attempts)
        assert jobs.fail(self.claims[-1], "again", retry=True) is self.now.state
        self._hold_back()

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def adjust(self) -> None:
        now = self.now
        now.attempt, now.adjusted = now.attempt - 1, True
        now.lost(self.max_attempts)
        assert jobs.fail(self.claims[-1], "smaller", retry=True, adjust={"token_budget": 1}) is now.state
        self._hold_back()

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def fail_for_good(self) -> None:
        self.now.state = State.FAILED
        assert jobs.fail(self.claims[-1], "no", retry=False) is State.FAILED

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def release(self) -> None:
        now = self.now
        charged = now.interruptions >= MAX_INTERRUPTIONS
        spent = charged and now.attempt >= self.max_attempts
        assert jobs.release(self.claims[-1], "going down")
        now.state = State.CANCELLED if now.unwanted else State.DEAD if spent else State.QUEUED
        now.attempt, now.interruptions = now.attempt - (not charged), now.interruptions + 1

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def end_cancelled(self) -> None:
        jobs.end_cancelled(self.claims[-1])
        self.now.state = State.CANCELLED

    @precondition(lambda self: self._zombies())
    @rule(age=st.integers(0, 3), operation=st.sampled_from(HOLDERS))
    def zombie(self, age: int, operation: str) -> None:
        old = self._zombies()
        claim = old[-1 - age % len(old)]
        refused: dict[str, Callable[[], object]] = {
            "heartbeat": lambda: jobs.heartbeat(claim, LEASE_SECONDS, {"step": 9}, {"path": "/old"}),
            "finish": lambda: self._finish(claim),
            "fail": lambda: jobs.fail(claim, "again", retry=True),
            "adjust": lambda: jobs.fail(claim, "smaller", retry=True, adjust={"token_budget": 9}),
            "fail_for_good": lambda: jobs.fail(claim, "no", retry=False),
        }
        if operation == "release":
            assert not jobs.release(claim, "going down")
        elif operation == "end_cancelled":
            jobs.end_cancelled(claim)
        else:
            assert _is_fenced(refused[operation])

    @precondition(lambda self: self.now.state is State.RUNNING)
    @rule()
    def lease_runs_out(self) -> None:
        self._set("lease_until = now() - interval '1 second'")
        self.now.lapsed = True

    @precondition(lambda self: self.now.waits)
    @rule()
    def back_off_passes(self) -> None:
        self._set("run_at = least(run_at, now())")
        self.now.waits = False

    @rule()
    def reap(self) -> None:
        lapsed = self.now.state is State.RUNNING and self.now.lapsed
        assert (self.job_id in jobs.reap(limit=1000)) == lapsed
        if lapsed:
            self.now.lost(self.max_attempts)
            self._hold_back()

    @precondition(lambda self: self.claims)
    @rule()
    def cancel(self) -> None:
        before = self.now.state
        self.now.unwanted = before in (State.QUEUED, State.RUNNING)
        if before in (State.QUEUED, State.FAILED, State.DEAD):
            self.now.state = State.CANCELLED
        assert jobs.cancel(self.job_id) is self.now.state

    @precondition(lambda self: self.now.state in ENDED or self.claims)
    @rule()
    def requeue(self) -> None:
        ended = self.now.state in ENDED
        assert jobs.requeue(self.job_id) is ended
        if ended:
            self.now = Expected(fence=self.now.fence)

    @precondition(lambda self: self.claims)
    @rule()
    def pause_or_go_on(self) -> None:
        self.paused = not self.paused
        with transaction() as session:
            session.execute(text("delete from rlfleet.pauses"))
            if self.paused:
                session.execute(text("insert into rlfleet.pauses (kind, reason) values (:kind, 'x')"), {"kind": KIND})

    @precondition(lambda self: self.claims)
    @rule(often=st.sampled_from((MAX_INTERRUPTIONS - 1, MAX_INTERRUPTIONS)))
    def many_drains_later(self, often: int) -> None:
        self._set(f"interruptions = {often}")
        self.now.interruptions = often

    def teardown(self) -> None:
        """The row is the model's, its events replay to it, and there is an effect if and only if it succeeded."""
        if not hasattr(self, "job_id"):
            return
        with transaction() as session:
            row = session.execute(
                text("""
                    select state, fence, attempt, interruptions, cancel_requested, adjust is not null
                      from rlfleet.jobs where id = :id
                """),
                {"id": self.job_id},
            ).one()
            effects = session.execute(
                text("select count(*) from rlfleet.engines where name like :name"), {"name": f"{self.job_id}/%"}
            ).scalar_one()
        now = self.now
        assert tuple(row) == (now.state, now.fence, now.attempt, now.interruptions, now.unwanted, now.adjusted)
        assert effects == self.effects == (now.state is State.SUCCEEDED)
        assert not (now.state is State.QUEUED and now.unwanted), "it would wait for ever"
        assert replayed(self.job_id, self.max_attempts) == tuple(row[:3])

    def _ask(self) -> int:
        with transaction() as session:
            return dispatch.request(session, self.spec)

    def _zombies(self) -> list[Claim]:
        held = self.now.state is State.RUNNING
        return [claim for claim in self.claims if not (held and claim.fence == self.now.fence)]

    def _finish(self, claim: Claim) -> None:
        def effect(session: Session) -> dict[str, Any]:
            row = {"name": f"{claim.job_id}/{secrets.token_hex(4)}"}
            session.execute(
                text("insert into rlfleet.engines (name, url, device, pid) values (:name, 'u', 'cpu', 1)"), row
            )
            return row

        with transaction() as session:
            jobs.finish(session, claim, effect)

    def _hold_back(self) -> None:
        """A back-off passes when the history says so, however slow this machine is."""
        if self.now.waits:
            self._set("run_at = run_at + interval '1 hour'")

    def _set(self, what: str) -> None:
        with transaction() as session:
            session.execute(text(f"update rlfleet.jobs set {what} where id = :id"), {"id": self.job_id})  # noqa: S608


def _is_fenced(operation: Callable[[], object]) -> bool:
    try:
        operation()
    except Fenced:
        return True
    return False


def play(examples: int, number: int | None = None) -> None:
    """Play so many histories, seeded by ``number`` (None: the same ones each time). Raises on the first that fails."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=number is None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    machine = type("JobHistories", (JobHistories,), {})
    run_state_machine_as_test(machine if number is None else seed(number)(machine), settings=chosen)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    migrate()
    play(args.examples, args.seed)
    sys.stdout.write(json.dumps({"schema": 1, "examples": args.examples, "seed": args.seed}) + "\n")


if __name__ == "__main__":
    main()
