"""ART's service when it hangs, drips, repeats itself or does not know a training: every look at it has an end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from backends import art_training
from rl.protocol import CheckpointWritten, Done, Event, Paused, Remote, RemoteNoted
from tests.art_stand_in import KEY, Service, serving
from tests.backends.art_double import NAME, account, carried_out, command, failed, last_remote, noted

pytestmark = [pytest.mark.usefixtures("art_alone"), pytest.mark.timeout(240)]

Fault = Literal["hang", "drip"]
PATIENCE = 60.0
"""What takes longer was not ended by what the test set."""


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def submitted(service: Service, folder: Path) -> Remote:
    """A training that the service is at, and that nobody follows any more."""
    remote = last_remote(carried_out(account(service), command(folder), until="submitted"))
    assert remote is not None
    return remote


def ends(events: list[Event]) -> list[str | None]:
    """How the command's own training was settled."""
    found = [one for one in events if isinstance(one, RemoteNoted) and one.phase == "settled" and one.of is None]
    return [one.remote.end if one.remote else None for one in found]


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_look_that_does_not_end_is_given_up(
    service: Service, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(art_training, "LATE_SECONDS", 2.0)
    late = submitted(service, tmp_path).model_copy(update={"asked_at": 1.0})
    service.slow["events"] = fault
    began = time.monotonic()
    said = failed(carried_out(account(service), command(tmp_path, remote=late)))
    assert time.monotonic() - began < PATIENCE
    assert said.error == "PermanentError"
    assert "TimeoutError: no whole answer came within 1 s" in said.message
    assert said.message.endswith("`rlfleet jobs requeue 7` asks again, and submits nothing anew")


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_pause_does_not_wait_for_a_look(service: Service, tmp_path: Path, fault: Fault) -> None:
    service.slow["events"] = fault
    began = time.monotonic()
    events = carried_out(account(service), command(tmp_path), until="submitted")
    assert time.monotonic() - began < art_training.LOOK_SECONDS
    assert noted(events) == ["intended", "submitted"]
    assert isinstance(events[-1], Paused)


def test_a_request_whose_answer_hangs_is_as_one_whose_answer_is_lost(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "SUBMIT_SECONDS", 2.0)
    service.slow["training-jobs"] = "hang"
    events = carried_out(account(service), command(tmp_path))
    assert noted(events) == ["intended"]
    assert next(one for one in events if isinstance(one, CheckpointWritten)).step == 1
    assert isinstance(events[-1], Done)
    assert (service.posts, len(service.jobs)) == (1, 1)


@pytest.mark.parametrize("what", ["models", "checkpoints"])
def test_a_service_that_hangs_before_it_is_asked_is_away(
    service: Service, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "LOOK_SECONDS", 1.0)
    service.slow[what] = "hang"
    said = failed(carried_out(account(service), command(tmp_path)))
    assert said.error == "ServiceAway"
    assert said.message.endswith("TimeoutError: no whole answer came within 1 s")
    assert service.posts == 0


def test_pages_that_do_not_advance_end(service: Service, tmp_path: Path) -> None:
    service.repeats = True
    events = carried_out(account(service), command(tmp_path))
    assert isinstance(events[-1], Done)
    assert sum(path.endswith("/events") for _, path, _ in service.asked) < 50


def test_a_training_that_the_service_knows_no_more_may_have_left_its_step(service: Service, tmp_path: Path) -> None:
    unknown = submitted(service, tmp_path).model_copy(update={"training": "training-9"})
    service.jobs[0].held = True
    service.models[NAME].add_checkpoint()
    events = carried_out(account(service), command(tmp_path, remote=unknown))
    assert next(one for one in events if isinstance(one, CheckpointWritten)).step == 1
    assert (service.posts, ends(events)) == (1, [])


def test_one_that_left_none_is_asked_for_anew(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "UNKNOWN_SECONDS", 1.0)
    unknown = submitted(service, tmp_path).model_copy(update={"training": "training-9"})
    service.held = True
    events = carried_out(account(service), command(tmp_path, remote=unknown))
    said = failed(events)
    assert (said.error, ends(events), service.posts) == ("PermanentError", ["ended"], 1)
    assert "the service does not know it any more, and has no step after 0" in said.message
    assert said.message.endswith("`rlfleet jobs requeue 7` submits the training anew")


def test_a_service_that_knows_neither_it_nor_its_model_settles_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "UNKNOWN_SECONDS", 1.0)
    known = submitted(service, tmp_path)
    elsewhere = account(service, base_url=service.url.replace("/v1", "/v2"))
    events = carried_out(elsewhere, command(tmp_path, remote=known))
    said = failed(events)
    assert (said.error, noted(events), service.posts) == ("PermanentError", [], 1)
    assert "the service knows neither it nor its model model-1" in said.message
    assert "see that ART_BASE_URL is right" in said.message
    assert "`rlfleet jobs requeue 7` asks again, and submits nothing anew" in said.message
    assert said.message.endswith("if the model was deleted there, `rlfleet jobs requeue 7 --anew` forgets the training")


def test_an_intent_at_a_service_that_knows_no_such_model_is_told_soon(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(art_training, "UNKNOWN_SECONDS", 1.0)
    intent = submitted(service, tmp_path).model_copy(update={"training": None})
    elsewhere = account(service, base_url=service.url.replace("/v1", "/v2"))
    events = carried_out(elsewhere, command(tmp_path, remote=intent))
    assert "the service knows neither it nor its model model-1" in failed(events).message
    assert (noted(events), service.posts) == ([], 1)


@pytest.mark.parametrize("training", ["training-1", None])
def test_a_key_that_is_refused_meanwhile_is_said_at_once(
    service: Service, tmp_path: Path, training: str | None
) -> None:
    service.held = True
    known = submitted(service, tmp_path).model_copy(update={"training": training})
    events = carried_out(account(service, api_key=SecretStr("revoked")), command(tmp_path, remote=known))
    said = failed(events)
    assert (said.error, ends(events), service.posts) == ("PermanentError", [], 1)
    assert "ART's service refuses the key (401): set WANDB_API_KEY" in said.message
    kept = "asks again, and submits nothing anew" if training else "look with W&B for a checkpoint newer than step 0"
    assert kept in said.message
    assert KEY not in said.message
