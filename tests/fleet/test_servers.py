from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis

from fleet import external
from fleet.account import server_account
from fleet.home import Home, read_endpoints
from fleet.ports import free_port
from fleet.process import State
from fleet.servers import Servers
from rl.errors import InvalidSettings, StartError

Rows = Callable[[str], int]
Drive = Callable[..., Any]
Living = Callable[[Path], list[int]]
Eventually = Callable[..., None]
# The cluster gets its name once it is whole: until this one is killed it is not, however soon or late that is.
NEVER_RENAMES = """
import signal
from pathlib import Path
given = Path.rename
Path.rename = lambda self, to: signal.pause() if self.name == "18.new" else given(self, to)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def _refused(environ: dict[str, str]) -> str:
    """The message of the StartError that these variables lead to."""
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        try:
            with pytest.raises(StartError) as caught:
                servers.start()
        finally:
            servers.stop()
        assert not home.path.joinpath("endpoints.json").exists()
    return str(caught.value)


def _command_line(pid: int) -> str:
    """Empty of a process that has ended since: a connection's own ends with it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def test_a_later_start_finds_what_the_first_one_stored(environ: dict[str, str], rows: Rows, living: Living) -> None:
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        endpoints = servers.start()
        assert rows(endpoints.database_url) > 1
        assert redis.Redis.from_url(endpoints.redis_url).get("first") == b"kept"
        assert read_endpoints(home.path) == endpoints
        assert {s.name: s.state for s in servers.status()} == {"postgres": State.RUNNING, "valkey": State.RUNNING}
        servers.stop()
        assert living(home.path) == []
        assert not home.path.joinpath("endpoints.json").exists()


def test_what_a_first_start_leaves_is_private_and_whole(prepared: Path) -> None:
    for name in ("postgres.password", "valkey.password", ".lock", "logs/postgres.log"):
        assert stat.S_IMODE((prepared / name).stat().st_mode) == 0o600
    for name in ("pg", "pg/18", "valkey", "logs"):
        assert stat.S_IMODE((prepared / name).stat().st_mode) == 0o700
    found = {path.name for path in prepared.iterdir()}
    assert found == {".lock", "logs", "pg", "valkey", "postgres.password", "valkey.password"}
    assert [path.name for path in (prepared / "pg").iterdir()] == ["18"]


def test_both_want_the_password_and_listen_on_loopback_alone(servers: Servers, living: Living, prepared: Path) -> None:
    endpoints = servers.start()
    database = endpoints.database_url
    assert re.fullmatch(r"postgresql://rlfleet:[\w-]{32}@127\.0\.0\.1:\d+/postgres", database)
    assert re.fullmatch(r"redis://:[\w-]{32}@127\.0\.0\.1:\d+/0", endpoints.redis_url)
    secrets = [str(urlsplit(url).password) for url in (database, endpoints.redis_url)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(database.replace(secrets[0], "wrong"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(endpoints.redis_url.replace(secrets[1], "wrong")).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(endpoints.redis_url.replace(f":{secrets[1]}@", "")).ping()
    config = redis.Redis.from_url(endpoints.redis_url).config_get("append*")
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    assert redis.Redis.from_url(endpoints.redis_url).config_get("maxmemory-policy") == {
        "maxmemory-policy": "noeviction"
    }
    for port in (_port(database), _port(endpoints.redis_url)):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 1)
    command_lines = list(filter(None, map(_command_line, living(prepared))))
    assert len(command_lines) > 2
    assert not [line for line in command_lines if any(secret in line for secret in secrets)]


def test_a_server_that_is_killed_comes_back_on_its_port_with_its_data(
    servers: Servers, rows: Rows, eventually: Eventually
) -> None:
    endpoints = servers.start()
    redis.Redis.from_url(endpoints.redis_url).set("kept", "yes")
    before = rows(endpoints.database_url)
    client = redis.Redis.from_url(endpoints.redis_url)
    eventually(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
    for status in servers.status():
        assert status.pid
        os.kill(status.pid, signal.SIGKILL)

    def back() -> bool:
        servers.poll()
        return all(s.state is State.RUNNING and s.restarts == 1 for s in servers.status())

    eventually(back)
    assert rows(endpoints.database_url) == before + 1
    assert redis.Redis.from_url(endpoints.redis_url).get("kept") == b"yes"


def test_a_killed_supervisor_leaves_no_server_and_no_damage(
    environ: dict[str, str],
    drive: Drive,
    rows: Rows,
    living: Living,
) -> None:
    first = drive(environ)
    said = first.said()
    before = rows(said["database_url"])
    started = time.monotonic()
    first.kill()
    # Taking the home at once waits for what is left.
    with Home.open(environ) as home:
        assert living(home.path) == []
        assert time.monotonic() - started < 25, "a server has 30 s to stop"
        servers = Servers(home, environ)
        assert rows(servers.start().database_url) == before + 1
        servers.stop()


def test_a_start_that_is_killed_while_it_makes_the_cluster_is_repeated(
    folder: Path, drive: Drive, rows: Rows, eventually: Eventually
) -> None:
    environ = {"RLFLEET_HOME": str(folder / "home")}
    first = drive(environ, first=NEVER_RENAMES)
    eventually((folder / "home" / "pg" / "18.new" / "PG_VERSION").exists)
    first.kill()
    assert not (folder / "home" / "pg" / "18").exists()
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        assert rows(servers.start().database_url) == 1
        servers.stop()


def test_a_second_supervisor_is_refused_and_told_of_the_first(environ: dict[str, str], drive: Drive) -> None:
    first = drive(environ)
    first.said()
    second = drive(environ)
    said = second.said()
    assert said["error"] == "StartError"
    assert f"a fleet runs here (pid {first.process.pid})" in said["message"]
    assert first.stop() == 0


@needs_root
@pytest.mark.platform
def test_an_ordinary_user_starts_them_too(folder: Path, drive: Drive, rows: Rows) -> None:
    folder.chmod(0o777)
    driven = drive({"RLFLEET_HOME": str(folder / "home"), "HOME": str(folder)}, uid=65534)
    said = driven.said()
    assert rows(said["database_url"]) == 1
    assert redis.Redis.from_url(said["redis_url"]).ping()
    assert stat.S_IMODE((folder / "home").stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in (folder / "home").rglob("*")} == {65534}
    assert driven.stop() == 0


@needs_root
@pytest.mark.platform
def test_a_uid_without_a_name_is_told_that_postgres_wants_one(folder: Path, drive: Drive) -> None:
    folder.chmod(0o777)
    said = drive({"RLFLEET_HOME": str(folder / "home")}, uid=54321).said()
    assert said["error"] == "StartError"
    assert "Postgres cannot run as uid 54321, which has no passwd entry" in said["message"]


@needs_root
@pytest.mark.platform
def test_a_home_below_a_private_folder_is_refused_and_stays_private(folder: Path) -> None:
    folder.chmod(0o700)
    message = _refused({"RLFLEET_HOME": str(folder / "home")})
    assert message.startswith(f"nobody cannot enter {folder / 'home'}: set RLFLEET_HOME")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_database_url_is_used_and_no_postgres_is_started(servers: Servers, folder: Path) -> None:
    theirs = servers.start().database_url
    environ = {"RLFLEET_HOME": str(folder / "other"), "DATABASE_URL": theirs, "REDIS_URL": ""}
    with Home.open(environ) as home:
        ours = Servers(home, environ)
        endpoints = ours.start()
        assert endpoints.database_url == theirs
        assert [status.name for status in ours.status()] == ["valkey"]
        assert json.loads((home.path / "endpoints.json").read_text())["database_url"] == theirs
        ours.stop()
        assert not (home.path / "pg").exists()


def test_nothing_is_started_when_both_are_given(servers: Servers, folder: Path) -> None:
    theirs = servers.start()
    environ = {"RLFLEET_HOME": str(folder / "o"), "DATABASE_URL": theirs.database_url, "REDIS_URL": theirs.redis_url}
    with Home.open(environ) as home:
        ours = Servers(home, environ)
        assert ours.start() == theirs
        assert ours.status() == []
        ours.stop()
    redis.Redis.from_url(theirs.redis_url).ping()


@pytest.fixture
def closed_port() -> int:
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "url"),
    [("DATABASE_URL", "postgresql://me:hush%40@127.0.0.1:{}/db"), ("REDIS_URL", "redis://:hush%40@127.0.0.1:{}/0")],
)
def test_a_server_that_is_not_there_is_named_without_its_password(
    tmp_path: Path, closed_port: int, silent_port: int, name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert external.SECONDS <= 5
    monkeypatch.setattr(external, "SECONDS", 0.3)
    for port in (closed_port, silent_port):
        started = time.monotonic()
        message = _refused({"RLFLEET_HOME": str(tmp_path), name: url.format(port)})
        assert time.monotonic() - started < 20
        assert message.startswith(f"{name}: 127.0.0.1:{port} cannot be used (")
        assert "hush" not in message


def test_a_wrong_password_of_redis_is_noticed_at_start(servers: Servers, folder: Path) -> None:
    port = _port(servers.start().redis_url)
    environ = {"RLFLEET_HOME": str(folder / "other"), "REDIS_URL": f"redis://:hush@127.0.0.1:{port}/0"}
    assert "invalid username-password pair" in _refused(environ)


def test_another_server_than_postgres_is_noticed_at_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = "import socket; s = socket.socket(fileno=0).accept()[0]; s.recv(8); s.sendall(b'HTTP')"
        with subprocess.Popen([sys.executable, "-c", code], stdin=listener.fileno()):
            environ = {"RLFLEET_HOME": str(tmp_path), "DATABASE_URL": f"postgresql://me:hush@127.0.0.1:{port}/db"}
            assert f"127.0.0.1:{port} cannot be used (what listens there is no Postgres)" in _refused(environ)


@pytest.mark.parametrize("url", ["mysql://me:hush@127.0.0.1/db", "hush", "postgresql://me:hu/sh@127.0.0.1/db"])
def test_a_url_of_something_else_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path), "DATABASE_URL": url}
    with Home.open(environ) as home, pytest.raises(InvalidSettings, match="DATABASE_URL = '<hidden>'") as caught:
        Servers(home, environ).start()
    assert "hu" not in str(caught.value).replace("authority", "")


def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    environ = {"RLFLEET_HOME": str(folder)}
    with Home.open(environ) as home:
        pg = home.folder("pg", server_account(None))
        (pg / "17").mkdir()
    message = _refused(environ)
    assert f"{pg / '17'} holds data of Postgres 17, and the one found here is 18" in message
    assert "set PG_BIN" in message
    assert sorted(path.name for path in pg.iterdir()) == ["17"]


def test_a_requested_port_is_used_and_a_taken_one_refused(environ: dict[str, str], silent_port: int) -> None:
    for name in ("RLFLEET_POSTGRES_PORT", "RLFLEET_REDIS_PORT"):
        message = _refused({**environ, name: str(silent_port)})
        assert message.startswith(f"{name} = {silent_port}: another process listens there")
    asked = {"RLFLEET_POSTGRES_PORT": str(free_port()), "RLFLEET_REDIS_PORT": str(free_port())}
    with Home.open(environ) as home:
        servers = Servers(home, {**environ, **asked})
        endpoints = servers.start()
        assert [str(_port(url)) for url in (endpoints.database_url, endpoints.redis_url)] == list(asked.values())
        servers.stop()


def test_a_port_that_is_taken_at_the_last_moment_is_replaced(
    environ: dict[str, str], silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [silent_port, free_port(), silent_port, free_port()]
    expected = offered[1::2]
    monkeypatch.setattr("fleet.servers.free_port", lambda: offered.pop(0))
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        endpoints = servers.start()
        assert [_port(url) for url in (endpoints.database_url, endpoints.redis_url)] == expected
        servers.stop()


@pytest.mark.platform
@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no system Postgres")
def test_the_systems_postgres_works_as_well(folder: Path, rows: Rows) -> None:
    programs = next(Path("/usr/lib/postgresql").glob("*/bin"))
    environ = {"RLFLEET_HOME": str(folder / "home"), "PG_BIN": str(programs)}
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        assert rows(servers.start().database_url) == 1
        servers.stop()
        assert (home.path / "pg" / programs.parent.name / "PG_VERSION").exists()


@needs_root
@pytest.mark.platform
@pytest.mark.parametrize("limit", ["size=30m", "size=90m,nr_inodes=300"])
def test_a_full_disk_is_named(folder: Path, limit: str) -> None:
    disk = folder / "disk"
    disk.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"mode=711,{limit}", "tmpfs", str(disk)]
    if subprocess.run(argv, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        assert f"no room left on the disk that holds {disk}" in _refused({"RLFLEET_HOME": str(disk / "home")})
    finally:
        subprocess.run(["umount", str(disk)], check=True)
