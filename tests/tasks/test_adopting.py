"""A step with a service becomes one version: by the training that left it, or by an adoption, and not by both."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from db import jobs
from db.jobs import Claim, Effect
from db.session import transaction
from rl.errors import InvalidInput, Later, PermanentError
from rl.protocol import Remote
from rl.remote import Artifact
from tasks import adopting, training
from tasks.carry import Lease
from tasks.requests import request
from tests.art_stand_in import ENTITY, PROJECT, Service
from tests.tasks.art_line import NAME, add_line, add_played, add_version, service
from tests.tasks.conftest import HOUR
from tests.tasks.rows import claimed, job, rows

__all__ = ["service"]
pytestmark = pytest.mark.usefixtures("fresh", "service")


def left(service: Service) -> Claim:
    """A training job, held, whose training has left step 1 with the service."""
    add_line()
    add_played(add_version(service), state="scored")
    claim = claimed(request(HOUR))
    known = Remote(model="model-1", newest=0, asked_at=time.time(), training="training-1")
    jobs.heartbeat(claim, 60, None, {"remote": known.model_dump(mode="json")})
    made = service.submit({"model_id": "model-1", "trajectory_groups": []})
    made.happened = len(made.events)
    service.models[NAME].add_checkpoint()
    return claim


def adoption() -> Claim:
    with transaction() as session:
        wanted = adopting.request(session, "main")
    return claimed(wanted)


def done(claim: Claim, effect: Effect) -> None:
    with transaction() as session:
        jobs.finish(session, claim, effect)


def uris() -> list[str]:
    query = (
        "select c.uri from rlfleet.versions v join rlfleet.checkpoints c on c.id = v.checkpoint_id order by v.number"
    )
    return [str(row[0]) for row in rows(query)]


EXPECTED = [Artifact(ENTITY, PROJECT, NAME, step).uri for step in (0, 1)]


@pytest.mark.slow
def test_a_training_that_goes_on_comes_first(service: Service) -> None:
    claim = left(service)
    jobs.release(claim, "a drain")
    adopted = adoption()
    with pytest.raises(Later, match=f"job {claim.job_id} of this line has asked the service for a training"):
        adopting.adopt(adopted, Lease(adopted, 600))
    jobs.release(adopted, "put off")
    held = claimed(claim.job_id)
    done(held, training.train_on(held, Lease(held, 600)))
    assert uris() == EXPECTED


@pytest.mark.slow
def test_one_of_a_cancelled_job_has_ended_where_its_step_is_adopted(service: Service) -> None:
    claim = left(service)
    jobs.cancel(claim.job_id)
    jobs.end_cancelled(claim)
    adopted = adoption()
    done(adopted, adopting.adopt(adopted, Lease(adopted, 600)))
    assert uris() == EXPECTED
    assert job(claim.job_id).resume["remote"]["end"] == "ended"
    assert jobs.requeue(claim.job_id)
    again = claimed(claim.job_id)
    with pytest.raises(Later, match="its newest step, which is not decided on yet"):
        training.train_on(again, Lease(again, 600))
    assert uris() == EXPECTED


@pytest.mark.slow
def test_an_adoption_waits_for_the_step_of_one_that_has_ended(service: Service, tmp_path: Path) -> None:
    claim = left(service)
    jobs.cancel(claim.job_id)
    jobs.end_cancelled(claim)
    service.models[NAME].checkpoints.clear()
    adopted = adoption()
    with pytest.raises(Later, match="its step is not to be seen yet"):
        adopting.adopt(adopted, Lease(adopted, 600))
    assert job(claim.job_id).resume["remote"]["end"] is None
    assert list((tmp_path / "artifacts" / "jobs" / str(adopted.job_id)).iterdir()) == []
    service.models[NAME].add_checkpoint()
    done(adopted, adopting.adopt(adopted, Lease(adopted, 600)))
    assert uris() == EXPECTED


@pytest.mark.slow
def test_a_step_that_is_a_version_is_not_made_another(service: Service) -> None:
    claim = left(service)
    jobs.release(claim, "a drain")
    claim = claimed(claim.job_id)
    effect = training.train_on(claim, Lease(claim, 600))
    with transaction() as session:  # as where it was adopted in the meantime
        session.execute(text("update rlfleet.checkpoints set uri = :uri, step = 1"), {"uri": EXPECTED[1]})
    with pytest.raises(InvalidInput, match=rf"it is {NAME}-v1\.0\.0 already, .*`rlfleet jobs cancel {claim.job_id}`"):
        done(claim, effect)
    assert uris() == EXPECTED[1:]


@pytest.mark.slow
def test_a_training_goes_on_from_its_own_version_and_not_from_a_namesake(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After another project was set and adopted from, whose step has the same number."""
    claim = left(service)
    known = Remote.model_validate(job(claim.job_id).resume["remote"]).model_copy(update={"parent": EXPECTED[0]})
    jobs.heartbeat(claim, 60, None, {"remote": known.model_dump(mode="json")})
    jobs.fail(claim, "a test", retry=False)
    monkeypatch.setenv("WANDB_PROJECT", "another")
    service.models["elsewhere"] = service.models.pop(NAME)
    adopted = adoption()
    done(adopted, adopting.adopt(adopted, Lease(adopted, 600)))
    assert uris() == [EXPECTED[0], Artifact(ENTITY, "another", NAME, 0).uri]
    assert jobs.requeue(claim.job_id)
    again = claimed(claim.job_id)
    with pytest.raises(PermanentError, match=r"WANDB_PROJECT and the line name .*; set them back") as refused:
        training.train_on(again, Lease(again, 600))
    assert EXPECTED[0] in str(refused.value)
    assert job(claim.job_id).resume["remote"]["training"] == "training-1"


def test_it_is_said_where_to_see_what_becomes_of_it(service: Service) -> None:
    from fleet.cli import app

    add_line()
    told = CliRunner().invoke(app, ["adopt", "--reason", "a test"])
    assert told.exit_code == 0, told.output
    (wanted,) = [row[0] for row in rows("select id from rlfleet.jobs")]
    assert told.stderr.splitlines()[-1] == f"`rlfleet jobs show {wanted}` says what becomes of it"
