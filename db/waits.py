"""Jobs that wait in vain: for one that ended without success, which only a person lets run again; or for too long."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import alerts
from rl.records import utc

ENDED = "('failed', 'dead', 'cancelled')"

BLOCKERS = f"""
    with recursive waited(id) as (
        select unnest(j.after) where j.state = 'queued'
        union select unnest(d.after) from waited join rlfleet.jobs d on d.id = waited.id and d.state = 'queued'
    )
    select e.id, e.state from waited join rlfleet.jobs e on e.id = waited.id where e.state in {ENDED}
"""  # noqa: S608 (of the constant above)
"""A subquery: the jobs (id, state) that hold up job ``j``, whether it waits for them itself or for one that does."""

IN_VAIN = f"exists ({BLOCKERS})"
"""A condition on job ``j``. It holds nothing up: its windows are as if nobody had asked, until the other runs again."""


PUT_OFF: Final = text("""
    select j.id, j.kind, l.name as line, j.error, began.since
      from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
      cross join lateral (
          select min(e.at) as since from rlfleet.job_events e
           where e.job_id = j.id and e.to_state = 'queued' and starts_with(e.reason, :reason)
             and not exists (select 1 from rlfleet.job_events o
                              where o.job_id = j.id and o.id > e.id and o.to_state = 'queued'
                                and not starts_with(o.reason, :reason))
      ) began
     where j.state = 'queued' and j.error ~ :error
       and began.since < now() - make_interval(secs => :seconds)
     order by j.id
""")


def alert_put_off(session: Session, name: str, reason: str, error: str, seconds: float) -> list[int]:
    """Raise the alert ``name`` for jobs put off again and again for so long, once an hour each; their ids.

    What they were put off for begins with ``reason`` each time, and matches the expression ``error`` the last time.
    """
    found = session.execute(PUT_OFF, {"reason": reason, "error": error, "seconds": seconds}).all()
    for one in found:
        detail = {"job": one.id, "kind": one.kind, "line": one.line, "since": utc(one.since), "error": one.error}
        alerts.raise_alert(session, name, f"job {one.id}", detail)
    return [one.id for one in found]
