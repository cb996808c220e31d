"""This side of the process in which reasoning-gym runs: it starts when it is first asked and ends with this one."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

from rl.errors import ChildLost, MissingDependency

DRAW_SECONDS = 60.0
SCORE_SECONDS = 10.0
"""Of processor time, so that the load of the machine decides nothing."""

CLOCK_SECONDS = 120.0
"""Of the clock, for one answer: a process that uses no processor time is stopped, or waits for something."""

END_SECONDS = 5.0
"""Of the clock, for a process to be gone that has closed its output."""

PASSED_ON = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
"""Environment variables that the process gets: no credentials."""

ITS_OWN = (-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT)
"""How the process ends because of what it was asked: out of time, or a crash in C code."""


class Drawn(NamedTuple):
    """An entry of a data set. ``unusable`` says why it is no scenario, and is empty where it is one."""

    seed: int
    question: str
    answer: str
    unusable: str


class Scored(NamedTuple):
    """What an answer earns, 0 to 1, and what went wrong with scoring it, if anything did."""

    score: float
    said: str


class Gym:
    """One process. Used from any thread, by one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._datasets: tuple[str, ...] = ()

    def datasets(self) -> tuple[str, ...]:
        """The names of all data sets, sorted.

        Raises:
            MissingDependency: reasoning-gym is not installed here, or cannot be imported.
        """
        with self._lock:
            self._running()
            return self._datasets

    def draw(self, dataset: str, seed: int) -> Drawn:
        """The entry that a data set makes from a seed below 2^31. Raises as ``datasets``, and ``ChildLost``."""
        found = self._ask({"dataset": dataset, "seed": seed, "seconds": DRAW_SECONDS})
        if found is None:
            return Drawn(seed, "", "", f"making it takes more than {DRAW_SECONDS:.0f} s, or crashes")
        return Drawn(seed, found["question"], found["answer"], found["unusable"])

    def score(self, dataset: str, seed: int, answer: str) -> Scored:
        """What an answer earns, whatever it holds. Raises as ``datasets``, and ``ChildLost``."""
        found = self._ask({"dataset": dataset, "seed": seed, "answer": answer, "seconds": SCORE_SECONDS})
        if found is None:
            return Scored(0.0, f"The answer cannot be scored within {SCORE_SECONDS:.0f} s.")
        return Scored(found["score"], found["said"])

    def end(self) -> None:
        """End the process, also while an answer is waited for. The next question starts another."""
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._ended(kill=True)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where the process ended over it.

        Raises:
            ChildLost: the process was ended by somebody else, or because it did not get on.
        """
        with self._lock:
            line = self._exchange(self._running(), json.dumps(request) + "\n")
            if line:
                return dict(json.loads(line))
            status = self._ended()
        if status in ITS_OWN:
            return None
        raise ChildLost(f"reasoning-gym's process ended with {status}, or was ended after {CLOCK_SECONDS:g} s")

    def _exchange(self, process: subprocess.Popen[str], request: str) -> str:
        """One line for another; empty where the process has ended, as it does when its time is up."""
        if process.stdin is None or process.stdout is None:
            raise AssertionError("unreachable: both are pipes")
        clock = threading.Timer(CLOCK_SECONDS, process.kill)
        clock.daemon = True
        clock.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""
        finally:
            clock.cancel()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._ended()
        if find_spec("reasoning_gym") is None:
            raise MissingDependency("reasoning-gym is not installed; `pip install 'rlfleet[reasoning]'` brings it")
        with tempfile.TemporaryFile() as complaints:
            self._process = process = _started(complaints)
            first = self._exchange(process, "")
            if not first:
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip().splitlines() or ["it gives no reason"]
                raise MissingDependency(f"reasoning-gym cannot be imported: {said[-1]} (ended with {self._ended()})")
        self._datasets = tuple(json.loads(first)["datasets"])
        return process

    def _ended(self, *, kill: bool = False) -> int | None:
        """How the process ended, which is about to if it is not killed; None where there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        if kill:
            process.kill()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        return process.wait()


def _started(complaints: IO[bytes]) -> subprocess.Popen[str]:
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "environments.reasoning.child"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=passed_on | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        text=True,
        encoding="utf-8",
    )


def gym() -> Gym:
    """The one of this process: a child after a fork has its own."""
    return _gym_of(os.getpid())


@cache
def _gym_of(process_id: int) -> Gym:
    made = Gym()
    atexit.register(_end_in, process_id, made)
    return made


def _end_in(process_id: int, made: Gym) -> None:
    """A forked child runs its parent's exit functions, but must not end what is its parent's."""
    if os.getpid() == process_id:
        made.end()
