"""An evaluation on a child that lives and does not answer."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

import environments
import environments.agent
import environments.sandbox
import environments.settings
from db.jobs import Claim
from db.session import transaction
from environments.play import STALL_SECONDS
from rl.config import TaskSet
from rl.errors import EngineUnavailable
from rl.records import ScenarioRef
from tasks.carry import Lease
from tasks.engine import Served
from tasks.evaluate import _play, _verdict
from tests.db import trained
from tests.gateway.doubles import served
from tests.tasks.recipes import World, evaluate
from tests.tasks.rollout_double import Player, refusal, walks
from tests.tasks.rows import add_line, asked, claimed, job
from tests.worker.doubles import MakeChild, is_gone
from worker.app import app

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_child_that_hangs_is_killed_so_that_the_next_attempt_has_another(
    broker: Redis, make_child: MakeChild, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = make_child()
    pid = child.wait_ready().pid
    module = sys.modules["tasks.evaluate"]

    async def no_answer(*_: object) -> object:
        await asyncio.sleep(0)
        raise EngineUnavailable("the engine does not answer")

    monkeypatch.setattr(module, "_play", no_answer)
    monkeypatch.setattr(module, "_prompt_hash", lambda _: "")
    monkeypatch.setattr(module, "resident", lambda: child)
    (wanted,) = evaluate(World(tmp_path))  # type: ignore[arg-type]
    answer = app.tasks["rlfleet.evaluate"].apply((wanted,))
    assert "queued (EngineUnavailable: the engine does not answer)" in str(answer.result)
    assert is_gone(pid)
    assert job(wanted).attempt == 1


def test_one_long_reply_is_an_episode_that_stalls_and_no_engine_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Client(environments.agent.ChatClient):
        def __init__(self, *given: Any, **named: Any) -> None:
            waits.append(named["timeout_seconds"])
            super().__init__(*given, **named)

    async def serve(*_: object) -> Served:
        return Served("http://127.0.0.1:9", "", "v1")

    monkeypatch.setattr(environments.agent, "ChatClient", Client)
    monkeypatch.setattr("tasks.engine.serve_version", serve)
    claim = Claim(1, "evaluate", 1, "main", {"first": 0, "count": 0}, {}, 1, 1)
    nothing = TaskSet(environment="babyai-goto", split="validation", count=1)
    checkpoint: Any = SimpleNamespace(sha256="0" * 64, uri="/checkpoint")
    assert asyncio.run(_play(claim, nothing, "v1", checkpoint, Lease(claim, 60))) == []
    assert waits == [2 * STALL_SECONDS]


def test_a_conversation_that_the_engine_always_fails_is_a_missing_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = environments.load("babyai-goto").open(ScenarioRef(environment="babyai-goto", split="validation", seed=3))
    bad = opened.messages[1].content
    engine = Player()
    engine.model = lambda body: refusal(500, "no memory") if body["messages"][1]["content"] == bad else walks(body)

    async def serve(*_: object) -> Served:
        return Served(url, "", "v1")

    monkeypatch.setattr("tasks.engine.serve_version", serve)
    asked_for = asked(add_line(), kind="evaluate", inputs={"first": 0, "count": 4}, queue="gpu")
    claim = claimed(asked_for)
    tasks = TaskSet(environment="babyai-goto", split="validation", count=4)
    checkpoint: Any = SimpleNamespace(sha256="0" * 64, uri="/checkpoint")
    with served(engine.app()) as url:
        outcomes = asyncio.run(_play(claim, tasks, "v1", checkpoint, Lease(claim, 60)))
    verdicts = [_verdict(outcome, 0) for outcome in outcomes]
    assert [one["right"] for one in verdicts] == [True, True, True, None]
    assert "engine: " in verdicts[3]["reason"]
    assert "answers 500: no memory, and answers another conversation" in verdicts[3]["reason"]


def test_verdicts_on_programs_are_stored_with_what_held_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_SANDBOX", "rlimits")
    environments.settings.settings.cache_clear()
    engine = Player()
    engine.model = lambda _: "print(input())"

    async def serve(*_: object) -> Served:
        return Served(url, "", "v1")

    monkeypatch.setattr("tasks.engine.serve_version", serve)
    programs = TaskSet(environment="ded-small", split="held_out", count=3)
    with transaction() as session:
        line = trained.add_line(session)
        version = trained.add_version(session, line).name
    about = {"kind": "evaluate", "inputs": {"version": version}, "config": programs.model_dump(mode="json")}
    wanted = asked(line.id, **about, queue="gpu")
    try:
        with served(engine.app()) as url:
            answer = app.tasks["rlfleet.evaluate"].apply((wanted,))
        assert answer.successful(), answer.result
        found = job(wanted).result
        assert (found["n"], found["sandbox_level"]) == (3, environments.sandbox.level().value)
    finally:
        environments.settings.settings.cache_clear()
