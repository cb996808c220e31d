"""A whole fleet on this machine: home, servers, schema, processes; started in order, stopped in reverse."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from fleet import processes
from fleet.home import Home
from fleet.process import Status
from fleet.process_states import StatesFile
from fleet.servers import Servers
from fleet.supervisor import Supervisor
from rl.errors import StartError

POLL_SECONDS = 0.2
ENGINE_SECONDS = 240.0
CRASHED_SECONDS = 60.0
"""An engine that is not there so long after its child wrote a traceback will not come by itself."""
TAIL_LINES = 15
SERVERS_SECONDS = 60.0
"""What both servers may take to stop."""


class Fleet:
    """Use it as a context manager from the main thread. ``environ`` replaces this process's environment.

    Entering starts the servers and brings the schema up to date, so that this process can use the database;
    ``start`` starts the rest. Leaving stops all of it, whatever happened, and waits until nothing is left.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = environ
        self._steps: list[Callable[[], None]] = []
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
        try:
            self.home = Home.open(self._given)
            self._steps.append(self.home.close)
            self._states = StatesFile(self.home)
            self._steps.append(self._states.remove)
            self._servers = Servers(self.home, self._given, self._note)
            self._steps.append(self._servers.stop)
            endpoints = self._servers.start(announced=False)
            self.plan = processes.plan(self.home, endpoints, self._given)
            os.environ.update(self.plan.environ)
            self._migrate()
            # Others join as soon as they find this file: by then the tables must be there.
            plan = self.plan
            urls = {"gateway_url": plan.gateway_url, "admin_url": plan.admin_url, "flower_url": plan.flower_url}
            self._servers.announce(replace(endpoints, **urls))
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
        self._children = ChildLogs(self.home.logs)
        self._supervisor = Supervisor(self.home, self._note)
        self._steps.append(self._supervisor.stop)
        self._states.devices = self.plan.device_uuids()
        chosen = processes.processes(self.plan)
        self._states.stop_seconds = sum(one.stop_timeout for one in chosen) + SERVERS_SECONDS
        self._supervisor.start(chosen)
        self._states.phase = "up"
        self._note()

    def poll(self) -> None:
        """Restart what has ended; call it a few times a second."""
        self._servers.poll()
        if self._supervisor:
            self._supervisor.poll()

    def wait(self, until: Callable[[], bool], what: str, seconds: float) -> None:
        """Poll until ``until()`` is true.

        Raises:
            StartError: it was not in time; the message says what was waited for and where the logs are.
        """
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                said = self._children.tail() if hasattr(self, "_children") else ""
                raise StartError(f"{what} did not happen within {seconds:.0f} s; see {self.home.logs}{said}")
            self.poll()
            time.sleep(POLL_SECONDS)

    def wait_for_engine(self) -> None:
        """Poll until the gateway has an engine behind it.

        Raises:
            StartError: it was not in time, or a device's child has crashed; with the end of what it wrote.
        """
        well = processes.is_well(f"{self.plan.gateway_url}/health")

        def look() -> bool:
            if well():
                return True
            if self._children.seconds_since_traceback() > CRASHED_SECONDS:
                raise StartError(f"no engine came up; see {self.home.logs}{self._children.tail()}")
            return False

        self.wait(look, "a gateway with an engine behind it", ENGINE_SECONDS)

    def status(self) -> list[Status]:
        """The processes that ``start`` started."""
        return self._supervisor.status() if self._supervisor else []

    def _note(self) -> None:
        self._states.write([*self._servers.status(), *self.status()])

    def _migrate(self) -> None:
        from db.migrate import migrate

        migrate()

    def _stop(self) -> None:
        from db.session import dispose

        # A second ctrl-C, or whoever else ends us meanwhile, must not leave half of it running.
        previous = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            dispose()
            if self._steps and hasattr(self, "_servers"):
                self._states.phase = "stopping"
                self._note()
            while self._steps:
                self._steps.pop()()
        finally:
            for one, handler in previous.items():
                signal.signal(one, handler)


class ChildLogs:
    """What the devices' children have written since this was made: they are what takes long and can go wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = {log: log.stat().st_size for log in folder.glob("child-*.log")}
        self._crashed: float | None = None

    def seconds_since_traceback(self) -> float:
        """Seconds since this first saw a traceback in one of them; 0 while there is none."""
        if self._crashed is None and any("Traceback (most recent call last)" in text for text in self._new().values()):
            self._crashed = time.monotonic()
        return 0.0 if self._crashed is None else time.monotonic() - self._crashed

    def tail(self) -> str:
        """The last lines of each, indented, each log after a line with its path; empty when nothing was written."""
        parts = []
        for log, text in self._new().items():
            lines = "".join(f"\n  {line}" for line in text.splitlines()[-TAIL_LINES:])
            parts.append(f"\n{log} says:{lines}")
        return "".join(parts)

    def _new(self) -> dict[Path, str]:
        found = {}
        for log in sorted(self._folder.glob("child-*.log")):
            with log.open("rb") as stream:
                stream.seek(self._before.get(log, 0))
                found[log] = stream.read().decode(errors="replace")
        return {log: text for log, text in found.items() if text}


def _leave(_: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(143)
