"""A training with ART's service beside others of its line: none is asked for, and no step of theirs is taken."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import art_training
from backends.art_child import client_of, groups_of
from backends.art_training import Training
from rl.protocol import Beside, CheckpointWritten, Event, Paused, Remote, RemoteNoted
from rl.remote import Artifact
from tests.art_stand_in import ENTITY, PROJECT, Service, names_in, serving
from tests.backends.art_double import (
    NAME,
    Heard,
    account,
    carried_out,
    command,
    failed,
    last_remote,
    noted,
)

pytestmark = pytest.mark.usefixtures("art_alone")

NEVER = Remote(model="model-1", newest=0, asked_at=1.0)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def going_on(service: Service, folder: Path) -> Remote:
    """A training of another job that the service is at, and that nobody follows any more."""
    events = carried_out(account(service, deadline_seconds=60.0), command(folder), until="submitted")
    remote = last_remote(events)
    assert remote is not None
    assert remote.training == "training-1"
    service.jobs[0].held = True
    return remote


def beside(**others: Remote) -> Beside:
    return Beside(others={int(name[1:]): remote for name, remote in others.items()})


def settled(events: list[Event]) -> list[tuple[int | None, str | None]]:
    found = [one for one in events if isinstance(one, RemoteNoted) and one.phase == "settled"]
    return [(one.of, one.remote.end if one.remote else None) for one in found]


def test_nothing_is_asked_for_while_another_training_goes_on(service: Service, tmp_path: Path) -> None:
    other = going_on(service, tmp_path)
    told = command(tmp_path, job=8, beside=beside(j7=other))
    said = failed(carried_out(account(service), told))
    assert (said.error, service.posts) == ("Later", 1)
    assert "training training-1 of job 7 has not ended with the service" in said.message
    service.jobs[0].held = False
    found = carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other)))
    while failed(found).error == "Later":
        found = carried_out(account(service), told)
    assert settled(found) == [(7, "ended")]
    assert (failed(found).error, service.posts) == ("InvalidInput", 1)
    assert "its newest step is 1" in failed(found).message
    assert "it is no version of this line: `rlfleet adopt` makes it one" in failed(found).message


def test_one_that_failed_there_is_no_longer_in_the_way(service: Service, tmp_path: Path) -> None:
    service.fails = "no memory"
    other = going_on(service, tmp_path)
    service.jobs[0].held, service.jobs[0].happened = False, len(service.jobs[0].events)
    service.fails = None
    found = carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other)))
    assert settled(found) == [(7, "failed")]
    assert next(one for one in found if isinstance(one, CheckpointWritten)).step == 1
    assert service.posts == 2


@pytest.mark.parametrize("is_late", [False, True])
def test_an_intent_of_another_job_is_waited_for(service: Service, tmp_path: Path, *, is_late: bool) -> None:
    service.model({"entity": ENTITY, "project": PROJECT, "name": NAME, "base_model": command(tmp_path).base})
    other = NEVER if is_late else NEVER.model_copy(update={"asked_at": time.time()})
    said = failed(carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other))))
    assert (said.error, service.posts) == ("PermanentError" if is_late else "Later", 0)
    assert "job 7 asked for a training, and nobody knows whether the service has it" in said.message
    assert ("`rlfleet jobs requeue 7` submits it anew" in said.message) is is_late
    assert said.message.endswith("then `rlfleet jobs requeue 8`") is is_late
    service.models[NAME].add_checkpoint()
    found = carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other)))
    assert settled(found) == [(7, "ended")]
    assert "its newest step is 1" in failed(found).message


def test_late_ones_with_an_id_are_looked_after_by_their_job(service: Service, tmp_path: Path) -> None:
    other = going_on(service, tmp_path).model_copy(update={"asked_at": 1.0})
    said = failed(carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other))))
    assert said.error == "PermanentError"
    assert "`rlfleet jobs requeue 7` looks after it further" in said.message
    other = other.model_copy(update={"end": "given up"})
    said = failed(carried_out(account(service), command(tmp_path, job=8, beside=beside(j7=other))))
    assert "`rlfleet jobs cancel 7` right after forgets it" in said.message
    assert service.posts == 1


def test_what_another_model_is_trained_by_is_not_in_the_way(service: Service, tmp_path: Path) -> None:
    other = NEVER.model_copy(update={"model": "model-9", "asked_at": time.time()})
    found = carried_out(account(service), command(tmp_path, beside=beside(j7=other)))
    assert next(one for one in found if isinstance(one, CheckpointWritten)).step == 1


def test_a_training_that_the_service_does_not_know_does_not_go_on(service: Service, tmp_path: Path) -> None:
    other = NEVER.model_copy(update={"training": "training-9"})
    said = failed(carried_out(account(service), command(tmp_path, beside=beside(j6=other))))
    assert said.error == "Later"
    found = carried_out(account(service), command(tmp_path))
    assert next(one for one in found if isinstance(one, CheckpointWritten)).step == 1


@pytest.mark.parametrize("is_adoption", [False, True])
def test_one_that_has_ended_keeps_its_id_until_its_step_is_to_be_seen(
    service: Service, tmp_path: Path, *, is_adoption: bool
) -> None:
    other = going_on(service, tmp_path)
    service.jobs[0].happened = len(service.jobs[0].events)
    fields = {"parent": None, "dataset": "", "config": {}} if is_adoption else {}
    told = command(tmp_path, job=8, beside=beside(j7=other), **fields)
    found = carried_out(account(service), told)
    assert (failed(found).error, settled(found)) == ("Later", [])
    assert (
        "training training-1 of job 7 has ended with the service, and its step is not to be seen yet"
        in failed(found).message
    )
    service.models[NAME].add_checkpoint()
    found = carried_out(account(service), told)
    assert settled(found) == [(7, "ended")]
    made = [one.path for one in found if isinstance(one, CheckpointWritten)]
    assert made == ([Artifact(ENTITY, PROJECT, NAME, 1).uri] if is_adoption else [])
    assert service.posts == 1


def test_a_step_that_is_not_the_next_one_is_not_taken(service: Service, tmp_path: Path) -> None:
    remote = going_on(service, tmp_path)
    service.jobs[0].held = False
    for _ in range(2):
        service.models[NAME].add_checkpoint()
    found = carried_out(account(service), command(tmp_path, remote=remote))
    assert failed(found).error == "PermanentError"
    assert "has gone from step 0 to 3 since" in failed(found).message
    assert settled(found) == [(None, "given up")]
    assert not any(isinstance(one, CheckpointWritten) for one in found)


@pytest.mark.parametrize(
    ("newer", "words"),
    [
        ({1: "it is v2, which was rejected: delete that step"}, "it is v2, which was rejected: delete that step"),
        ({}, "it is no version of this line: `rlfleet adopt` makes it one"),
    ],
)
def test_a_newer_step_says_whose_it_is(service: Service, tmp_path: Path, newer: dict[int, str], words: str) -> None:
    carried_out(account(service), command(tmp_path))
    said = failed(carried_out(account(service), command(tmp_path, beside=Beside(newer=newer))))
    assert words in said.message
    assert service.posts == 1


def test_a_step_that_was_deleted_there_says_so(service: Service, tmp_path: Path) -> None:
    gone = Artifact(ENTITY, PROJECT, NAME, 4).uri
    said = failed(carried_out(account(service), command(tmp_path, parent=gone)))
    assert "its newest step is 0" in said.message
    assert "the version's own was deleted there" in said.message


def test_a_pause_before_the_request_takes_the_intent_back(service: Service, tmp_path: Path) -> None:
    class Pausing(Heard):
        async def stored(self) -> None:
            await super().stored()
            self.pausing = True

    async def carry_out() -> list[Event]:
        heard = Pausing()
        here = account(service)
        async with client_of(here) as client:
            await Training(client, groups_of, here, command(tmp_path), heard).run()
        return heard.events

    events = asyncio.run(carry_out())
    assert noted(events) == ["intended", "withdrawn"]
    assert isinstance(events[-1], Paused)
    assert service.posts == 0


def test_one_look_that_fails_does_not_end_a_late_training(service: Service, tmp_path: Path) -> None:
    late = going_on(service, tmp_path).model_copy(update={"asked_at": 1.0})
    service.jobs[0].held, service.jobs[0].happened = False, len(service.jobs[0].events)
    service.models[NAME].add_checkpoint()
    service.looks = [500] * 4
    found = carried_out(account(service), command(tmp_path, remote=late))
    assert next(one for one in found if isinstance(one, CheckpointWritten)).step == 1


def test_a_late_training_that_cannot_be_asked_after_stays_known(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = going_on(service, tmp_path).model_copy(update={"asked_at": 1.0})
    monkeypatch.setattr(art_training, "LATE_SECONDS", 0.5)
    away = account(service, base_url="http://127.0.0.1:9/v1")
    said = failed(carried_out(away, command(tmp_path, remote=late)))
    assert said.error == "PermanentError"
    assert "it cannot be asked after" in said.message
    assert "`rlfleet jobs requeue 7` asks again, and submits nothing anew" in said.message


def test_events_and_checkpoints_come_in_pages(service: Service, tmp_path: Path) -> None:
    service.page, service.gradient_steps = 1, 5
    found = carried_out(account(service), command(tmp_path))
    assert next(one for one in found if isinstance(one, CheckpointWritten)).step == 1
    remote = last_remote(found)
    assert remote is not None
    assert remote.steps == 5


def test_no_header_of_ours_goes_there(service: Service, tmp_path: Path) -> None:
    carried_out(account(service), command(tmp_path))
    assert len(service.headers) > 3
    assert names_in(service.headers) == set()


def test_a_child_that_cannot_hear_ends(tmp_path: Path) -> None:
    """What is no command would else leave it waiting for an answer for ever."""
    code = "import asyncio, os, sys\n"
    code += "from backends import art_child\n"
    code += "async def main():\n"
    code += "    lines = asyncio.StreamReader(); lines.feed_data(b'no command\\n')\n"
    code += "    listening = asyncio.create_task(art_child.Pipes(2, lines).listen())\n"
    code += "    listening.add_done_callback(art_child._end_with)\n"
    code += "    await asyncio.Event().wait()\n"
    code += "asyncio.run(main())\n"
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "what the supervisor says cannot be read" in done.stderr
