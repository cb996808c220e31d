"""A folder that the servers' account can enter, a cluster made once, and a supervisor in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from fleet.home import Home
from fleet.servers import Servers

ROOT = Path(__file__).parents[2]
# Everything is imported before the change of user, who may not be able to read this interpreter's library.
DRIVER = """
import email.parser, encodings.idna, json, os, select, sys
from fleet.home import Home
from fleet.servers import Servers
uid = int(sys.argv[1])
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
from rl.errors import RlfleetError
try:
    home = Home.open(os.environ)
    servers = Servers(home, os.environ)
    endpoints = servers.start()
except RlfleetError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
    raise SystemExit(1)
pids = {status.name: status.pid for status in servers.status()}
print(json.dumps({"database_url": endpoints.database_url, "redis_url": endpoints.redis_url, "pids": pids}), flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:
    servers.poll()
servers.stop()
home.close()
"""

Eventually = Callable[..., None]
Drive = Callable[..., "Driven"]


class Driven:
    """A supervisor of servers in a process of its own. Closing its stdin makes it stop.

    ``first`` is what it does before all else.
    """

    def __init__(self, environ: dict[str, str], uid: int = 0, first: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", first + DRIVER, str(uid)],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self) -> dict[str, Any]:
        """Its endpoints and pids, or its error."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"ended with {self.process.wait()} and said nothing"
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(60)


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def processes_in(folder: Path) -> list[int]:
    """Everything that lives in ``folder``: the servers change into their data directories."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(f"{folder}/"):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def eventually() -> Eventually:
    return wait_until


@pytest.fixture
def living() -> Callable[[Path], list[int]]:
    return processes_in


@pytest.fixture
def drive() -> Iterator[Drive]:
    driven: list[Driven] = []

    def start(environ: dict[str, str], uid: int = 0, first: str = "") -> Driven:
        driven.append(Driven(environ, uid, first))
        return driven[-1]

    yield start
    for one in driven:
        with one.process:
            one.process.kill()


def enterable_folder() -> Path:
    """A new folder below ones that everybody may enter; in memory where there is room, for its many synced writes."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and psutil.disk_usage(str(memory)).free > 2**30
    executable = roomy and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    path = Path(tempfile.mkdtemp(prefix="rlfleet-test-", dir=memory if executable else None))
    path.chmod(0o711)
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """Like tmp_path, whose parents only the user may enter; empty again and free of processes at the end."""
    path = enterable_folder()
    yield path
    wait_until(lambda: not processes_in(path))
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def prepared() -> Iterator[Path]:
    """A home after its first start, and stop, with one row and one key in its servers."""
    path = enterable_folder()
    environ = {"RLFLEET_HOME": str(path / "home")}
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        endpoints = servers.start()
        try:
            assert add_row(endpoints.database_url) == 1
            redis.Redis.from_url(endpoints.redis_url).set("first", "kept")
        finally:
            servers.stop()
    yield path / "home"
    shutil.rmtree(path)


@pytest.fixture
def environ(prepared: Path) -> dict[str, str]:
    """The environment of a home that has been used before, and will be again by the next test."""
    return {"RLFLEET_HOME": str(prepared)}


@pytest.fixture
def servers(environ: dict[str, str]) -> Iterator[Servers]:
    """Servers of this process, not started yet."""
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        yield servers
        servers.stop()


def add_row(database_url: str) -> int:
    """Add one row to a table, and count its rows."""
    connection = psycopg2.connect(database_url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("create table if not exists kept (i int)")
            cursor.execute("insert into kept values (1)")
            cursor.execute("select count(*) from kept")
            row = cursor.fetchone()
            assert row
            return int(row[0])
    finally:
        connection.close()


@pytest.fixture
def rows() -> Callable[[str], int]:
    return add_row
