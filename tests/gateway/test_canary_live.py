"""Agents, a gateway, two engines and a database: a canary is rolled back by what its own traffic says."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import text

import tasks
from db import canaries, decisions, engines, releases
from db.live import SLOT_SECONDS
from db.session import transaction
from db.tables import Line, Version
from gateway import catalog
from gateway.app import create_app
from gateway.routing import place
from gateway.settings import GatewaySettings
from rl.release_plan import Plan
from rl.sequential import Rules
from rl.stages import Stage, Stages
from tests.conftest_database import add_line, add_version, empty, released
from tests.db import traffic
from tests.gateway.doubles import FakeEngine, served
from tests.recorder.doubles import wait_until
from tests.tasks.rows import within_a_period

pytestmark = pytest.mark.slow

SHARE = 40
PLAN = Plan(stages=Stages(stages=(Stage(share=SHARE), Stage(share=100))), rules=Rules(min_rewards=40))
AGENTS = [f"agent-{number}" for number in range(40)]
RATES = {"canary": 0.2, "stable": 0.8}


@dataclass
class Town:
    """A line with a canary, an engine for each of its versions, a base model, and agents that call the gateway."""

    line: Line
    stable: Version
    canary: Version
    gateway: httpx.Client
    canary_engine: FakeEngine
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    count: int = 0

    def ask(self, agent: str) -> str:
        """One episode of one call; the version that answered it. The agent reports what it earned."""
        self.count += 1
        key = f"episode-{self.count}"
        version = self.version_of(agent, key)
        rate = RATES["canary" if version == self.canary.name else "stable"]
        events = [
            {"type": "startTrajectory", "trajectoryId": key, "agentId": agent},
            {"type": "endTrajectory", "trajectoryId": key, "reward": float(self.rng.random() < rate)},
        ]
        told = self.gateway.post("/v1/ingest", json={"schema": 1, "events": events})
        assert told.json()["accepted"] == 2, told.text
        return version

    def version_of(self, agent: str, key: str) -> str:
        """One call."""
        headers = {"X-Agent-Id": agent, "X-Trajectory-Id": key}
        body = {"model": "main", "messages": [{"role": "user", "content": "red ball ahead"}]}
        answer = self.gateway.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Rlfleet-Version"]

    def everybody(self) -> Counter[str]:
        """An episode of each agent: which versions answered."""
        return Counter(self.ask(agent) for agent in AGENTS)


@pytest.fixture
def town(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    for one in GatewaySettings.model_fields.values():
        monkeypatch.delenv(str(one.validation_alias), raising=False)
    with transaction() as session:
        empty(session)
        line = add_line(session)
        stable, canary = add_version(session, line), add_version(session, line)
        released(session, line.id, stable.id)
        decision = decisions.by_person(session, line.id, canary.id, "tried by a test", "a test")
        releases.start_canary(session, line.id, canary.id, decision, PLAN, "tried by a test")
    with ExitStack() as stack:
        ours = {name: FakeEngine(versions={name}) for name in (stable.name, canary.name)}
        for name, engine in ours.items():
            url = stack.enter_context(served(engine.app()))
            with transaction() as session:
                engines.announce(session, f"cpu@{name}", url, "cpu", os.getpid())
        variables = {
            "RLFLEET_CAPTURE": "required",
            "RLFLEET_STATE": str(tmp_path),
            "UPSTREAM_BASE_URL": stack.enter_context(served(FakeEngine().app())) + "/v1",
        }
        url = stack.enter_context(served(create_app(GatewaySettings.model_validate(variables))))
        client = stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=30))
        yield Town(line, stable, canary, client, ours[canary.name])


def test_a_worse_canary_is_rolled_back_and_everybody_gets_the_stable_version(town: Town) -> None:
    expected = Counter(town.canary.name if place("main", one) < SHARE else town.stable.name for one in AGENTS)
    for _ in range(6):
        assert town.everybody() == expected
    assert min(expected.values()) >= 10

    said = tasks.watch_releases.run()

    assert said.startswith(f"{town.canary.name}: roll back at {SHARE} %: worse: reward 0."), said
    began = time.monotonic()
    theirs = next(one for one in AGENTS if place("main", one) < SHARE)
    wait_until(lambda: town.version_of(theirs, "after it") == town.stable.name)
    print(f"the canary's agents had the stable version {time.monotonic() - began:.2f} s after the rollback")  # noqa: T201
    assert town.everybody() == {town.stable.name: len(AGENTS)}
    assert catalog.SECONDS <= 2
    with transaction() as session:
        assert canaries.canaries(session) == []
        assert session.get_one(Version, town.canary.id).state == "rejected"
        assert session.scalars(text("select name from rlfleet.alerts")).all() == ["canary_rolled_back"]


def test_a_canary_whose_engine_fails_is_rolled_back_though_agents_were_answered_by_others(town: Town) -> None:
    town.canary_engine.refusal = 500
    within_a_period(SLOT_SECONDS, needed=5)  # slots with refused calls are told from others by how many there are
    for _ in range(4):
        assert town.canary.name not in town.everybody()
    with transaction() as session:
        traffic.age(session, 1)

    said = tasks.watch_releases.run()

    assert said.startswith(f"{town.canary.name}: roll back at {SHARE} %: "), said
    assert "requests of the canary failed, 0 of" in said
    wait_until(lambda: town.everybody() == {town.stable.name: len(AGENTS)})
