"""Steps that block take threads of their own, a few at a time, so that the others' clocks and stores go on."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from environments.contract import Environment, Episode
from rl.records import ScenarioRef

P = ParamSpec("P")
T = TypeVar("T")

SPARE = 4
"""Steps at a time beyond one a core: some of them wait for a process."""

log = logging.getLogger(__name__)


class Threads:
    """The steps of many episodes in one event loop.

    A step that hangs and was given up holds up nothing: its thread is a daemon, so the interpreter exits without it.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore((os.cpu_count() or 1) + SPARE)

    def turn(self, environment: Environment) -> AbstractAsyncContextManager[object]:
        """Entered when it is the step's turn: a clock that starts inside does not count the wait for others."""
        return self._free if environment.blocks else nullcontext()

    async def run(self, environment: Environment, act: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What ``act`` returns; on a thread where the environment may take long."""
        if not environment.blocks:
            return act(*arguments, **named)
        return await asyncio.wrap_future(_started(partial(act, *arguments, **named)))

    async def opened(self, environment: Environment, ref: ScenarioRef) -> Episode:
        """A fresh episode, as ``run`` would open it. One that is there after its caller has gone is closed."""
        if not environment.blocks:
            return environment.open(ref)
        opening = _started(partial(environment.open, ref))
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_when_opened)
            raise


def _started(act: Callable[[], T]) -> Future[T]:
    """What ``act`` will return or raise on a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = act()
        except StopIteration as error:  # which no future of asyncio takes
            future.set_exception(RuntimeError(repr(error)))
        except BaseException as error:  # it belongs to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=copy_context().run, args=(run,), name="environment", daemon=True).start()
    return future


def _close_when_opened(opening: Future[Episode]) -> None:
    """Called on whichever thread ends the opening, which may be the loop's: the closing takes another."""
    if not opening.cancelled() and opening.exception() is None:
        _started(partial(_close, opening.result()))


def _close(episode: Episode) -> None:
    try:
        episode.close()
    except Exception as error:
        log.warning("an episode of %s that nobody plays was not closed: %s", episode.environment.name, error)
