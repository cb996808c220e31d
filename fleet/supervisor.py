"""Start processes in order, start again what ends unexpectedly, and stop all of it in reverse order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fleet.home import Home
from fleet.process import Child, Process, State, Status
from fleet.watchdog import Watchdog
from rl.errors import StartError

__all__ = ["Process", "State", "Status", "Supervisor"]

log = logging.getLogger(__name__)

BACK_OFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The wait before each restart in a row; the last one repeats."""
STEADY_SECONDS = 60.0
"""A process that ran for so long has not failed in a row."""
POLL_SECONDS = 0.05


class Supervisor:
    """The processes of one fleet. Nothing that it starts outlives it, not even when it is killed.

    Use it from the main thread, and create it before other threads run: it forks a watchdog. ``changed`` is called
    whenever a process has another state.
    """

    def __init__(self, home: Home, changed: Callable[[], None] = lambda: None) -> None:
        self._home = home
        self._watchdog = Watchdog()
        self._children: list[Child] = []
        self._failures: dict[str, int] = {}
        self._changed = changed

    def start(self, processes: Sequence[Process]) -> None:
        """Start each process once the one before it is ready.

        May be called again with more.

        Raises:
            StartError: one did not start; has the end of its log. The processes of this call are stopped.
        """
        before = len(self._children)
        try:
            for process in processes:
                child = Child(process, self._home, self._watchdog)
                self._children.append(child)
                child.start()
                self._changed()
                _wait_until_ready(child)
                self._changed()
        except BaseException:
            self._stop(self._children[before:])
            del self._children[before:]
            raise

    def poll(self) -> None:
        """Look at each process once, and start again what is due. Never waits."""
        for child in self._children:
            before = child.state
            if child.state in (State.STARTING, State.RUNNING):
                self._look_at(child)
            elif child.state is State.WAITING and time.monotonic() - child.entered >= self._wait_of(child):
                self._start_again(child)
            if child.state is not before:
                self._changed()

    def status(self) -> list[Status]:
        """The processes, in the order they were started."""
        return [child.status for child in self._children]

    def stop(self) -> None:
        """Stop the processes, the last one first, and then the watchdog: this supervisor starts nothing more."""
        self._stop(self._children)
        self._watchdog.close()

    def _stop(self, children: Sequence[Child]) -> None:
        for child in reversed(children):
            child.stop()
            self._changed()

    def _look_at(self, child: Child) -> None:
        if child.is_ready() and time.monotonic() - child.entered >= STEADY_SECONDS:
            self._failures.pop(child.process.name, None)
        status = child.ended()
        if status is not None:
            self._await_restart(child, f"ended unexpectedly with status {status}")

    def _start_again(self, child: Child) -> None:
        try:
            child.start()
        except StartError as error:
            self._await_restart(child, f"was not started again: {error}")

    def _await_restart(self, child: Child, what: str) -> None:
        name = child.process.name
        self._failures[name] = self._failures.get(name, 0) + 1
        child.enter(State.WAITING)
        log.warning("%s %s; starting it again in %.0f s; see %s", name, what, self._wait_of(child), child.log)

    def _wait_of(self, child: Child) -> float:
        failures = self._failures[child.process.name]
        return BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1]


def _wait_until_ready(child: Child) -> None:
    deadline = time.monotonic() + child.process.start_timeout
    while not child.is_ready():
        status = child.ended()
        if status is not None:
            raise child.failure(f"ended with status {status} before it was ready")
        if time.monotonic() > deadline:
            raise child.failure(f"was not ready after {child.process.start_timeout:g} s")
        time.sleep(POLL_SECONDS)
