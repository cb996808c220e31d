"""The servers that everything stands on: a Postgres and a Valkey of our own, started, killed and emptied at will."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from bench.faults.expect import wait_until
from db.migrate import migrate
from db.session import dispose, transaction
from db.tables import Base
from fleet import binaries, postgres, valkey
from fleet.account import server_account
from fleet.home import Home
from fleet.ports import free_port
from fleet.process import Child
from fleet.processes import ROOT
from fleet.settings import ServerSettings
from fleet.watchdog import Watchdog
from rl.errors import DatabaseUnavailable

START_SECONDS = 30.0
KEPT = frozenset({"engines", "workers"})
"""Tables that processes which live on write to on their own: they are not emptied between rows."""


class Ground:
    """Both servers in a temporary home; also the harness's own connections to them.

    ``start_*`` and ``kill_*`` can be called in any order; ports stay the same. Nothing outlives the harness: the
    kernel and a watchdog end what it leaves.
    """

    def __init__(self, home: Home, watchdog: Watchdog) -> None:
        self.home, self.watchdog = home, watchdog
        environ = {"PATH": os.environ["PATH"], "RLFLEET_HOME": str(home.path)}
        account = server_account(ServerSettings.read(environ).run_as)
        found = binaries.find_postgres(None, environ["PATH"])
        program = binaries.reachable(found, account, home.path / "dist")
        self._data = data = postgres.data_directory(home, account, program, binaries.major_version(program))
        self._addresses = ["127.0.0.1"]
        ports = free_port(), free_port()
        self._postgres = Child(postgres.process(account, program, data, ports[0]), home, watchdog)
        self.database_url = postgres.url(home.secret("postgres.password"), ports[0])
        keeper = binaries.reachable(binaries.find_valkey(environ["PATH"]), account, home.path / "dist")
        self._valkey_data, password = home.folder("valkey", account), home.secret("valkey.password")
        self._valkey = Child(valkey.process(account, keeper, self._valkey_data, password, ports[1]), home, watchdog)
        self.redis_url = valkey.url(password, ports[1])
        self.broker = Redis.from_url(self.redis_url, decode_responses=True, socket_timeout=5)

    @property
    def logs(self) -> Path:
        """The folder of every process's output."""
        return self.home.logs

    def folder(self, *parts: str) -> Path:
        """A folder of the home, created where it is missing."""
        folder = self.home.path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self) -> None:
        """Start both, and bring the database to the newest schema."""
        self.start_postgres()
        self.start_valkey()
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = self.database_url, self.redis_url
        migrate()

    def stop(self) -> None:
        """Stop both."""
        dispose()
        self._valkey.stop()
        self._postgres.stop()

    def listen(self, address: str, clients: str) -> None:
        """Serve ``clients``, a network, at this machine's ``address`` too; each restarts Postgres once."""
        if address not in self._addresses:
            self._addresses.append(address)
            self._restart_postgres(clients)
        self._bind_valkey()

    def _restart_postgres(self, clients: str) -> None:
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {clients} scram-sha-256\n")
        usual = self._postgres.process
        argv = [*usual.argv, "-c", f"listen_addresses={','.join(self._addresses)}"]
        self.stop_postgres()
        dispose()
        self._postgres = Child(dataclasses.replace(usual, argv=argv), self.home, self.watchdog)
        self.start_postgres()

    def start_postgres(self) -> None:
        """Start Postgres, and wait until it takes connections."""
        _start(self._postgres)

    def stop_postgres(self) -> None:
        """A fast shutdown: what runs is rolled back, and every connection ended."""
        self._postgres.stop()

    def kill_postgres(self) -> None:
        """SIGKILL the postmaster; its processes see that and leave at once."""
        _kill(self._postgres)

    def start_valkey(self, *, empty: bool = False) -> None:
        """Start Valkey with what it had on disk, or without anything."""
        if empty:
            for one in self._valkey_data.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
        _start(self._valkey)
        self._bind_valkey()

    def _bind_valkey(self) -> None:
        """It listens on loopback alone whenever it is started. An address after a ``-`` may be gone with its link."""
        if len(self._addresses) > 1:
            self.broker.config_set("bind", " -".join(self._addresses))

    def kill_valkey(self) -> None:
        """SIGKILL Valkey."""
        _kill(self._valkey)

    def revive(self) -> None:
        """Start again what a row left dead."""
        self.start_postgres()
        self.start_valkey()

    def flush(self) -> None:
        """Take everything out of Valkey: messages, unacknowledged ones, and bindings."""
        self.broker.flushall()

    def rows(self, statement: str, **values: object) -> list[Any]:
        """The rows that a statement of SQL gives."""
        with transaction() as session:
            return list(session.execute(text(statement), values))

    def one(self, statement: str, **values: object) -> Any:
        """The single row that a statement gives."""
        return self.rows(statement, **values)[0]

    def do(self, statement: str, **values: object) -> None:
        """Carry out a statement that gives no rows."""
        with transaction() as session:
            session.execute(text(statement), values)

    def now(self) -> datetime:
        """The database's clock, which decides about leases."""
        moment: datetime = self.one("select clock_timestamp()")[0]
        return moment

    def empty(self) -> None:
        """Take every row away, and the messages about them."""
        tables = ", ".join(str(table) for table in Base.metadata.sorted_tables if table.name not in KEPT)
        wait_until(lambda: self._truncate(tables), START_SECONDS, "emptying the tables")
        for queue in ("collect", "score", "maint", "gpu"):
            self.broker.delete(f"rlfleet:{queue}")

    def _truncate(self, tables: str) -> bool:
        """False when a worker's transaction held on to a table for too long, or the two deadlocked."""
        try:
            with transaction() as session:
                session.execute(text("set local lock_timeout = '2s'"))
                session.execute(text(f"truncate {tables} cascade"))
        except (DatabaseUnavailable, OperationalError):
            return False
        return True


@contextmanager
def prepared() -> Iterator[Ground]:
    """Servers that run until the end of the block, in a folder that is removed then."""
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-faults-"))
    folder.chmod(0o711)  # the servers' account must be able to enter
    environ = {"RLFLEET_HOME": str(folder / "home")}
    watchdog = Watchdog()
    try:
        with Home.open(environ) as home:
            ground = Ground(home, watchdog)
            try:
                ground.start()
                yield ground
            finally:
                ground.stop()
    finally:
        watchdog.close()
        shutil.rmtree(folder, ignore_errors=True)


def fleet_environ(ground: Ground, more: Mapping[str, str]) -> dict[str, str]:
    """What every process of the fleet is told, besides what ``more`` says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RLFLEET_")}
    return kept | {
        "DATABASE_URL": ground.database_url,
        "REDIS_URL": ground.redis_url,
        "RLFLEET_ENV": "test",
        "RLFLEET_STATE": str(ground.folder("state")),
        "RLFLEET_ARTIFACTS": str(ground.folder("artifacts")),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(ground.folder("tmp")),  # locks of devices lie there, and another fleet may have the same names
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def _start(child: Child) -> None:
    """A Postgres whose predecessor was killed may find its memory still in use, and is started again then."""

    def up() -> bool:
        if child.status.pid is None or child.ended() is not None:
            child.start()
        return child.is_ready()

    wait_until(up, START_SECONDS, f"starting {child.process.name}; see {child.log}")


def _kill(child: Child) -> None:
    if child.status.pid is not None:
        os.kill(child.status.pid, signal.SIGKILL)
        wait_until(lambda: child.ended() is not None, START_SECONDS, f"the end of {child.process.name}")
