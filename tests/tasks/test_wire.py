"""Names, queues and errors of messages: what other services rely on."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import QueueNotFound
from redis import Redis

import tasks
from rl.protocol import TASK_QUEUES
from tests.tasks.rows import Sent, messages
from worker.app import app

ROOT = Path(__file__).parents[2]
ARGS: dict[str, list[Any]] = {
    "rlfleet.alert": [30],
    "rlfleet.look_again": [3600],
    "rlfleet.plan": ["collect", 60],
    "rlfleet.prune": [86_400],
    "rlfleet.reconcile": [],
    "rlfleet.tend": [],
    "rlfleet.train_window": ["w"],
    "rlfleet.watch_releases": [60],
}
"""What a task is sent with; the others take the job's id."""

ENQUEUE = """
import time
from rl.errors import BrokerUnavailable
from tasks import train_window
started = time.monotonic()
try:
    train_window.delay("2025-01-15T10:00")
except BrokerUnavailable as error:
    print(round(time.monotonic() - started, 2), error)
"""


@pytest.fixture(autouse=True)
def _no_message_waits(broker: Redis) -> None:
    broker.flushdb()


def test_the_registered_names_are_the_wire_format() -> None:
    ours = {name for name, task in app.tasks.items() if task.__module__.startswith("tasks.")}
    assert ours == set(TASK_QUEUES)
    assert {getattr(tasks, name).name for name in tasks.__all__} == set(TASK_QUEUES)


@pytest.mark.parametrize(("name", "queue"), TASK_QUEUES.items())
def test_a_message_goes_to_the_queue_of_its_task(broker: Redis, name: str, queue: str) -> None:
    args = ARGS.get(name, [7])
    app.tasks[name].delay(*args)
    assert messages(broker) == {queue: [Sent(name, args)]}


@pytest.mark.parametrize(("name", "queue"), TASK_QUEUES.items())
def test_a_caller_that_knows_only_the_name_reaches_the_same_queue(broker: Redis, name: str, queue: str) -> None:
    args = ARGS.get(name, [7])
    app.send_task(name, args)
    assert messages(broker) == {queue: [Sent(name, args)]}


def test_a_queue_that_nobody_serves_is_an_error(broker: Redis) -> None:
    with pytest.raises(QueueNotFound, match="gup"):
        tasks.train_window.apply_async(("2025-01-15T10:00",), queue="gup")
    assert messages(broker) == {}


def test_a_service_hears_at_once_that_the_broker_is_away(closed_port: int) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": f"redis://:secret@127.0.0.1:{closed_port}/0"}
    run = subprocess.run([sys.executable, "-c", ENQUEUE], env=env, capture_output=True, text=True, check=True)
    print(run.stdout)  # noqa: T201 - how long it took
    seconds, _, message = run.stdout.partition(" ")
    assert float(seconds) < 30, "without a limit on attempts it would take a minute"
    assert "rlfleet.train_window: the broker did not take the message" in message
    assert "REDIS_URL" in message
    assert "secret" not in message


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("tasks/*.py"), *ROOT.glob("worker/*.py")]), ids=lambda path: path.name
)
def test_no_message_is_held_back_by_celery(path: Path) -> None:
    """A held-back message lies in a worker's memory and is delivered again after the visibility timeout."""
    for call in _calls(path):
        assert {keyword.arg for keyword in call.keywords}.isdisjoint({"countdown", "eta", "bind", "autoretry_for"})
        assert not (isinstance(call.func, ast.Attribute) and call.func.attr in ("retry", "apply_at"))
    assert not {"countdown", "eta"} & {
        node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    }, "neither in a mapping of options"
