"""What each process of a fleet does, as its supervisor last wrote it: ``processes.json`` in the home."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fleet.home import Home, is_alive, write_private
from fleet.process import State, Status

log = logging.getLogger(__name__)

SCHEMA = 1
FILE = "processes.json"
Phase = Literal["starting", "up", "stopping"]


@dataclass(frozen=True)
class Known:
    """What the supervisor ``pid`` has written: where it stands, its processes in the order they were started.

    ``devices`` has the UUID of each GPU by the name that its worker gives it; ``stop_seconds`` is what stopping all of
    it takes at most.
    """

    pid: int
    phase: Phase
    processes: list[Status]
    devices: dict[str, str]
    stop_seconds: float = 0.0


class StatesFile:
    """Keeps the file of one home up to date. A file that cannot be written is complained of and nothing more."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._written = ""
        self.phase: Phase = "starting"
        self.devices: Mapping[str, str] = {}
        self.stop_seconds = 0.0

    def write(self, processes: Sequence[Status]) -> None:
        """Write what changed since the last time."""
        text = json.dumps(
            {
                "schema": SCHEMA,
                "pid": os.getpid(),
                "phase": self.phase,
                "devices": dict(self.devices),
                "stop_seconds": self.stop_seconds,
                "processes": [vars(one) | {"since": one.since.isoformat()} for one in processes],
            }
        )
        if text == self._written:
            return
        try:
            write_private(self._home.path / FILE, text)
        except OSError as error:
            log.warning("%s cannot be written, so that others see old states: %s", FILE, error)
        else:
            self._written = text

    def remove(self) -> None:
        """Say that no process is left."""
        (self._home.path / FILE).unlink(missing_ok=True)


def read_states(path: Path, supervisor: int) -> Known | None:
    """What ``supervisor`` has written in the home ``path``; None while it has not, or of another one.

    A process whose pid is gone is shown without it, as one that waits to be started again.
    """
    try:
        stored = json.loads((path / FILE).read_text())
    except FileNotFoundError:
        return None
    if stored["pid"] != supervisor:
        return None
    processes = [_status(one) for one in stored["processes"]]
    return Known(supervisor, stored["phase"], processes, stored["devices"], stored["stop_seconds"])


def _status(stored: Mapping[str, Any]) -> Status:
    pid, state = stored["pid"], State(stored["state"])
    if pid is not None and not is_alive(pid):
        pid, state = None, State.STOPPED if state is State.STOPPED else State.WAITING
    return Status(stored["name"], pid, state, stored["restarts"], datetime.fromisoformat(stored["since"]))
