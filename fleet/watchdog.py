"""A small forked process that outlives its supervisor just long enough to end what the supervisor left.

The kernel's parent-death signal reaches a process but not the children of that process, sets no deadline,
and exists on Linux only. The watchdog adds all three: it knows each process group, and reads a pipe until
its other end is closed, which is how a killed supervisor looks.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import NoReturn

from fleet.spawn import KERNEL_ENDS_CHILDREN

log = logging.getLogger(__name__)


class Watchdog:
    """Ends the process groups that were added and not removed, once this process is gone.

    Forks on creation: create it before any thread runs.
    """

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _watch(reader)
        os.close(reader)

    def add(self, group: int, stop_signal: signal.Signals, seconds: float) -> None:
        """Watch the process group ``group``: its leader gets ``stop_signal``, and the rest ``seconds`` to follow."""
        self._tell(f"+ {group} {int(stop_signal)} {seconds}\n")

    def remove(self, group: int) -> None:
        """Forget ``group``; its number may be another's soon."""
        self._tell(f"- {group} 0 0\n")

    def close(self) -> None:
        """End the watchdog, and first the groups that were not removed. Closing it again does nothing."""
        if self._pid:
            os.close(self._writer)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _tell(self, line: str) -> None:
        try:
            os.write(self._writer, line.encode())
        except BrokenPipeError:
            log.warning("the watchdog (pid %d) is gone: a killed supervisor may leave processes behind", self._pid)


def _watch(reader: int) -> NoReturn:
    """The watchdog's whole life. Holds nothing of its parent but the pipe."""
    try:
        os.setsid()
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        os.dup2(reader, 0)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.closerange(3, 65536)
        watched: dict[int, tuple[int, float]] = {}
        with open(0) as lines:
            for line in lines:
                verb, group, number, seconds = line.split()
                if verb == "+":
                    watched[int(group)] = int(number), float(seconds)
                else:
                    watched.pop(int(group), None)
        _end(watched)
    finally:
        os._exit(0)


def _end(watched: dict[int, tuple[int, float]]) -> None:
    deadlines = {}
    for group, (number, seconds) in watched.items():
        deadlines[group] = time.monotonic() + seconds
        # Sent once only: the second SIGTERM tells a Celery worker to drop its task.
        if not KERNEL_ENDS_CHILDREN:
            _signal(group, number)
    while deadlines:
        for group, deadline in list(deadlines.items()):
            if not _signal(group, 0) or time.monotonic() > deadline:
                kill_group(group)
                del deadlines[group]
        time.sleep(0.05)


def kill_group(group: int) -> None:
    """SIGKILL every process of ``group`` that is left."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # PermissionError: what is left on macOS when only zombies are.
        return


def _signal(pid: int, number: int) -> bool:
    """Whether ``pid`` was there to be signalled."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
