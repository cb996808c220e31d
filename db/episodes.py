"""Trajectories as they were collected, whole: with their turns, calls, and what became known of them since."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import calls, outcomes
from rl import records

OF_WINDOW = text("""
    select t.*, exists (select 1 from rlfleet.recordings r
                         where r.trajectory_id = t.trajectory_id and r.consent is false) as refused
      from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
     where w.id = :window_id order by t.scenario_id, t.trajectory_id
""")
TURNS = text("""
    select t.* from rlfleet.windows w join rlfleet.turns t on t.at = w.starts_at
     where w.id = :window_id and t.trajectory_id = any(:ids) order by t.trajectory_id, t.turn
""")


def of_window(session: Session, window_id: int) -> list[records.Trajectory]:
    """The window's trajectories by scenario. Outcomes are the newest that are known."""
    rows = session.execute(OF_WINDOW, {"window_id": window_id}).all()
    ids = [row.trajectory_id for row in rows]
    spoken, known = calls.of_trajectories(session, ids), outcomes.of_trajectories(session, ids)
    turns: dict[str, list[records.Turn]] = defaultdict(list)
    for turn in session.execute(TURNS, {"window_id": window_id, "ids": ids}):
        if turn.details is not None:  # else it was made up of the calls, and says nothing that they do not
            turns[turn.trajectory_id].append(_turn(turn, known.get(turn.trajectory_id, {}).get(turn.turn)))
    return [
        records.Trajectory(
            trajectory_id=row.trajectory_id,
            scenario_id=row.scenario_id,
            agent_id=row.agent_id,
            started_at=row.started_at,
            ended_at=row.ended_at,
            reward=row.reward,
            calls=spoken[row.trajectory_id],
            turns=turns[row.trajectory_id],
            archetype=row.archetype,
            consent=False if row.refused else None,
            metadata=row.details | _known(known.get(row.trajectory_id, {}).get(None)),
        )
        for row in rows
    ]


def _turn(row: Row[Any], outcome: dict[str, Any] | None) -> records.Turn:
    known = {"outcome": outcome} if outcome else {}
    return records.Turn(**(row.details | {"turn": row.turn, "reward": row.reward} | known))


def _known(outcome: dict[str, Any] | None) -> dict[str, Any]:
    return {outcomes.METADATA: outcome} if outcome else {}
