"""A real worker's log: every line that it writes while it does a job says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis

from tasks.ring import ring
from tests.tasks.conftest import HOUR
from tests.tasks.real_worker import worker
from tests.tasks.rows import add_line, asked
from tests.worker.doubles import wait_until

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_workers_lines_are_json_and_about_their_job(broker: Redis, tmp_path: Path) -> None:
    missing = f"jsonl://{tmp_path}/missing.jsonl"
    line = add_line()
    job_id = asked(line, kind="collect", queue="collect", inputs={"window": HOUR}, config={"source": missing})
    log = tmp_path / "log"
    with worker(log, "collect", RLFLEET_LOG="json"):
        assert ring() == [job_id]
        wait_until(lambda: b"raised unexpected" in log.read_bytes(), 120)
    lines = [json.loads(one) for one in log.read_text().splitlines()]
    about = [one for one in lines if "job" in one]
    assert about
    assert {(one["job"], one["fence"], one["window"], one["line"]) for one in about} == {(job_id, 1, HOUR, "main")}
    assert {one["task"] for one in about} == {"rlfleet.collect"}
    assert len({one["task_id"] for one in about}) == 1
    assert any("Traceback" in one.get("exception", "") for one in about), about
    before = [one for one in lines if "job" not in one]
    assert any(one["message"].endswith(" ready.") for one in before)
    password = broker.connection_pool.connection_kwargs["password"]
    assert password
    assert password not in log.read_text()
