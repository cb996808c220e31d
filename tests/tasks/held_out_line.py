"""A line whose logs are held out in part, two of its versions, and an evaluation of one as the task does it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from db import lines, planning
from db.session import transaction
from db.tables import Version
from rl.config import LineConfig
from rl.held_out import HeldOut, LoggedSet, is_held_out, sets_of
from rl.planner import Want
from rl.records import Call, Message, Trajectory
from rl.scoring_config import Judge
from tasks import answers
from tests.db.test_lineage import HOUR, add_window
from tests.db.trained import add_version
from tests.tasks.duel_double import Engine, engine, prefers
from tests.tasks.judge_double import Stand, judging_here
from tests.tasks.rows import rows
from worker.app import app

NAMES = [f"s{number:02}" for number in range(24)]
SHARE, SALT = 0.5, "x"
HELD = [name for name in NAMES if is_held_out(name, SHARE, SALT)]
JUDGE = Judge(model="judge-1", attempts=2, answers=2, timeout_seconds=60)
TOOLS = [{"type": "function", "function": {"name": "buy", "parameters": {}}}]


@pytest.fixture
def stand(fresh: str, broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with judging_here(monkeypatch) as one:
        one.behaviour = prefers("good")
        yield one


@pytest.fixture
def served(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that serves whatever it is told to; no child process is there to be killed."""
    answers._kept.clear()

    class NoChild:
        def kill(self) -> None:
            raise AssertionError("nobody hangs")

    with engine() as one:
        monkeypatch.setattr("tasks.engine.serve_version", one.serve)
        monkeypatch.setattr(sys.modules["tasks.evaluate"], "resident", NoChild)
        yield one
    answers._kept.clear()


def held(**values: Any) -> HeldOut:
    verdict = {} if "verifier" in values else {"judge": JUDGE}
    return HeldOut(**({"share": SHARE, "salt": SALT, "hours": 2, "max_tokens": 9} | verdict | values))


def episode(name: str) -> Trajectory:
    moment = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
    call = Call(
        call_id=f"{name}/0",
        turn=0,
        model="gpt-4o",
        messages=[Message(role="system", content="You trade."), Message(role="user", content=f"Now {name}?")],
        response=Message(role="assistant", content=f"good {name}" if name < "s12" else f"bad {name}"),
        tools=TOOLS,
    )
    about = {"agent_id": "a", "reward": 0.5, "archetype": "trader" if name < "s06" else None}
    return Trajectory(trajectory_id=name, scenario_id=name, started_at=moment, ended_at=moment, calls=[call], **about)


def put(setting: HeldOut, **more: Any) -> None:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="b", held_out=setting, **more))


def world(setting: HeldOut, **more: Any) -> tuple[Version, Version]:
    """A line whose hour has an episode of each scenario, and two of its versions."""
    put(setting, **more)
    with transaction() as session:
        line = lines.named(session, "main")
        add_window(session, line, HOUR, [episode(name) for name in NAMES], state="trained")
        made = add_version(session, line, HOUR), add_version(session, line, HOUR)
        for one in made:
            session.execute(
                text("update rlfleet.checkpoints set uri = :uri where id = :id"),
                {"uri": f"/c/{one.name}", "id": one.checkpoint_id},
            )
        return made


def ask(setting: HeldOut, version: Version, against: str = "logged", **inputs: Any) -> int:
    """The id of the job that evaluates the version for a decision."""
    task_set = sets_of([HOUR], setting, against)[1]
    assert task_set == LoggedSet.model_validate(task_set.model_dump(mode="json"))
    want = Want("evaluate", "gpu", {"version": version.name} | inputs, task_set.model_dump(mode="json"))
    with transaction() as session:
        return planning.request(session, version.line_id, want)


def run(job_id: int) -> str:
    return str(app.tasks["rlfleet.evaluate"].apply((job_id,)).result)


def verdicts() -> dict[str, tuple[bool | None, bool | None]]:
    return {one.scenario_id: (one.right, one.rival_right) for one in rows("select * from rlfleet.verdicts")}
