"""A broker with TLS, and a user that may do what the fleet does and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import NoPermissionError

from fleet import external
from fleet.ports import free_port
from fleet.processes import Plan, is_well, processes
from rl.errors import StartError
from tests.certificates import signed
from tests.conftest_redis import point_app_at
from tests.tasks.real_worker import ROOT, worker
from tests.tls_redis import Secured, secured
from tests.worker.doubles import wait_until
from worker.app import app

WHO = ("rlfleet", "s3cret")


@pytest.fixture
def server(tmp_path: Path, broker: Redis, redis_url: str) -> Iterator[Secured]:
    """The app publishes to this one."""
    with secured(tmp_path) as made:
        point_app_at(made.url)
        yield made
    point_app_at(redis_url)


@contextmanager
def running(argv: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def told(kind: str, what: str, environ: dict[str, str], *words: str) -> str:
    """What the workers answer to remote control."""
    argv = [sys.executable, "-m", "celery", "-A", "worker.app", kind, what, *words, "-t", "30"]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_the_documented_user_may_do_what_a_fleet_does(server: Secured, tmp_path: Path) -> None:
    from tasks import train_window  # here, as it binds a task to the app

    environ = os.environ | {"REDIS_URL": server.url, "PYTHONPATH": str(ROOT), "FLOWER_BASIC_AUTH": ":".join(WHO)}
    address = f"http://127.0.0.1:{free_port()}"
    (flower,) = (
        one
        for one in processes(Plan(environ, ("cpu",), "http://127.0.0.1:9", address, tmp_path))
        if one.name == "flower"
    )
    words = ["-q", "beat", "-s", str(tmp_path / "beat"), "--pidfile="]
    beat = [sys.executable, "-m", "celery", "-A", "worker.app", *words]
    with (
        running(list(flower.argv), dict(flower.env), tmp_path / "flower.log"),
        worker(tmp_path / "worker.log", "maint", "score", REDIS_URL=server.url),
        running(beat, environ, tmp_path / "beat.log"),
        httpx.Client(base_url=address, trust_env=False, timeout=30, auth=WHO) as client,
    ):
        wait_until(is_well(f"{address}/healthcheck"), 120)
        wait_until(lambda: "pong" in told("inspect", "ping", environ), 120)
        assert "tasks {'an-id'} flagged as revoked" in told("control", "revoke", environ, "an-id")

        def states(name: str) -> set[str]:
            found = client.get("/api/tasks", params={"taskname": name}).json()
            return {one["state"] for one in found.values()}

        # Flower may have begun to listen only now, and heard nothing of a message before.
        wait_until(lambda: train_window.delay("2025-01-15T10:00") and states("rlfleet.train_window") & ENDED, 120)
        wait_until(lambda: states("rlfleet.reconcile") & ENDED, 120)
        (lengths,) = client.get("/api/queues/length").json().values()
        assert {"maint", "score"} <= {one["name"] for one in lengths}
    assert server.refused() == set()
    assert all(key.startswith("rlfleet:") for key in server.root.keys("*"))


ENDED = {"SUCCESS", "FAILURE"}

FORBIDDEN: dict[str, Callable[[Redis], Any]] = {
    "another key": lambda one: one.get("theirs"),
    "a key that is not prefixed": lambda one: one.lpush("maint", "x"),
    "another channel": lambda one: one.publish("theirs", "x"),
    "every channel": lambda one: one.execute_command("PSUBSCRIBE", "*"),
    "every key": lambda one: one.keys("*"),
    "a walk over the keys": lambda one: one.scan(0),
    "emptying": lambda one: one.flushdb(),
    "the configuration": lambda one: one.config_get("*"),
    "users": lambda one: one.acl_list(),
    "a script of one's own": lambda one: one.eval("return 1", 0),
    "others' clients": lambda one: one.client_list(),
    "what others send": lambda one: one.execute_command("MONITOR"),
    "modules": lambda one: one.execute_command("MODULE", "LIST"),
    "another server's data": lambda one: one.replicaof("127.0.0.1", "1"),
    "an end": lambda one: one.execute_command("SHUTDOWN", "NOSAVE"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_documented_user_may_do_nothing_else(server: Secured, what: str) -> None:
    with Redis.from_url(server.url) as one:
        assert one.ping()
        with pytest.raises(NoPermissionError):
            FORBIDDEN[what](one)


def test_who_has_no_name_or_another_password_is_refused(server: Secured) -> None:
    with pytest.raises(StartError, match=r"REDIS_URL: 127\.0\.0\.1:\d+ cannot be used \(invalid username-password"):
        external.check_redis(server.url.replace("s3cret", "wrong"))
    with pytest.raises(StartError, match=r"invalid username-password|Authentication required|WRONGPASS"):
        external.check_redis(server.url.replace("fleet:s3cret@", ":s3cret@"))


def published(url: str) -> None:
    """As ``.delay`` does, without its words."""
    point_app_at(url)
    with app.connection_for_write(transport_options={"max_retries": 0}) as connection:
        connection.ensure_connection(max_retries=1, timeout=60)


def test_a_certificate_of_another_authority_is_refused(server: Secured, tmp_path: Path) -> None:
    other = signed(tmp_path / "other")
    for url in (server.url.replace(str(server.made.authority), str(other.authority)), server.url.partition("?")[0]):
        with pytest.raises(StartError, match="certificate verify failed"):
            external.check_redis(url)
        with pytest.raises(OperationalError, match="certificate verify failed"):
            published(url)
    published(server.url)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, broker: Redis, redis_url: str) -> None:
    with secured(tmp_path, "DNS:elsewhere.example") as server:
        with pytest.raises(StartError, match=r"certificate verify failed.*IP address mismatch"):
            external.check_redis(server.url)
        with pytest.raises(OperationalError, match="IP address mismatch"):
            published(server.url)
    point_app_at(redis_url)


def test_a_server_that_speaks_no_tls_is_refused(redis_url: str) -> None:
    with pytest.raises(StartError, match="cannot be used"):
        external.check_redis(redis_url.replace("redis://", "rediss://"))
