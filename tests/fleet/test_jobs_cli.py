from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from db import alerts, audit, dispatch, lines, pauses, rejections, workers
from db.session import transaction
from fleet import cli
from rl.config import LineConfig
from rl.errors import InvalidInput
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.conftest_redis import point_app_at

RESUME = {"path": "/artifacts/jobs/1/fence-1/state-000004", "step": 4}


@pytest.fixture
def fleet(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    with transaction() as session:
        empty(session)
    return CliRunner()


@pytest.fixture
def closed_broker(fleet: CliRunner) -> Iterator[None]:
    """The app publishes to where nobody listens."""
    point_app_at("redis://127.0.0.1:9/0")
    yield
    point_app_at("redis://127.0.0.1:9/0")


def shown(fleet: CliRunner, *words: str, code: int = 0) -> dict[str, Any]:
    result = fleet.invoke(cli.app, [*words, "--json"])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == 1
    return found


def job(kind: str = "train", line: str = "main") -> int:
    with transaction() as session:
        line_id = lines.put(session, line, LineConfig(base_model="random-qwen3"))
        return dispatch.request(session, dispatch.Spec(kind, line_id, {"window": "2025-01-15T10:00"}, {}, "gpu"))


def change(statement: str, **values: object) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


def delivered(job_id: int, message: str, outcome: str) -> None:
    change(
        "insert into rlfleet.deliveries (message_id, job_id, outcome) values (:message, :job, :outcome)",
        message=message,
        job=job_id,
        outcome=outcome,
    )


def test_jobs_are_listed_by_kind_and_line(fleet: CliRunner) -> None:
    ids = {(kind, line): job(kind, line) for kind in ("train", "score") for line in ("main", "other")}

    def listed(*words: str) -> list[int]:
        return [one["job_id"] for one in shown(fleet, "jobs", "list", *words)["jobs"]]

    assert listed("--kind", "train") == [ids["train", "other"], ids["train", "main"]]
    assert listed("--kind", "score", "--line", "main", "--state", "queued") == [ids["score", "main"]]
    assert listed("--state", "dead") == []


def test_a_message_leads_to_its_job_and_what_became_of_it(fleet: CliRunner) -> None:
    wanted = job()
    delivered(wanted, "m-1", "claimed")
    delivered(wanted, "m-1", "skipped")
    delivered(job("score"), "m-2", "claimed")
    found = shown(fleet, "jobs", "find", "--message", "m-1")
    assert [(one["outcome"], one["job_id"], one["job"]["state"]) for one in found["deliveries"]] == [
        ("claimed", wanted, "queued"),
        ("skipped", wanted, "queued"),
    ]
    said = fleet.invoke(cli.app, ["jobs", "find", "--message", "m-1"]).stdout.splitlines()
    assert said[0].endswith(f"claimed: job {wanted} train main 2025-01-15T10:00: queued")


def test_a_message_that_no_worker_took_is_said_so(fleet: CliRunner) -> None:
    found = shown(fleet, "jobs", "find", "--message", "m-9", code=1)
    assert (found["message"], found["deliveries"]) == ("m-9", [])
    said = fleet.invoke(cli.app, ["jobs", "find", "--message", "m-9"])
    assert (said.exit_code, said.stdout.startswith("message m-9: no worker took it for a job")) == (1, True)


def test_a_job_is_shown_with_what_it_goes_on_from(fleet: CliRunner) -> None:
    wanted = job()
    change(
        "update rlfleet.jobs set resume = cast(:resume as jsonb), adjust = jsonb_build_object('token_budget', 768), "
        "progress = jsonb_build_object('step', 4), interruptions = 2 where id = :id",
        resume=json.dumps(RESUME),
        id=wanted,
    )
    delivered(wanted, "m-1", "claimed")
    found = shown(fleet, "jobs", "show", str(wanted))
    assert (found["resume"], found["adjust"], found["interruptions"]) == (RESUME, {"token_budget": 768}, 2)
    assert [one["message_id"] for one in found["deliveries"]] == ["m-1"]
    said = fleet.invoke(cli.app, ["jobs", "show", str(wanted)]).stdout
    assert '  resume       {"path": "/artifacts/jobs/1/fence-1/state-000004", "step": 4}\n' in said
    assert '  progress     {"step": 4}\n' in said
    assert "  message m-1 claimed\n" in said


def test_a_paused_kind_is_shown_until_it_is_resumed(fleet: CliRunner) -> None:
    assert shown(fleet, "status", "--all", code=1)["paused"] == []
    paused = fleet.invoke(cli.app, ["jobs", "pause", "train", "--reason", "moving [the] disks"])
    assert (paused.exit_code, paused.stdout) == (0, "train: paused\n")
    (one,) = shown(fleet, "status", "--all", code=1)["paused"]
    assert (one["kind"], one["reason"]) == ("train", "moving [the] disks")
    said = fleet.invoke(cli.app, ["status"])
    assert said.exit_code == 1
    assert f"paused: train since {one['since']} (moving [the] disks); `rlfleet jobs resume train`\n" in said.stdout
    assert fleet.invoke(cli.app, ["jobs", "resume", "train"]).stdout == "train: resumed\n"
    assert pauses.paused() == []
    assert fleet.invoke(cli.app, ["jobs", "resume", "train"]).stdout == "train: it was not paused\n"


def test_a_kind_that_does_not_exist_is_refused(fleet: CliRunner) -> None:
    refused = fleet.invoke(cli.app, ["jobs", "pause", "trian", "--reason", "x"])
    assert isinstance(refused.exception, InvalidInput)
    assert "one of collect, score, train, evaluate, decide" in str(refused.exception)
    assert fleet.invoke(cli.app, ["jobs", "pause", "train"]).exit_code == 2, "why is never left out"


def test_the_status_shows_workers_rejections_and_alerts(fleet: CliRunner) -> None:
    workers.announce("gpu0@a", ["gpu"], 1, "gpu0", 7)
    rejections.count("unknown_task", "rlfleet.x", "[[7], {}]", 3)
    found = shown(fleet, "status", "--all", code=1)
    assert [(one["name"], one["queues"], one["device"]) for one in found["workers"]] == [("gpu0@a", ["gpu"], "gpu0")]
    assert [(one["reason"], one["count"]) for one in found["rejections"]] == [("unknown_task", 3)]
    assert [(one["name"], one["subject"]) for one in found["alerts"]] == [("message_rejected", "unknown_task")]
    said = fleet.invoke(cli.app, ["status"]).stdout
    assert re.search(r"^worker: gpu0@a on gpu0, 1 at once from gpu, seen \d+ s ago$", said, re.MULTILINE)
    assert "rejected: 3 unknown_task rlfleet.x, last " in said
    assert f"alert {alerts.waiting()[0].alert_id} not sent: message_rejected unknown_task, " in said


def test_a_state_that_does_not_exist_is_refused(fleet: CliRunner) -> None:
    refused = fleet.invoke(cli.app, ["jobs", "list", "--state", "running!"])
    assert isinstance(refused.exception, InvalidInput)
    assert "one of queued, running, succeeded, failed, dead, cancelled" in str(refused.exception)


def test_without_a_broker_a_job_is_queued_again_all_the_same(fleet: CliRunner, closed_broker: None) -> None:
    wanted = job()
    change("update rlfleet.jobs set state = 'dead', finished_at = now() where id = :id", id=wanted)
    said = fleet.invoke(cli.app, ["jobs", "requeue", str(wanted)])
    assert (said.exit_code, said.exception) == (0, None), said.output
    assert said.stdout.startswith(f"job {wanted}: queued\nit is rung when the broker is back: ")
    assert shown(fleet, "jobs", "show", str(wanted))["job"]["state"] == "queued"
    pauses.pause("train", "a test")
    said = fleet.invoke(cli.app, ["jobs", "resume", "train"])
    assert said.exit_code == 0
    assert said.stdout.startswith("train: resumed\n")


def test_what_is_done_to_jobs_is_in_the_audit(fleet: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ann")
    one = job()
    shown(fleet, "jobs", "cancel", str(one))
    shown(fleet, "jobs", "pause", "train", "--reason", "no device is free")
    assert isinstance(fleet.invoke(cli.app, ["jobs", "requeue", "77"]).exception, InvalidInput)
    with transaction() as session:
        found = audit.listing(session)[::-1]
    assert [(each.actor, each.action, each.subject, each.outcome) for each in found] == [
        ("ann@shell", "cancel job", str(one), "done"),
        ("ann@shell", "pause", "train", "done"),
        ("ann@shell", "requeue job", "77", "refused"),
    ]
