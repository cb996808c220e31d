"""How a job comes to be, and when it is rung: the backlog and its order stay in Postgres, not in the broker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.session import alone, transaction
from db.workers import PRESENT_SECONDS
from rl.config import digest
from rl.protocol import QUEUES

if TYPE_CHECKING:
    from db.jobs import Claim


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
    devices: int = 1
    not_before: datetime | None = None

    @property
    def dedup_key(self) -> str:
        """SHA-256 of inputs and config; never of the code's version."""
        return digest(dict(self.inputs), dict(self.config))


REQUEST = text("""
    with found as (select id from rlfleet.jobs where kind = :kind and line_id = :line_id and dedup_key = :dedup_key),
    made as (
        insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, after, priority, max_attempts,
                                  devices, run_at)
        select :kind, :line_id, :dedup_key, :queue, cast(:inputs as jsonb), cast(:config as jsonb),
               cast(:after as bigint[]), :priority, :max_attempts, :devices,
               greatest(now(), cast(:not_before as timestamptz))
         where not exists (select 1 from found)
            on conflict (kind, line_id, dedup_key) do nothing
     returning id
    ), moved as (
        update rlfleet.jobs set priority = :priority
         where id in (select j.id from rlfleet.jobs j join found using (id)
                       where j.state = 'queued' and j.last_sent_at is null and j.priority <> :priority
                         for update of j skip locked)
    )
    select id from found union all select id from made
""")


def request(session: Session, spec: Spec) -> int:
    """The id of the job for ``spec``, created if it is not there, in whatever state it is.

    One that is queued and was not rung yet gets the priority of ``spec``.
    """
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
        "devices": spec.devices,
        "not_before": spec.not_before,
    }
    # Another session that inserts at the same moment is waited for and then seen by the second look.
    made = session.execute(REQUEST, values).scalar() or session.execute(REQUEST, values).scalar_one()
    return int(made)


PUT_OFF = text("""
    update rlfleet.jobs
       set state = case when cancel_requested then 'cancelled' else 'queued' end,
           finished_at = case when cancel_requested then now() end, attempt = attempt - 1, lease_until = null,
           last_sent_at = null, error = :reason, run_at = now() + make_interval(secs => :seconds)
     where id = :job_id and fence = :fence and state = 'running'
""")


def put_off(claim: Claim, reason: str, seconds: float) -> None:
    """Give a held job back that waits for something else: due in so many seconds, not charged, and no interruption."""
    values = {"job_id": claim.job_id, "fence": claim.fence, "reason": reason, "seconds": seconds}
    with transaction() as session:
        session.execute(PUT_OFF, values)


WAKE = text("""
    update rlfleet.jobs set run_at = now(), last_sent_at = null
     where line_id = :line_id and kind = :kind and state = 'queued' and run_at > now()
""")


def wake(session: Session, line_id: int, kind: str) -> None:
    """Jobs of that kind that were put off are due: what they waited for is over."""
    session.execute(WAKE, {"line_id": line_id, "kind": kind})


WAKE_DECISIONS = text("""
    update rlfleet.jobs j set run_at = now(), last_sent_at = null
     where j.kind = 'decide' and j.state = 'queued' and j.last_sent_at is null
       and j.run_at > now() + make_interval(secs => :longest)
       and not exists (select 1 from rlfleet.releases r
                        where r.line_id = j.line_id and r.stage = 'canary' and r.ended_at is null)
 returning j.id
""")
LONGEST_BACK_OFF_SECONDS = 300
"""A job that failed waits so long at most; one that was put off waits for the next day."""


def wake_decisions() -> list[int]:
    """Decisions that wait until tomorrow for the end of a canary that is not there are due. Their ids.

    A canary may end between the look of a decision that finds it there and the moment at which that is put off.
    """
    with transaction() as session:
        return list(session.scalars(WAKE_DECISIONS, {"longest": LONGEST_BACK_OFF_SECONDS}))


DUE = """
    with asked as materialized (
        select queue, ($3::jsonb ->> queue)::int as waiting,
               greatest(1, coalesce(($2::jsonb ->> queue)::int,
                                    (select sum(w.concurrency) from rlfleet.workers w
                                      where queue = any(w.queues)
                                        and w.seen_at > now() - make_interval(secs => $4::int)))) as capacity
          from unnest($1::text[]) queue
    ), counted as materialized (
        select a.*, (select count(*) from rlfleet.jobs j
                      where j.queue = a.queue and j.state = 'queued' and j.last_sent_at is not null) as rung
          from asked a
    ), fresh as materialized (
        select f.id from counted c, lateral (
            select j.id from rlfleet.jobs j
             where j.queue = c.queue and j.state = 'queued' and j.last_sent_at is null and j.run_at <= now()
               and not j.cancel_requested
               and (cardinality(j.after) = 0 or not exists (
                   select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded'))
               and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
               and (j.devices = 1 or exists (
                   select 1 from rlfleet.workers w
                    where j.queue = any(w.queues) and w.seen_at > now() - make_interval(secs => $4::int)
                      and cardinality(string_to_array(w.device, '+')) >= j.devices))
               -- One training of a line at a time: a second could not be claimed.
               and not (j.kind = 'train' and exists (
                   select 1 from rlfleet.jobs o
                    where o.line_id = j.line_id and o.kind = 'train' and o.id <> j.id
                      and (o.state = 'running' or (o.state = 'queued' and (
                              o.last_sent_at is not null
                              or (o.run_at <= now() and not o.cancel_requested and o.devices <= j.devices
                                  and (o.priority, o.id) < (j.priority, j.id)
                                  and (cardinality(o.after) = 0 or not exists (
                                      select 1 from rlfleet.jobs d
                                       where d.id = any(o.after) and d.state <> 'succeeded'))))))))
             order by j.priority, j.id limit greatest(2 * c.capacity - c.rung, 0)) f
    ), lost as materialized (
        select l.id from counted c, lateral (
            select j.id from rlfleet.jobs j
             where j.queue = c.queue and j.state = 'queued'
               and j.last_sent_at <= now() - make_interval(secs => $5::float8)
               and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
             order by j.last_sent_at, j.priority, j.id limit greatest(coalesce(c.rung - c.waiting, 0), 0)) l
    ), locked as (
        select id from rlfleet.jobs
         where id = any(array(select id from fresh union all select id from lost)) and state = 'queued'
           and (last_sent_at is null or last_sent_at <= now() - make_interval(secs => $5::float8))
           for update skip locked
    )
    update rlfleet.jobs j set last_sent_at = now(), sends = sends + 1
      from locked where j.id = locked.id
 returning j.id, j.kind, j.priority
"""


def due(
    resend_seconds: float, capacity: Mapping[str, int] | None = None, waiting: Mapping[str, int] | None = None
) -> list[tuple[int, str]]:
    """Mark as rung, and return, the (id, kind) of jobs whose turn it is, best priority first.

    At most twice a queue's ``capacity`` is rung and unanswered at any time: what its workers say that they do at
    once, unless the caller says otherwise, and at least 1. A job that was
    rung more than ``resend_seconds`` ago and not claimed is rung again when its message is lost: when fewer messages
    are ``waiting`` in its queue than jobs were rung. Without ``waiting`` no job is rung again. A job that wants more
    devices than any worker of its queue has waits without holding up the others.
    """
    rows = alone(
        "due",
        DUE,
        queues=list(QUEUES),
        capacity=json.dumps(dict(capacity or {})),
        waiting=json.dumps(dict(waiting or {})),
        present=PRESENT_SECONDS,
        resend=resend_seconds,
    )
    found = sorted((tuple(row) for row in rows), key=lambda row: (row[2], row[0]))
    return [(int(row[0]), str(row[1])) for row in found]


def unsend(job_ids: list[int]) -> None:
    """The messages for these jobs were not sent: they are due at once."""
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set last_sent_at = null where id = any(:ids) and state = 'queued'"),
            {"ids": job_ids},
        )


def note(session: Session, message_id: str, job_id: int) -> None:
    """The message asked for the job; ``db.job_views.by_message`` finds it again."""
    session.execute(
        text("insert into rlfleet.deliveries (message_id, job_id, outcome) values (:message_id, :job_id, 'requested')"),
        {"message_id": message_id, "job_id": job_id},
    )
