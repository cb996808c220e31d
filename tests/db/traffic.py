"""Rows of live traffic, as the gateway and agents leave them, with moments of the past in place of a wait."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from db import canaries, decisions, releases
from db.canaries import Canary
from db.tables import Call, CallFailure, Feedback, Line, Recording, Version
from gateway.routing import place
from rl.release_plan import Plan
from tests.conftest_database import add_line, add_version, released

NOW = text("select now()")


def hours_ago(session: Session, hours: float) -> datetime:
    """A moment before the transaction's."""
    now: datetime = session.execute(NOW).scalar_one()
    return now - timedelta(hours=hours)


def start(session: Session, plan: Plan, hours: float = 0.0) -> tuple[Line, Version, Version]:
    """A line with a stable version and, for so many hours, a canary. The line, the stable version, the canary."""
    line = add_line(session)
    stable, canary = add_version(session, line), add_version(session, line)
    released(session, line.id, stable.id)
    age(session, 1)
    decision = decisions.by_person(session, line.id, canary.id, "tried by a test", "a test")
    releases.start_canary(session, line.id, canary.id, decision, plan, "tried by a test")
    age(session, hours)
    return line, stable, canary


def age(session: Session, hours: float) -> None:
    """So many hours pass: every row is that much older."""
    for table, columns in {
        "releases": ("created_at", "ended_at"),
        "calls": ("created_at",),
        "call_failures": ("at",),
        "feedback": ("created_at", "at"),
        "recordings": ("created_at", "ended_at"),
    }.items():
        sets = ", ".join(f"{name} = {name} - make_interval(secs => :seconds)" for name in columns)
        session.execute(text(f"update rlfleet.{table} set {sets}"), {"seconds": hours * 3600})  # noqa: S608


def canary_of(session: Session) -> Canary:
    """The one live canary."""
    (one,) = canaries.canaries(session)
    return one


def call(session: Session, trajectory: str, model: str, at: datetime, agent: str | None = "h", turn: int = 0) -> None:
    """One answered call. The place of ``h`` on the line is 1.2, which is a canary's."""
    session.execute(insert(Call), [_call(trajectory, model, at, agent, turn)])


def _call(trajectory: str, model: str, at: datetime, agent: str | None, turn: int = 0) -> dict[str, Any]:
    return {
        "trajectory_id": trajectory,
        "turn": turn,
        "call_id": f"{trajectory}/{turn}",
        "at": max(at, datetime.now(UTC) - timedelta(days=1)),
        "line": "main",
        "model": model,
        "agent_id": agent,
        "body": {"messages": [], "response": {}},
        "created_at": at,
    }


def fail(session: Session, model: str, at: datetime, *, asked: bool = True, agent: str | None = None) -> None:
    """One call that the version did not answer; unless ``asked``, because a circuit breaker refused it."""
    values = {"call_id": secrets.token_hex(8), "line": "main", "model": model, "asked": asked}
    values["unit"] = agent
    session.execute(insert(CallFailure), [values | {"reason": "no answer", "at": at}])


def end(session: Session, trajectory: str, reward: float | None, at: datetime) -> None:
    """The trajectory's agent said that it is over."""
    values = {"trajectory_id": trajectory, "line": "main", "agent_id": "a", "status": "completed"}
    session.execute(insert(Recording), [values | {"reward": reward, "ended_at": at}])


def think(session: Session, trajectory: str, name: str, value: float, at: datetime) -> None:
    """Somebody's feedback on the trajectory."""
    values = {"feedback_id": secrets.token_hex(8), "trajectory_id": trajectory, "name": name, "value": value}
    session.execute(insert(Feedback), [values | {"at": at, "created_at": at}])


def is_canarys(agent: str, share: float) -> bool:
    """Whether the agent's fixed place on the line lies below the share."""
    return place("main", agent) < share


def serve(
    session: Session,
    names: tuple[str, str],
    share: float,
    rates: tuple[float, float],
    *,
    hours: float = 24.0,
    episodes: int = 1200,
    agents: int = 120,
    seed: int = 0,
    rewards: bool = True,
) -> None:
    """Episodes of the last ``hours`` hours, a call each: of (canary, stable), with the rates of success of both."""
    rng, now = np.random.default_rng(seed), hours_ago(session, 0)
    whose, when = rng.integers(agents, size=episodes), rng.uniform(0, hours, size=episodes)
    chosen = [is_canarys(f"agent-{one}", share) for one in whose]
    success = rng.random(episodes) < np.where(chosen, *rates)
    ids = [secrets.token_hex(8) for _ in range(episodes)]
    moments = [now - timedelta(hours=float(one)) for one in when]
    rows: Iterable[Sequence[Any]] = zip(ids, moments, whose, chosen, strict=True)
    session.execute(insert(Call), [_call(key, names[0 if mine else 1], at, f"agent-{a}") for key, at, a, mine in rows])
    if rewards:
        ends = zip(ids, moments, success, strict=True)
        values = [{"trajectory_id": k, "line": "main", "reward": float(s), "ended_at": at} for k, at, s in ends]
        session.execute(insert(Recording), values)
