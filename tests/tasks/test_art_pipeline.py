"""A line on ART's service from its first version to a release, and killed on the way: nothing is trained twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import jobs
from db.session import transaction
from rl.remote import Artifact, sha256_of
from tasks.requests import request
from tests.art_stand_in import ENTITY, KEY, PROJECT, Service, names_in, serving
from tests.tasks.art_line import (
    NAME,
    VALIDATION,
    add_line,
    add_played,
    add_version,
    environment,
    sent,
    solver,
    training,
)
from tests.tasks.conftest import HOUR
from tests.tasks.real_worker import ROOT
from tests.tasks.rows import job, one, rows
from tests.worker.doubles import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh")]

ENDED = ("succeeded", "failed", "dead", "cancelled")
PATIENCE = 240.0
NEXT = "2025-01-15T11:00"


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def state_of(job_id: int) -> str:
    return str(job(job_id).state)


def versions() -> list[Any]:
    query = """
        select v.name, v.state, c.kind, c.uri, c.step from rlfleet.versions v
          join rlfleet.checkpoints c on c.id = v.checkpoint_id order by v.number
    """
    return [tuple(row) for row in rows(query)]


def stable() -> str | None:
    query = """
        select v.name from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
         where r.stage = 'stable' and r.ended_at is null
    """
    return next((str(row[0]) for row in rows(query)), None)


def expire() -> None:
    """The lease of whoever was killed has run out."""
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set lease_until = now() - interval '1 s' where state = 'running'"))


def due(job_id: int) -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set run_at = now() where id = :id"), {"id": job_id})


def rlfleet(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "fleet", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(service: Service, folder: Path, job_id: int, **variables: str) -> int:
    """A process that does the training job. Its exit status."""
    told = os.environ | environment(service) | {"RLFLEET_STATE": str(folder)} | variables
    told |= {"RLFLEET_ARTIFACTS": str(folder / "artifacts"), "PYTHONPATH": str(ROOT)}
    code = "import sys; from tasks.train import train; print(train(int(sys.argv[1])))"
    return subprocess.run([sys.executable, "-c", code, str(job_id)], env=told, cwd=folder, check=False).returncode


@pytest.mark.timeout(900)
def test_a_line_is_adopted_trained_evaluated_and_released(service: Service, tmp_path: Path) -> None:
    service.says = solver()
    add_line()
    found = json.loads(rlfleet("adopt", "--reason", "no GPU here", "--json"))
    with training(service, tmp_path, RLFLEET_CRASH_AT="train:after-id") as log:
        wait_until(lambda: stable() == f"{NAME}-v1.0.0", PATIENCE)
        assert state_of(found["job"]["job_id"]) == "succeeded"
        add_played(f"{NAME}-v1.0.0")
        wanted = request(HOUR)
        wait_until((tmp_path / "crash" / "train:after-id").exists, PATIENCE)
        expire()
        wait_until(lambda: state_of(wanted) in ENDED, PATIENCE)
        assert state_of(wanted) == "succeeded", job(wanted).error
        wait_until(lambda: stable() == f"{NAME}-v1.0.1", PATIENCE)
    uris = [Artifact(ENTITY, PROJECT, NAME, step).uri for step in (0, 1)]
    assert versions() == [(f"{NAME}-v1.0.{step}", "ready", "remote", uri, step) for step, uri in enumerate(uris)]
    hashes = {row[0] for row in rows("select checkpoint_sha256 from rlfleet.evaluations")}
    assert hashes == {sha256_of(uri) for uri in uris}
    (told,) = one("select manifest from rlfleet.versions where number = 1")
    backend = told["backend"]
    assert (backend["asked"], backend["used"]) == ("art-serverless", "art-serverless")
    assert backend["why"] == "TRAIN_BACKEND names it"
    assert (backend["model"], backend["training"], backend["step"]) == ("model-1", "training-1", 1)
    assert (told["parent"], told["parent_step"], told["windows"]) == (f"{NAME}-v1.0.0", 0, [HOUR])
    assert told["rows"]["used"] == 4
    assert (len(service.jobs), service.posts) == (1, 1)
    assert one("select reason from rlfleet.windows")[0] == f"job {wanted} made {NAME}-v1.0.1"
    assert any(path == "/v1/chat/completions" for _, path, _ in service.asked)
    assert names_in(service.headers) == set()
    assert not any(word in sent(service) for word in ("agent-0", "t0/0", HOUR, "evaluation/", VALIDATION.environment))
    assert KEY not in log.read_text()
    assert KEY not in sent(service)


def asked(service: Service) -> int:
    """A training job on what the line's first version said."""
    add_line()
    add_played(add_version(service), state="scored")
    return request(HOUR)


POINTS = [("after-claim", "after-submit"), ("after-id", "polling"), ("before-finish", "before-commit")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("points", [*POINTS, ("after-commit",)], ids=" ".join)
def test_processes_that_are_killed_train_once(service: Service, tmp_path: Path, points: tuple[str, ...]) -> None:
    """One attempt after the other, at each of the points, and one that is not killed."""
    wanted = asked(service)
    for point in points:
        assert at(service, tmp_path, wanted, RLFLEET_CRASH_AT=f"train:{point}") == -signal.SIGKILL
        expire()
    assert at(service, tmp_path, wanted) == 0
    assert state_of(wanted) == "succeeded", job(wanted).error
    assert (len(service.jobs), service.posts) == (1, 1)
    uri = Artifact(ENTITY, PROJECT, NAME, 1).uri
    assert [(name, kind, found, step) for name, _, kind, found, step in versions()][1:] == [
        (f"{NAME}-v1.0.1", "remote", uri, 1)
    ]
    assert job(wanted).fence == (1 if "after-commit" in points else 3)


@pytest.mark.timeout(600)
def test_a_version_is_adopted_once(service: Service, tmp_path: Path) -> None:
    add_line()
    found = [json.loads(rlfleet("adopt", "--reason", "a test", "--json"))["job"]["job_id"] for _ in range(2)]
    assert found[0] == found[1]
    assert at(service, tmp_path, found[0], RLFLEET_CRASH_AT="train:before-commit") == -signal.SIGKILL
    expire()
    assert at(service, tmp_path, found[0]) == 0
    assert [(name, step) for name, _, _, _, step in versions()] == [(f"{NAME}-v1.0.0", 0)]
    assert service.posts == 0


@pytest.mark.timeout(600)
def test_an_intent_that_nobody_has_the_answer_to_is_a_persons(service: Service, tmp_path: Path) -> None:
    wanted, short = asked(service), {"ART_DEADLINE_SECONDS": "1"}
    crash = {"RLFLEET_CRASH_AT": "train:after-intent"}
    assert at(service, tmp_path, wanted, **short, **crash) == -signal.SIGKILL
    expire()
    assert at(service, tmp_path, wanted, **short) == 1
    assert state_of(wanted) == "failed"
    assert "it is unknown whether ART's service has the training" in job(wanted).error
    assert f"`rlfleet jobs requeue {wanted}` submits the training anew" in job(wanted).error
    assert (len(service.jobs), service.posts, len(versions())) == (0, 0, 1)
    assert jobs.requeue(wanted)
    assert at(service, tmp_path, wanted) == 0
    assert state_of(wanted) == "succeeded", job(wanted).error
    assert (len(service.jobs), service.posts, len(versions())) == (1, 1, 2)


@pytest.mark.timeout(600)
def test_a_worker_that_goes_down_leaves_the_training_to_the_next(service: Service, tmp_path: Path) -> None:
    service.held = True
    add_line()
    add_played(add_version(service))
    with training(service, tmp_path, "first", RLFLEET_DRAIN_SECONDS="60"):
        wanted = request(HOUR)
        wait_until(lambda: ((job(wanted).resume or {}).get("remote") or {}).get("after"), PATIENCE)
    assert (state_of(wanted), job(wanted).attempt) == ("queued", 0)
    assert job(wanted).resume["remote"]["training"] == "training-1"
    service.held = False
    assert at(service, tmp_path, wanted) == 0
    assert state_of(wanted) == "succeeded", job(wanted).error
    assert (len(service.jobs), service.posts) == (1, 1)


@pytest.mark.timeout(600)
def test_a_cancelled_training_is_in_the_way_until_it_has_ended(service: Service, tmp_path: Path) -> None:
    """The next one of the line neither asks beside it nor takes its step."""
    service.held = True
    add_line()
    add_played(add_version(service), state="scored")
    add_played(f"{NAME}-v1.0.0", state="scored", hour=NEXT)
    with training(service, tmp_path):
        wanted = request(HOUR)
        wait_until(lambda: ((job(wanted).resume or {}).get("remote") or {}).get("training"), PATIENCE)
        jobs.cancel(wanted)
        wait_until(lambda: state_of(wanted) in ENDED, PATIENCE)
        assert state_of(wanted) == "cancelled"
        later = request(NEXT)
        wait_until(lambda: job(later).error is not None, PATIENCE)
    assert job(later).error == (
        f"training training-1 of job {wanted} has not ended with the service;"
        " this one is asked for once no step can come of that"
    )
    assert (state_of(later), job(later).attempt) == ("queued", 0)
    service.held = False
    service.models[NAME].jobs[0].happened = len(service.jobs[0].events)
    service.models[NAME].add_checkpoint()
    due(later)
    assert at(service, tmp_path, later) == 1
    assert "its newest step is 1" in job(later).error
    assert "it is no version of this line: `rlfleet adopt` makes it one" in job(later).error
    assert job(wanted).resume["remote"]["end"] == "ended"
    assert (len(service.jobs), service.posts, len(versions())) == (1, 1, 1)
