"""How many calls may go to an upstream: at once, within a minute, and on a UTC day. Counted in this process."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.answers import Answer
from gateway.configured import Most
from gateway.errors import RETRY_AFTER_SECONDS

MINUTE, DAY = 60.0, 86_400
BUSY = 429


class Gate:
    """Lets calls pass as long as none of the limits is reached. Belongs to one event loop.

    A minute is any 60 seconds of ``clock``; a day begins at midnight UTC, by ``wall`` in seconds since 1970. A call
    counts as soon as it is sent, whatever becomes of it.
    """

    def __init__(
        self,
        most: Most | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._most, self._clock, self._wall = most or Most(), clock, wall
        self._under_way = 0
        self._minute: deque[float] = deque()
        self._day, self._today = 0, 0

    def wait(self) -> float:
        """Seconds until a call may pass, as far as is known; 0 where one may."""
        most, waits = self._most, [0.0]
        if most.per_day is not None and self._count_of_today() >= most.per_day:
            waits.append((self._day + 1) * DAY - self._wall())
        if most.per_minute is not None and len(self._last_minute()) >= most.per_minute:
            waits.append(self._minute[0] + MINUTE - self._clock())
        if most.concurrent is not None and self._under_way >= most.concurrent:
            waits.append(RETRY_AFTER_SECONDS)
        return max(waits)

    async def hold(self, asking: Awaitable[Answer]) -> Answer:
        """The answer; until it is whole, or its stream is over, it is one call under way."""
        self._enter()
        try:
            answer = await asking
        except BaseException:
            self._leave()
            raise
        if answer.stream is None:
            self._leave()
        else:
            answer.stream.ended = self._leave
        return answer

    def _enter(self) -> None:
        self._under_way += 1
        if self._most.per_minute is not None:
            self._minute.append(self._clock())
        if self._most.per_day is not None:
            self._today = self._count_of_today() + 1

    def _leave(self) -> None:
        self._under_way -= 1

    def _last_minute(self) -> deque[float]:
        since = self._clock() - MINUTE
        while self._minute and self._minute[0] <= since:
            self._minute.popleft()
        return self._minute

    def _count_of_today(self) -> int:
        day = int(self._wall() // DAY)
        if day != self._day:
            self._day, self._today = day, 0
        return self._today


def full(name: str, seconds: float) -> Answer:
    """What a caller hears of an upstream that is not asked because its limit is reached."""
    wait = math.ceil(seconds)
    message = f"{name} has reached its limit of calls; try again in {wait} s"
    error = {"message": message, "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    return Answer(BUSY, "application/json", str(wait), json.dumps({"error": error}).encode())
