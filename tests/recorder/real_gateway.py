"""The gateway that agents report to as it really runs: a process on a Postgres of its own; both can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from bench.faults import ground
from bench.faults.ground import Ground
from db import engines, session, settings
from db.session import transaction
from fleet.processes import ROOT
from rl.errors import DatabaseUnavailable
from tests.conftest_database import add_line, add_version, released
from tests.gateway.doubles import FakeEngine, served
from tests.recorder.doubles import held_port, wait_until

wait = partial(wait_until, seconds=240.0)
"""Each start of a gateway is seconds of work, and recorders back off for up to 30 s."""

Ids = dict[str, int]
"""Rows by what names them; everything is to be there once."""

STORING = """
    select 1 from pg_locks l join pg_class c on c.oid = l.relation
     where c.relname like 'turns%' and l.mode = 'RowExclusiveLock' and l.pid <> pg_backend_pid()
"""


class RealGateway:
    """``python -m gateway`` with ``engine`` behind it; the line ``main`` has one version, released to all."""

    def __init__(self, servers: Ground, engine: FakeEngine, port: int) -> None:
        self.servers, self.engine, self.port = servers, engine, port
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (servers.logs / "gateway.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        more = {"RLFLEET_GATEWAY_PORT": str(self.port), "RLFLEET_CAPTURE": "required"}
        environ = ground.fleet_environ(self.servers, more)
        argv = [sys.executable, "-m", "gateway"]
        self._process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=self._log, stderr=self._log)
        wait(self._answers)

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._log.close()

    def kill_postgres(self) -> None:
        """SIGKILL the postmaster."""
        self.servers.kill_postgres()
        session.dispose()  # this process's own connections are gone too

    def start_postgres(self) -> None:
        """Start it again over what it has on disk."""
        self.servers.start_postgres()

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with transaction() as rows:
            return [tuple(row) for row in rows.execute(text(statement), values)]

    def count(self, table: str) -> int:
        """Rows of a table; 0 while the database is away."""
        try:
            return int(self.rows(f"select count(*) from rlfleet.{table}")[0][0])  # noqa: S608 - a test's own name
        except DatabaseUnavailable:
            return 0

    def is_storing(self) -> bool:
        """Whether it is in the middle of a transaction that has begun to write steps."""
        return self.rows(STORING) != []

    def turns(self) -> Ids:
        return dict(self.rows("select trajectory_id || ' ' || turn, count(*) from rlfleet.turns group by 1"))

    def calls(self) -> Ids:
        return dict(self.rows("select call_id, count(*) from rlfleet.calls group by 1"))

    def ends(self) -> set[str]:
        """The trajectories that were begun and ended."""
        found = self.rows(
            "select trajectory_id from rlfleet.recordings where agent_id is not null and status is not null"
        )
        return {name for (name,) in found}

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/models", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def serving() -> Iterator[RealGateway]:
    """A gateway on servers of its own, running; all of it is gone at the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "REDIS_URL"):
            patch.setenv(name, "to be put back")
        _forget()
        engine = FakeEngine()
        with ground.prepared() as servers, served(engine.app()) as url, held_port() as port:
            with transaction() as rows:
                line = add_line(rows)
                version = add_version(rows, line)
                released(rows, line.id, version.id, 100, "a test")
                engines.announce(rows, "cpu@test", url, "cpu", 1)
            gateway = RealGateway(servers, engine, port)
            try:
                gateway.start()
                yield gateway
            finally:
                gateway.close()
    _forget()


def _forget() -> None:
    settings.settings.cache_clear()
    session._engine.cache_clear()
