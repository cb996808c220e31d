"""Engines that are killed, or hang, under 64 agents: nothing fails that something else can answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bench.faults.expect import wait_until
from bench.gateway import servers
from bench.gateway.servers import Server
from tests.gateway.real import Stand, check_recorded, standing
from tests.gateway.taught import starter
from tests.gateway.traffic import AGENTS, Outcome, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BASE = "base"
OPEN = "failed repeatedly"
"""What a breaker that is open says."""

BREAKER = {"RLFLEET_BREAKER_SECONDS": "1"}


@dataclass(frozen=True)
class World:
    """Two versions, each released to half of the agents; the engine that knows both; and the base model's server."""

    stand: Stand
    weights: Path
    stable: str
    canary: str
    engine: Server
    upstream: dict[str, str]

    @property
    def ours(self) -> set[str]:
        return {self.stable, self.canary}

    def refusals(self, name: str) -> list[str]:
        """Why versions of ours did not answer the calls of that traffic, as it was stored."""
        found = self.stand.rows("select reason from rlfleet.call_failures where call_id like :name", name=f"{name}-%")
        return [reason for (reason,) in found]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("weights")
    weights, other, base = (starter(folder / name, seed) for seed, name in enumerate(("stable", "canary", "base")))
    with standing() as stand:
        stable, canary = servers.add_version(weights), servers.add_version(other)
        servers.release(stable)
        servers.start_canary(canary, 50)
        upstream = stand.engine(base, "starter-base")
        known = {"UPSTREAM_BASE_URL": f"{upstream.url}/v1", "UPSTREAM_MODEL": "starter-base"}
        known["UPSTREAM_API_KEY"] = servers.ENGINE_KEY
        yield World(stand, weights, stable, canary, stand.engine(weights, stable, "cpu@one"), known)


@pytest.fixture
def gateway(world: World) -> Iterator[Server]:
    made = world.stand.gateway(**BREAKER, **world.upstream)
    yield made
    made.stop()


def failed(outcomes: list[Outcome]) -> list[Outcome]:
    """What no agent should have seen: all but answers, and streams that were cut after they had begun."""
    return [one for one in outcomes if not one.is_answered and not (one.streamed and one.status == 200)]


def cut(outcomes: list[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.streamed and one.error]


def test_another_engine_answers_for_one_that_is_killed(world: World, gateway: Server) -> None:
    second = world.stand.engine(world.weights, world.stable, "cpu@two")
    with Traffic(gateway.url, "two") as traffic:
        traffic.more(2 * AGENTS, world.canary)
        second.kill()
        traffic.more(4 * AGENTS)
        second.start()
        traffic.more(2 * AGENTS)
        world.engine.kill()
        traffic.more(4 * AGENTS)
        world.engine.start()
    second.stop()
    world.stand.servers.do("delete from rlfleet.engines where name = 'cpu@two'")

    assert failed(traffic.outcomes) == []
    assert {one.version for one in traffic.outcomes} == world.ours
    assert len(cut(traffic.outcomes)) <= AGENTS
    check_recorded(world.stand, traffic.outcomes, world.ours)


def test_the_base_answers_until_the_only_engine_is_back(world: World, gateway: Server) -> None:
    with Traffic(gateway.url, "base") as traffic:
        traffic.more(2 * AGENTS, world.canary)
        world.engine.kill()
        away = traffic.more(4 * AGENTS, BASE)
        world.engine.start()
        traffic.more(2 * AGENTS, world.stable)
        traffic.more(2 * AGENTS, world.canary)
        back = traffic.more(4 * AGENTS)

    assert failed(traffic.outcomes) == []
    assert {one.reason.split(":")[0] for one in away if one.version == BASE} == {"fallback"}
    assert {one.version for one in back} == world.ours, "both breakers are closed"
    assert len(cut(traffic.outcomes)) <= AGENTS / 2
    check_recorded(world.stand, traffic.outcomes, world.ours)
    refusals = world.refusals("base")
    assert len(refusals) == sum(one.version == BASE or one.error != "" for one in traffic.outcomes)
    assert any(OPEN in reason for reason in refusals)


def test_an_engine_that_hangs_is_given_up_and_taken_back(world: World, gateway: Server) -> None:
    """Once the breaker is open nobody waits for the deadline: calls fall back at once."""
    with Traffic(gateway.url, "hangs") as traffic:
        traffic.more(AGENTS)
        os.kill(world.engine.pid, signal.SIGSTOP)
        traffic.more(4 * AGENTS, BASE)
        os.kill(world.engine.pid, signal.SIGCONT)
        traffic.more(2 * AGENTS, world.stable)

    assert failed(traffic.outcomes) == []
    check_recorded(world.stand, traffic.outcomes, world.ours)
    refusals = world.refusals("hangs")
    assert any("said nothing" in reason for reason in refusals)
    assert any(OPEN in reason for reason in refusals)


def test_an_exact_version_waits_for_its_engine(world: World, gateway: Server) -> None:
    """A run's own call has no stand-in: it is told to come again."""

    def ask() -> httpx.Response:
        body = {"model": world.stable, "messages": [{"role": "user", "content": "Go."}], "max_tokens": 4}
        headers = {"Authorization": f"Bearer {servers.GATEWAY_KEY}"}
        return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=60)

    assert ask().status_code == 200
    world.engine.kill()
    for _ in range(8):
        refused = ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
    world.engine.start()
    wait_until(lambda: ask().status_code == 200, 60, "an answer of the engine that is back")
