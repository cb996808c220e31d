from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from rl.protocol import (
    COMMANDS,
    EVENTS,
    QUEUES,
    REMOTE_COMMANDS,
    TASK_QUEUES,
    CheckpointWritten,
    Command,
    Done,
    Event,
    Failed,
    PauseCommand,
    Progress,
    Ready,
    Remote,
    RemoteNoted,
    StopCommand,
    StoredCommand,
    TrainCommand,
)

REMOTE = Remote(model="m", newest=3, asked_at=0.5, training="t", metrics={"loss": 0.5})
SAID: list[Event] = [
    Ready(pid=7, device="cpu", url="http://127.0.0.1:1"),
    Progress(job=1, fence=2, step=3, total=4, metrics={"loss": 0.5}),
    CheckpointWritten(job=1, fence=2, step=3, path="/c", kind="adapter", sha256="0" * 64),
    Done(job=1, fence=2, manifest={"skipped": ["t1"]}),
    Failed(job=1, fence=2, error="OutOfMemory", message="no\nroom"),
    RemoteNoted(job=1, fence=2, phase="intended", remote=REMOTE),
    RemoteNoted(job=1, fence=2, phase="withdrawn", remote=None),
]
TOLD: list[Command] = [
    TrainCommand(job=1, fence=2, dataset="/d", out="/o", base="/b", config={"objective": "sft"}),
    StopCommand(),
]


@pytest.mark.parametrize("event", SAID, ids=lambda event: event.event)
def test_an_event_is_one_line_and_comes_back(event: Event) -> None:
    line = event.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["schema"] == 1
    assert EVENTS.validate_json(line) == event


@pytest.mark.parametrize("command", TOLD, ids=lambda command: command.command)
def test_a_command_is_one_line_and_comes_back(command: Command) -> None:
    assert COMMANDS.validate_json(command.line()) == command


def test_what_a_service_is_told_over_comes_back() -> None:
    known = TrainCommand(job=1, fence=2, dataset="", out="/o", base="b", config={}, model="main", remote=REMOTE)
    for command in (known, StoredCommand(job=1, fence=2), PauseCommand(job=1, fence=2)):
        assert REMOTE_COMMANDS.validate_json(command.line()) == command


def test_the_words_on_the_wire() -> None:
    assert json.loads(SAID[1].line()) == {
        "schema": 1,
        "event": "progress",
        "job": 1,
        "fence": 2,
        "step": 3,
        "total": 4,
        "metrics": {"loss": 0.5},
    }
    assert json.loads(TOLD[1].line()) == {"schema": 1, "command": "stop"}


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"event": "finished"}, {"job": "one"}, {"extra": 1}, {"event": None}],
    ids=str,
)
def test_another_schema_and_unknown_words_are_refused(change: dict[str, object]) -> None:
    said = json.loads(Done(job=1, fence=2).line())
    with pytest.raises(ValidationError):
        EVENTS.validate_python(said | change)


def test_what_a_later_version_stored_of_a_training_is_read_without_what_is_new() -> None:
    assert Remote.model_validate(REMOTE.model_dump(mode="json") | {"extra": 1}) == REMOTE


def test_every_task_has_a_queue_that_exists() -> None:
    assert set(TASK_QUEUES.values()) == set(QUEUES)
