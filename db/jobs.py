"""The job machine: every change of a job is one statement on the database's clock, guarded by the fence.

    queued ──claim──► running ──finish──► succeeded
      ▲                 │ ├──fail────────► failed | dead | queued
      │                 │ ├──release─────► queued            (a drain; the attempt is not charged)
      │                 │ └──reap────────► queued | dead     (the lease ran out)
      └──requeue── failed | dead | cancelled ◄──cancel── queued | running

What breaks without it: Celery on Redis loses a message whose worker is killed, and delivers twice whatever
outlives its visibility timeout. Here a message only rings; the row decides who works and whose work counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.session import transaction
from rl.config import digest
from rl.errors import Cancelled, Fenced


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """Waits for its time, for the jobs it comes after, or for a worker."""
    RUNNING = "running"
    """Held by an owner until the lease ends."""
    SUCCEEDED = "succeeded"
    """Its effect is committed."""
    FAILED = "failed"
    """A permanent error; a person or changed inputs must act."""
    DEAD = "dead"
    """Its attempts are used up; a person must look."""
    CANCELLED = "cancelled"
    """A person asked for it."""


TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.RUNNING, State.QUEUED, State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.DEAD: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}
"""From each state, the states that can follow. ``running -> running`` is a claim over a lease that ran out."""


@dataclass(frozen=True)
class Spec:
    """What a job is to do; equal specs are one row. When and in which order it is done is not part of what it is."""

    kind: str
    line_id: int
    inputs: Mapping[str, Any]
    config: Mapping[str, Any]
    queue: str
    after: tuple[int, ...] = ()
    priority: int = 100
    max_attempts: int = 3
    not_before: datetime | None = None

    @property
    def dedup_key(self) -> str:
        """SHA-256 of inputs and config; never of the code's version."""
        return digest(dict(self.inputs), dict(self.config))


@dataclass(frozen=True)
class Claim:
    """A held job: whoever has the greatest fence may write."""

    job_id: int
    kind: str
    line_id: int
    line: str
    inputs: dict[str, Any]
    config: dict[str, Any]
    fence: int
    attempt: int


REQUEST = text("""
    with found as (select id from rlfleet.jobs where kind = :kind and line_id = :line_id and dedup_key = :dedup_key),
    made as (
        insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, after, priority, max_attempts,
                                  run_at)
        select :kind, :line_id, :dedup_key, :queue, cast(:inputs as jsonb), cast(:config as jsonb),
               cast(:after as bigint[]), :priority, :max_attempts,
               greatest(now(), cast(:not_before as timestamptz))
         where not exists (select 1 from found)
            on conflict (kind, line_id, dedup_key) do nothing
     returning id
    )
    select id from found union all select id from made
""")


def request(session: Session, spec: Spec) -> int:
    """The id of the job for ``spec``, created if it is not there, in whatever state it is."""
    values = {
        "kind": spec.kind,
        "line_id": spec.line_id,
        "dedup_key": spec.dedup_key,
        "queue": spec.queue,
        "inputs": json.dumps(dict(spec.inputs)),
        "config": json.dumps(dict(spec.config)),
        "after": list(spec.after),
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "not_before": spec.not_before,
    }
    # Another session that inserts at the same moment is waited for and then seen by the second look.
    made = session.execute(REQUEST, values).scalar() or session.execute(REQUEST, values).scalar_one()
    return int(made)


CLAIM = text("""
    update rlfleet.jobs j
       set state = 'running', attempt = attempt + 1, fence = fence + 1, owner = :owner, error = null,
           lease_until = now() + make_interval(secs => :lease), started_at = now(), finished_at = null
      from rlfleet.lines l
     where j.id = :job_id and l.id = j.line_id and j.run_at <= now() and j.attempt < j.max_attempts
       and not j.cancel_requested
       and (j.state = 'queued' or (j.state = 'running' and j.lease_until < now()))
       and not exists (select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded')
 returning j.id, j.kind, j.line_id, l.name, j.inputs, j.config, j.fence, j.attempt
""")


def claim(job_id: int, owner: str, lease_seconds: float) -> Claim | None:
    """Take the job, or None when it is not there to take.

    None covers: another holder, a terminal state, attempts used up, not due yet, a job it comes after is
    not done, or another training on the same line (training is serial within a line).
    """
    try:
        with transaction() as session:
            row = session.execute(CLAIM, {"job_id": job_id, "owner": owner, "lease": lease_seconds}).one_or_none()
    except IntegrityError as error:
        if "uq_jobs_training_serial" not in str(error.orig):
            raise
        return None
    return Claim(*row) if row else None


def heartbeat(claim: Claim, lease_seconds: float, progress: Mapping[str, Any] | None = None) -> None:
    """Renew the lease and store the progress.

    Raises:
        Fenced: the lease was lost to another holder, or the job has ended.
        Cancelled: a person asked to stop it.
    """
    with transaction() as session:
        row = session.execute(
            text("""
                update rlfleet.jobs
                   set lease_until = now() + make_interval(secs => :lease),
                       progress = coalesce(cast(:progress as jsonb), progress)
                 where id = :job_id and fence = :fence and state = 'running'
             returning cancel_requested
            """),
            {
                "lease": lease_seconds,
                "progress": json.dumps(progress) if progress is not None else None,
                "job_id": claim.job_id,
                "fence": claim.fence,
            },
        ).one_or_none()
    if row is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost")
    if row[0]:
        raise Cancelled(f"job {claim.job_id}: cancelled on request")


def finish(session: Session, claim: Claim, effect: Callable[[Session], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Write the job's ``effect`` and mark the job done, in the caller's one transaction.

    The row is locked first, so that no other holder can claim or commit until this transaction ends.
    ``effect`` returns the job's result, which is returned.

    Raises:
        Fenced: the lease was lost; the caller's transaction must roll back, and nothing was done.
    """
    of_ours = {"job_id": claim.job_id, "fence": claim.fence}
    held = session.execute(
        text("select 1 from rlfleet.jobs where id = :job_id and fence = :fence and state = 'running' for update"),
        of_ours,
    ).one_or_none()
    if held is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost before its effect was committed")
    result = effect(session)
    session.execute(
        text("""
            update rlfleet.jobs
               set state = 'succeeded', lease_until = null, finished_at = now(), result = cast(:result as jsonb)
             where id = :job_id and fence = :fence
        """),
        of_ours | {"result": json.dumps(dict(result))},
    )
    return result


def fail(claim: Claim, error: str, *, retry: bool) -> State:
    """End this attempt: queued again after a back-off while attempts are left, else ``failed`` or ``dead``.

    A job that somebody asked to cancel is not tried again: it is ``cancelled``.

    Raises:
        Fenced: another holder has the job.
    """
    with transaction() as session:
        row = session.execute(
            text("""
                update rlfleet.jobs
                   set state = case when not :retry then 'failed'
                                    when cancel_requested then 'cancelled'
                                    when attempt >= max_attempts then 'dead' else 'queued' end,
                       lease_until = null, last_sent_at = null, error = :error,
                       finished_at = case when :retry and attempt < max_attempts and not cancel_requested then null
                                          else now() end,
                       run_at = now() + make_interval(secs => least(300, power(2, attempt)))
                 where id = :job_id and fence = :fence and state = 'running' returning state
            """),
            {"retry": retry, "error": error[:4000], "job_id": claim.job_id, "fence": claim.fence},
        ).one_or_none()
    if row is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost before it failed with {error}")
    return State(row[0])


def release(claim: Claim, reason: str) -> bool:
    """Give the job back uncharged, because this worker is going down. False when the lease was lost already."""
    with transaction() as session:
        row = session.execute(
            text("""
                update rlfleet.jobs
                   set state = case when cancel_requested then 'cancelled' else 'queued' end,
                       finished_at = case when cancel_requested then now() end,
                       attempt = attempt - 1, interruptions = interruptions + 1,
                       lease_until = null, last_sent_at = null, error = :reason
                 where id = :job_id and fence = :fence and state = 'running' returning 1
            """),
            {"reason": reason, "job_id": claim.job_id, "fence": claim.fence},
        ).one_or_none()
    return row is not None


def end_cancelled(claim: Claim) -> None:
    """The holder saw the request to cancel and stopped."""
    with transaction() as session:
        session.execute(
            text("""
                update rlfleet.jobs
                   set state = 'cancelled', lease_until = null, finished_at = now(), error = 'cancelled on request'
                 where id = :job_id and fence = :fence and state = 'running'
            """),
            {"job_id": claim.job_id, "fence": claim.fence},
        )


def reap(limit: int = 100) -> list[int]:
    """Take back jobs whose lease ran out. Safe in any number of copies. Returns their ids."""
    with transaction() as session:
        rows = session.execute(
            text("""
                update rlfleet.jobs
                   set state = case when cancel_requested then 'cancelled'
                                    when attempt >= max_attempts then 'dead' else 'queued' end,
                       finished_at = case when cancel_requested or attempt >= max_attempts then now() end,
                       lease_until = null, last_sent_at = null, error = 'the lease ran out',
                       run_at = now() + make_interval(secs => least(300, power(2, attempt) - 1))
                 where id in (select id from rlfleet.jobs where state = 'running' and lease_until < now()
                              for update skip locked limit :limit)
             returning id
            """),
            {"limit": limit},
        )
        return [int(row[0]) for row in rows]


def due(resend_seconds: float, capacity: Mapping[str, int]) -> list[tuple[int, str]]:
    """Mark as rung, and return, the (id, kind) of jobs whose turn it is, best priority first.

    At most twice a queue's ``capacity`` is rung and unanswered at any time, so that the backlog and its order
    stay in Postgres. A job rung more than ``resend_seconds`` ago without being claimed is rung again.
    """
    with transaction() as session:
        rows = session.execute(
            text("""
                with ready as (
                    select j.id, j.queue, j.last_sent_at > now() - make_interval(secs => :resend) as rung,
                           row_number() over (
                               partition by j.queue
                               order by coalesce(j.last_sent_at > now() - make_interval(secs => :resend), false) desc,
                                        j.priority, j.id) as place
                      from rlfleet.jobs j
                     where j.state = 'queued' and j.run_at <= now() and not j.cancel_requested
                       and not exists (select 1 from rlfleet.jobs d
                                        where d.id = any(j.after) and d.state <> 'succeeded')
                ), chosen as (
                    select id from ready
                     where not coalesce(rung, false)
                       and place <= 2 * coalesce((cast(:capacity as jsonb) ->> queue)::int, 1)
                ), locked as (
                    select id from rlfleet.jobs
                     where id in (select id from chosen) and state = 'queued'
                       and (last_sent_at is null or last_sent_at <= now() - make_interval(secs => :resend))
                       for update skip locked
                )
                update rlfleet.jobs j set last_sent_at = now(), sends = sends + 1
                  from locked where j.id = locked.id
             returning j.id, j.kind, j.priority
            """),
            {"resend": resend_seconds, "capacity": json.dumps(dict(capacity))},
        ).all()
    return [(int(row[0]), str(row[1])) for row in sorted(rows, key=lambda row: (row[2], row[0]))]


def unsend(job_ids: list[int]) -> None:
    """The messages for these jobs were not sent: they are due at once."""
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set last_sent_at = null where id = any(:ids) and state = 'queued'"),
            {"ids": job_ids},
        )


def cancel(job_id: int) -> State | None:
    """Cancel a queued job at once; ask the holder of a running one to stop. The state after, or None if unknown."""
    with transaction() as session:
        row = session.execute(
            text("""
                update rlfleet.jobs
                   set cancel_requested = state in ('queued', 'running'),
                       state = case when state = 'queued' then 'cancelled' else state end,
                       finished_at = case when state = 'queued' then now() else finished_at end
                 where id = :job_id returning state
            """),
            {"job_id": job_id},
        ).one_or_none()
    return State(row[0]) if row else None


def requeue(job_id: int) -> bool:
    """Open new attempts for a job that ended without success. False when it is in another state."""
    with transaction() as session:
        row = session.execute(
            text("""
                update rlfleet.jobs
                   set state = 'queued', attempt = 0, cancel_requested = false, run_at = now(),
                       last_sent_at = null, finished_at = null
                 where id = :job_id and state in ('failed', 'dead', 'cancelled') returning 1
            """),
            {"job_id": job_id},
        ).one_or_none()
    return row is not None
