"""What became known after a window was read and scored: rows that came late, outcomes, and what people said of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.tables import Window
from db.waits import IN_VAIN
from rl.late import RATING, Heeds, Hour, Late, admits

TRAININGS = f"""
    trainings as materialized (
        select jsonb_array_elements_text(j.inputs -> 'windows') as name,
               case when bool_or(j.state <> 'succeeded') then 'live' else 'done' end as training
          from rlfleet.jobs j
         where j.kind = 'train' and j.line_id = :line_id and j.state in ('queued', 'running', 'succeeded')
           and not {IN_VAIN}
         group by 1
    )
"""  # noqa: S608 (of a constant)
HOURS = f"""
    with {TRAININGS}
    select w.name, w.state, extract(epoch from now() - w.ends_at)::float8 / 3600, coalesce(w.rows_read, 0), t.training
      from rlfleet.windows w left join trainings t on t.name = w.name
     where w.line_id = :line_id and w.run_id is null and w.removed_at is null
       and w.state in ('collected', 'scored', 'trained', 'skipped')
"""  # noqa: S608 (of the constant above)
OF_LATE = text(f"{HOURS} and w.ends_at > now() - make_interval(secs => :farthest * 3600) order by w.starts_at")
ONE = text(f"{HOURS} and w.id = :window_id")


def hours(session: Session, line_id: int, late: Late) -> list[Hour]:
    """The line's hour windows that were read before and ended not too long ago, oldest first."""
    rows = session.execute(OF_LATE, {"line_id": line_id, "farthest": late.farthest})
    return [Hour(*row) for row in rows]


def takes(session: Session, window: Window, late: Late) -> bool:
    """Whether rows that came late may be added to the window now. Never to one whose trajectories were removed."""
    row = session.execute(ONE, {"line_id": window.line_id, "window_id": window.id}).one_or_none()
    return row is not None and admits(late.policy, Hour(*row))


def span(session: Session, line_id: int, names: Sequence[str]) -> tuple[datetime, datetime] | None:
    """When the first of the windows begins and the last of them ends; None of none."""
    query = text("""
        select min(starts_at), max(ends_at) from rlfleet.windows where line_id = :line_id and name = any(:names)
    """)
    since, until = session.execute(query, {"line_id": line_id, "names": list(names)}).one()
    return None if since is None else (since, until)


RATED, LEARNED = "sum(hashint8extended(f.id, 1))", "sum(hashint8extended(o.id, 2))"
"""A number that stands for a set of rows, whatever their order: other rows make another one, also as many."""
SAFE = 2**53
"""JSON numbers below this are exact everywhere."""
# A rating of a call may be there before its call is, and belongs to no trajectory then (``db.feedback``).
# The windows are given by their ids, so that Postgres knows how few they are and reads no others.
MARKED = text(f"""
    select window_id, mod(sum(mark), {SAFE})::bigint from (
        select k.window_id, {RATED} as mark from rlfleet.trajectory_keys k
          join rlfleet.feedback f on f.trajectory_id = k.trajectory_id and f.name = '{RATING}'
         where :feedback and k.window_id = any(:ids) group by 1
        union all
        select k.window_id, {RATED} from rlfleet.feedback f join rlfleet.call_keys c on c.call_id = f.call_id
          join rlfleet.trajectory_keys k on k.trajectory_id = c.trajectory_id
         where :feedback and f.trajectory_id = '' and f.name = '{RATING}' and k.window_id = any(:ids) group by 1
        union all
        select k.window_id, {LEARNED} from rlfleet.trajectory_keys k
          join rlfleet.outcomes o on o.trajectory_id = k.trajectory_id
         where :outcomes and k.window_id = any(:ids) group by 1
    ) each_kind group by 1
""")  # noqa: S608 (of the constant above)

PATIENCE = {"scored": timedelta(hours=1), "trained": timedelta(days=1)}
"""So long after its last scores a window is left alone: what is said of it comes bit by bit. A trained one is no longer
learned from, so that its scores are in no hurry."""
LATELY = timedelta(days=2)
"""Windows are looked at while something became known of them within this time."""
TOUCHED = text(f"""
    with touched as materialized (
        select f.trajectory_id from rlfleet.feedback f
         where :feedback and f.created_at > now() - :lately and f.name = '{RATING}' and f.trajectory_id <> ''
        union
        select c.trajectory_id from rlfleet.feedback f join rlfleet.call_keys c on c.call_id = f.call_id
         where :feedback and f.created_at > now() - :lately and f.name = '{RATING}' and f.trajectory_id = ''
        union
        select o.trajectory_id from rlfleet.outcomes o where :outcomes and o.created_at > now() - :lately
    ), scored as materialized (
        select inputs ->> 'window' as name, bool_or(state in ('queued', 'running')) as live, max(finished_at) as ended
          from rlfleet.jobs
         where line_id = :line_id and kind = 'score'
           and (state in ('queued', 'running') or finished_at > now() - greatest(:if_scored, :if_trained)) group by 1
    )
    select w.id, w.name, w.known from rlfleet.windows w
     where w.line_id = :line_id and w.run_id is null and w.removed_at is null and w.state in ('scored', 'trained')
       and w.id in (select k.window_id from touched join rlfleet.trajectory_keys k using (trajectory_id))
       and not exists (
           select 1 from scored s where s.name = w.name and (s.live or s.ended > now() - (
               case w.state when 'trained' then :if_trained else :if_scored end)))
     order by w.starts_at
""")  # noqa: S608


def known(session: Session, window_id: int, heeded: Heeds) -> int:
    """Stands for the outcomes and ratings of the window's trajectories, of those kinds that are heeded; 0 for none."""
    return _marked(session, [window_id], heeded)[window_id]


def changed(session: Session, line_id: int, heeded: Heeds) -> dict[str, int]:
    """The line's hour windows whose scores do not take into account what is ``known`` of them, with that number.

    One that is being scored, or was a short while ago (``PATIENCE``), is left for a later look.
    """
    values = {"line_id": line_id, "lately": LATELY, "feedback": heeded.feedback, "outcomes": heeded.outcomes}
    patience = {f"if_{state}": span for state, span in PATIENCE.items()}
    touched = session.execute(TOUCHED, values | patience).all()
    present = _marked(session, [row.id for row in touched], heeded)
    return {row.name: present[row.id] for row in touched if present[row.id] != row.known}


def _marked(session: Session, ids: list[int], heeded: Heeds) -> dict[int, int]:
    values = {"ids": ids, "feedback": heeded.feedback, "outcomes": heeded.outcomes}
    found = {window_id: int(mark) for window_id, mark in session.execute(MARKED, values)}
    return {window_id: found.get(window_id, 0) for window_id in ids}
