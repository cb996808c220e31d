"""Where the stages of a pipeline or the demo are worked on: a fleet of this process, or one that is there already."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.home import home_path, read_endpoints
from fleet.running import ENGINE_SECONDS, POLL_SECONDS, Fleet
from fleet.terminal import connect
from rl.errors import StartError


@dataclass(frozen=True)
class Place:
    """A fleet at work. ``path`` is the folder of what is made beside it, ``environ`` what its processes are given.

    ``poll`` keeps it running, where that is this process's to do; ``wait_for_engine`` returns when a model answers.
    ``drain_seconds`` is how long it takes to stop at most; None where it goes on without this process.
    """

    path: Path
    logs: Path
    environ: Mapping[str, str]
    poll: Callable[[], None]
    wait_for_engine: Callable[[], None]
    drain_seconds: float | None = None

    @property
    def stopping(self) -> str:
        """What happens when this process is interrupted."""
        if self.drain_seconds is None:
            return "stopping; the fleet goes on with what it has been asked for"
        return f"stopping; workers have up to {self.drain_seconds:.0f} s to put their work down"

    @classmethod
    def of(cls, fleet: Fleet) -> Place:
        """The fleet that this process has started."""
        plan, home = fleet.plan, fleet.home
        return cls(home.path, home.logs, plan.environ, fleet.poll, fleet.wait_for_engine, plan.drain_seconds)


def is_there(environ: Mapping[str, str]) -> bool:
    """Whether a fleet runs here, or ``DATABASE_URL`` says that one runs elsewhere."""
    return bool(environ.get("DATABASE_URL")) or read_endpoints(home_path(environ)) is not None


@contextmanager
def at_hand(environ: Mapping[str, str], *, works: bool = True) -> Iterator[Place]:
    """The fleet that is there, or one that is started for as long as this lasts; only its servers unless it ``works``.

    Raises:
        StartError: it cannot be started, or ``DATABASE_URL`` is set and ``REDIS_URL`` is not.
    """
    if is_there(environ):
        connect()
        yield _there(environ)
        return
    with Fleet(environ) as fleet:
        if works:
            fleet.start()
        yield Place.of(fleet)


def _there(environ: Mapping[str, str]) -> Place:
    path = home_path(environ)
    key = path / "engine.key"
    if not os.environ.get("RLFLEET_ENGINE_KEY") and read_endpoints(path) is not None and key.exists():
        os.environ["RLFLEET_ENGINE_KEY"] = key.read_text()
    return Place(path, path / "logs", dict(os.environ), lambda: None, _wait_for_engine)


def _wait_for_engine() -> None:
    """Raises ``StartError`` when no engine has announced itself in time."""
    from db import engines
    from db.session import transaction

    deadline = time.monotonic() + ENGINE_SECONDS
    while True:
        with transaction() as session:
            if engines.reachable(session, 1):
                return
        if time.monotonic() > deadline:
            raise StartError("no engine has announced itself: start a gpu worker, or see why it has none in its log")
        time.sleep(POLL_SECONDS)
