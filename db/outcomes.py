"""What became known of trajectories after they happened: kept beside them, never in them, the newest row counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    """Add what is not known yet. Returns the trajectories of which something new became known."""
    rows = [row for one in trajectories for row in _rows(one)]
    if not rows:
        return set()
    added = insert_into(Outcome).on_conflict_do_nothing().returning(Outcome.trajectory_id)
    return set(session.scalars(added, rows))


def _rows(one: records.Trajectory) -> Iterator[dict[str, Any]]:
    found: Outcomes = {turn.turn: turn.outcome for turn in one.turns}
    found[None] = one.metadata.get(METADATA) or {}
    for turn, body in found.items():
        if body:
            yield {"trajectory_id": one.trajectory_id, "turn": turn, "sha256": digest(body), "body": body}


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
