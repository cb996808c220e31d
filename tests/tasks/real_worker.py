"""A Celery worker as a process of its own, on the test's database and broker."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis

from tests.worker.doubles import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def worker(log: Path, *queues: str, name: str = "test", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is ready; it is told to stop at the end of the block, and killed when it does not."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "RLFLEET_STATE": str(log.parent), "REMAP_SIGTERM": "SIGQUIT"}
    environ |= {"RLFLEET_ARTIFACTS": str(log.parent / "artifacts"), "RLFLEET_DRAIN_SECONDS": "0.5"} | variables
    words = ["-Q", ",".join(queues), "-n", f"{name}@%h", "-c", "1", "--include", "worker.lifecycle,tasks"]
    argv = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", *words, "--without-mingle", "-l", "INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or b" ready." in log.read_bytes(), 60)
        assert process.poll() is None, log.read_text()
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def push(
    broker: Redis, queue: str, task: str, body: bytes, content_type: str = "application/json", **headers: Any
) -> None:
    """Put a message with that body into the queue, as any client that reaches the broker can."""
    about = {"task": task, "id": str(uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": "", "origin": "9@elsewhere"}
    info = {"exchange": "rlfleet", "routing_key": queue}
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if content_type == "application/x-python-serialize" else "utf-8",
        "content-type": content_type,
        "headers": about | headers,
        "properties": {
            "body_encoding": "base64",
            "correlation_id": about["id"],
            "delivery_info": info,
            "delivery_mode": 2,
            "delivery_tag": str(uuid4()),
            "priority": 0,
        },
    }
    broker.lpush(f"rlfleet:{queue}", json.dumps(envelope))
