"""What engines say of themselves: whether they live, and whether they take the gateway's key.

Each is asked at most once in ``SECONDS``, however many ask: whoever looks at the gateway's health often must not keep
its engines busy.
"""

from __future__ import annotations

import asyncio

from gateway.loading import MODELS
from gateway.wire import Wire
from rl.errors import EngineUnavailable

SECONDS = 2.0
"""What was said counts for so long."""
ANSWER_SECONDS = 2.0
ALIVE = (200, 404)
"""What ``/health`` says of an engine that lives; some servers have no such page."""
KEY_REFUSED = (401, 403)

OK = "ok"
SILENT = "does not answer"
REFUSES = "refuses the key: check RLFLEET_ENGINE_KEY"
NO_ENGINE = "has neither /health nor /v1/models: check its address"


class Probes:
    """The last answers of the engines behind a wire, by their URLs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[str, tuple[float, asyncio.Task[str]]] = {}

    async def state(self, url: str) -> str:
        """``OK``, or what is wrong with the engine; known within ``ANSWER_SECONDS``."""
        now = asyncio.get_running_loop().time()
        began, asking = self._asked.get(url, (now, None))
        if asking is None or (asking.done() and now - began >= SECONDS):
            asking = asyncio.ensure_future(self._state(url))
            self._asked[url] = now, asking
        return await asyncio.shield(asking)

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
