"""Jobs that train with a service, and what else their line has there: who waits, who is refused, what stays known."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from db import at_service, decisions, dispatch, jobs, lines, promotions, releases, versions
from db.jobs import Claim
from db.session import transaction
from fleet import cli
from rl.config import Release
from rl.errors import Later, PermanentError
from rl.protocol import Beside, Remote
from rl.remote import Artifact, sha256_of
from tasks import adopting, training
from tasks.carry import Lease, carry_out
from tasks.requests import request
from tests.art_stand_in import BASE, ENTITY, PROJECT, Service
from tests.conftest_database import released
from tests.tasks.art_line import NAME, add_line, add_played, add_version, service
from tests.tasks.conftest import HOUR
from tests.tasks.rows import claimed, job, one

__all__ = ["service"]
pytestmark = pytest.mark.usefixtures("fresh", "service")

NEXT = "2025-01-15T11:00"
KNOWN = Remote(model="model-1", newest=0, asked_at=1.0, training="training-1")


def asked(service: Service, remote: Remote | None) -> Claim:
    """A training job that is held and has asked the service so far."""
    add_line()
    add_played(add_version(service), state="scored")
    claim = claimed(request(HOUR))
    if remote is not None:
        jobs.heartbeat(claim, 60, None, {"remote": remote.model_dump(mode="json")})
    return claim


def cancelled(claim: Claim) -> None:
    jobs.cancel(claim.job_id)
    jobs.end_cancelled(claim)


def another() -> int:
    """Another training job of the line."""
    add_played(f"{NAME}-v1.0.0", state="scored", hour=NEXT)
    return request(NEXT)


def add_step(service: Service, state: str = "candidate", stage: str | None = None) -> str:
    """The line's second version, which is step 1 there. Its name."""
    service.models[NAME].add_checkpoint()
    uri = Artifact(ENTITY, PROJECT, NAME, 1).uri
    with transaction() as session:
        line = lines.named(session, "main")
        spec = dispatch.Spec("train", line.id, {"windows": [], "step": 1}, {}, "gpu")
        job_id = dispatch.request(session, spec)
        session.execute(text("update rlfleet.jobs set state = 'succeeded' where id = :id"), {"id": job_id})
        made = [versions.NewCheckpoint(1, "remote", uri, BASE, sha256_of(uri), {})]
        about = {"prefix": NAME, "job_id": job_id, "fence": 1, "parent_id": None, "base_model": BASE}
        version = versions.add(session, line=line, checkpoints=made, manifest={}, **about)
        if state != "candidate":
            versions.set_state(session, [version.id], state, "set by a test")
        if stage == "stable":
            released(session, line.id, version.id)
        elif stage == "canary":
            decision = decisions.by_person(session, line.id, version.id, "a test", "a test")
            plan = promotions.plan_of(Release(), 100)
            releases.start_canary(session, line.id, version.id, decision, plan, "a test")
        return version.name


@pytest.mark.slow
def test_the_next_job_waits_for_one_that_the_service_is_at(service: Service) -> None:
    known = KNOWN.model_copy(update={"asked_at": time.time()})
    claim = asked(service, known)
    started = service.submit({"model_id": "model-1", "trajectory_groups": []})
    started.held = True
    cancelled(claim)
    later = claimed(another())
    with pytest.raises(Later, match=rf"training training-1 of job {claim.job_id} has not ended with the service"):
        training.train_on(later, Lease(later, 600))
    assert service.posts == 0
    started.held, started.happened = False, len(started.events)
    service.models[NAME].add_checkpoint()
    with pytest.raises(PermanentError, match="its newest step is 1"):
        training.train_on(later, Lease(later, 600))
    assert job(claim.job_id).resume["remote"] == known.model_copy(update={"end": "ended"}).model_dump(mode="json")
    assert service.posts == 0


def test_one_that_is_queued_goes_first(service: Service) -> None:
    claim = asked(service, KNOWN)
    jobs.release(claim, "a test")
    later = claimed(another())
    with pytest.raises(Later, match=rf"job {claim.job_id} of this line has asked the service for a training"):
        training._prepare(later, Lease(later, 60))


def test_an_intent_without_an_answer_is_in_the_way_until_somebody_looked(service: Service) -> None:
    intent = KNOWN.model_copy(update={"training": None, "asked_at": time.time()})
    claim = asked(service, intent)
    cancelled(claim)
    later = claimed(another())
    plan = training._prepare(later, Lease(later, 60))
    assert plan.command.beside.others == {claim.job_id: intent}
    assert jobs.requeue(claim.job_id)
    assert job(claim.job_id).resume is None
    jobs.cancel(claim.job_id)
    assert training._prepare(later, Lease(later, 60)).command.beside.others == {}


@pytest.mark.parametrize("end", ["ended", "failed"])
def test_what_has_ended_is_not_in_the_way(service: Service, end: str) -> None:
    claim = asked(service, KNOWN.model_copy(update={"end": end}))
    jobs.fail(claim, "a test", retry=False)
    later = claimed(another())
    assert training._prepare(later, Lease(later, 60)).command.beside.others == {}


def test_what_was_given_up_is_in_the_way(service: Service) -> None:
    claim = asked(service, KNOWN.model_copy(update={"end": "given up"}))
    jobs.fail(claim, "a test", retry=False)
    later = claimed(another())
    assert list(training._prepare(later, Lease(later, 60)).command.beside.others) == [claim.job_id]


def test_an_end_is_not_written_over_what_was_asked_for_since(service: Service) -> None:
    claim = asked(service, KNOWN)
    cancelled(claim)
    earlier = KNOWN.model_copy(update={"asked_at": 0.5, "end": "ended"})
    with transaction() as session:
        at_service.settle(session, claim.job_id, earlier)
    assert job(claim.job_id).resume["remote"] == KNOWN.model_dump(mode="json")


@pytest.mark.parametrize(
    ("end", "extra", "is_kept"),
    [
        (None, {}, True),
        ("failed", {}, False),
        ("given up", {}, False),
        (None, {"erased": True}, False),
    ],
)
def test_a_requeue_goes_on_with_a_training_that_may_still_end(
    service: Service, end: str | None, extra: dict[str, bool], *, is_kept: bool
) -> None:
    remote = KNOWN.model_copy(update={"end": end}).model_dump(mode="json")
    claim = asked(service, None)
    jobs.heartbeat(claim, 60, None, {"remote": remote, "curves": {}} | extra)
    jobs.fail(claim, "InvalidSettings: no key", retry=False)
    assert jobs.requeue(claim.job_id)
    assert job(claim.job_id).resume == ({"remote": remote} if is_kept else None)


def test_a_person_may_have_it_forgotten(service: Service) -> None:
    claim = asked(service, KNOWN)
    cancelled(claim)
    result = CliRunner().invoke(cli.app, ["jobs", "requeue", str(claim.job_id), "--anew", "--json"])
    assert result.exit_code == 0, result.output
    assert (job(claim.job_id).state, job(claim.job_id).resume) == ("queued", None)
    detail = one(
        "select detail from rlfleet.audit where action = 'requeue job' and subject = :id", id=str(claim.job_id)
    )[0]
    assert detail["anew"] is True


@pytest.mark.parametrize(("state", "stage"), [("candidate", None), ("ready", "canary")])
def test_a_newest_step_that_is_not_decided_on_is_waited_for(service: Service, state: str, stage: str | None) -> None:
    add_line()
    add_played(add_version(service), state="scored")
    name = add_step(service, state, stage)
    wanted = request(HOUR)
    assert "queued" in carry_out(wanted, training.train_on, leaves=True)
    found = job(wanted)
    assert found.error.startswith(f"the service goes on only from {name}, its newest step, which is not decided on yet")
    assert (found.state, found.attempt, found.interruptions, found.lease_until) == ("queued", 0, 0, None)
    assert 200 < one("select extract(epoch from run_at - now()) from rlfleet.jobs where id = :id", id=wanted)[0] <= 300
    assert service.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("rejected", "which was rejected: delete that step with W&B, or have `rlfleet adopt` make it a version anew"),
        ("ready", "`rlfleet deploy {0}` has trainings go on from it, or delete that step with W&B"),
    ],
)
def test_a_newest_step_that_is_decided_on_is_a_persons(service: Service, state: str, words: str) -> None:
    add_line()
    add_played(add_version(service), state="scored")
    name = add_step(service, state)
    claim = claimed(request(HOUR))
    with pytest.raises(PermanentError, match="its newest step is 1") as refused:
        training.train_on(claim, Lease(claim, 600))
    assert f"it is {name}" in str(refused.value)
    assert words.format(name) in str(refused.value)
    assert service.posts == 0


def test_a_released_step_is_nobodys_to_delete(service: Service) -> None:
    add_line()
    first = add_version(service)
    name = add_step(service, "ready", "stable")
    add_played(first, state="scored")
    with transaction() as session:
        line = lines.named(session, "main")
        (newer,) = at_service.newer_versions(session, line.id, f"{Artifact(ENTITY, PROJECT, NAME, 0).uri[:-1]}", 0)
        assert (newer.name, newer.step, newer.stage) == (name, 1, "stable")
    from tasks.beside import _what_then

    words = f"it is {name}, which is released: train on from it, with a new run where this is a round of one"
    assert _what_then(newer) == words


def test_an_adoption_that_failed_is_tried_again(service: Service) -> None:
    from fleet.cli import app

    add_line()
    add_version(service)
    with transaction() as session:
        wanted = adopting.request(session, "main")
    jobs.fail(claimed(wanted), "it is v1.0.0 already", retry=False)
    done = CliRunner().invoke(app, ["adopt", "--reason", "there is a newer one"])
    assert done.exit_code == 0, done.output
    assert f"job {wanted} train" in done.output
    assert (job(wanted).state, job(wanted).attempt) == ("queued", 0)


def test_an_adoption_that_has_failed_already_is_said_with_an_exit_code(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleet.cli import app

    add_line()

    def fails() -> None:
        (job_id,) = one("select id from rlfleet.jobs")
        jobs.fail(claimed(job_id), "no key", retry=False)

    monkeypatch.setattr("tasks.ring.ring_or_later", fails)
    assert CliRunner().invoke(app, ["adopt", "--reason", "a test"]).exit_code == 1


def test_a_job_whose_line_has_no_version_there_is_told_how_to_make_one(service: Service) -> None:
    claim = asked(service, None)
    with transaction() as session:
        found = training.beside(session, claim, None)
    assert found == Beside()
