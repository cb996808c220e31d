"""Whole weeks that retention drops: their partitions are detached and dropped, which is quick whatever they hold."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import erasure, partitions
from db.retention import FREE, HAS_ROWS, MARK
from db.session import transaction
from rl.errors import DatabaseUnavailable

PATIENCE_SECONDS: Final = 240.0
"""Looking through a partition for what no window collected takes a while."""
KEYS_PAGE: Final = 20_000

OLD_WEEKS = text("""
    select to_date(substring(c.relname from '\\d{4}w\\d\\d$'), 'IYYY"w"IW') as day
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'rlfleet' and c.relispartition and c.relkind = 'r' and c.relname ~ '^trajectories_\\d{4}w\\d\\d$'
       and to_date(substring(c.relname from '\\d{4}w\\d\\d$'), 'IYYY"w"IW') + 7
           < now() - make_interval(days => (select min((config -> 'retention' ->> 'days')::int) from rlfleet.lines))
     order by day
""")
STAYS = text(f"""
    {FREE} select 1 from rlfleet.windows w
     where w.starts_at >= :since and w.starts_at < :until and {HAS_ROWS.format("w")}
       and not exists (select 1 from free f where f.id = w.id) limit 1
""")  # noqa: S608 (of constants)
KEYLESS = "not exists (select 1 from rlfleet.trajectory_keys k where k.trajectory_id = one.trajectory_id)"
LONE = text(f"""
    select 1 from rlfleet.calls one where one.at >= :since and one.at < :until and {KEYLESS}
    union all select 1 from rlfleet.turns one where one.at >= :since and one.at < :until and {KEYLESS} limit 1
""")  # noqa: S608
MARK_ALL = text(f"""
    {MARK}
     where starts_at >= :since and starts_at < :until and {HAS_ROWS.format("w")} returning 1
""")


def drop(counts: Counter[str], until: float) -> bool:
    """Drop the partitions of weeks in which nothing must stay. False when ``until`` (monotonic seconds) came first.

    Of a week that readers hold, the rows go in batches instead.
    """
    with transaction() as session:
        weeks = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in session.scalars(OLD_WEEKS)]
    for week in weeks:
        if time.monotonic() > until:
            return False
        try:
            _drop(week, counts)
        except DatabaseUnavailable as error:
            if not erasure.is_in_the_way(error):
                raise
            counts["weeks put off"] += 1
    return True


def _drop(week: datetime, counts: Counter[str]) -> None:
    bounds = partitions.bounds(week)
    with transaction(PATIENCE_SECONDS) as session:
        if any(session.execute(query, bounds).first() for query in (STAYS, LONE)):
            return
    with transaction() as session:
        # Shorter than the server's look for deadlocks: this one gives way, not a reader.
        session.execute(text("set local lock_timeout = '500ms'"))
        for table in partitions.PARTITIONED:
            if not _detached(session, partitions.name_of(table, week)):
                session.rollback()
                return
        if session.execute(STAYS, bounds).first():
            session.rollback()
            return
        counts["windows"] += len(session.execute(MARK_ALL, bounds).all())
        counts["weeks"] += 1
    partitions.forget()


# Not to_regclass, which may answer from what this connection remembers of the time before the lock.
IS_THERE = text("""
    select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'rlfleet' and c.relname = :name and c.relispartition
""")


def _detached(session: Session, name: str) -> bool:
    """Detach and drop the partition, unless another pass was faster. Its maker takes the same lock."""
    session.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"rlfleet.{name}"})
    if not session.execute(IS_THERE, {"name": name}).first():
        return False
    session.execute(text("select rlfleet.drop_partition(:name)"), {"name": name})
    return True


PENDING_WEEKS = text(f"""
    select distinct date_trunc('week', w.starts_at, 'UTC') from rlfleet.windows w
     where w.removed_at is not null and {HAS_ROWS.format("w")}
       and not exists (select 1 from rlfleet.trajectories t where t.window_id = w.id and t.at = w.starts_at)
""")  # noqa: S608
CALL_KEYS = text("""
    with page as (select call_id, at from rlfleet.call_keys where call_id > :after order by call_id limit :batch),
    gone as (
        delete from rlfleet.call_keys k using page p
         where k.call_id = p.call_id and date_trunc('week', p.at, 'UTC') = any(cast(:weeks as timestamptz[]))
           and not exists (select 1 from rlfleet.calls c
                            where c.trajectory_id = k.trajectory_id and c.call_id = k.call_id and c.at = k.at)
        returning 1
    )
    select (select max(call_id) from page), (select count(*) from gone)
""")


def call_keys(counts: Counter[str], until: float) -> bool:
    """Remove the ids of calls that were dropped with their week, before their trajectories' keys say that it is done.

    One look at every id, however many weeks were dropped.
    """
    with transaction() as session:
        weeks = list(session.scalars(PENDING_WEEKS))
    after: str | None = ""
    while weeks and after is not None:
        if time.monotonic() > until:
            return False
        with transaction() as session:
            values = {"after": after, "batch": KEYS_PAGE, "weeks": [week.isoformat() for week in weeks]}
            after, number = session.execute(CALL_KEYS, values).one()
        counts["call keys"] += number
    return True
