"""What a scrape shows, read from the rows in one read-only snapshot; nothing is remembered between two.

Each query reads an index, the live part of a table, or one that stays small; ``docs/monitoring.md`` says what the
whole costs. What lies in the last hour or day is bounded by the windows that ended in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Executable, Result, text

from db import counted, live, mirrors, released
from db.ready import LEFT, READY
from db.session import transaction
from db.tables.jobs import HELD_TO_THE_END, UNFINISHED
from db.workers import PRESENT_SECONDS
from rl.protocol import TASK_QUEUES

SCRAPE_SECONDS = 8.0
"""The longest that Postgres works on all statements of a scrape together."""

# Those that succeeded are counted by the counters.
JOBS: Final = f"""
    select kind, queue, state, count(*) as jobs from rlfleet.jobs where {UNFINISHED}
     group by kind, queue, state order by 1, 2, 3
"""  # noqa: S608 (of a constant)
DUE: Final = f"""
    with ready as ({READY})
    select queue, kind, count(*) as jobs, extract(epoch from now() - min(due_at)) as oldest_seconds
      from ready group by queue, kind order by 1, 2
"""  # noqa: S608 (of a constant)
# Queue gpu was busy until a job of it that ran ended, was handed back or taken back, and as long as its holder was
# heard of. A job that was cancelled may have left its holder long before.
BUSY: Final = f"""
    with ended as (
        select max(finished_at) as at from rlfleet.jobs where queue = 'gpu' and {HELD_TO_THE_END}
    ), held as (
        select case when j.state <> 'running' then {LEFT.format("j")}
                    when j.lease_until < now() then j.heartbeat_at else now() end as at
          from rlfleet.jobs j
         where j.queue = 'gpu' and j.fence > 0
           and (j.state in ('queued', 'running')
                or (j.state = 'cancelled' and j.finished_at > (select coalesce(at, '-infinity') from ended)))
    )
    select extract(epoch from now() - greatest((select at from ended), (select max(at) from held))) as seconds_ago
"""  # noqa: S608 (of constants)
RUNNING: Final = """
    select kind, queue, count(*) as jobs,
           coalesce(extract(epoch from now() - min(heartbeat_at)), 0) as lag_seconds,
           count(*) filter (where lease_until < now()) as expired
      from rlfleet.jobs where state = 'running' group by kind, queue order by 1, 2
"""
WORKERS: Final = (
    "select name, device, extract(epoch from now() - seen_at) as seconds from rlfleet.workers order by name"
)
CAPACITY: Final = f"""
    select queue, sum(concurrency) as tasks from rlfleet.workers, unnest(queues) queue
     where seen_at > now() - make_interval(secs => {PRESENT_SECONDS}) group by queue
"""  # noqa: S608 (of a constant)
ENGINES: Final = (
    "select name, device, extract(epoch from now() - seen_at) as seconds from rlfleet.engines order by name"
)
WINDOWS: Final = """
    select l.name as line, w.state, count(*) as windows
      from rlfleet.windows w join rlfleet.lines l on l.id = w.line_id group by 1, 2 order by 1, 2
"""
CANARIES: Final = """
    select l.name as line, v.name as version,
           extract(epoch from now() - coalesce(r.looked_at, r.created_at)) as unwatched_seconds
      from rlfleet.releases r join rlfleet.lines l on l.id = r.line_id join rlfleet.versions v on v.id = r.version_id
     where r.ended_at is null and r.stage = 'canary' order by 1
"""
# A version whose release ended lately may still answer trajectories that began with it. Rounds of a run, which name
# their version themselves, would hide how it does for agents.
TRAFFIC: Final = f"""
    with named as (
        select distinct l.name as line, v.name as version
          from rlfleet.releases r join rlfleet.lines l on l.id = r.line_id
          join rlfleet.versions v on v.id = r.version_id
         where r.ended_at is null or r.ended_at > now() - interval '1 hour'
    )
    select n.line, n.version,
           (select count(*) from rlfleet.calls one
             where one.model = n.version and one.at > now() - interval '1 day'
               and one.created_at > now() - interval '1 hour' and {live.LIVE}) as calls,
           (select count(*) from rlfleet.call_failures f
             where f.line = n.line and f.model = n.version and f.at > now() - interval '1 hour'
               and {live.OF_AGENTS.format("f.unit")}) as failures
      from named n order by 1, 2
"""  # noqa: S608 (of a constant)
TRAININGS: Final = """
    select l.name as line, v.name as version, (c.metrics ->> 'tokens_per_second')::float8 as tokens_per_second
      from rlfleet.lines l, lateral (
           select name, checkpoint_id from rlfleet.versions where line_id = l.id order by number desc limit 1) v
      join rlfleet.checkpoints c on c.id = v.checkpoint_id
     where c.metrics ? 'tokens_per_second' order by 1
"""
LATELY: Final = """
    lately as materialized (
        select w.id, l.name as line from rlfleet.windows w join rlfleet.lines l on l.id = w.line_id
         where coalesce(w.ends_at, w.starts_at) > now() - interval '1 day' and w.state <> 'open'
    )
"""
# A trajectory belongs to the version that answered its first call, "" where none of ours did. A reward that its source
# does not know is stored as 0, and null in the details.
REWARDS: Final = f"""
    with {LATELY}, fresh as materialized (
        select w.line, t.trajectory_id, t.at, t.reward from lately w join rlfleet.trajectories t on t.window_id = w.id
         where t.at > now() - interval '8 days' and t.created_at > now() - interval '1 hour'
           and t.details -> 'reward' is distinct from 'null'
    )
    select f.line, coalesce(v.name, '') as version, count(*) as trajectories, avg(f.reward) as reward
      from fresh f left join lateral (
           select c.model from rlfleet.calls c where c.trajectory_id = f.trajectory_id and c.at = f.at
            order by c.turn, c.place limit 1) first on true
      left join rlfleet.versions v on v.name = first.model
     group by 1, 2 order by 1, 2
"""  # noqa: S608 (of a constant)
TRAJECTORIES: Final = f"""
    with {LATELY}
    select w.line, count(*) as trajectories from lately w join rlfleet.trajectory_keys k on k.window_id = w.id
     where k.erased_at is null group by 1 order by 1
"""  # noqa: S608 (of a constant)
QUARANTINE: Final = """
    select l.name as line, (select count(*) from rlfleet.quarantine q where q.line_id = l.id) as quarantined
      from rlfleet.lines l order by 1
"""
ALERTS: Final = """
    select name, count(*) filter (where sent_at is null) as waiting,
           count(*) filter (where created_at > now() - interval '1 day') as last_day,
           coalesce(extract(epoch from now() - min(created_at) filter (where sent_at is null and tries > 0)), 0)
               as oldest_seconds
      from rlfleet.alerts group by name order by name
"""
PAUSES: Final = "select kind from rlfleet.pauses order by kind"
REVISION: Final = "select version_num as revision from rlfleet.alembic_version"

QUERIES: Final[Mapping[str, str]] = {
    "jobs": JOBS,
    "due": DUE,
    "busy": BUSY,
    "running": RUNNING,
    "workers": WORKERS,
    "capacity": CAPACITY,
    "engines": ENGINES,
    "windows": WINDOWS,
    "canaries": CANARIES,
    "traffic": TRAFFIC,
    "trainings": TRAININGS,
    "rewards": REWARDS,
    "trajectories": TRAJECTORIES,
    "quarantine": QUARANTINE,
    "alerts": ALERTS,
    "mirrors": mirrors.BEHIND,
    "pauses": PAUSES,
    "revision": REVISION,
}

LIMIT = text("select set_config('statement_timeout', :ms, true)")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The rows of each of ``QUERIES`` and of ``shares``, and the counters by (name, kind of job)."""

    rows: Mapping[str, list[Row]]
    counters: Mapping[tuple[str, str], float]


def snapshot(patience: float = SCRAPE_SECONDS) -> Snapshot:
    """Everything at one moment; all statements together take no longer than ``patience`` seconds.

    Raises:
        DatabaseUnavailable: the database is away, or too busy.
    """
    until = time.monotonic() + patience
    with transaction(patience + 1) as session:
        session.execute(text("set transaction isolation level repeatable read, read only"))

        def read(query: Executable, values: Mapping[str, Any] | None = None) -> Result[*tuple[Any, ...]]:
            left = max(1, round((until - time.monotonic()) * 1000))
            session.execute(LIMIT, {"ms": str(left)})
            return session.execute(query, values)

        rows: dict[str, list[Row]] = {
            name: [dict(row) for row in read(text(query)).mappings()] for name, query in QUERIES.items()
        }
        rows["shares"] = _shares(released.lines_of(read(released.LIVE)).values())
        counters = counted.counters(read)
        rows["jobs"] += _succeeded(counters)
        return Snapshot(rows, counters)


def _shares(lines: Iterable[released.LineReleases]) -> list[Row]:
    """What each live release gets, and a pinned version that has none."""
    found: list[Row] = []
    for line in lines:
        got = {one.version: one for one in line.answering}
        for one in line.releases:
            part = got.pop(one.version, None)
            row = {"line": line.line, "stage": one.stage, "version": one.version}
            found.append(row | {"share": part.share if part else 0})
        found += [{"line": line.line} | vars(one) for one in got.values() if one.stage == released.PINNED]
    return found


def _succeeded(counters: Mapping[tuple[str, str], float]) -> list[Row]:
    """Jobs of a kind have one queue, and stay where they succeeded."""
    return [
        {"kind": kind, "queue": TASK_QUEUES.get(f"rlfleet.{kind}", ""), "state": "succeeded", "jobs": count}
        for (name, kind), count in sorted(counters.items())
        if name == "jobs_succeeded"
    ]
