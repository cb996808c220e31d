"""Trainings as rows and files of their steps, and where they are copied to, for the tests of the mirror."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks
from backends import sink_settings
from backends.steps import StepFile
from db import mirrors
from db.session import transaction
from tests.db import trained
from tests.tasks.rows import rows
from tests.wandb_stand_in import KEY, StandIn, reap, wandb_service
from worker import settings as worker_settings

PATIENCE = 120.0


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of artifacts; copies go to files.

    A tick has all the time that it needs, and what failed is not due again within a test by itself.
    """
    monkeypatch.setattr(sys.modules["tasks.mirror"], "BUDGET_SECONDS", 3600.0)
    monkeypatch.setattr(mirrors, "FIRST_SECONDS", 1500)
    for name in ("RLFLEET_METRICS", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "RLFLEET_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("RLFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RLFLEET_SINKS", "jsonl,tensorboard")
    forget()
    yield tmp_path / "artifacts"
    forget()


@pytest.fixture
def service(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A service that runs are sent to."""
    with wandb_service() as found:
        monkeypatch.setenv("RLFLEET_SINKS", "jsonl,wandb")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        forget()
        yield found
        reap()


def until(condition: Any) -> None:
    """Tick until it holds; a failed copy is tried again at once."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        rows("update rlfleet.mirrors set next_at = now() where done_at is null returning 1")
        tasks.mirror()
        time.sleep(0.2)


def forget() -> None:
    """Read the settings anew."""
    worker_settings.settings.cache_clear()
    sink_settings.sink_settings.cache_clear()


def add_version(state: str = "candidate") -> tuple[int, str]:
    """A version's training job, which runs, and its name."""
    with transaction() as session:
        version = trained.add_version(session, trained.add_line(session), "2025-01-15T10:00", state=state)
        job_id, name = version.job_id, version.name
    rows(
        "update rlfleet.jobs set state = 'running', fence = 1, attempt = 1, lease_until = now() + interval '1 hour', "
        "config = cast(:config as jsonb) where id = :id returning 1",
        id=job_id,
        config=json.dumps({"objective": "sft", "steps": 9, "ptx": {"source": "jsonl:///data/private.jsonl"}}),
    )
    return job_id, name


def steps(artifacts: Path, job_id: int, first: int, last: int, fence: int = 1) -> None:
    """The training made these steps, and its heartbeat says so."""
    folder = artifacts / "jobs" / str(job_id)
    folder.mkdir(parents=True, exist_ok=True)
    file = StepFile(folder, job_id, fence)
    for step in range(first, last + 1):
        file.add(step, 100, {"loss": 1 / step})
    rows(
        "update rlfleet.jobs set progress = cast(:progress as jsonb) where id = :id returning 1",
        id=job_id,
        progress=json.dumps({"step": last, "curves": {"step": [1, last], "loss": [1.0, 1 / last]}}),
    )


def end(job_id: int, state: str = "succeeded") -> None:
    rows(
        "update rlfleet.jobs set state = :state, lease_until = null, finished_at = now() where id = :id returning 1",
        id=job_id,
        state=state,
    )


def copied(artifacts: Path) -> dict[str, list[dict[str, Any]]]:
    """What lies in the folder of the sink ``jsonl``, by kind."""
    (path,) = (artifacts / "metrics").rglob("*.jsonl")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        found.setdefault(row["kind"], []).append(row)
    return found


def noted(target: str) -> list[tuple[str, int, int, bool]]:
    found = rows(
        "select kind, sent, tries, done_at from rlfleet.mirrors where target = :target order by 1", target=target
    )
    return [(row.kind, row.sent, row.tries, row.done_at is not None) for row in found]
