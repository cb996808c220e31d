"""A Postgres cluster of our own: created whole or not at all, on loopback, with a password."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from fleet.account import Account
from fleet.home import Home, disk_full, write_private
from fleet.process import Process, complete
from rl.errors import StartError

USER = "rlfleet"
CLUSTER_BYTES = 64 * 2**20
"""An empty cluster and its first log segments."""
STATUS_LINE = 7
"""Lines of postmaster.pid, from 0: the pid, the data directory, ..., the port in line 3, and the status."""


def url(password: str, port: int) -> str:
    """Where the server is, as every client of Postgres takes it."""
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"


def data_directory(home: Home, account: Account, postgres: Path, major: str) -> Path:
    """``pg/<major>`` in the home, created by ``initdb`` where it is missing.

    Raises:
        StartError: another major version's data lies there, which this Postgres cannot read and an empty
            cluster would hide; the user has no name, which ``initdb`` asks for; or ``initdb`` fails.
    """
    if account.name is None:
        raise StartError(
            f"Postgres cannot run as uid {account.uid}, which has no passwd entry: add one, or set DATABASE_URL"
        )
    root = home.folder("pg", account)
    others = sorted(folder.name for folder in root.iterdir() if folder.name.isdigit() and folder.name != major)
    if others:
        raise StartError(
            f"{root / others[0]} holds data of Postgres {others[0]}, and the one found here is {major} ({postgres}): "
            f"set PG_BIN to the programs of {others[0]} to stay with them; to change over, run `rlfleet backup FOLDER` "
            "with PG_BIN set like that, move the old data away, and run `rlfleet restore FOLDER` without it"
        )
    if not (root / major).exists():
        _create(home, account, postgres, root / major)
    return root / major


def holds_cluster(home: Path) -> bool:
    """Whether a cluster of some major version lies in the home."""
    try:
        return any(folder.name.isdigit() for folder in (home / "pg").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # another account's; the servers' own refusal says what to do
        return True


def process(account: Account, postgres: Path, data: Path, port: int) -> Process:
    """The server. SIGINT ends it fast and cleanly; SIGTERM would wait for every client to leave."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        # A socket's path may have some 100 bytes, which a home can exceed.
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
    }
    flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return Process(
        name="postgres",
        argv=[str(postgres), "-D", str(data), *flags],
        env=_environment(data),
        ready=lambda: is_ready(data, port),
        stop_signal=signal.SIGINT,
        stop_timeout=30,
        start_timeout=300,
        cwd=Path("/"),
        account=account,
    )


def is_ready(data: Path, port: int) -> bool:
    """Whether the server on ``port`` accepts connections, by what it has written of itself in ``data``."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return lines[STATUS_LINE].strip() == "ready" and lines[3] == str(port) and _is_alive(int(lines[0]))
    except (FileNotFoundError, IndexError):
        return False


def _is_alive(pid: int) -> bool:
    """A killed server leaves its file behind, and it says ready."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _create(home: Home, account: Account, postgres: Path, data: Path) -> None:
    """Run initdb beside ``data``, then rename: one cut short leaves a folder that looks like a cluster."""
    partial = data.with_name(f"{data.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    if shutil.disk_usage(data.parent).free < CLUSTER_BYTES:
        raise disk_full(data.parent)
    password_file = home.path / "initdb.password"
    write_private(password_file, home.secret("postgres.password"))
    try:
        if account.switch:
            os.chown(password_file, account.uid, account.gid)
        _initdb(home, account, postgres, partial, password_file)
    finally:
        password_file.unlink()
    partial.rename(data)


def _initdb(home: Home, account: Account, postgres: Path, data: Path, password_file: Path) -> None:
    program = str(postgres.with_name("initdb"))
    flags = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    where = [f"--pgdata={data}", f"--username={USER}", f"--pwfile={password_file}"]
    complete(Process("initdb", [program, *where, *flags], _environment(data), cwd=Path("/"), account=account), home)


def _environment(data: Path) -> Mapping[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(data.parent)}
