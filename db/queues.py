"""How much waits in each queue and how long, and what runs: from the jobs' rows, whatever the broker holds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.ready import READY
from db.workers import PRESENT_SECONDS
from rl.protocol import QUEUES


@dataclass(frozen=True)
class Queue:
    """``depth`` jobs could begin now, the oldest for ``oldest_seconds``; ``waiting`` ones are put off, paused, or wait
    for others, as all but one of a line's trainings do; ``capacity`` is how many tasks at once the workers that are
    there do.
    """

    name: str
    depth: int
    oldest_seconds: float | None
    waiting: int
    running: int
    capacity: int


QUEUED = text(f"""
    with ready as ({READY}), due as (
        select queue, count(*) as depth, min(due_at) as since from ready group by queue
    ), jobs as (
        select queue, count(*) filter (where state = 'queued') as queued,
               count(*) filter (where state = 'running') as running
          from rlfleet.jobs where state in ('queued', 'running') group by queue
    ), served as (
        select queue, sum(concurrency)::int as capacity from rlfleet.workers, unnest(queues) queue
         where seen_at > now() - make_interval(secs => :present) group by queue
    )
    select q.name, coalesce(d.depth, 0), round(extract(epoch from now() - d.since), 1),
           coalesce(j.queued, 0) - coalesce(d.depth, 0), coalesce(j.running, 0), coalesce(s.capacity, 0)
      from unnest(cast(:queues as text[])) with ordinality q(name, place)
      left join jobs j on j.queue = q.name left join due d on d.queue = q.name left join served s on s.queue = q.name
     order by q.place
""")  # noqa: S608 (of a constant)


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
