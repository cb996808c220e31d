"""A worker that is told to stop while the result of a task is on its way."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from tasks.ring import ring
from tests.tasks.conftest import HOUR
from tests.tasks.real_worker import worker
from tests.tasks.rows import add_line, asked
from tests.worker.doubles import wait_until

pytestmark = pytest.mark.usefixtures("fresh")

STOP_SECONDS = 25.0
"""A process of the pool that waits for its credit gives up after 30 s."""


def test_a_worker_whose_task_has_just_failed_stops(broker: Redis, tmp_path: Path) -> None:
    missing = f"jsonl://{tmp_path}/missing.jsonl"
    job_id = asked(add_line(), kind="collect", queue="collect", inputs={"window": HOUR}, config={"source": missing})
    log = tmp_path / "log"
    with worker(log, "collect", RLFLEET_DRAIN_SECONDS="5") as process:
        assert ring() == [job_id]
        wait_until(lambda: b"raised unexpected" in log.read_bytes(), 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) in (0, 1)
    said = log.read_text()
    assert "Cold shutdown" in said
    assert "AttributeError" not in said
