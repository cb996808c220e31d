"""Counters that never fall: rows are added up before retention removes them, and what came since is counted anew.

A counter is its row in ``totals`` plus what the rows past ``counted.up_to`` say. Both are read in one snapshot, and
``add_up`` moves rows from one side to the other in one transaction, so no reader sees a row twice or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Result, text

from db.session import transaction

SETTLE_SECONDS = 3600.0
"""Rows of transactions that began so long ago are committed or gone: no smaller id turns up after it was passed."""

DELIVERIES: Final = """
    select 'messages_' || d.outcome as counter, coalesce(j.kind, '') as kind, count(*)::float8 as value
      from rlfleet.deliveries d left join rlfleet.jobs j on j.id = d.job_id
     where d.id > :after and d.id <= :until group by 1, 2
"""
# A job that is put aside has ended before, as failed or dead.
# A lease is lost to the reaper, or to a claim that came before it. Its job is recovered by the next claim, unless
# a person requeued it, which keeps the reason.
JOB_EVENTS: Final = """
    with changed as materialized (
        select e.id, e.job_id, e.from_state, e.to_state, e.reason, e.fence, e.at, j.kind
          from rlfleet.job_events e join rlfleet.jobs j on j.id = e.job_id
         where e.id > :after and e.id <= :until
    ), recovered as (
        select c.kind, extract(epoch from c.at - l.at) as seconds
          from changed c, lateral (
               select b.reason, b.from_state, b.at from rlfleet.job_events b
                where b.job_id = c.job_id and b.id < c.id order by b.id desc limit 1) l
         where c.to_state = 'running' and c.from_state = 'queued' and c.fence > 1
           and l.from_state = 'running' and l.reason = 'the lease ran out'
    )
    select 'leases_lost' as counter, kind, count(*)::float8 as value from changed
     where from_state = 'running' and (reason = 'the lease ran out' or to_state = 'running') group by kind
    union all
    select 'jobs_' || to_state, kind, count(*) from changed
     where from_state is distinct from to_state and to_state in ('succeeded', 'failed', 'dead', 'cancelled')
       and (to_state <> 'cancelled' or from_state in ('queued', 'running'))
     group by to_state, kind
    union all
    select 'recoveries', kind, count(*) from recovered group by kind
    union all
    select 'recovery_seconds', kind, sum(seconds) from recovered group by kind
"""
SOURCES: Final = {"deliveries": DELIVERIES, "job_events": JOB_EVENTS}
LAST = 2**63 - 1
SUCCEEDED: Final = """
    select (select coalesce(sum(value), 0) from rlfleet.totals where counter = 'jobs_succeeded')::bigint
         + (select count(*) from rlfleet.job_events
             where id > coalesce((select up_to from rlfleet.counted where source = 'job_events'), 0)
               and to_state = 'succeeded' and from_state is distinct from to_state)
"""
"""How many jobs have succeeded, which is where a job stays: they are not counted one by one."""

KNOWN = text("select source, up_to from rlfleet.counted")
TOTALS = text("select counter, kind, value from rlfleet.totals")
ADD = """
    insert into rlfleet.totals as t (counter, kind, value) select * from ({}) found
        on conflict (counter, kind) do update set value = t.value + excluded.value
"""
HELD = text("select up_to from rlfleet.counted where source = :source for update")
MOVE = text("update rlfleet.counted set up_to = :until where source = :source")
BEGIN = text("insert into rlfleet.counted (source, up_to) values (:source, 0) on conflict do nothing")


def counters(read: Callable[..., Result[*tuple[Any, ...]]]) -> dict[tuple[str, str], float]:
    """Every counter by (name, kind of job). ``read`` executes a statement; exact where that is repeatable read."""
    found = {(str(name), str(kind)): float(value) for name, kind, value in read(TOTALS)}
    known = {str(source): int(up_to) for source, up_to in read(KNOWN)}
    for source, query in SOURCES.items():
        span = {"after": known.get(source, 0), "until": LAST}
        for name, kind, value in read(text(query), span):
            found[name, kind] = found.get((name, kind), 0.0) + float(value)
    return found


def add_up(settle_seconds: float = SETTLE_SECONDS) -> None:
    """Add rows older than ``settle_seconds`` to the totals. Safe in any number of copies."""
    for source, query in SOURCES.items():
        newest = text(f"""
            select coalesce((select id from rlfleet.{source} where at <= now() - make_interval(secs => :settle)
                              order by id desc limit 1), 0)
        """)  # noqa: S608 - names of this file
        with transaction() as session:
            session.execute(BEGIN, {"source": source})
            span = {"source": source, "after": session.execute(HELD, {"source": source}).scalar_one()}
            span["until"] = session.execute(newest, {"settle": settle_seconds}).scalar_one()
            if span["until"] > span["after"]:
                session.execute(text(ADD.format(query)), span)
                session.execute(MOVE, span)
