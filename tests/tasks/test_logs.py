"""A real worker's log: every line that it writes while it does a job says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from db.session import transaction
from tasks.ring import ring
from tests.tasks.conftest import HOUR
from tests.tasks.real_worker import worker
from tests.tasks.rows import add_line, add_window, asked
from tests.worker.doubles import wait_until
from worker.app import app

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_workers_lines_are_json_and_about_their_job(broker: Redis, tmp_path: Path) -> None:
    missing = f"jsonl://{tmp_path}/missing.jsonl"
    line = add_line()
    job_id = asked(line, kind="collect", queue="collect", inputs={"window": HOUR}, config={"source": missing})
    log = tmp_path / "log"
    with worker(log, "collect", RLFLEET_LOG="json"):
        assert ring() == [job_id]
        wait_until(lambda: b"raised unexpected" in log.read_bytes(), 120)
    lines = read(log)
    about = [one for one in lines if "job" in one]
    assert {one["job"] for one in about} == {job_id}
    claimed = [one for one in about if "fence" in one]
    assert {(one["fence"], one["window"], one["line"]) for one in claimed} == {(1, HOUR, "main")}
    assert {one["task"] for one in about} == {"rlfleet.collect"}
    (message,) = {one["task_id"] for one in about}
    assert [one for one in lines if message in one["message"] and "job" not in one] == []
    (received,) = [one for one in about if "fence" not in one]
    assert received["message"] == f"Task rlfleet.collect[{message}] received"
    assert any("Traceback" in one.get("exception", "") for one in about), about
    before = [one for one in lines if "job" not in one]
    assert any(one["message"].endswith(" ready.") for one in before)
    password = broker.connection_pool.connection_kwargs["password"]
    assert password
    assert password not in log.read_text()


@pytest.mark.slow
def test_the_main_process_says_whose_message_took_too_long_or_lost_its_process(broker: Redis, tmp_path: Path) -> None:
    line = add_line()
    late = asked(line, kind="collect", queue="collect", inputs={"window": HOUR})
    log = tmp_path / "log"
    with worker(log, "collect", RLFLEET_LOG="json"), transaction() as session:
        session.execute(text("lock table rlfleet.jobs in access exclusive mode"))
        app.tasks["rlfleet.collect"].apply_async((late,), time_limit=1)
        wait_until(lambda: b"Hard time limit" in log.read_bytes(), 120)
    (said,) = [one for one in read(log) if one["message"].startswith("Hard time limit")]
    assert (said["level"], said["job"], said["task"]) == ("ERROR", late, "rlfleet.collect")
    assert said["task_id"] in said["message"]
    killed = asked(line, kind="score", inputs={"window": HOUR})
    with worker(log, "score", RLFLEET_LOG="json", RLFLEET_ENV="test", RLFLEET_CRASH_AT="score:after-claim"):
        app.tasks["rlfleet.score"].apply_async(kwargs={"job_id": killed})
        wait_until(lambda: b"WorkerLostError" in log.read_bytes(), 120)
    (said,) = [one for one in read(log) if "WorkerLostError" in one["message"]]
    assert (said["job"], said["task"]) == (killed, "rlfleet.score")


def test_a_request_to_train_is_about_its_window_and_what_cannot_be_one_about_none(
    broker: Redis, tmp_path: Path
) -> None:
    add_window(add_line(source=f"jsonl://{tmp_path}/none.jsonl"), HOUR, "closed")
    log = tmp_path / "log"
    with worker(log, "maint", RLFLEET_LOG="json"):
        for window, name in ((HOUR, "main"), (HOUR, "shop"), ("no {window=x}\n", "main")):
            app.tasks["rlfleet.train_window"].apply_async((window,), {"line": name})
        app.send_task("rlfleet.collect", (True,), queue="maint")
        wait_until(
            lambda: log.read_bytes().count(b"raised unexpected") == 3 and b"succeeded in" in log.read_bytes(), 120
        )
    lines = [one for one in read(log) if one.get("task") in ("rlfleet.train_window", "rlfleet.collect")]
    (done,) = filter(_is_done, lines)
    assert (done["window"], done["line"], type(done["job"])) == (HOUR, "main", int)
    for words in (" received", "raised unexpected"):
        told = [(one.get("window"), one.get("line"), one.get("job")) for one in lines if words in one["message"]]
        refused = {(HOUR, "shop", None), (None, "main", None), (None, None, None)}
        assert set(told) == refused | ({(HOUR, "main", None)} if words == " received" else set())


def _is_done(line: dict[str, Any]) -> bool:
    return line.get("task") == "rlfleet.train_window" and " succeeded in " in line["message"]


def read(log: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole."""
    return [json.loads(one) for one in log.read_text().split("\n")[:-1]]
