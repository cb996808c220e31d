"""Retention: trajectories of windows that ended long ago are removed, unless something still needs them.

The rule, per line with ``retention.days``. A window may go when it was collected, ended more than that many days ago
(a round ends with its run), and none of these holds:

* a job that is queued or running names it, unless it waits in vain (``db.waits``), or reads a dataset that holds it;
* a version in use was trained on it. In use are: what is released; a candidate, and a ready version that nobody has
  decided on; what a run that has not ended began from or has trained; and the parent of each of these.

A week in which everything may go is dropped with its partitions (``db.weeks``); of any other, rows are deleted in
batches. The rule is asked again under the locks, and what was erased is not found again: so a pass may be killed
anywhere, and several may run at once.
"""

from __future__ import annotations

import time
from collections import Counter

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import erasure
from db.session import transaction
from db.waits import IN_VAIN

IN_USE = """
    in_use as materialized (
        select version_id as id from rlfleet.releases where ended_at is null
        union select v.id from rlfleet.versions v where v.state = 'candidate' or (v.state = 'ready' and not exists (
              select 1 from rlfleet.decisions d where d.version_id = v.id))
        union select base_version_id from rlfleet.runs where state in ('running', 'paused')
                 and base_version_id is not null
        union select v.id from rlfleet.versions v join rlfleet.datasets d on d.job_id = v.job_id
                join rlfleet.dataset_windows o on o.dataset_id = d.id join rlfleet.windows w on w.id = o.window_id
                join rlfleet.runs r on r.id = w.run_id where r.state in ('running', 'paused')
    ), needed as materialized (
        select id from in_use
        union select v.parent_id from rlfleet.versions v join in_use u on u.id = v.id where v.parent_id is not null
    )
"""
LEASED = f"""
    named as materialized (
        select j.line_id, n.name
          from rlfleet.jobs j, lateral (select j.inputs ->> 'window' as name
                                        union select jsonb_array_elements_text(j.inputs -> 'windows')) n
         where j.state in ('queued', 'running') and not {IN_VAIN}
    ), read as materialized (
        select o.window_id from rlfleet.dataset_windows o join rlfleet.datasets d on d.id = o.dataset_id
          join rlfleet.jobs j on j.id = d.job_id left join rlfleet.versions v on v.job_id = d.job_id
         where j.state in ('queued', 'running') or v.id in (select id from needed)
    )
"""  # noqa: S608 (of a constant)
FREE = f"""
    with {IN_USE}, {LEASED}, free as (
        select w.id, w.starts_at
          from rlfleet.windows w join rlfleet.lines l on l.id = w.line_id left join rlfleet.runs r on r.id = w.run_id
         where w.state not in ('open', 'closed')
           and coalesce(w.ends_at, case when r.state not in ('running', 'paused')
                                        then coalesce(r.finished_at, w.starts_at) end)
               < now() - make_interval(days => (l.config -> 'retention' ->> 'days')::int)
           and not exists (select 1 from named n where n.line_id = w.line_id and n.name = w.name)
           and not exists (select 1 from read where read.window_id = w.id)
    )
"""  # noqa: S608 (of constants)
"""The rule: ``free`` is what may go."""
HAS_ROWS = "exists (select 1 from rlfleet.trajectory_keys k where k.window_id = {}.id and k.erased_at is null)"
WINDOWS = text(f"{FREE} select id from free w where {HAS_ROWS.format('w')} order by starts_at, id")  # noqa: S608
IS_FREE = text(f"{FREE} select 1 from free where id = :id")  # noqa: S608


def may_go(session: Session) -> list[int]:
    """The windows that may go and still have trajectories, oldest first."""
    return list(session.scalars(WINDOWS))


def windows(counts: Counter[str], until: float) -> bool:
    """Erase the trajectories of windows that may go. False when ``until`` (monotonic seconds) came first."""
    with transaction() as session:
        found = may_go(session)
    for window in found:
        while number := _part(window, counts):
            if time.monotonic() > until:
                return False
            if number < erasure.BATCH:
                break
    return True


WINDOW = text("select 1 from rlfleet.windows where id = :id for no key update skip locked")
PART = text("""
    select trajectory_id from rlfleet.trajectory_keys where window_id = :id and erased_at is null
     order by trajectory_id limit :batch for update skip locked
""")
WAITED = "state in ('collected', 'scored')"
MARK = f"""
    update rlfleet.windows w
       set removed_at = coalesce(removed_at, now()), state = case when {WAITED} then 'skipped' else state end,
           reason = case when {WAITED} then 'removed before all of it was trained on' else reason end
"""  # noqa: S608 (of a constant)
"""A window that still waited for a training is skipped: nothing is left to train on."""
REMOVED = text(f"{MARK} where id = :id returning removed_at, removed_at = now() as is_first")


def _part(window: int, counts: Counter[str]) -> int:
    """Erase some trajectories of the window: how many; 0 when none is left, or something needs it by now."""
    with transaction() as session:
        if not session.execute(WINDOW, {"id": window}).first():
            return 0
        ids = list(session.scalars(PART, {"id": window, "batch": erasure.BATCH}))
        # A statement of its own, after the locks: it sees what was committed until they were had.
        if not ids or not session.execute(IS_FREE, {"id": window}).first():
            return 0
        row = session.execute(REMOVED, {"id": window}).one()
        erased = erasure.erase(session, ids, row.removed_at)
    counts += erased
    counts["windows"] += row.is_first
    return len(ids)
