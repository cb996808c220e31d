"""The job machine: every change of a job is one statement on the database's clock, guarded by the fence.

    queued ──claim──► running ──finish──► succeeded
      ▲                 │ ├──fail────────► failed | dead | queued
      │                 │ ├──release─────► queued            (a drain, or put off; the attempt is not charged)
      │                 │ └──reap────────► queued | dead     (the lease ran out)
      └──requeue── failed | dead | cancelled ◄──cancel── queued | running | failed | dead

What breaks without it: Celery on Redis loses a message whose worker is killed, and delivers twice whatever
outlives its visibility timeout. Here a message only rings; the row decides who works and whose work counts.
How a job comes to be and when it is rung is in ``db.dispatch``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.at_service import KEPT, WRITTEN
from db.holding import hold
from db.job_states import State
from db.session import alone, prepared, transaction, within
from rl.errors import Cancelled, Fenced

ANSWER_SECONDS = 10.0
"""How long a claim or a heartbeat waits for the database; a heartbeat must fail well within a lease."""
MAX_INTERRUPTIONS = 20
"""Drains that a job gets for nothing; from then on each costs an attempt, so that nothing goes round for ever."""

Effect = Callable[[Session], Mapping[str, Any]]


@dataclass(frozen=True)
class Claim:
    """A held job: whoever has the greatest fence may write.

    ``resume`` is where an earlier attempt saved its state, and ``adjust`` what it changed in the config.
    """

    job_id: int
    kind: str
    line_id: int
    line: str
    inputs: dict[str, Any]
    config: dict[str, Any]
    fence: int
    attempt: int
    resume: dict[str, Any] | None = None
    adjust: dict[str, Any] | None = None
    max_attempts: int = 3


CLAIM = """
    with held as (
        update rlfleet.jobs j
           set state = 'running', attempt = attempt + 1, fence = fence + 1, owner = $2::text, error = null,
               lease_until = now() + make_interval(secs => $3::float8), heartbeat_at = now(), started_at = now(),
               finished_at = null
          from rlfleet.lines l
         where j.id = $1::bigint and l.id = j.line_id and j.run_at <= now() and j.attempt < j.max_attempts
           and not j.cancel_requested and j.devices <= $4::int
           and (j.state = 'queued' or (j.state = 'running' and j.lease_until < now()))
           and (cardinality(j.after) = 0 or not exists (
               select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded'))
           and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
     returning j.id, j.kind, j.line_id, l.name, j.inputs, j.config, j.fence, j.attempt, j.resume, j.adjust,
               j.max_attempts
    ), noted as (
        insert into rlfleet.deliveries (message_id, job_id, outcome)
        select $5::text, id, 'claimed' from held where $5::text is not null
    )
    select * from held
"""

SKIP = text("""
    with noted as (
        insert into rlfleet.deliveries (message_id, job_id, outcome)
        select :message_id, id, 'skipped' from rlfleet.jobs
         where id = :job_id and cast(:message_id as text) is not null
    )
    update rlfleet.jobs set last_sent_at = null where id = :job_id and state = 'queued'
""")
"""The message is used up: a job that stays queued is to be rung again once it can be taken."""


def claim(
    job_id: int, owner: str, lease_seconds: float, message_id: str | None = None, devices: int = 1
) -> Claim | None:
    """Take the job, or None when it is not there to take. The message that asked is written down either way.

    None covers: another holder, a terminal state, attempts used up, not due yet, a job it comes after is not done,
    a paused kind, more devices than the owner's ``devices``, or another training on the same line (training is
    serial within a line).
    """
    who = {"job": job_id, "owner": owner, "lease": lease_seconds, "devices": devices, "message": message_id}
    try:
        rows = alone("claim", CLAIM, ANSWER_SECONDS, **who)
    except IntegrityError as error:
        if "uq_jobs_training_serial" not in str(error.orig):
            raise
        rows = []
    if rows:
        return Claim(*tuple(rows[0]))
    with transaction(patience=ANSWER_SECONDS) as session:
        session.execute(SKIP, {"job_id": job_id, "message_id": message_id})
    return None


def heartbeat(
    claim: Claim,
    lease_seconds: float,
    progress: Mapping[str, Any] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> None:
    """Renew the lease; store the progress, and where a state was saved that the next attempt can go on from.

    Raises:
        Fenced: the lease was lost to another holder, or the job has ended.
        Cancelled: a person asked to stop it.
    """
    row = _as_holder(
        claim,
        f"""
        update rlfleet.jobs
           set lease_until = now() + make_interval(secs => :lease), heartbeat_at = now(),
               progress = coalesce(cast(:progress as jsonb), progress), resume = {WRITTEN}
         where id = :job_id and fence = :fence and state = 'running'
     returning cancel_requested
        """,  # noqa: S608 (of a constant)
        lease=lease_seconds,
        progress=_json(progress),
        resume=_json(resume),
    )
    if row is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost")
    if row[0]:
        raise Cancelled(f"job {claim.job_id}: cancelled on request")


FINISH = """
    update rlfleet.jobs
       set state = 'succeeded', lease_until = null, finished_at = now(), result = $3::jsonb, progress = $4::jsonb
     where id = $1::bigint and fence = $2::bigint
"""


def finish(session: Session, claim: Claim, effect: Effect, progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the job's ``effect`` and mark the job done, in the caller's one transaction.

    The row is held first. ``effect`` returns the job's result, which is returned. ``progress`` is the attempt's last.

    Raises:
        Fenced: the lease was lost; the caller's transaction must roll back, and nothing was done.
    """
    hold(session, claim)
    result = dict(effect(session))
    values = {"result": json.dumps(result), "progress": _json(progress)}
    prepared(session, "finish", FINISH, job=claim.job_id, fence=claim.fence, **values)
    return result


def fail(
    claim: Claim, error: str, *, retry: bool, adjust: Mapping[str, Any] | None = None, free: bool = False, wait: int = 0
) -> State:
    """End this attempt: queued again after a back-off (at least ``wait`` s) while attempts are left, else at an end.

    A job that somebody asked to cancel is not tried again: it is ``cancelled``. With ``adjust`` the next attempt runs
    with another config. It is not charged then, nor one that is ``free`` as it got on: both end by themselves.

    Raises:
        Fenced: another holder has the job.
    """
    row = _as_holder(
        claim,
        """
        update rlfleet.jobs
           set state = case when not :retry then 'failed'
                            when cancel_requested then 'cancelled'
                            when attempt - :free >= max_attempts then 'dead' else 'queued' end,
               attempt = attempt - :free, adjust = coalesce(cast(:adjust as jsonb), adjust),
               lease_until = null, last_sent_at = null, error = :error,
               finished_at = case when :retry and attempt - :free < max_attempts and not cancel_requested then null
                                  else now() end,
               run_at = now() + make_interval(secs => greatest(:wait, least(300, power(2, attempt))))
         where id = :job_id and fence = :fence and state = 'running' returning state
        """,
        wait=wait,
        retry=retry,
        error=error[:4000],
        adjust=_json(adjust),
        free=int(free or adjust is not None),
    )
    if row is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost before it failed with {error}")
    return State(row[0])


def release(claim: Claim, reason: str, resume: Mapping[str, Any] | None = None, *, tomorrow: bool = False) -> bool:
    """Give the job back, because this worker is going down. False when the lease was lost already.

    The attempt is not charged while the job has been interrupted fewer than ``MAX_INTERRUPTIONS`` times. With
    ``tomorrow`` the job is due at the beginning of the next UTC day, and has all attempts anew.
    """
    row = _as_holder(
        claim,
        """
        update rlfleet.jobs
           set state = case when cancel_requested then 'cancelled'
                            when interruptions >= :most and attempt >= max_attempts then 'dead' else 'queued' end,
               finished_at = case when cancel_requested or (interruptions >= :most and attempt >= max_attempts)
                                  then now() end,
               attempt = case when interruptions >= :most then attempt when :tomorrow then 0 else attempt - 1 end,
               run_at = case when :tomorrow then date_trunc('day', now(), 'UTC') + interval '1 day' else run_at end,
               interruptions = interruptions + 1, lease_until = null, last_sent_at = null, error = :reason,
               resume = coalesce(cast(:resume as jsonb), resume)
         where id = :job_id and fence = :fence and state = 'running' returning 1
        """,
        reason=reason,
        resume=_json(resume),
        tomorrow=tomorrow,
        most=MAX_INTERRUPTIONS,
    )
    return row is not None


def end_cancelled(claim: Claim) -> None:
    """The holder saw the request to cancel and stopped."""
    _as_holder(
        claim,
        """
        update rlfleet.jobs
           set state = 'cancelled', lease_until = null, finished_at = now(), error = 'cancelled on request'
         where id = :job_id and fence = :fence and state = 'running' returning 1
        """,
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


def cancel(job_id: int, session: Session | None = None) -> State | None:
    """Cancel a queued job, ask the holder of a running one to stop, put a failed or dead one aside. The state after."""
    statement = """
        update rlfleet.jobs set cancel_requested = state in ('queued', 'running'),
               state = case when state in ('queued', 'failed', 'dead') then 'cancelled' else state end,
               error = case when state in ('failed', 'dead') then concat(state, ', put aside: ', error) else error end,
               finished_at = case when state = 'queued' then now() else finished_at end
         where id = :job_id returning state
    """
    row = _row(statement, session, job_id=job_id)
    return State(row[0]) if row else None


def requeue(job_id: int, session: Session | None = None, *, anew: bool = False) -> bool:
    """Open new attempts for a job that ended without success: ``anew``, or from what is ``KEPT``. Else False."""
    statement = f"""
        update rlfleet.jobs
           set state = 'queued', attempt = 0, interruptions = 0, cancel_requested = false, run_at = now(),
               last_sent_at = null, finished_at = null, resume = {"null" if anew else KEPT}, adjust = null
         where id = :job_id and state in ('failed', 'dead', 'cancelled') returning 1
    """  # noqa: S608 (of a constant)
    return _row(statement, session, job_id=job_id) is not None


def _as_holder(claim: Claim, statement: str, **values: object) -> Row[Any] | None:
    """The row of a statement that holds for the claim's fence alone, if it does."""
    return _row(statement, job_id=claim.job_id, fence=claim.fence, **values)


def _row(statement: str, session: Session | None = None, /, **values: object) -> Row[Any] | None:
    with within(session, ANSWER_SECONDS) as mine:
        return mine.execute(text(statement), values).one_or_none()


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
