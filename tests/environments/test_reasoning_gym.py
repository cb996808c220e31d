from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from environments.reasoning import gym
from environments.reasoning.gym import Gym
from rl.errors import ChildLost, MissingDependency


def test_without_the_package_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"rlfleet\[reasoning\]"):
        Gym().datasets()


def test_a_package_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reasoning_gym").mkdir()
    (tmp_path / "reasoning_gym" / "__init__.py").write_text("raise RuntimeError('half installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="cannot be imported: RuntimeError: half installed"):
        Gym().datasets()


def test_a_process_that_somebody_else_ends_is_lost_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = Gym()
    one, exchange = lone.draw("gcd", 1), lone._exchange

    def killed(process: subprocess.Popen[str], request: str) -> str:
        process.kill()
        process.wait()
        return exchange(process, request)

    monkeypatch.setattr(lone, "_exchange", killed)
    with pytest.raises(ChildLost, match="ended with -9"):
        lone.draw("gcd", 2)
    monkeypatch.undo()
    assert lone.draw("gcd", 1) == one
    lone.end()
    assert lone.draw("gcd", 1) == one
    lone.end()
    lone.end()


def test_its_process_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@nowhere/db")
    lone = Gym()
    lone.datasets()
    process = lone._process
    assert process is not None
    names = {
        entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    }
    assert "DATABASE_URL" not in names
    assert names - {""} <= {*gym.PASSED_ON, "PYTHONHASHSEED", "OMP_NUM_THREADS"}
    lone.end()


@pytest.fixture
def stopped() -> Iterator[Gym]:
    """One whose process uses no processor time."""
    lone = Gym()
    lone.datasets()
    assert lone._process is not None
    os.kill(lone._process.pid, signal.SIGSTOP)
    yield lone
    lone.end()


@pytest.mark.parametrize("answer", ["4", "4" * 1_000_000], ids=["read", "written"])
def test_a_process_that_does_not_get_on_is_ended(monkeypatch: pytest.MonkeyPatch, stopped: Gym, answer: str) -> None:
    """Also where its pipe is full."""
    monkeypatch.setattr(gym, "CLOCK_SECONDS", 0.2)
    with pytest.raises(ChildLost, match=r"ended with -9, or was ended after 0\.2 s"):
        stopped.score("gcd", 1, answer)
    monkeypatch.undo()
    assert stopped.draw("gcd", 1).unusable == ""


def test_it_can_be_ended_while_an_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch, stopped: Gym) -> None:
    asked, exchange = threading.Event(), stopped._exchange

    def exchanged(process: subprocess.Popen[str], request: str) -> str:
        asked.set()
        return exchange(process, request)

    monkeypatch.setattr(stopped, "_exchange", exchanged)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stopped.draw, "gcd", 1)
        assert asked.wait(60)
        stopped.end()
        with pytest.raises(ChildLost, match="ended with -9"):
            waiting.result(60)
