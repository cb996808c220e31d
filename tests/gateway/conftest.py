"""A gateway over real HTTP with a line, versions and engines in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import calls, decisions, engines
from db.session import transaction
from db.tables import Release
from gateway import adapters, capture, catalog, health, loading, probing, redaction, storing, upstream, wire
from gateway.app import create_app
from gateway.settings import GatewaySettings
from rl import records
from tests.conftest_database import add_line, add_version, database, database_url, empty, postgres_url, released
from tests.gateway.doubles import FakeEngine, served

__all__ = ["database", "database_url", "postgres_url"]

BOUNDS = (
    (adapters, "ROOM_SECONDS"),
    (capture, "LOOK_SECONDS"),
    (catalog, "READ_SECONDS"),
    (health, "ASK_SECONDS"),
    (loading, "LIST_SECONDS"),
    (probing, "ANSWER_SECONDS"),
    (redaction, "READ_SECONDS"),
    (storing, "FLUSH_SECONDS"),
    (upstream, "CONNECT_SECONDS"),
    (wire, "CONNECT_SECONDS"),
)
"""What a gateway gives up after a few seconds, though all is well and the machine is only busy."""
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways in this process wait for a machine that is busy; a test that is about a bound sets its own."""
    for module, name in BOUNDS:
        monkeypatch.setattr(module, name, PATIENCE)


class World:
    """The rows a test begins with and the servers it starts: versions 0 (stable), 1 (ready), 2 and 3 (not)."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        with transaction() as session:
            empty(session)
            self.line = add_line(session)
            states = ["ready", "ready", "candidate", "rejected"]
            self.versions = [add_version(session, self.line, state) for state in states]
        self.names = [version.name for version in self.versions]

    def release(self, number: int, *, share: int = 100, stage: str = "stable") -> None:
        version_id = self.versions[number].id
        with transaction() as session:
            if stage == "stable":
                released(session, self.line.id, version_id, share)
            else:
                decision_id = decisions.by_person(session, self.line.id, version_id, "a test", "a test")
                values = {"line_id": self.line.id, "version_id": version_id, "stage": stage, "share": share}
                session.add(Release(**values, decision_id=decision_id, reason="a test"))

    def serve(self, app: Any) -> str:
        return self._stack.enter_context(served(app))

    def announce(self, name: str, url: str) -> None:
        with transaction() as session:
            engines.announce(session, name, url, "cpu", 1)

    def engine(self, name: str = "cpu@test", **fields: Any) -> FakeEngine:
        engine = FakeEngine(**fields)
        self.announce(name, self.serve(engine.app()))
        return engine

    def gateway(self, **variables: str) -> httpx.Client:
        """A client of a new gateway with these environment variables and no others; its calls wait for their commit."""
        return self._stack.enter_context(self.brief_gateway(**variables))

    @contextmanager
    def brief_gateway(self, **variables: str) -> Iterator[httpx.Client]:
        """``gateway``, which ends with the block."""
        with TemporaryDirectory(prefix="rlfleet-spool-") as spool:
            settings = GatewaySettings(**{"RLFLEET_SPOOL_DIR": spool} | variables)
            headers = {"X-Capture": "committed"}
            with (
                served(create_app(settings)) as url,
                httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client,
            ):
                yield client

    def calls(self, trajectory_id: str = "t1") -> list[records.Call]:
        with transaction() as session:
            return calls.of_trajectories(session, [trajectory_id])[trajectory_id]

    def count(self) -> int:
        with transaction() as session:
            return int(session.execute(text("select count(*) from rlfleet.calls")).scalar_one())


@pytest.fixture
def world(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for field in GatewaySettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    with ExitStack() as stack:
        yield World(stack)
