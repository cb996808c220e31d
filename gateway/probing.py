"""What engines say of themselves: whether they live, and whether they take the gateway's key.

Each is asked at most once in ``SECONDS``, however many ask: whoever looks at the gateway's health often must not keep
its engines busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from gateway.loading import KEY_REFUSED, MODELS
from gateway.wire import Wire
from rl.errors import EngineUnavailable

SECONDS = 2.0
"""What was said counts for so long."""
ANSWER_SECONDS = 2.0
ALIVE = (200, 404)
"""What ``/health`` says of an engine that lives; some servers have no such page."""

OK = "ok"
SILENT = "does not answer"
REFUSES = "refuses the key: check RLFLEET_ENGINE_KEY"
NO_ENGINE = "has neither /health nor /v1/models: check its address"


class Asked:
    """What one server said last, by ``ask``, which gives ``OK`` or what is wrong within ``ANSWER_SECONDS``."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, str]]) -> None:
        self._ask = ask
        self._began = 0.0
        self._asking: asyncio.Task[str] | None = None

    async def state(self) -> str:
        """What it said within the last ``SECONDS``, or says now."""
        return await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[str]:
        """Ask it, if what it said is older; nobody need wait."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._began >= SECONDS):
            self._began, self._asking = now, asyncio.ensure_future(self._ask())
        return self._asking


class Probes:
    """The last answers of the engines behind a wire, by their URLs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[str, Asked] = {}

    async def state(self, url: str) -> str:
        """``OK``, or what is wrong with the engine."""
        if url not in self._asked:
            self._asked[url] = Asked(partial(self._state, url))
        return await self._asked[url].state()

    def forget_all_but(self, urls: set[str]) -> None:
        """Engines at other addresses are gone."""
        self._asked = {url: one for url, one in self._asked.items() if url in urls}

    async def _state(self, url: str) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                health = await self._status(url, "/health")
                models = None if health is None else await self._status(url, MODELS)
        except TimeoutError:
            return SILENT
        if models in KEY_REFUSED:
            return REFUSES
        if health not in ALIVE or models not in ALIVE:
            return SILENT
        return OK if 200 in (health, models) else NO_ENGINE

    async def _status(self, url: str, path: str) -> int | None:
        """The status of that page, asked for as calls are; None where there is no answer."""
        try:
            response = await self._wire.ask("GET", url, path)
            await response.read()
            return response.status
        except EngineUnavailable:
            return None
