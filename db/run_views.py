"""Runs in a list, and the rounds of one with what was played in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

Rows = list[dict[str, Any]]


def listing(session: Session, limit: int, before: int | None = None) -> Rows:
    """The newest runs first; ``before`` is the oldest id that is known already.

    A run has ``id``, ``name``, ``line``, ``state``, ``reason``, ``environment``, ``objective``, how many rounds are
    ``trained`` and there are to be, and its moments.
    """
    return [dict(row) for row in session.execute(RUNS, {"limit": limit, "before": before}).mappings()]


def rounds(session: Session, run_id: int) -> Rows:
    """The run's rounds: ``name``, ``state``, ``reason``, ``trajectories``, ``groups``, ``reward``, ``failed``."""
    return [dict(row) for row in session.execute(ROUNDS, {"run_id": run_id}).mappings()]


RUNS = text("""
    select r.id, r.name, l.name as line, r.state, r.reason, r.config -> 'rollout' ->> 'environment' as environment,
           r.config -> 'train' ->> 'objective' as objective, (r.config ->> 'rounds')::int as of,
           (select count(*) from rlfleet.windows w where w.run_id = r.id and w.state = 'trained') as trained,
           r.created_at, r.finished_at
      from rlfleet.runs r join rlfleet.lines l on l.id = r.line_id
     where cast(:before as bigint) is null or r.id < :before order by r.id desc limit :limit
""")
ROUNDS = text("""
    select w.name, w.state, w.reason, count(t.trajectory_id) as trajectories, count(distinct t.scenario_id) as groups,
           avg(t.reward) as reward, (select count(*) from rlfleet.quarantine q where q.window_id = w.id) as failed
      from rlfleet.windows w left join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
     where w.run_id = :run_id group by w.id order by w.round, w.id
""")
