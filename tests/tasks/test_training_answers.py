"""Agents are answered while a device trains, also by a child that was started for the training itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
from redis import Redis
from sqlalchemy import text

from db.session import transaction
from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.conftest_database import add_line, add_version, released
from tests.gateway.doubles import served
from tests.gateway.taught import WORDS, starter
from tests.tasks.real_worker import worker
from tests.tasks.recipes import World, train
from tests.tasks.rows import job, rows
from tests.worker.doubles import wait_until

pytestmark = pytest.mark.slow

GPU = {"RLFLEET_ENV": "test", "RLFLEET_DEVICE": "cpu", "RLFLEET_TORCH_THREADS": "1", "RLFLEET_ENGINE_KEY": "secret"}
ASKED = {"model": "served", "messages": [{"role": "user", "content": WORDS[-1]}], "max_tokens": 2}
STEPS = 100_000
"""It ends with the worker."""
SECONDS = 180.0


def is_training(job_id: int, fence: int) -> bool:
    row = job(job_id)
    return row.state == "running" and row.fence == fence and int((row.progress or {}).get("step", 0)) > 0


def release(weights: Path) -> str:
    """A line of its own whose stable version has the ``weights``. Returns the version's name."""
    with transaction() as session:
        line = add_line(session, "served")
        version = add_version(session, line)
        session.execute(text("update rlfleet.checkpoints set uri = :uri, kind = 'full'"), {"uri": str(weights)})
        session.execute(text("update rlfleet.jobs set state = 'succeeded' where id = :id"), {"id": version.job_id})
        released(session, line.id, version.id)
        return version.name


def engines() -> dict[str, int]:
    """The pids of the engines by URL."""
    return {str(url): int(pid) for url, pid in rows("select url, pid from rlfleet.engines")}


@pytest.mark.timeout(900)
def test_a_child_that_was_killed_in_a_training_is_followed_by_one_that_answers_while_it_trains(
    fresh: str, broker: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.ring import ring
    from worker import settings

    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    starter(tmp_path)
    (job_id,) = train(World(tmp_path, steps=STEPS))
    version = release(tmp_path)
    settings.settings.cache_clear()
    broker.flushdb()
    given = {"RLFLEET_SPOOL_DIR": str(tmp_path / "spool"), "RLFLEET_ENGINE_KEY": "secret"}
    gateway = create_app(GatewaySettings.model_validate(given))
    with (
        served(gateway) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
        worker(tmp_path / "worker.log", "gpu", **GPU),
    ):

        def is_answered() -> bool:
            answer = client.post("/v1/chat/completions", json=ASKED)
            return answer.status_code == 200 and answer.headers["X-Rlfleet-Version"] == version

        def trains(fence: int) -> bool:
            ring()
            return is_training(job_id, fence)

        wait_until(engines, SECONDS)
        rows("update rlfleet.jobs set last_sent_at = null where state = 'queued' returning 1")
        wait_until(lambda: trains(1), SECONDS)
        wait_until(is_answered, SECONDS)
        ((first, pid),) = engines().items()

        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: trains(2), SECONDS)
        wait_until(is_answered, SECONDS)
        ((second, other),) = engines().items()
        assert (second, other) != (first, pid)
        assert is_training(job_id, 2), "the same training goes on"
