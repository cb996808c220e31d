"""How much waits in each queue and how long, and what runs: from the jobs' rows, whatever the broker holds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.workers import PRESENT_SECONDS
from rl.protocol import QUEUES


@dataclass(frozen=True)
class Queue:
    """``depth`` jobs could begin now, the oldest for ``oldest_seconds``; ``waiting`` ones are put off, paused, or wait
    for others; ``capacity`` is how many tasks at once the workers that are there do.
    """

    name: str
    depth: int
    oldest_seconds: float | None
    waiting: int
    running: int
    capacity: int


QUEUED = text("""
    with jobs as (
        select j.queue, j.state,
               j.state = 'queued' and j.run_at <= now() and not j.cancel_requested
               and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
               and not exists (select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded')
               as ready,
               greatest(j.run_at, (select max(d.finished_at) from rlfleet.jobs d where d.id = any(j.after))) as due_at
          from rlfleet.jobs j where j.state in ('queued', 'running')
    ), served as (
        select queue, sum(concurrency)::int as capacity from rlfleet.workers, unnest(queues) queue
         where seen_at > now() - make_interval(secs => :present) group by queue
    )
    select q.name, count(*) filter (where j.ready),
           round(extract(epoch from now() - min(j.due_at) filter (where j.ready)), 1),
           count(*) filter (where j.state = 'queued' and not j.ready),
           count(*) filter (where j.state = 'running'), coalesce(max(s.capacity), 0)
      from unnest(cast(:queues as text[])) with ordinality q(name, place)
      left join jobs j on j.queue = q.name left join served s on s.queue = q.name
     group by q.name, q.place order by q.place
""")


def listing(session: Session) -> list[Queue]:
    """Every queue, an empty one too."""
    rows = session.execute(QUEUED, {"queues": list(QUEUES), "present": PRESENT_SECONDS})
    return [
        Queue(name, int(depth), None if oldest is None else float(oldest), int(waiting), int(running), int(capacity))
        for name, depth, oldest, waiting, running, capacity in rows
    ]


@dataclass(frozen=True)
class Held:
    """A job that runs. ``owner`` is the host and the pid of the process that holds it; ``stage`` is of its progress."""

    job_id: int
    kind: str
    line: str
    owner: str
    stage: str


def held(session: Session, queue: str) -> list[Held]:
    """The jobs of the queue that run, oldest first."""
    rows = session.execute(
        text("""
            select j.id, j.kind, l.name, coalesce(j.owner, ''), coalesce(j.progress ->> 'stage', '')
              from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
             where j.state = 'running' and j.queue = :queue order by j.id
        """),
        {"queue": queue},
    )
    return [Held(int(row[0]), *row[1:]) for row in rows]
