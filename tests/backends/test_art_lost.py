"""What becomes of a request to ART's service that is refused, lost, or answered late: ART's own client, over HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rl.protocol import CheckpointWritten, Done
from rl.remote import Artifact
from tests.art_stand_in import ENTITY, KEY, PROJECT, Service, serving
from tests.backends.art_double import NAME, PARENT, account, carried_out, command, failed, last_remote, noted, row

pytestmark = pytest.mark.usefixtures("art_alone")


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def test_a_model_is_registered_and_nothing_is_trained(service: Service, tmp_path: Path) -> None:
    events = carried_out(account(service), command(tmp_path, parent=None, dataset="", config={}))
    written, done = events
    assert isinstance(written, CheckpointWritten)
    assert (written.step, written.path) == (0, PARENT)
    assert isinstance(done, Done)
    assert done.manifest["backend"] == {
        "model": "model-1",
        "trained": False,
        "step": 0,
        "name": f"{ENTITY}/{PROJECT}/{NAME}",
        "metrics": {},
    }
    assert service.posts == 0


@pytest.mark.parametrize("fault", ["lost", "late-500"])
def test_a_lost_answer_is_waited_for_and_never_asked_for_again(service: Service, tmp_path: Path, fault: str) -> None:
    service.submits = [fault]
    events = carried_out(account(service), command(tmp_path))
    assert noted(events) == ["intended"]
    written = next(event for event in events if isinstance(event, CheckpointWritten))
    assert written.step == 1
    assert isinstance(events[-1], Done)
    assert events[-1].manifest["backend"]["training"] is None  # type: ignore[index]
    assert (service.posts, len(service.jobs)) == (1, 1)


def test_an_intent_without_an_id_asks_for_nothing(service: Service, tmp_path: Path) -> None:
    service.submits = ["nothing"]
    intended = last_remote(carried_out(account(service, deadline_seconds=2.0), command(tmp_path)))
    assert intended is not None
    assert service.posts == 1
    late = intended.model_copy(update={"asked_at": time.time()})
    again = failed(carried_out(account(service, deadline_seconds=2.0), command(tmp_path, remote=late)))
    assert (again.error, service.posts, service.jobs) == ("PermanentError", 1, [])
    for words in ("it is unknown whether", "newer than step 0", "`rlfleet jobs requeue 7` submits the training anew"):
        assert words in again.message
    service.models[NAME].add_checkpoint()
    found = carried_out(account(service), command(tmp_path, remote=late))
    assert next(event for event in found if isinstance(event, CheckpointWritten)).step == 1
    assert service.posts == 1


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (401, "PermanentError", "refuses the key (401): set WANDB_API_KEY"),
        (422, "PermanentError", "UnprocessableEntityError (422): not now, ***"),
    ],
)
def test_a_refusal_made_nothing_and_takes_the_intent_back(
    service: Service, tmp_path: Path, fault: int, error: str, words: str
) -> None:
    service.submits = [fault]
    events = carried_out(account(service), command(tmp_path))
    assert noted(events) == ["intended", "withdrawn"]
    assert last_remote(events) is None
    assert failed(events).error == error
    assert words in failed(events).message
    assert KEY not in failed(events).message
    assert service.jobs == []


def test_a_busy_service_is_asked_by_another_attempt(service: Service, tmp_path: Path) -> None:
    service.submits = [429]
    events = carried_out(account(service), command(tmp_path))
    assert noted(events) == ["intended", "withdrawn"]
    assert last_remote(events) is None
    assert failed(events).error == "ServiceAway"
    assert "RateLimitError (429): not now, ***" in failed(events).message
    assert (service.posts, service.jobs) == (1, [])
    assert isinstance(carried_out(account(service), command(tmp_path))[-1], Done)
    assert (service.posts, len(service.jobs)) == (2, 1)


def test_a_service_that_is_not_there_is_asked_by_another_attempt(service: Service, tmp_path: Path) -> None:
    away = account(service, base_url="http://127.0.0.1:9/v1")
    gone = failed(carried_out(away, command(tmp_path)))
    assert gone.error == "ServiceAway"
    assert gone.message == "ART's service at http://127.0.0.1:9/v1: APIConnectionError (ConnectError)"


@pytest.mark.parametrize("status", [500, 429])
def test_one_that_cannot_answer_for_now_too(service: Service, tmp_path: Path, status: int) -> None:
    service.refuses = status
    said = failed(carried_out(account(service), command(tmp_path)))
    assert (said.error, service.posts) == ("ServiceAway", 0)
    assert f"({status}): come again" in said.message


def test_a_wrong_key_is_said_at_once(service: Service, tmp_path: Path) -> None:
    wrong = account(service, api_key=SecretStr("another"))
    refused = failed(carried_out(wrong, command(tmp_path)))
    assert refused.error == "PermanentError"
    assert "refuses the key (401)" in refused.message
    assert "another" not in refused.message


def test_a_training_that_failed_says_why(service: Service, tmp_path: Path) -> None:
    service.fails = f"no memory for {KEY}"
    said = failed(carried_out(account(service), command(tmp_path)))
    assert said.error == "PermanentError"
    assert said.message == "ART's service failed at training training-1: no memory for ***"


def test_a_training_that_does_not_end_is_given_up(service: Service, tmp_path: Path) -> None:
    service.held = True
    said = failed(carried_out(account(service, deadline_seconds=2.0), command(tmp_path)))
    assert said.error == "PermanentError"
    assert said.message.startswith("training training-1 of ART's service did not leave a checkpoint within 2 s")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"parent": Artifact(ENTITY, PROJECT, NAME, 4).uri}, "its newest step is 0"),
        ({"parent": Artifact(ENTITY, "another", NAME, 0).uri}, "set them back, or `rlfleet adopt`"),
        ({"model": "other-line"}, "set them back, or `rlfleet adopt`"),
        ({"parent": "/a/folder"}, "`rlfleet adopt --line LINE --reason TEXT`"),
        ({"parent": None}, "`rlfleet adopt --line LINE --reason TEXT`"),
    ],
)
def test_it_goes_on_from_the_newest_step_of_its_own_model_alone(
    service: Service, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    said = failed(carried_out(account(service), command(tmp_path, **fields)))
    assert said.error == "InvalidInput"
    assert words in said.message
    assert service.posts == 0


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([row(0, 1.0, logprobs=None), row(1, 0.0)], "OffPolicyRefused", "has no tokens and log-probabilities"),
        ([row(0, 1.0, logprobs=[-0.5]), row(1, 0.0)], "OffPolicyRefused", "has no tokens and log-probabilities"),
        ([row(0, 1.0, temperature=0.7), row(1, 0.0)], "OffPolicyRefused", "at temperature 0.7"),
        ([row(0, math.nan), row(1, 0.0)], "InvalidInput", "it must be a finite number"),
        ([row(0, 1.0), row(1, 1.0), row(2, 0.0, group="b")], "NoTrainingData", "1 alone in its group"),
    ],
)
def test_what_cannot_be_trained_on_is_not_sent(
    service: Service, tmp_path: Path, rows: list[dict[str, Any]], error: str, words: str
) -> None:
    said = failed(carried_out(account(service), command(tmp_path, *rows)))
    assert said.error == error
    assert words in said.message
    assert service.posts == 0
