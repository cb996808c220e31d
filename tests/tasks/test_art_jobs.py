"""Versions that lie with a service, in jobs: what is stored before it is asked, and what cannot be done here."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from backends.art import ArtServerless
from db import alerts, at_service, forgetting, jobs, lines
from db.jobs import Claim
from db.session import transaction
from fleet.publish_rows import read
from fleet.reproduce import reproduce
from rl.errors import Cancelled, Fenced, InvalidInput, InvalidSettings, PermanentError
from rl.protocol import CheckpointWritten, Done, Event, Remote, RemoteNoted, TrainCommand
from rl.remote import Artifact, sha256_of
from tasks import adopting, training
from tasks.alert_remedies import remedy_of
from tasks.carry import Lease, carry_out
from tasks.engine import serve_version
from tasks.requests import request
from tasks.supervise import supervise
from tests.art_stand_in import BASE, ENTITY, KEY, PROJECT, Service
from tests.conftest_database import add_version as add_local
from tests.conftest_database import released
from tests.tasks.art_line import NAME, add_line, add_played, add_version, service
from tests.tasks.conftest import HOUR
from tests.tasks.rows import claimed, job, one

__all__ = ["service"]
pytestmark = pytest.mark.usefixtures("fresh", "service")
Away = Callable[[], AbstractContextManager[None]]

INTENT = Remote(model="model-1", newest=0, asked_at=1.0)


class Told:
    """A place that says what it is given to say, and looks what is stored when the next event is asked for."""

    def __init__(self, job_id: int, *events: Event) -> None:
        self.log = Path("/log")
        self._job_id, self._events = job_id, events
        self.stored: list[Any] = []
        self.killed = False

    def train(self, command: TrainCommand) -> Iterator[Event | None]:
        for event in self._events:
            yield event
            self.stored.append((job(self._job_id).resume or {}).get("remote"))

    def pause(self, command: TrainCommand) -> None:
        raise AssertionError("nobody goes down")

    def kill(self) -> None:
        self.killed = True


def noted(claim: Claim, phase: Any, remote: Remote | None) -> RemoteNoted:
    return RemoteNoted(job=claim.job_id, fence=claim.fence, phase=phase, remote=remote)


def asked(service: Service) -> Claim:
    """A training job on what the line's remote version said, held."""
    add_line()
    add_played(add_version(service), state="scored")
    wanted = request(HOUR)
    return claimed(wanted)


def command(claim: Claim) -> TrainCommand:
    return TrainCommand(job=claim.job_id, fence=claim.fence, dataset="/d", out="/o", base=BASE, config=claim.config)


def test_what_is_noted_is_stored_before_the_next_event(service: Service) -> None:
    claim = asked(service)
    known = INTENT.model_copy(update={"training": "training-1"})
    said = [noted(claim, "intended", INTENT), noted(claim, "submitted", known), noted(claim, "withdrawn", None)]
    place, lease = Told(claim.job_id, *said, Done(job=claim.job_id, fence=claim.fence)), Lease(claim, 60)
    supervise(place, command(claim), lease, {})
    assert lease.gets_on
    assert place.stored == [INTENT.model_dump(mode="json"), known.model_dump(mode="json"), None]


def test_while_the_database_is_away_nothing_is_asked_for(service: Service, database_away: Away) -> None:
    claim = asked(service)
    place = Told(claim.job_id, noted(claim, "intended", INTENT), Done(job=claim.job_id, fence=claim.fence))
    away = database_away()
    away.__enter__()
    back = threading.Timer(3, lambda: away.__exit__(None, None, None))
    began = time.monotonic()
    back.start()
    supervise(place, command(claim), Lease(claim, 600), {})
    back.join()
    assert time.monotonic() - began >= 2
    assert place.stored == [INTENT.model_dump(mode="json")]


@pytest.mark.parametrize("error", [Fenced, Cancelled])
def test_a_job_that_is_no_longer_ours_asks_for_nothing(service: Service, error: type[Exception]) -> None:
    claim = asked(service)
    if error is Cancelled:
        jobs.cancel(claim.job_id)
    else:
        claim = Claim(**vars(claim) | {"fence": claim.fence - 1})
    place = Told(claim.job_id, noted(claim, "intended", INTENT), Done(job=claim.job_id, fence=claim.fence))
    with pytest.raises(error):
        supervise(place, command(claim), Lease(claim, 60), {})
    assert place.killed
    assert place.stored == []
    assert job(claim.job_id).resume is None
    with transaction() as session:
        assert at_service.open_trainings(session, claim.line_id, 0) == []


def test_a_training_that_is_there_is_known_though_its_job_is_cancelled(service: Service) -> None:
    claim = asked(service)
    jobs.heartbeat(claim, 60, None, {"remote": INTENT.model_dump(mode="json")})
    jobs.cancel(claim.job_id)
    known = INTENT.model_copy(update={"training": "training-1"})
    place = Told(claim.job_id, noted(claim, "submitted", known), Done(job=claim.job_id, fence=claim.fence))
    with pytest.raises(Cancelled):
        supervise(place, command(claim), Lease(claim, 60), {})
    assert job(claim.job_id).resume["remote"] == known.model_dump(mode="json")


@pytest.mark.slow
def test_a_service_that_is_away_costs_no_attempt(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add_line()
    add_played(add_version(service), state="scored")
    wanted = request(HOUR)
    monkeypatch.setenv("ART_BASE_URL", "http://127.0.0.1:9/v1")
    assert "queued" in carry_out(wanted, training.train_on, leaves=True)
    found = job(wanted)
    assert (found.state, found.attempt, found.interruptions, found.resume) == ("queued", 0, 0, None)
    assert found.error == "ServiceAway: ART's service at http://127.0.0.1:9/v1: APIConnectionError (ConnectError)"
    with transaction() as session:
        assert at_service.alert_away(session) == []
        session.execute(text("update rlfleet.job_events set at = at - interval '16 minutes'"))
        assert at_service.alert_away(session) == [wanted]
    (alert,) = alerts.waiting()
    assert (alert.name, alert.subject, alert.detail["error"]) == ("service_away", f"job {wanted}", found.error)
    assert remedy_of(alert.name, alert.detail).startswith(f"read `rlfleet jobs show {wanted}`")


def again(claim: Claim, remote: Remote) -> Claim:
    """The next attempt of a job whose last one had asked a service."""
    jobs.heartbeat(claim, 60, None, {"remote": remote.model_dump(mode="json")})
    jobs.release(claim, "a test")
    return claimed(claim.job_id)


def test_the_next_attempt_is_told_and_stays_with_the_version_that_was_gone_on_from(service: Service) -> None:
    claim = again(asked(service), INTENT)
    with transaction() as session:
        line = lines.named(session, "main")
        other = add_local(session, line)
        released(session, line.id, other.id)
    plan = training._prepare(claim, Lease(claim, 60))
    assert plan.command.remote == INTENT
    assert (plan.start.parent, plan.command.model) == (f"{NAME}-v1.0.0", NAME)
    assert plan.command.parent == Artifact(ENTITY, PROJECT, NAME, 0).uri


def test_what_was_sent_and_is_erased_since_is_a_persons(service: Service) -> None:
    claim = asked(service)
    training._prepare(claim, Lease(claim, 60))
    jobs.heartbeat(claim, 60, None, {"remote": INTENT.model_dump(mode="json"), "curves": {}})
    jobs.release(claim, "a test")
    forgetting.forget("agent-0", None, lambda _: 0)
    assert job(claim.job_id).resume == {"remote": INTENT.model_dump(mode="json"), "erased": True}
    claim = claimed(claim.job_id)
    with pytest.raises(PermanentError, match=r"newer than step 0 and delete it there; `rlfleet jobs requeue \d+`"):
        training._prepare(claim, Lease(claim, 60))
    jobs.fail(claim, "a test", retry=False)
    assert jobs.requeue(claim.job_id)
    plan = training._prepare(claim := claimed(claim.job_id), Lease(claim, 60))
    assert plan.command.remote is None


@pytest.mark.parametrize("backend", ["local", "trl"])
def test_another_backend_does_not_go_on_from_it(
    service: Service, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backends.settings import settings

    claim = asked(service)
    monkeypatch.setenv("TRAIN_BACKEND", backend)
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="whose weights are not here: set art-serverless, or auto"):
        training._prepare(claim, Lease(claim, 60))


def test_it_is_served_where_it_lies_and_no_child_is_started(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setattr("tasks.engine.announce", lambda _: pytest.fail("a child"))
    uri = Artifact(ENTITY, PROJECT, NAME, 2).uri
    assert asyncio.run(serve_version("v1@abc", uri)) == (service.url, KEY, uri)


def test_a_version_that_lies_there_already_is_not_made_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add_line()
    add_version(service)
    with transaction() as session:
        wanted = adopting.request(session, "main")
    claim, uri = claimed(wanted), Artifact(ENTITY, PROJECT, NAME, 0).uri
    about = {"job": wanted, "fence": claim.fence}
    written = CheckpointWritten(**about, step=0, path=uri, kind="remote", sha256=sha256_of(uri))
    place = Told(wanted, written, Done(**about, manifest={"backend": {}}))
    monkeypatch.setattr(ArtServerless, "place", lambda self, child: place)
    effect = adopting.adopt(claim, Lease(claim, 60))
    with transaction() as session, pytest.raises(InvalidInput, match=rf"it is {NAME}-v1\.0\.0 already"):
        effect(session)


def test_what_needs_its_folder_says_that_there_is_none(service: Service, tmp_path: Path) -> None:
    add_line()
    name = add_version(service)
    with pytest.raises(InvalidInput, match="its weights lie with the service that trained it"):
        read(name, None, anything=False)
    with pytest.raises(InvalidInput, match="a service trained it, which does not give the same bytes again"):
        reproduce(name, "main", tmp_path, lambda _: None, lambda *_: None)  # type: ignore[arg-type]


def test_it_is_shown_like_any_other(service: Service) -> None:
    from fleet.cli import app

    add_line()
    name = add_version(service)
    job_id = one("select job_id from rlfleet.versions")[0]
    for words in (["versions", name], ["explain", name], ["jobs", "show", str(job_id)], ["jobs", "list"]):
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert json.loads(done.stdout)["schema"] == 1
        assert CliRunner().invoke(app, words).exit_code == 0, words
