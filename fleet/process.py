"""One process of the fleet: what it is, and the child that currently is it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from fleet.account import Account
from fleet.home import Home, disk_full
from fleet.spawn import spawn
from fleet.watchdog import Watchdog, kill_group
from rl.errors import StartError

TAIL_LINES = 15
LEAST_FREE_BYTES = 2**20


@dataclass(frozen=True)
class Process:
    """What to run and when it counts as up.

    ``ready`` is asked until it first says so; None counts as up at once. ``stop_signal`` goes to the process
    itself; after ``stop_timeout`` seconds its whole process group is killed. ``start_timeout`` seconds bound
    the first start only: a restarted server may have a long log to replay.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 30.0
    start_timeout: float = 60.0
    cwd: Path | None = None
    account: Account | None = None
    stdin: bytes | None = None


class State(StrEnum):
    """What a process is doing."""

    STARTING = "starting"
    """It runs, and is not ready yet."""
    RUNNING = "running"
    """It runs, and was ready."""
    WAITING = "waiting"
    """It ended unexpectedly, and is started again after the back-off."""
    STOPPED = "stopped"
    """It was told to stop, or not started."""


@dataclass(frozen=True)
class Status:
    """One process, for people. ``since`` is when it entered ``state``, in UTC; ``pid`` is None while it has none."""

    name: str
    pid: int | None
    state: State
    restarts: int
    since: datetime


class Child:
    """A process and its current incarnation. Started by ``start``, and again by ``start`` after it has ended."""

    def __init__(self, process: Process, home: Home, watchdog: Watchdog) -> None:
        self.process = process
        self.log = home.logs / f"{process.name}.log"
        self.starts = 0
        self._lock = home.lock
        self._watchdog = watchdog
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        self.enter(State.STOPPED)

    def enter(self, state: State) -> None:
        """Be in ``state`` from now on."""
        self.state, self.since, self.entered = state, datetime.now(UTC), time.monotonic()

    @property
    def status(self) -> Status:
        """What to show of it."""
        pid = self._popen.pid if self._popen else None
        return Status(self.process.name, pid, self.state, max(self.starts - 1, 0), self.since)

    def start(self) -> None:
        """Start it.

        Raises:
            StartError: the program cannot be executed.
        """
        process = self.process
        self.starts += 1
        self._log_offset = _size(self.log)
        self._popen = spawn(
            process.argv,
            env=process.env,
            log=self.log,
            death_signal=process.stop_signal,
            account=process.account,
            stdin=process.stdin,
            cwd=process.cwd,
            keep=(self._lock,),
        )
        self._watchdog.add(self._popen.pid, process.stop_signal, process.stop_timeout)
        self.enter(State.STARTING)

    def is_ready(self) -> bool:
        """Whether it is up; notes it on the first time."""
        if self.state is State.STARTING and (self.process.ready is None or self.process.ready()):
            self.enter(State.RUNNING)
        return self.state is State.RUNNING

    def ended(self) -> int | None:
        """The exit status, once it has ended: -N for signal N. What it left of its process group is killed."""
        if self._popen is None:
            return None
        status = self._popen.poll()
        if status is not None:
            self._forget(self._popen)
        return status

    def stop(self) -> None:
        """Send the stop signal, wait, then kill the group."""
        popen = self._popen
        if popen:
            popen.send_signal(self.process.stop_signal)
            try:
                popen.wait(self.process.stop_timeout)
            except subprocess.TimeoutExpired:
                kill_group(popen.pid)
                popen.wait()
            self._forget(popen)
        self.enter(State.STOPPED)

    def failure(self, what: str) -> StartError:
        """The error for a start that failed, with the end of what it has logged."""
        return _failure(self.process.name, self.log, self._log_offset, what)

    def _forget(self, popen: subprocess.Popen[bytes]) -> None:
        kill_group(popen.pid)
        self._watchdog.remove(popen.pid)
        self._popen = None


def complete(process: Process, home: Home) -> None:
    """Run a process that ends by itself.

    Killed with this process, at once; whatever of it is left keeps the home's lock.

    Raises:
        StartError: it failed, or took longer than its ``start_timeout``.
    """
    log = home.logs / f"{process.name}.log"
    offset = _size(log)
    popen = spawn(
        process.argv,
        env=process.env,
        log=log,
        death_signal=signal.SIGKILL,
        account=process.account,
        cwd=process.cwd,
        keep=(home.lock,),
    )
    try:
        status = popen.wait(process.start_timeout)
    except subprocess.TimeoutExpired:
        raise _failure(process.name, log, offset, f"took more than {process.start_timeout:g} s") from None
    finally:
        kill_group(popen.pid)
        popen.wait()
    if status:
        raise _failure(process.name, log, offset, f"failed with status {status}")


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _failure(name: str, log: Path, offset: int, what: str) -> StartError:
    with log.open("rb") as stream:
        stream.seek(offset)
        lines = stream.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    # A full disk can also keep the complaint about it out of the log.
    if any("No space left on device" in line for line in lines) or shutil.disk_usage(log).free < LEAST_FREE_BYTES:
        return disk_full(log)
    said = "".join(f"\n  {line}" for line in lines) or " nothing"
    return StartError(f"{name} {what}; {log} says:{said}")
