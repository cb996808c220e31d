"""Trajectories with their turns and calls, quarantine and scores: written in bulk, read by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Quarantine, Score, Trajectory, Turn
from rl import records


def insert_trajectories(
    session: Session, line_id: int, window_id: int, source: str, trajectories: Sequence[records.Trajectory]
) -> int:
    """Store the trajectories and their turns; those stored already are left alone. Returns how many are new.

    Calls are stored by ``db.calls``, because a gateway may have stored them first.
    """
    if not trajectories:
        return 0
    by_id = {one.trajectory_id: one for one in reversed(trajectories)}  # of two with one id the first counts
    rows = [
        {
            "trajectory_id": one.trajectory_id,
            "line_id": line_id,
            "window_id": window_id,
            "scenario_id": one.scenario_id,
            "agent_id": one.agent_id,
            "source": source,
            "reward": one.reward,
            "started_at": one.started_at,
            "ended_at": one.ended_at,
            "details": one.metadata,
        }
        for one in by_id.values()
    ]
    fresh = set(
        session.scalars(
            insert(Trajectory)
            .on_conflict_do_nothing(index_elements=["trajectory_id"])
            .returning(Trajectory.trajectory_id),
            rows,
        )
    )
    turns = [turn for key in fresh for turn in _turns(by_id[key])]
    if turns:
        session.execute(insert(Turn), turns)
    return len(fresh)


def _turns(trajectory: records.Trajectory) -> Iterable[dict[str, Any]]:
    actions = {call.turn: call.response.content for call in trajectory.calls}
    last = max(actions, default=None)
    for turn, action in sorted(actions.items()):
        yield {
            "trajectory_id": trajectory.trajectory_id,
            "turn": turn,
            "action": action,
            "reward": trajectory.reward if turn == last else 0.0,
        }


def stored_elsewhere(session: Session, window_id: int, ids: Sequence[str]) -> set[str]:
    """Those of the ids that belong to trajectories of other windows."""
    query = select(Trajectory.trajectory_id).where(Trajectory.trajectory_id == func.any(list(ids)))
    return set(session.scalars(query.where(Trajectory.window_id != window_id)))


def insert_quarantine(session: Session, line_id: int, window_id: int, rows: Sequence[records.Quarantined]) -> int:
    """Keep rows that could not be used, once each in a line. Returns how many were not known before."""
    if not rows:
        return 0
    values = [row.model_dump() | {"line_id": line_id, "window_id": window_id} for row in rows]
    return len(list(session.scalars(insert(Quarantine).on_conflict_do_nothing().returning(Quarantine.id), values)))


@dataclass(frozen=True)
class Scored:
    """A trajectory with what scoring and training need of it."""

    trajectory_id: str
    window: str
    scenario_id: str
    reward: float
    score: float | None


def of_windows(session: Session, window_ids: Sequence[int]) -> list[Scored]:
    """The windows' trajectories with their newest score, in a fixed order."""
    rows = session.execute(
        text("""
            select t.trajectory_id, w.name, t.scenario_id, t.reward, s.score
              from rlfleet.trajectories t
              join rlfleet.windows w on w.id = t.window_id
              left join lateral (select score from rlfleet.scores s where s.trajectory_id = t.trajectory_id
                                  order by s.id desc limit 1) s on true
             where t.window_id = any(:ids)
             order by w.name, t.scenario_id, t.trajectory_id
        """),
        {"ids": list(window_ids)},
    )
    return [Scored(*row) for row in rows]


def insert_scores(session: Session, scores: Sequence[dict[str, Any]]) -> int:
    """Add score rows; one that is there already (same trajectory, method, version and input) is left alone."""
    if not scores:
        return 0
    added = session.scalars(insert(Score).on_conflict_do_nothing().returning(Score.id), scores)
    return len(list(added))
