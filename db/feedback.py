"""What people and programs thought of trajectories and calls: rows are added, the newest of a name counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert as insert_into
from sqlalchemy.orm import Session

from db.tables import Feedback

UNKNOWN = ""
"""The trajectory of feedback on a call that is not stored yet."""


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """Feedback on a trajectory or on a call; one of the two ids is given. ``at`` None is the moment of storing."""

    feedback_id: str
    trajectory_id: str | None
    call_id: str | None
    name: str
    value: float
    comment: str | None = None
    author: str | None = None
    at: datetime | None = None


def insert(session: Session, given: Sequence[NewFeedback], present: datetime) -> list[bool]:
    """Store the feedback. For each: False when its id was stored before.

    What belongs to a trajectory without consent, or to one that was erased, is taken and not stored.
    """
    owners = _owners(session, [one.call_id for one in given if one.call_id is not None])
    rows: dict[str, dict[str, Any]] = {}
    for one in given:
        owner = one.trajectory_id or owners.get(one.call_id or "", UNKNOWN)
        rows.setdefault(one.feedback_id, asdict(one) | {"trajectory_id": owner, "at": one.at or present})
    refused = closed(session, {str(row["trajectory_id"]) for row in rows.values()})
    kept = [row for row in rows.values() if row["trajectory_id"] not in refused]
    fresh = {row["feedback_id"] for row in rows.values() if row["trajectory_id"] in refused}
    if kept:
        added = insert_into(Feedback).on_conflict_do_nothing().returning(Feedback.feedback_id)
        fresh |= set(session.scalars(added, kept))
    stored = []
    for one in given:
        stored.append(one.feedback_id in fresh)
        fresh.discard(one.feedback_id)
    return stored


def _owners(session: Session, call_ids: Sequence[str]) -> dict[str, str]:
    if not call_ids:
        return {}
    query = text("select call_id, trajectory_id from rlfleet.call_keys where call_id = any(:ids)")
    return {row.call_id: row.trajectory_id for row in session.execute(query, {"ids": list(call_ids)})}


CLOSED = text("""
    select trajectory_id from rlfleet.recordings where trajectory_id = any(:ids) and consent is false
    union select trajectory_id from rlfleet.trajectory_keys where trajectory_id = any(:ids) and erased_at is not null
""")


def closed(session: Session, ids: set[str]) -> set[str]:
    """Those of the trajectories of which nothing may be stored: nobody agreed to it, or they were erased."""
    return set(session.scalars(CLOSED, {"ids": sorted(ids - {UNKNOWN})}))


ADOPT = text("""
    update rlfleet.feedback f set trajectory_id = k.trajectory_id from rlfleet.call_keys k
     where f.trajectory_id = '' and f.call_id = any(:ids) and k.call_id = f.call_id
""")


def adopt(session: Session, call_ids: Sequence[str]) -> None:
    """Give feedback that came before its call the call's trajectory, now that the calls are stored."""
    if call_ids:
        session.execute(ADOPT, {"ids": list(call_ids)})


# Feedback and its call may be committed at the same moment, neither seeing the other: hence the second half.
NEWEST = text("""
    with given as (
        select trajectory_id, name, value, at, id from rlfleet.feedback where trajectory_id = any(:ids)
        union all
        select k.trajectory_id, f.name, f.value, f.at, f.id
          from rlfleet.feedback f join rlfleet.call_keys k on k.call_id = f.call_id
         where f.trajectory_id = '' and k.trajectory_id = any(:ids)
    )
    select distinct on (trajectory_id, name) trajectory_id, name, value from given
    order by trajectory_id, name, at desc, id desc
""")


def newest(session: Session, trajectory_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """By trajectory and name, the value that was given last; a trajectory without feedback is left out."""
    found: dict[str, dict[str, float]] = {}
    for trajectory_id, name, value in session.execute(NEWEST, {"ids": list(trajectory_ids)}):
        found.setdefault(trajectory_id, {})[name] = value
    return found
