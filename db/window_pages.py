"""Windows as people page through them: what is in each, what became of it, and the job in its way."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.tables.jobs import WINDOWS
from rl.records import utc

Rows = list[dict[str, Any]]

PAGE = text("""
    select id from rlfleet.windows
     where line_id = :line_id and (cast(:state as text) is null or state = :state)
       and (cast(:before as bigint) is null or id < :before)
     order by id desc limit :limit
""")
NEWEST = text("select id from rlfleet.windows where line_id = :line_id order by starts_at desc, id desc limit :limit")
COUNT = text("select count(*) from rlfleet.windows where line_id = :line_id")
# Each window is looked up by itself, in its own partition, however many others there are. Its jobs are found by what
# they are about before they are ordered: going through all jobs from the newest on would find them too.
ROWS = text(f"""
    select w.id, w.name, w.state, nullif(concat_ws('; ', w.reason, 'removed by retention on '
               || to_char(w.removed_at at time zone 'UTC', 'YYYY-MM-DD'),
               'job ' || a.id || ' ' || a.state || ': rlfleet jobs show ' || a.id), '') as reason,
           w.removed_at, w.again, t.trajectories, t.groups, t.scored,
           (select count(*) from rlfleet.quarantine q where q.window_id = w.id) as quarantined,
           array(select v.name from rlfleet.dataset_windows o join rlfleet.datasets d on d.id = o.dataset_id
                   join rlfleet.versions v on v.job_id = d.job_id
                  where o.window_id = w.id order by v.id) as versions
      from rlfleet.windows w
      left join lateral (
           select count(*) as trajectories, count(distinct t.scenario_id) as groups, count(*) filter (where exists (
                  select 1 from rlfleet.scores s where s.trajectory_id = t.trajectory_id)) as scored
             from rlfleet.trajectories t where t.window_id = w.id and t.at = w.starts_at) t on true
      left join lateral (
           with about as materialized (
               select j.id, j.state from rlfleet.jobs j
                where j.line_id = w.line_id and {WINDOWS} @> to_jsonb(w.name)
                  and w.state in ('closed', 'collected', 'scored'))
           select id, state from about order by id desc limit 1) a on a.state in ('failed', 'dead')
     where w.id = any(:ids) order by w.starts_at, w.id
""")  # noqa: S608 (of a constant)


def rows(session: Session, ids: Collection[int]) -> Rows:
    """These windows, oldest first: state, what is in them, and the versions that were trained on them.

    Moments are ISO 8601. ``reason`` names the newest job about a window where it failed or died.
    """
    found = session.execute(ROWS, {"ids": list(ids)}).mappings() if ids else ()
    return [{key: utc(one) if isinstance(one, datetime) else one for key, one in row.items()} for row in found]


def listing(
    session: Session, line_id: int, limit: int = 100, before: int | None = None, state: str | None = None
) -> Rows:
    """The line's windows as ``rows`` has them, the newest first; ``before`` is an id."""
    ids = list(session.scalars(PAGE, {"line_id": line_id, "limit": limit, "before": before, "state": state}))
    return sorted(rows(session, ids), key=lambda row: -row["id"])


def newest(session: Session, line_id: int, limit: int) -> tuple[Rows, int]:
    """The line's last windows, oldest first, and how many it has."""
    count = session.execute(COUNT, {"line_id": line_id}).scalar_one()
    return rows(session, session.scalars(NEWEST, {"line_id": line_id, "limit": limit}).all()), int(count)
