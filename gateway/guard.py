"""Whether a server is asked at all: its circuit breakers, one for whoever it answers as, and its limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.answers import Answer
from gateway.breaker import Breaker, Limits
from gateway.errors import EngineFailed, reason_of
from gateway.limits import Gate, full
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)


class Guard:
    """A breaker for each version, or the base model, on each server by its URL; and one gate for all calls."""

    def __init__(self, limits: Limits, gate: Gate | None = None) -> None:
        self._limits, self._gate = limits, gate or Gate()
        self._breakers: dict[tuple[str, str], Breaker] = {}

    async def ask(self, name: str, url: str, who: str, asking: Callable[[], Awaitable[Answer]]) -> Answer:
        """What ``asking`` gives, if the breaker and the limits let the call pass; beyond a limit a 429.

        Raises:
            EngineUnavailable: it failed, or its breaker is open. One that says that nothing was asked of it after all
                is no failure to the breaker.
        """
        breaker, now = self._breaker(url, who), asyncio.get_running_loop().time
        if (permit := breaker.enter(now())) is None:
            why = f"failed repeatedly, and is not asked for another {breaker.wait(now()):.0f} s"
            raise EngineFailed(why, why, asked=False)
        if (seconds := self._gate.wait()) > 0:
            breaker.left(permit)
            return full(name, seconds)
        try:
            answer = await self._gate.hold(asking())
        except EngineUnavailable as error:
            if isinstance(error, EngineFailed) and not error.asked:
                breaker.left(permit)
            elif breaker.failed(permit, now()):
                self._warn(name, who, reason_of(error))
            raise
        except BaseException:
            breaker.left(permit)
            raise
        breaker.succeeded(permit)
        if answer.stream is not None:
            answer.stream.broke = lambda: self._broke(name, who, breaker)
        return answer

    def waits(self, url: str) -> dict[str, float]:
        """Whom the server is not asked for, because it failed them, and the seconds until it is."""
        now = asyncio.get_running_loop().time()
        waits = {who: one.wait(now) for (where, who), one in self._breakers.items() if where == url}
        return {who: seconds for who, seconds in waits.items() if seconds > 0}

    def full_for(self) -> float:
        """Seconds until the limits let a call pass; 0 where they do."""
        return self._gate.wait()

    def forget_all_but(self, urls: set[str]) -> None:
        """Servers at other addresses are gone."""
        if any(url not in urls for url, _ in self._breakers):
            self._breakers = {key: one for key, one in self._breakers.items() if key[0] in urls}

    def _breaker(self, url: str, who: str) -> Breaker:
        key = (url, who)
        if key not in self._breakers:
            self._breakers[key] = Breaker(self._limits)
        return self._breakers[key]

    def _broke(self, name: str, who: str, breaker: Breaker) -> None:
        """A stream ended in the middle."""
        if breaker.broke(asyncio.get_running_loop().time()):
            self._warn(name, who, "breaks off in the middle of its answers")

    def _warn(self, name: str, who: str, why: str) -> None:
        log.warning("%s is not asked for %s for %g s: it %s", name, who, self._limits.seconds, why)
