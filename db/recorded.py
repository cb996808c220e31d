"""Reading what agents reported: the episodes that are over, by line and window, with their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import partitions
from rl import records
from rl.windows import WindowId

ABANDONED_AFTER = timedelta(hours=24)
"""An episode without an end is over when nothing was heard of it for this long."""

IS_OVER = """
    r.line = :line and r.consent is not false and r.ended_at is not null
    and not exists (select 1 from rlfleet.trajectory_keys k
                     where k.trajectory_id = r.trajectory_id and k.erased_at is not null)
"""


@dataclass(frozen=True)
class Head:
    """What was said of a whole episode. ``agent_id`` is None where its start was never reported.

    ``status`` is None where it was abandoned, and ``reward`` where it is the sum of its steps'.
    """

    trajectory_id: str
    agent_id: str | None
    scenario_id: str | None
    archetype: str | None
    consent: bool | None
    started_at: datetime | None
    ended_at: datetime
    status: str | None
    reward: float | None
    details: dict[str, Any]


ABANDON = text("""
    with open as (
        select trajectory_id, created_at from rlfleet.recordings
         where line = :line and ended_at is null and consent is not false and created_at < now() - :patience
           for update skip locked
    ), heard as (
        select trajectory_id, greatest(created_at,
            (select max(at) from rlfleet.turns t where t.trajectory_id = o.trajectory_id and t.at >= o.created_at),
            (select max(at) from rlfleet.calls c where c.trajectory_id = o.trajectory_id and c.at >= o.created_at)
        ) as last_at from open o
    )
    update rlfleet.recordings r set ended_at = last_at from heard h
     where r.trajectory_id = h.trajectory_id and last_at < now() - :patience
    returning r.trajectory_id
""")


def abandon(session: Session, line: str) -> list[str]:
    """End the line's episodes of which nothing was heard for ``ABANDONED_AFTER``, at their last step or call."""
    return list(session.scalars(ABANDON, {"line": line, "patience": ABANDONED_AFTER}))


IN_WINDOW = text(f"""
    select r.trajectory_id from rlfleet.recordings r
     where {IS_OVER} and (r."window" = :name or (r."window" is null
           and r.ended_at >= cast(:since as timestamptz) and r.ended_at < cast(:until as timestamptz)))
     order by r.ended_at, r.trajectory_id limit :most
""")  # noqa: S608 (of the constant above)
ALL = text(f"select r.trajectory_id from rlfleet.recordings r where {IS_OVER} order by r.ended_at, r.trajectory_id")  # noqa: S608


def over(session: Session, line: str, window: WindowId | None, most: int | None = None) -> list[str]:
    """The ids of the line's episodes that named the window, or ended in its hour and named none; or of all."""
    if window is None:
        return list(session.scalars(ALL, {"line": line}))
    values = {"line": line, "name": window.text, "since": window.hour, "until": window.ends_at, "most": most}
    return list(session.scalars(IN_WINDOW, values))


BY_WINDOW = text(f"""
    select coalesce(r."window", to_char(date_trunc('hour', r.ended_at at time zone 'UTC'), 'YYYY-MM-DD"T"HH24:00')),
           count(*)
      from rlfleet.recordings r
     where {IS_OVER} and (r."window" is not null or (
           (cast(:since as timestamptz) is null or r.ended_at >= date_trunc('hour', cast(:since as timestamptz)))
           and (cast(:until as timestamptz) is null or r.ended_at < cast(:until as timestamptz) + interval '1 hour')))
     group by 1 order by 1
""")  # noqa: S608 (of the constant above)


def by_window(session: Session, line: str, since: datetime | None, until: datetime | None) -> dict[str, int]:
    """How many episodes of each window are over: every one that was named, and hours about ``since`` to ``until``."""
    rows = session.execute(BY_WINDOW, {"line": line, "since": since, "until": until})
    return {name: int(number) for name, number in rows}


HEADS = text("""
    select trajectory_id, agent_id, scenario_id, archetype, consent, started_at, ended_at, status, reward, details
      from rlfleet.recordings where trajectory_id = any(:ids) and ended_at is not null and consent is not false
""")


def heads(session: Session, ids: Sequence[str]) -> dict[str, Head]:
    """What was said of each; one that goes on again, or that nobody agrees to, is left out."""
    return {row.trajectory_id: Head(*row) for row in session.execute(HEADS, {"ids": list(ids)})}


SINCE = text("""
    select least(min(r.created_at), min(k.at)) from rlfleet.recordings r
      left join rlfleet.trajectory_keys k using (trajectory_id) where r.trajectory_id = any(:ids)
""")
TURNS = text("""
    select distinct on (trajectory_id, turn) trajectory_id, turn, reward, details from rlfleet.turns
     where trajectory_id = any(:ids) and at >= :since order by trajectory_id, turn, at desc
""")


def turns(session: Session, ids: Sequence[str]) -> dict[str, list[records.Turn]]:
    """The steps of each trajectory in order; a trajectory without steps has an empty list."""
    found: dict[str, list[records.Turn]] = {one: [] for one in ids}
    since = session.scalar(SINCE, {"ids": list(ids)})
    if since is None:
        return found
    for row in session.execute(TURNS, {"ids": list(ids), "since": partitions.week_of(since)}):
        known = row.details or {}
        found[row.trajectory_id].append(records.Turn(turn=row.turn, reward=row.reward, **known))
    return found
