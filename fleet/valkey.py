"""A Redis-protocol server of our own: on loopback, with a password, keeping what it was told on disk."""

from __future__ import annotations

import signal
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from fleet.account import Account
from fleet.process import Process


def url(password: str, port: int) -> str:
    """Where the server is."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def process(account: Account, program: Path, data: Path, password: str, port: int) -> Process:
    """The server. Its configuration goes through stdin, so the password is on no command line and in no file."""
    return Process(
        name="valkey",
        argv=[str(program), "-"],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(data)},
        ready=lambda: is_ready(url(password, port)),
        stop_signal=signal.SIGTERM,
        stop_timeout=30,
        start_timeout=120,
        cwd=Path("/"),
        account=account,
        stdin=configuration(data, password, port).encode(),
    )


def configuration(data: Path, password: str, port: int) -> str:
    """Every write is on disk within a second, and none is evicted: a queue must refuse rather than forget."""
    return f"""\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{data}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
tcp-keepalive 60
"""


def is_ready(address: str) -> bool:
    """Whether the server accepts the password and has loaded its data."""
    try:
        ping(address, seconds=1.0)
    except RedisError:
        return False
    return True


def ping(address: str, seconds: float) -> None:
    """Ask once, without retries.

    Raises:
        redis.exceptions.RedisError: it did not answer, or not with a yes.
    """
    once = Retry(NoBackoff(), 0)
    with Redis.from_url(address, socket_connect_timeout=seconds, socket_timeout=seconds, retry=once) as client:
        client.ping()
