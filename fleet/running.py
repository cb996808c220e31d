"""A whole fleet on this machine: home, servers, schema, processes; started in order, stopped in reverse."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Self

from fleet import processes
from fleet.home import Home
from fleet.process import Status
from fleet.servers import Servers
from fleet.supervisor import Supervisor
from rl.errors import StartError

POLL_SECONDS = 0.2


class Fleet:
    """Use it as a context manager from the main thread. ``environ`` replaces this process's environment.

    Entering starts the servers and brings the schema up to date, so that this process can use the database;
    ``start`` starts the rest. Leaving stops all of it, whatever happened, and waits until nothing is left.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = environ
        self._steps: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
        try:
            self.home = Home.open(self._given)
            self._steps.append(self.home.close)
            self._servers = Servers(self.home, self._given)
            self._steps.append(self._servers.stop)
            endpoints = self._servers.start()
            self.plan = processes.plan(self.home, endpoints, self._given)
            os.environ.update(self.plan.environ)
            self._migrate()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def start(self) -> None:
        """Start every process of the plan. Returns when all are started; ``wait`` waits for what they become."""
        self._supervisor = Supervisor(self.home)
        self._steps.append(self._supervisor.stop)
        self._supervisor.start(processes.processes(self.plan))

    def poll(self) -> None:
        """Restart what has ended; call it a few times a second."""
        self._servers.poll()
        if hasattr(self, "_supervisor"):
            self._supervisor.poll()

    def wait(self, until: Callable[[], bool], what: str, seconds: float) -> None:
        """Poll until ``until()`` is true.

        Raises:
            StartError: it was not in time; the message says what was waited for and where the logs are.
        """
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                said = "\n".join(self._last_words())
                raise StartError(f"{what} did not happen within {seconds:.0f} s; see {self.home.logs}\n{said}".strip())
            self.poll()
            time.sleep(POLL_SECONDS)

    def status(self) -> list[Status]:
        """The processes that ``start`` started."""
        return self._supervisor.status()

    def _last_words(self) -> list[str]:
        """The end of what the devices' children wrote, since they are what takes long and can go wrong."""
        logs = sorted(self.home.logs.glob("child-*.log"))
        return [f"{log.name}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()[-10:]]

    def _migrate(self) -> None:
        from db.migrate import migrate

        migrate()

    def _stop(self) -> None:
        from db.session import dispose

        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second ctrl-C must not leave half of it running
        try:
            dispose()
            while self._steps:
                self._steps.pop()()
        finally:
            signal.signal(signal.SIGINT, previous)


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(143)
