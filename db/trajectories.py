"""Trajectories with their turns and calls, quarantine and scores: written in bulk, read by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import calls, outcomes, partitions
from db.tables import Quarantine, Score, Trajectory, TrajectoryKey, Turn, Window
from rl import records

REPORTED = text(
    "delete from rlfleet.turns where trajectory_id = any(:ids) and at >= :since and at < :until returning turn"
)
"""Turns lie where they arrived while their episode goes on; the trajectory brings them with it."""


def insert_trajectories(
    session: Session, line_id: int, window_id: int, source: str, trajectories: Sequence[records.Trajectory]
) -> int:
    """Store the trajectories and their turns; those stored already are left alone. Returns how many are new.

    Calls are stored by ``db.calls``, because a gateway may have stored them first; calls and turns that agents
    reported are brought beside their trajectory. What became known later is kept apart (``db.outcomes``), also of
    those stored already.
    """
    if not trajectories:
        return 0
    by_id = {one.trajectory_id: one for one in reversed(trajectories)}  # of two with one id the first counts
    at = session.scalars(select(Window.starts_at).where(Window.id == window_id)).one()
    partitions.ensure([at])
    where = {"line_id": line_id, "window_id": window_id, "at": at}
    keys = [where | {"trajectory_id": key} for key in by_id]
    claimed = insert(TrajectoryKey).on_conflict_do_nothing().returning(TrajectoryKey.trajectory_id)
    fresh = set(session.scalars(claimed, keys))
    outcomes.insert(session, trajectories)
    new = [by_id[key] for key in by_id if key in fresh]
    if not new:
        return 0
    session.execute(insert(Trajectory), [where | _row(one, source) for one in new])
    calls.settle(session, [one.trajectory_id for one in new], at)
    session.execute(REPORTED, {"ids": [one.trajectory_id for one in new]} | partitions.bounds(at))
    turns = [turn | {"at": at} for one in new for turn in _turns(one)]
    if turns:
        session.execute(insert(Turn), turns)
    return len(new)


def _row(one: records.Trajectory, source: str) -> dict[str, Any]:
    return {
        "trajectory_id": one.trajectory_id,
        "scenario_id": one.scenario_id,
        "agent_id": one.agent_id,
        "source": source,
        "archetype": one.archetype,
        "reward": one.reward,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
        "details": {name: value for name, value in one.metadata.items() if name != outcomes.METADATA},
    }


def _turns(trajectory: records.Trajectory) -> Iterable[dict[str, Any]]:
    """The turns as they were reported, or one for each turn of the calls, of which the last earned the reward."""
    said = {call.turn: call.response.content for call in trajectory.calls}
    known = {turn.turn: turn for turn in trajectory.turns}
    last = max(said, default=None)
    for number in sorted(said.keys() | known.keys()):
        turn = known.get(number)
        guessed = trajectory.reward if number == last and not known else 0.0
        yield {
            "trajectory_id": trajectory.trajectory_id,
            "turn": number,
            "action": turn.action.kind if turn and turn.action else said.get(number),
            "reward": turn.reward if turn else guessed,
            "details": turn.model_dump(mode="json", include={"at", "state", "action"}) if turn else None,
        }


@dataclass(frozen=True)
class Known:
    """A trajectory that is stored, or was until it was erased."""

    window_id: int
    is_erased: bool


def known(session: Session, ids: Sequence[str]) -> dict[str, Known]:
    """Those of the ids that belong to a trajectory, of whatever window and line."""
    query = select(TrajectoryKey.trajectory_id, TrajectoryKey.window_id, TrajectoryKey.erased_at.is_not(None))
    found = session.execute(query.where(TrajectoryKey.trajectory_id == func.any(list(ids))))
    return {trajectory_id: Known(window_id, is_erased) for trajectory_id, window_id, is_erased in found}


def insert_quarantine(session: Session, line_id: int, window_id: int, rows: Sequence[records.Quarantined]) -> int:
    """Keep rows that could not be used, once each in a line. Returns how many were not known before."""
    if not rows:
        return 0
    values = [row.model_dump() | {"line_id": line_id, "window_id": window_id} for row in rows]
    return len(list(session.scalars(insert(Quarantine).on_conflict_do_nothing().returning(Quarantine.id), values)))


@dataclass(frozen=True)
class Scored:
    """A trajectory with what scoring and training need of it. One that ``is_refused`` is stored until it can go."""

    trajectory_id: str
    window: str
    scenario_id: str
    reward: float
    score: float | None
    score_id: int | None = None
    method: str | None = None
    compared_in: str | None = None
    is_refused: bool = False

    @property
    def comparison(self) -> str:
        """Whom its score may be compared with: its scenario, and one method, and one judgement where it is relative."""
        apart = "" if self.method in (None, "reward") else f" {self.method}"
        return self.scenario_id + apart + (f" {self.compared_in[:12]}" if self.compared_in else "")


OF_WINDOWS = """
    select t.trajectory_id, w.name, t.scenario_id, t.reward, s.score, s.id, s.method, s.compared_in,
           exists (select 1 from rlfleet.recordings r where r.trajectory_id = t.trajectory_id and r.consent is false)
      from rlfleet.windows w
      join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
      left join lateral (select s.score, s.id, s.method, s.compared_in from rlfleet.scores s
                          where s.trajectory_id = t.trajectory_id order by s.id desc limit 1) s on true
     where w.id = any(:ids)
     order by w.name, t.scenario_id, t.trajectory_id
"""


def of_windows(session: Session, window_ids: Sequence[int]) -> list[Scored]:
    """The windows' trajectories with their newest score, in a fixed order."""
    return [Scored(*row) for row in session.execute(text(OF_WINDOWS), {"ids": list(window_ids)})]


def insert_scores(session: Session, scores: Sequence[dict[str, Any]]) -> int:
    """Add score rows, but for those that say what the trajectory's newest row says (same method, version and input).

    Returns how many were added.
    """
    ids = [str(one["trajectory_id"]) for one in scores]
    newest = {row.trajectory_id: tuple(row) for row in session.execute(NEWEST_SCORES, {"ids": ids})}
    added = []
    for one in scores:
        said = (one["trajectory_id"], one["method"], one["method_version"], one["input_hash"])
        if newest.get(one["trajectory_id"]) != said:
            newest[one["trajectory_id"]] = said
            added.append(one)
    if added:
        session.execute(insert(Score), added)
    return len(added)


NEWEST_SCORES = text("""
    select distinct on (trajectory_id) trajectory_id, method, method_version, input_hash
      from rlfleet.scores where trajectory_id = any(:ids) order by trajectory_id, id desc
""")
