"""A few simulators for any number of games.

An episode does not keep a simulator: it takes one for each action, and gives it back. Games repeat exactly, so where
another game was played on it meanwhile, the episode loads its own and takes its actions again. Episodes that nobody
plays on hold nothing, and none can wait for another one to end.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from environments.sciworld.simulator import Simulator
from environments.settings import settings
from rl.errors import EngineUnavailable

WAIT_SECONDS = 300.0
"""For a simulator to be free."""


class Pool:
    """At most ``size`` simulators, started when they are needed. Used from any thread."""

    def __init__(
        self, size: int, start: Callable[[], Simulator] = Simulator, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._size = size
        self._start = start
        self._wait_seconds = wait_seconds
        self._idle: list[Simulator] = []
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def simulator(self, player: object) -> Iterator[Simulator]:
        """A simulator for as long as the block lasts; its ``player`` tells whose game is loaded.

        Raises:
            EngineUnavailable: all are busy for too long.
            ChildLost: it could not be started.
            MissingDependency: Java or the package is not installed.
        """
        simulator = self._take(player)
        try:
            yield simulator
        except BaseException:
            simulator.player = None
            raise
        finally:
            self._put(simulator)

    def leave(self, player: object) -> None:
        """The player's game is over: no need to keep it loaded."""
        with self._changed:
            for simulator in self._idle:
                if simulator.player is player:
                    simulator.player = None

    def end(self) -> None:
        """End the simulators that are idle."""
        with self._changed:
            while self._idle:
                self._idle.pop().end()

    def _take(self, player: object) -> Simulator:
        """The simulator that has the player's game, else one without, else a new one, else the longest idle one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._idle or self._taken < self._size, self._wait_seconds):
                raise EngineUnavailable(
                    f"all {self._size} simulators of sciworld were busy for {self._wait_seconds:.0f} s; "
                    "play fewer episodes at once or raise RLFLEET_SCIWORLD_JVMS"
                )
            chosen = next((s for owner in (player, None) for s in self._idle if s.player is owner), None)
            if chosen is None and len(self._idle) + self._taken >= self._size:
                chosen = self._idle[0]
            if chosen is not None:
                self._idle.remove(chosen)
            self._taken += 1
        return chosen or self._started()

    def _started(self) -> Simulator:
        try:
            return self._start()
        except BaseException:
            self._put(None)
            raise

    def _put(self, simulator: Simulator | None) -> None:
        with self._changed:
            self._taken -= 1
            if simulator is not None and simulator.alive():
                self._idle.append(simulator)
            self._changed.notify()


def pool() -> Pool:
    """The pool of this process: a child after a fork has its own."""
    return _pool_of(os.getpid())


@cache
def _pool_of(process_id: int) -> Pool:
    made = Pool(settings().sciworld_jvms)
    atexit.register(_end_in, process_id, made)
    return made


def _end_in(process_id: int, made: Pool) -> None:
    """A forked child runs its parent's exit functions, but must not end what is its parent's."""
    if os.getpid() == process_id:
        made.end()
