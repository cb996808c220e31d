"""Runs in a list, and the rounds of one with what was played in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

Rows = list[dict[str, Any]]


def listing(session: Session, most: int) -> Rows:
    """The newest runs: ``name``, ``line``, ``state``, ``reason``, ``environment``, ``objective``, rounds, moments."""
    return [dict(row) for row in session.execute(RUNS, {"most": most}).mappings()]


def rounds(session: Session, run_id: int) -> Rows:
    """The run's rounds: ``name``, ``state``, ``reason``, ``trajectories``, ``groups``, ``reward``, ``failed``."""
    return [dict(row) for row in session.execute(ROUNDS, {"run_id": run_id}).mappings()]


RUNS = text("""
    select r.name, l.name as line, r.state, r.reason, r.config -> 'rollout' ->> 'environment' as environment,
           r.config -> 'train' ->> 'objective' as objective, (r.config ->> 'rounds')::int as of,
           (select count(*) from rlfleet.windows w where w.run_id = r.id and w.state = 'trained') as trained,
           r.created_at, r.finished_at
      from rlfleet.runs r join rlfleet.lines l on l.id = r.line_id order by r.id desc limit :most
""")
ROUNDS = text("""
    select w.name, w.state, w.reason, count(t.trajectory_id) as trajectories, count(distinct t.scenario_id) as groups,
           avg(t.reward) as reward, (select count(*) from rlfleet.quarantine q where q.window_id = w.id) as failed
      from rlfleet.windows w left join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
     where w.run_id = :run_id group by w.id order by w.round, w.id
""")
