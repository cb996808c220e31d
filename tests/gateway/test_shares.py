"""Shares and the variables that bound them, proved at a gateway process with 10,000 agents."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from bench.gateway import servers
from bench.gateway.servers import Server
from db import engines, releases
from db.releases import LineReleases, LiveRelease
from db.session import transaction
from gateway.routing import Rules, of_line, place
from tests.gateway.doubles import FakeEngine, served
from tests.gateway.real import Stand, standing

AGENTS = [f"agent-{number}" for number in range(10_000)]
SOME = AGENTS[:400]
AT_ONCE = 32
WITHIN = 0.02
BASE = "base"


def shares(versions: Sequence[str]) -> dict[str, float]:
    return {name: count / len(versions) for name, count in Counter(versions).items()}


def live(stage: str, share: int) -> LiveRelease:
    return LiveRelease(
        stage=stage, share=share, version_id=1, version=stage, number=0, kind="full", uri="/w", base_uri=""
    )


@pytest.mark.parametrize(
    ("canary", "stable", "percentage", "expected"),
    [
        (10, 100, 100, {"canary": 0.1, "stable": 0.9}),
        (50, 100, 100, {"canary": 0.5, "stable": 0.5}),
        (10, 60, 100, {"canary": 0.1, "stable": 0.5, BASE: 0.4}),
        (50, 100, 30, {"canary": 0.3, BASE: 0.7}),
        (10, 100, 30, {"canary": 0.1, "stable": 0.2, BASE: 0.7}),
        (50, 100, 0, {BASE: 1.0}),
    ],
)
def test_the_shares_of_ten_thousand_agents(
    canary: int, stable: int, percentage: float, expected: dict[str, float]
) -> None:
    line = LineReleases("main", "base", (live("canary", canary), live("stable", stable)))
    rules = Rules(rollout_percentage=percentage)
    assert shares([of_line(line, agent, rules).version for agent in AGENTS]) == pytest.approx(expected, abs=WITHIN)


@dataclass
class World:
    """A line with a stable version, a canary and a base model, all spoken by one double."""

    stand: Stand
    url: str
    engine: FakeEngine
    stable: str
    canary: str
    release_id: int = 0
    gateways: dict[str, Server] = field(default_factory=dict)

    def gateway(self, **variables: str) -> Server:
        """A gateway with these variables that records nothing, one for each set of them."""
        key = str(sorted(variables.items()))
        if key not in self.gateways:
            given = {"RLFLEET_CAPTURE": "off", "UPSTREAM_BASE_URL": f"{self.url}/v1"} | variables
            self.gateways[key] = self.stand.gateway(**given)
        return self.gateways[key]

    def grow(self, share: int) -> None:
        with transaction() as session:
            self.release_id = releases.advance(session, self.release_id, share, "grown by hand")

    def announce(self, url: str) -> None:
        with transaction() as session:
            engines.announce(session, "cpu@test", url, "cpu", 1)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    engine = FakeEngine()
    with standing() as stand, served(engine.app()) as url:
        stable, canary = servers.add_version(Path("/stable")), servers.add_version(Path("/canary"))
        servers.release(stable)
        world = World(stand, url, engine, stable, canary, servers.start_canary(canary, 10))
        world.announce(url)
        yield world


@dataclass(frozen=True)
class Answers:
    """Versions and reasons by agent, in order; a refusal's version is its status."""

    versions: list[str]
    reasons: list[str]


def ask(gateway: Server, agents: Sequence[str]) -> Answers:
    """One call of each agent."""

    async def one(client: httpx.AsyncClient, agent: str) -> tuple[str, str]:
        body = {"messages": [{"role": "user", "content": "Go."}]}
        answer = await client.post("/v1/chat/completions", json=body, headers={"X-Agent-Id": agent})
        headers = answer.headers
        return headers.get("x-rlfleet-version", str(answer.status_code)), headers.get("x-rlfleet-reason", "")

    async def some(client: httpx.AsyncClient, first: int) -> list[tuple[str, str]]:
        return [await one(client, agent) for agent in agents[first::AT_ONCE]]

    async def everyone() -> list[tuple[str, str]]:
        key = {"Authorization": f"Bearer {servers.GATEWAY_KEY}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=key, trust_env=False, timeout=60) as client:
            parts = await asyncio.gather(*(some(client, first) for first in range(AT_ONCE)))
        return [parts[number % AT_ONCE][number // AT_ONCE] for number in range(len(agents))]

    versions, reasons = zip(*asyncio.run(everyone()), strict=True)
    return Answers(list(versions), list(reasons))


@pytest.mark.slow
def test_shares_hold_over_http_and_stick(world: World) -> None:
    """At 10 and 50 per cent; over repeated calls, a restart of the gateway, and growth."""
    gateway = world.gateway()
    at_ten = ask(gateway, AGENTS)
    assert shares(at_ten.versions) == pytest.approx({world.canary: 0.1, world.stable: 0.9}, abs=WITHIN)
    assert set(zip(at_ten.versions, at_ten.reasons, strict=True)) == {
        (world.canary, "canary 10 %"),
        (world.stable, "stable"),
    }
    assert ask(gateway, SOME) == Answers(at_ten.versions[: len(SOME)], at_ten.reasons[: len(SOME)])
    gateway.kill()
    gateway.start()
    assert ask(gateway, SOME).versions == at_ten.versions[: len(SOME)]

    world.grow(50)
    gateway.kill()
    gateway.start()
    at_fifty = ask(gateway, AGENTS)
    assert shares(at_fifty.versions) == pytest.approx({world.canary: 0.5, world.stable: 0.5}, abs=WITHIN)
    kept = [later for before, later in zip(at_ten.versions, at_fifty.versions, strict=True) if before == world.canary]
    assert set(kept) == {world.canary}


@pytest.mark.slow
def test_each_variable_does_what_it_says(world: World) -> None:
    """``RL_ROLLOUT_PERCENTAGE``, ``USE_RL_MODEL`` and ``RL_MODEL_VERSION``, beside a canary whose share is larger."""
    places = [place("main", agent) for agent in SOME]
    bounded = ask(world.gateway(RL_ROLLOUT_PERCENTAGE="7.5"), SOME)
    assert bounded.versions == [world.canary if at < 7.5 else BASE for at in places]
    assert set(bounded.reasons) == {"canary 7.5 %", "outside the share"}

    off = ask(world.gateway(USE_RL_MODEL="false", RL_MODEL_VERSION=world.canary), SOME)
    assert (set(off.versions), set(off.reasons)) == ({BASE}, {"killed"})

    pinned = ask(world.gateway(RL_MODEL_VERSION=world.canary), SOME)
    assert (set(pinned.versions), set(pinned.reasons)) == ({world.canary}, {"pinned"})
    some = ask(world.gateway(RL_MODEL_VERSION=world.canary, RL_ROLLOUT_PERCENTAGE="50"), SOME)
    assert some.versions == [world.canary if at < 50 else BASE for at in places]


@pytest.mark.slow
def test_production_is_off_until_it_is_switched_on(world: World) -> None:
    assert set(ask(world.gateway(RLFLEET_ENV="production"), SOME).versions) == {BASE}
    on = ask(world.gateway(RLFLEET_ENV="production", USE_RL_MODEL="true"), SOME)
    assert set(on.versions) == {world.canary, world.stable}


@pytest.mark.slow
def test_the_base_stands_in_unless_that_is_forbidden(world: World) -> None:
    world.engine.is_draining = True
    with served(FakeEngine().app()) as base:
        answers = ask(world.gateway(UPSTREAM_BASE_URL=f"{base}/v1"), SOME)
        assert set(answers.versions) == {BASE}
        assert {reason.split(":")[0] for reason in answers.reasons} == {"fallback"}
        refused = ask(world.gateway(UPSTREAM_BASE_URL=f"{base}/v1", RL_FALLBACK_TO_BASE="false"), SOME)
        assert set(refused.versions) == {"503"}
    world.engine.is_draining = False
