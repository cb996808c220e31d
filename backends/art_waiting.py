"""Waiting for ART's service: so long and no longer, and only until the supervisor asks for a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from rl.protocol import Event

T = TypeVar("T")
POLL_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 60.0
"""One look at the service takes no longer, with all its pages and retries."""
SUBMIT_SECONDS: Final = 300.0
"""A request for a training carries all its trajectories."""


class Talk(Protocol):
    """The way to the process that supervises this one."""

    pausing: bool

    def say(self, event: Event) -> None:
        """Tell an event."""
        ...

    def stored(self) -> Awaitable[None]:
        """Until what was said is stored."""
        ...


class Pause(Exception):
    """The supervisor asked for it; the service goes on."""


class Waiting:
    """What is waited for while ``talk`` asks for no pause, which is looked at once a second."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def check(self) -> None:
        """Raises ``Pause`` where one was asked for."""
        if self._talk.pausing:
            raise Pause

    async def within(self, seconds: float, work: Coroutine[Any, Any, T], *, heeds_pause: bool = True) -> T:
        """What ``work`` gives. The limits of a client do not do: they begin anew with each byte, and with each retry.

        Raises:
            TimeoutError: it gave nothing in so many seconds. It is cancelled then, and was begun all the same.
            Pause: one was asked for meanwhile, and ``work`` heeds it. It is cancelled then.
        """
        task, until = asyncio.ensure_future(work), time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                if (await asyncio.wait({task}, timeout=min(left, POLL_SECONDS)))[0]:
                    return task.result()
                if heeds_pause:
                    self.check()
            raise TimeoutError(f"no whole answer came within {seconds:g} s")
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=POLL_SECONDS)
