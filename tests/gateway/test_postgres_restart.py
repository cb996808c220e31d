"""The gateway under 64 agents while its Postgres, and it itself, are stopped and killed: no capture is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from bench.faults.expect import wait_until
from bench.gateway import servers
from bench.gateway.servers import Server
from db.session import dispose
from tests.gateway.real import Stand, check_recorded, standing
from tests.gateway.taught import starter
from tests.gateway.traffic import AGENTS, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class World:
    """One engine with two versions; the first is released to all agents, and is all that a test may rely on."""

    stand: Stand
    version: str
    other: str

    def stop_postgres(self) -> None:
        self.stand.servers.stop_postgres()
        dispose()

    def kill_postgres(self) -> None:
        self.stand.servers.kill_postgres()
        dispose()

    def start_postgres(self) -> None:
        self.stand.servers.start_postgres()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("weights")
    weights, others = starter(folder / "one", seed=1), starter(folder / "other", seed=2)
    with standing() as stand:
        version, other = servers.add_version(weights), servers.add_version(others)
        servers.release(version)
        stand.engine(weights, version, "cpu@test")
        yield World(stand, version, other)


@pytest.fixture
def gateway(world: World) -> Iterator[Server]:
    made = world.stand.gateway()
    yield made
    made.stop()


def get(gateway: Server, path: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {servers.GATEWAY_KEY}"}
    return httpx.get(f"{gateway.url}{path}", headers=headers, trust_env=False, timeout=30)


def test_postgres_stops_and_is_killed_under_traffic(world: World, gateway: Server) -> None:
    """No agent notices: not one call is refused, and each is stored in the end."""
    with Traffic(gateway.url, "postgres") as traffic:
        traffic.more(2 * AGENTS)
        world.stop_postgres()
        traffic.more(4 * AGENTS)
        world.start_postgres()
        traffic.more(2 * AGENTS)
        world.kill_postgres()
        traffic.more(4 * AGENTS)
        world.start_postgres()
        traffic.more(2 * AGENTS)

    assert [one for one in traffic.outcomes if not one.is_answered] == []
    assert {one.version for one in traffic.outcomes} == {world.version}
    check_recorded(world.stand, traffic.outcomes, {world.version})


def test_the_gateway_ends_and_is_killed_under_traffic(world: World, gateway: Server) -> None:
    """Agents repeat what was not answered, under its id: what each has in the end is what is stored."""
    with Traffic(gateway.url, "gateway", patient=True) as traffic:
        traffic.more(2 * AGENTS)
        gateway.stop()
        gateway.start()
        traffic.more(2 * AGENTS)
        for _ in range(3):
            gateway.kill()
            gateway.start()
            traffic.more(2 * AGENTS)

    check_recorded(world.stand, traffic.outcomes, {world.version})


def test_the_gateway_ends_while_postgres_is_away(world: World, gateway: Server) -> None:
    """What it has captured lies on its disk, and so does what was released: the next one serves and stores it."""
    with Traffic(gateway.url, "both", patient=True) as traffic:
        traffic.more(2 * AGENTS)
        world.kill_postgres()
        traffic.more(2 * AGENTS)
        gateway.kill()
        gateway.start()
        traffic.more(2 * AGENTS)
        gateway.stop()
        gateway.start()
        traffic.more(2 * AGENTS)
        world.start_postgres()
        traffic.more(2 * AGENTS)

    assert {one.version for one in traffic.outcomes if one.is_answered} == {world.version}
    check_recorded(world.stand, traffic.outcomes, {world.version})


def test_sigterm_lets_what_is_under_way_end(world: World, gateway: Server) -> None:
    """A call that the gateway had begun to answer is answered: only what came later is refused."""
    with Traffic(gateway.url, "drain") as traffic:
        traffic.more(2 * AGENTS)
        gateway.stop()

    began = [one for one in traffic.outcomes if one.status == 200]
    assert [one for one in began if not one.is_answered] == []
    assert {one.status for one in traffic.outcomes} <= {0, 200, 503}
    gateway.start()
    check_recorded(world.stand, traffic.outcomes, {world.version})


def test_a_release_takes_effect_once_postgres_is_back(world: World, gateway: Server) -> None:
    with Traffic(gateway.url, "release") as traffic:
        traffic.more(AGENTS)
        world.kill_postgres()
        traffic.more(2 * AGENTS, world.version)
        world.start_postgres()
        wait_until(lambda: get(gateway, "/health").status_code == 200, 60, "health")
        servers.release(world.other)
        traffic.more(2 * AGENTS, world.other)

    assert [one for one in traffic.outcomes if not one.is_answered] == []
    check_recorded(world.stand, traffic.outcomes, {world.version, world.other})
