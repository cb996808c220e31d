from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl.protocol import TASK_QUEUES

ROOT = Path(__file__).parents[2]

PUBLISH = """
import json, time
from rl.errors import BrokerUnavailable
from tasks import train_window
started, message = time.monotonic(), None
try:
    train_window.delay("2025-01-15T10:00")
except BrokerUnavailable as error:
    message = str(error)
print(json.dumps({"seconds": time.monotonic() - started, "message": message}))
"""

DESCRIBE = """
import json
from tasks import train, train_window
from worker.app import app
queue = app.amqp.router.route({}, train_window.name)["queue"].name
print(json.dumps({"queue": queue, "train_window": train_window.acks_late, "train": train.acks_late}))
"""


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that takes connections, as far as the backlog goes, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def said(script: str, port: int) -> dict[str, Any]:
    """What a fresh interpreter, whose broker is at that port, prints."""
    environ = os.environ | {"REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_broker_that_takes_connections_and_never_answers_is_unavailable_within_seconds(mute_port: int) -> None:
    found = said(PUBLISH, mute_port)
    assert found["message"] is not None, "delay() came back as if the message had been sent"
    assert found["message"].startswith("rlfleet.train_window: the broker did not take the message (")
    assert "is REDIS_URL right and the server up?" in found["message"]
    assert "secret" not in found["message"]
    assert found["seconds"] < 30, "one or two on an idle machine"


def test_a_request_goes_to_maint_and_its_message_is_kept_until_it_is_written_down(mute_port: int) -> None:
    assert TASK_QUEUES["rlfleet.train_window"] == "maint"
    assert said(DESCRIBE, mute_port) == {"queue": "maint", "train_window": True, "train": False}
