"""Crash points: they kill the process once where they were asked to, and only in tests."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.errors import InvalidSettings
from worker.crash import POINTS, crash_point
from worker.settings import settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("RLFLEET_ENV", "test")
    monkeypatch.setenv("RLFLEET_STATE", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


def passed(point: str, task: str = "") -> int:
    """How a process ended that passed the point: 0, or the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        crash_point(point, task)
        os._exit(0)
    return -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("wanted", ["after-claim", "train:after-claim"])
def test_a_process_is_killed_at_the_point_once(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("RLFLEET_CRASH_AT", wanted)
    assert passed("before-claim", "train") == 0
    assert passed("after-claim", "train") == signal.SIGKILL
    assert passed("after-claim", "train") == 0


def test_another_task_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_CRASH_AT", "train:after-claim")
    assert passed("after-claim", "score") == 0


@pytest.mark.parametrize("env", ["development", "production"])
@pytest.mark.parametrize(
    ("name", "value"), [("RLFLEET_CRASH_AT", "after-claim"), ("RLFLEET_CHILD", "bench.faults.child")]
)
def test_outside_tests_it_is_refused(monkeypatch: pytest.MonkeyPatch, env: str, name: str, value: str) -> None:
    monkeypatch.setenv("RLFLEET_ENV", env)
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=f"RLFLEET_ENV = '{env}': .*{name} is for tests: unset it"):
        settings()


def test_every_point_is_passed_somewhere_and_every_passed_point_is_listed() -> None:
    code = "".join(path.read_text() for path in sorted((ROOT / "tasks").glob("*.py")))
    assert set(re.findall(r'crash_point\("([a-z-]+)"', code)) == set(POINTS)
