"""What nobody needs any more: old rows are removed here; for folders of artifacts the rows say which may go."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from sqlalchemy import text

from db import counted, erasure, leftovers, retention, weeks
from db.session import transaction

BATCH = 10_000
"""Rows a transaction: a delete of millions at once would hold its locks for minutes."""
KEEP_DAYS: Final = 7
"""Folders of a job that ended without success stay this long, because it may be queued again."""

OLD_ROWS: Final = {
    "schedule_slots": text("""
        delete from rlfleet.schedule_slots where ctid = any(array(
            select ctid from rlfleet.schedule_slots where taken_at < now() - interval '7 days' limit :batch))
    """),
    "deliveries": text("""
        delete from rlfleet.deliveries where ctid = any(array(
            select ctid from rlfleet.deliveries
             where at < now() - interval '30 days'
               and id <= (select up_to from rlfleet.counted where source = 'deliveries') limit :batch))
    """),
    "alerts": text("""
        delete from rlfleet.alerts where ctid = any(array(
            select ctid from rlfleet.alerts
             where coalesce(sent_at, created_at) < now() - interval '90 days' limit :batch))
    """),
    "rejections": text("""
        delete from rlfleet.rejections where ctid = any(array(
            select ctid from rlfleet.rejections where last_at < now() - interval '90 days' limit :batch))
    """),
    "call_failures": text("""
        delete from rlfleet.call_failures where ctid = any(array(
            select ctid from rlfleet.call_failures where at < now() - interval '90 days' limit :batch))
    """),
    "sessions": text("""
        delete from rlfleet.sessions where ctid = any(array(
            select ctid from rlfleet.sessions where expires_at < now() - interval '7 days' limit :batch))
    """),
}


def old_rows() -> dict[str, int]:
    """Remove slots and sessions after 7 days, deliveries after 30 and counted, the rest after 90; the numbers."""
    counted.add_up()
    return {table: _in_batches(table) for table in OLD_ROWS}


def _in_batches(table: str) -> int:
    removed = 0
    while True:
        with transaction() as session:
            ids = session.connection().execute(OLD_ROWS[table], {"batch": BATCH}).rowcount
        removed += ids
        if ids < BATCH:
            return removed


def old_trajectories(until: float) -> tuple[Counter[str], bool]:
    """Remove what retention no longer keeps, until ``until`` (monotonic seconds). How many of what; whether it is all.

    Whatever it is killed at, the next pass finds the rest; see ``db.retention``.
    """
    counts: Counter[str] = Counter()
    stages = (leftovers.uncollected, weeks.drop, weeks.call_keys, retention.windows, leftovers.texts)
    over = all(stage(counts, until) for stage in stages)
    if over and time.monotonic() < until:
        counts += erasure.again()
    return counts, over


def ended(job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs ended more than a week ago."""
    return _ids(
        """
        select id from rlfleet.jobs
         where id = any(:ids) and state in ('succeeded', 'failed', 'dead', 'cancelled')
           and finished_at < now() - make_interval(days => :days)
        """,
        job_ids,
    )


def not_running(job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs nobody holds."""
    return _ids("select id from rlfleet.jobs where id = any(:ids) and state <> 'running'", job_ids)


def forget_states(job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs need no saved state any more; their rows point to none afterwards.

    Those are the jobs that succeeded, and those that ended otherwise more than a week ago.
    """
    return _ids(
        """
        with over as (
            select id from rlfleet.jobs
             where id = any(:ids) and (state = 'succeeded' or (state in ('failed', 'dead', 'cancelled')
                                       and finished_at < now() - make_interval(days => :days)))
               for update skip locked
        ), cleared as (
            update rlfleet.jobs set resume = null
             where id in (select id from over) and jsonb_typeof(resume -> 'remote') is distinct from 'object'
               and resume is not null
        )
        select id from over
        """,
        job_ids,
    )


NAMED = text("""
    select (m[1])::bigint, (m[2])::bigint
      from (select uri as path from rlfleet.checkpoints where removed_at is null
            union all select base_uri from rlfleet.checkpoints
            union all select base_model from rlfleet.versions
            union all select config ->> 'base_model' from rlfleet.lines
            union all select resume ->> 'path' from rlfleet.jobs where resume is not null) p,
           regexp_matches(path, 'jobs/([0-9]{1,18})/fence-([0-9]{1,18})(?:/|$)', 'g') m
     union select job_id, fence from rlfleet.checkpoints where removed_at is null
""")


def named_folders() -> set[tuple[int, int]]:
    """The (job, fence) of every folder that a row points to, wherever artifacts were mounted when it was written."""
    with transaction() as session:
        return {(int(job), int(fence)) for job, fence in session.execute(NAMED)}


STEPS = text("""
    select (m[1])::bigint, m[3], (m[2])::bigint
      from (select uri as path from rlfleet.checkpoints
            union all select base_uri from rlfleet.checkpoints
            union all select base_model from rlfleet.versions
            union all select config ->> 'base_model' from rlfleet.lines) p,
           regexp_matches(path, 'jobs/([0-9]{1,18})/fence-([0-9]{1,18})/(step-[0-9]+)(?:/|$)') m
     where (m[1])::bigint = any(:ids)
""")


def steps_named(job_ids: Sequence[int]) -> dict[tuple[int, str], set[int]]:
    """By job and name of a checkpoint's folder, the fences of those that a row points to or pointed to."""
    found: dict[tuple[int, str], set[int]] = defaultdict(set)
    with transaction() as session:
        for job, folder, fence in session.execute(STEPS, {"ids": list(job_ids)}):
            found[int(job), str(folder)].add(int(fence))
    return dict(found)


def _ids(statement: str, job_ids: Sequence[int]) -> set[int]:
    with transaction() as session:
        values = {"ids": list(job_ids)} | ({"days": KEEP_DAYS} if ":days" in statement else {})
        rows = session.execute(text(statement), values)
        return {int(row[0]) for row in rows}
