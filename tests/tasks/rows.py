"""Rows to begin with, and short ways to look at what became of them."""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import dispatch, jobs, lines, trajectories, windows
from db.dispatch import Spec
from db.jobs import Claim
from db.session import transaction
from rl.config import LineConfig, Optimizer, SftTrain
from rl.protocol import QUEUES
from rl.readiness import Thresholds
from rl.records import Trajectory
from rl.scoring import by_reward
from rl.windows import parse

SFT = SftTrain(steps=1, optimizer=Optimizer(learning_rate=0.001))
EAGER = Thresholds(min_trajectories=1, min_groups=0, min_quality=0.0, min_hours_between=0.0)
"""A line that says so trains on one trajectory."""


def one(statement: str, **values: object) -> Any:
    with transaction() as session:
        return session.execute(text(statement), values).one()


def rows(statement: str, **values: object) -> list[Any]:
    with transaction() as session:
        return list(session.execute(text(statement), values))


def add_line(name: str = "main", *, train: SftTrain | None = SFT, **fields: Any) -> int:
    with transaction() as session:
        return lines.put(session, name, LineConfig(base_model="random-qwen3", train=train, **fields))


def add_window(line_id: int, name: str, state: str) -> int:
    with transaction() as session:
        return windows.ensure(session, line_id, parse(name), state=state)


def add_scored(line_id: int, name: str, *rewards: float) -> int:
    """A scored window with a trajectory of one scenario for each reward, which is its score; one of 1 by default."""
    window, moment = parse(name), parse(name).hour
    assert moment is not None
    several = [
        Trajectory(
            trajectory_id=f"{line_id}/{name}/{place}",
            scenario_id="s",
            agent_id="a",
            started_at=moment,
            ended_at=moment,
            reward=reward,
            calls=[],
        )
        for place, reward in enumerate(rewards or (1.0,))
    ]
    with transaction() as session:
        window_id = windows.ensure(session, line_id, window, state="scored")
        trajectories.insert_trajectories(session, line_id, window_id, "a test", several)
        trajectories.insert_scores(session, [by_reward(one.trajectory_id, one.reward) for one in several])
    return window_id


def asked(line_id: int, **fields: Any) -> int:
    """A new job's id."""
    values = {"kind": "score", "inputs": {"n": secrets.token_hex(4)}, "config": {}, "queue": "score"} | fields
    with transaction() as session:
        return dispatch.request(session, Spec(line_id=line_id, **values))


def claimed(job_id: int, lease_seconds: float = 60) -> Claim:
    claim = jobs.claim(job_id, "a test", lease_seconds)
    assert claim is not None
    return claim


def job(job_id: int) -> Any:
    return one("select * from rlfleet.jobs where id = :id", id=job_id)


def within_a_period(seconds: int, needed: float = 30.0) -> None:
    """Return in a period of so many seconds of Unix time, as slots and days are, that lasts for ``needed`` more."""
    while (left := seconds - time.time() % seconds) < needed:
        time.sleep(left)


def effect(session: Session) -> dict[str, int]:
    """What a job's effect writes: one engine."""
    session.execute(text("insert into rlfleet.engines (name, url, device, pid) values ('e', 'http://e', 'cpu', 1)"))
    return {"answer": 42}


def effects() -> int:
    return int(one("select count(*) from rlfleet.engines")[0])


@dataclass(frozen=True)
class Sent:
    """A message as it lies in the broker."""

    task: str
    args: list[Any]
    expires: datetime | None = field(default=None, compare=False)


def messages(broker: Redis) -> dict[str, list[Sent]]:
    """What waits in each queue, the oldest first; empty queues are left out."""
    found = {}
    for queue in QUEUES:
        waiting = [json.loads(str(raw)) for raw in reversed(broker.lrange(f"rlfleet:{queue}", 0, -1))]
        if waiting:
            found[queue] = [_sent(one) for one in waiting]
    return found


def _sent(message: dict[str, Any]) -> Sent:
    args, _, _ = json.loads(base64.b64decode(message["body"]))
    expires = message["headers"]["expires"]
    return Sent(message["headers"]["task"], args, datetime.fromisoformat(expires) if expires else None)
