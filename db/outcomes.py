"""What became known of trajectories after they happened: kept beside them, never in them, the newest row counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert as insert_into
from sqlalchemy.orm import Session

from db.tables import Outcome
from rl import records
from rl.config import digest

METADATA = "outcome"
"""Where in ``Trajectory.metadata`` sources put what became known of the whole trajectory."""

Outcomes = dict[int | None, dict[str, Any]]
"""By turn; None is the whole trajectory."""


def insert(session: Session, trajectories: Iterable[records.Trajectory]) -> set[str]:
    """Add what the newest rows do not say. Returns the trajectories of which something new became known.

    Of two trajectories with one id the later one counts: a log that is only appended to has no other way to say more.
    """
    return add(session, {(one.trajectory_id, turn): body for one in trajectories for turn, body in _of(one)})


def add(session: Session, found: Mapping[tuple[str, int | None], Mapping[str, Any]]) -> set[str]:
    """The same by trajectory and turn. Nothing is stored of a trajectory that is not there, or that was erased."""
    ids = {trajectory_id for trajectory_id, _ in found}
    if not ids:
        return set()
    there = set(session.scalars(THERE, {"ids": sorted(ids)}))
    newest = {(row.trajectory_id, row.turn): row.sha256 for row in session.execute(NEWEST, {"ids": sorted(there)})}
    hashed = {key: digest(body) for key, body in found.items() if key[0] in there}
    fresh = [key for key, sha256 in hashed.items() if newest.get(key) != sha256]
    rows = [{"trajectory_id": key[0], "turn": key[1], "sha256": hashed[key], "body": found[key]} for key in fresh]
    if rows:
        session.execute(insert_into(Outcome), rows)
    return {trajectory_id for trajectory_id, _ in fresh}


# The lock keeps a trajectory from being erased between this look and the rows that follow it.
THERE = text("""
    select trajectory_id from rlfleet.trajectory_keys
     where trajectory_id = any(:ids) and erased_at is null order by trajectory_id for share
""")
NEWEST = text("""
    select distinct on (trajectory_id, turn) trajectory_id, turn, sha256 from rlfleet.outcomes
     where trajectory_id = any(:ids) order by trajectory_id, turn, id desc
""")


def _of(one: records.Trajectory) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """What it says of the whole and of its turns, where it says anything."""
    whole = one.metadata.get(METADATA)
    found: Outcomes = {turn.turn: turn.outcome for turn in one.turns} | {None: whole or {}}
    yield from ((turn, body) for turn, body in found.items() if body)


def of_trajectories(session: Session, ids: Sequence[str]) -> dict[str, Outcomes]:
    """The newest of each trajectory and turn; a trajectory of which nothing became known is left out."""
    rows = session.execute(
        text("""
            select distinct on (trajectory_id, turn) trajectory_id, turn, body from rlfleet.outcomes
             where trajectory_id = any(:ids) order by trajectory_id, turn, id desc
        """),
        {"ids": list(ids)},
    )
    found: dict[str, Outcomes] = {}
    for trajectory_id, turn, body in rows:
        found.setdefault(trajectory_id, {})[turn] = body
    return found
