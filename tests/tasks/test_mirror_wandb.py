"""Trainings and their models on the way to Weights & Biases, from rows to what the service has."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import tasks
from backends import checkpoints
from backends.store import Store
from db import mirrors
from tasks import mirrored_models
from tests.s3_server import S3, s3
from tests.tasks.hosts import folder
from tests.tasks.mirroring import PATIENCE, add_version, artifacts, end, noted, service, steps, until
from tests.tasks.rows import rows
from tests.wandb_stand_in import KEY, StandIn

__all__ = ["artifacts", "s3", "service"]

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.slow
def test_weights_and_biases_catches_up_by_itself_after_it_refused(artifacts: Path, service: StandIn) -> None:
    service.answer = 401
    job_id, name = add_version("ready")
    lies_at(folder(artifacts, job_id, 4)[0], job_id)
    steps(artifacts, job_id, 1, 5)
    until(mirrors.behind)
    (behind,) = mirrors.behind()
    assert (behind.target, behind.error) == (
        "wandb",
        f"{service.url} answered 401: is WANDB_API_KEY right, and may it write?",
    )
    assert noted("jsonl")[0] == ("training", 5, 0, False)
    steps(artifacts, job_id, 6, 9)
    end(job_id)
    service.answer = "ok"
    until(lambda: ("training", 9, 0, True) in noted("wandb"))
    assert mirrors.behind() == []
    (run,) = service.runs.values()
    assert [line["_step"] for line in run.history] == list(range(1, 10))
    assert run.about["displayName"] == name
    assert not any(b"private.jsonl" in body for body in service.bodies)
    assert [one["state"] for one in service.artifacts.values()] == ["COMMITTED"]


@pytest.mark.slow
def test_what_was_recorded_without_a_key_is_sent_when_there_is_one_and_again_to_another_project(
    artifacts: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 5)
    end(job_id)
    until(lambda: ("training", 5, 0, True) in noted("wandb"))
    assert not service.runs
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    until(lambda: service.runs and place(job_id) == f"{service.url}//babylon-rl-training")
    assert tasks.mirror() == "nothing to copy"
    assert [line["_step"] for line in next(iter(service.runs.values())).history] == [1, 2, 3, 4, 5]
    monkeypatch.setenv("WANDB_PROJECT", "other")
    until(lambda: place(job_id) == f"{service.url}//other")
    assert next(iter(service.runs.values())).about["project"] == "other"
    monkeypatch.delenv("WANDB_API_KEY")
    assert tasks.mirror() == "nothing to copy", "what was sent is not recorded once more"


@pytest.mark.slow
def test_a_model_of_another_host_is_fetched_from_the_store_and_sent(
    artifacts: Path, service: StandIn, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, name = add_version("ready")
    steps(artifacts, job_id, 1, 3)
    end(job_id)
    made, sha256 = folder(tmp_path / "one", job_id, 4)
    lies_at(made, job_id, sha256)
    asyncio.run(checkpoints.publish(Store(s3.store), made, sha256))
    made.rename(tmp_path / "gone")
    monkeypatch.delenv("RLFLEET_STORE")
    tasks.mirror()
    (behind,) = mirrors.behind()
    remedy = "is not on this host; have its folder on the hosts of maint workers, or set RLFLEET_STORE"
    assert (behind.target, behind.error) == ("wandb", f"{name} is not sent: {made} {remedy}")
    monkeypatch.setenv("RLFLEET_STORE", s3.store)
    until(lambda: "is being fetched" in "".join(one.error for one in mirrors.behind()))
    until(lambda: ("training", 3, 0, True) in noted("wandb"))
    (model,) = service.artifacts.values()
    assert model["state"] == "COMMITTED"
    assert service.stored[model["files"]["adapter_model.safetensors"]] == b"%d/4" % job_id
    assert mirrors.behind() == []
    begun = mirrored_models._begun.pop()
    with begun.process, begun.err:
        assert begun.process.wait(PATIENCE) == 0


def lies_at(made: Path, job_id: int, sha256: str | None = None) -> None:
    """The checkpoint of the job's version is that folder."""
    rows(
        "update rlfleet.checkpoints set uri = :uri, sha256 = coalesce(:sha256, sha256) where job_id = :id returning 1",
        uri=str(made),
        sha256=sha256,
        id=job_id,
    )


def place(job_id: int) -> str | None:
    found = rows(
        "select place from rlfleet.mirrors where target = 'wandb' and kind = 'training' and ref = :id", id=job_id
    )
    return str(found[0].place) if found else None
