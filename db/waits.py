"""Jobs that wait in vain: for one that ended without success, which only a person lets run again."""

from __future__ import annotations

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
