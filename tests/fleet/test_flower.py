"""Flower as `rlfleet up` starts it: it asks who looks, shows ids only, and changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from fleet.ports import free_port
from fleet.processes import Plan, is_well, processes
from tasks.ring import ring
from tests.tasks.conftest import broker, database, database_url, fresh, postgres_url, redis_url
from tests.tasks.real_worker import worker
from tests.tasks.rows import add_line, asked
from tests.worker.doubles import wait_until

__all__ = ["broker", "database", "database_url", "fresh", "postgres_url", "redis_url"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh")]

WHO = ("rlfleet", "s3cret")


@pytest.fixture
def flower(broker: Redis, tmp_path: Path) -> Iterator[str]:
    """The address of a Flower that is up."""
    url = f"http://127.0.0.1:{free_port()}"
    environ = os.environ | {"FLOWER_BASIC_AUTH": ":".join(WHO)}
    chosen = Plan(environ, ("cpu",), "http://127.0.0.1:9", url, tmp_path)
    (how,) = (one for one in processes(chosen) if one.name == "flower")
    with (tmp_path / "flower.log").open("wb") as log:
        process = subprocess.Popen(how.argv, cwd=how.cwd, env=dict(how.env), stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or is_well(f"{url}/healthcheck")(), 60)
        assert process.poll() is None, (tmp_path / "flower.log").read_text()
        yield url
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)


def test_flower(flower: str, broker: Redis, tmp_path: Path) -> None:
    with httpx.Client(base_url=flower, trust_env=False, timeout=20) as stranger:
        assert [stranger.get(path).status_code for path in ("/", "/api/tasks", "/workers")] == [401, 401, 401]
        assert stranger.get("/api/tasks", auth=("rlfleet", "wrong")).status_code == 401
        assert "flower" in stranger.get("/metrics").text, "for Prometheus; its port is on loopback alone"
        assert stranger.get("/healthcheck").text == "OK"
    with httpx.Client(base_url=flower, trust_env=False, timeout=20, auth=WHO) as client:
        job_id = asked(add_line(), kind="score", queue="score", inputs={"window": "2025-01-15T10:00"})
        with worker(tmp_path / "log", "score"):
            assert ring() == [job_id]
            tasks: dict[str, Any] = {}

            def ended() -> bool:
                tasks.update(client.get("/api/tasks", params={"taskname": "rlfleet.score"}).json())
                return any(one["state"] in ("SUCCESS", "FAILURE") for one in tasks.values())

            wait_until(ended, 60)
            (shown,) = tasks.values()
            assert (shown["args"], shown["kwargs"]) in (((f"({job_id},)"), "{}"), (f"[{job_id}]", "{}"))
            for path in ("/api/worker/shutdown/test", "/api/task/async-apply/rlfleet.score", "/api/task/revoke/1"):
                assert client.post(path, json={"args": [job_id]}).status_code == 403, path
