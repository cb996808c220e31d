"""A resident child that runs ``fake_child.py``, and what a test says to it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rl.protocol import TrainCommand
from worker import child as worker_child
from worker.child import Child
from worker.task import CALLER

__all__ = ["MakeChild", "command", "is_gone", "make_child", "wait_until"]

ROOT = Path(__file__).parents[2]

PATIENT = CALLER | {"socket_connect_timeout": 10.0, "socket_timeout": 30.0}
"""For a broker that shares a busy machine with the tests."""

MakeChild = Callable[..., Child]


class FakeChild(Child):
    """The supervisor's side is the real one; ``at_start`` is what the process does instead of getting ready."""

    def __init__(self, state: Path, at_start: str = "") -> None:
        super().__init__("cpu", state)
        self.at_start = at_start

    @property
    def _argv(self) -> list[str]:
        script = str(Path(__file__).with_name("fake_child.py"))
        return [sys.executable, script, "--device", self.device, "--at-start", self.at_start]


@pytest.fixture
def make_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeChild]:
    """Makes children that tick fast and are gone after the test."""
    monkeypatch.setattr(worker_child, "TICK_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Child] = []

    def make(at_start: str = "") -> Child:
        made.append(FakeChild(tmp_path, at_start))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def command(*script: str, job: int = 7, fence: int = 3) -> TrainCommand:
    """A command to do what the words of the script say."""
    return TrainCommand(
        job=job, fence=fence, dataset="/data.jsonl", out="/out", base="/base", config={"script": [*script]}
    )


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; its parent may not have been told yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
