"""A streamed answer on its way to the caller."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.answers import Stream
from gateway.streaming import failure
from rl.errors import DatabaseUnavailable, EngineUnavailable

log = logging.getLogger(__name__)

NO_BUFFERING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends the events as they come. ``record`` is awaited before the last ones are sent, ``failed`` told of a failure.

    Once the first byte is sent nothing else may answer: what goes wrong then is an event of its own, and the last.
    A caller that goes away ends the engine's work, and nothing is recorded: what was not given to its end is no answer,
    and a retry under the same id gets a whole one. ``held`` is let go of when all is over.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: Stream,
        headers: Mapping[str, str],
        record: Callable[[], Awaitable[None]],
        failed: Callable[[str], None],
        held: AsyncExitStack,
    ) -> None:
        super().__init__(headers={**headers, **NO_BUFFERING})
        del self.headers["content-length"]
        self._stream, self._record, self._failed, self._held = stream, record, failed, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if (last := await self._sent(send, leaving)) is not None:
                await send({"type": "http.response.body", "body": last})
        finally:
            leaving.cancel()
            try:
                await self._stream.aclose()
            finally:
                await self._held.aclose()

    async def _sent(self, send: Send, leaving: asyncio.Future[None]) -> bytes | None:
        """Send all but the last events. Returns those; None when the caller went away."""
        try:
            return await self._recorded(send, leaving)
        except HTTPException as error:
            return failure(error.detail, getattr(error, "code", "internal_error"))
        except DatabaseUnavailable as error:
            log.error("%s", error)
            return failure("the database did not answer, so the call cannot be recorded; ask again", "not_recorded")

    async def _recorded(self, send: Send, leaving: asyncio.Future[None]) -> bytes | None:
        try:
            if not await self._passed_on(send, leaving):
                return None
        except EngineUnavailable as error:
            self._failed(str(error))
            return failure(f"the answer cannot go on: the engine {error}; ask again", "engine_unavailable")
        await self._record()
        return self._stream.last

    async def _passed_on(self, send: Send, leaving: asyncio.Future[None]) -> bool:
        """Send the events as they come. Whether the caller stayed; where it left, the waiting for the next one ends."""
        try:
            async with asyncio.timeout(None) as limit:
                leaving.add_done_callback(lambda _: _end(limit))
                async for events in self._stream.events():
                    await send({"type": "http.response.body", "body": events, "more_body": True})
        except TimeoutError:
            return False
        return not leaving.done()


def _end(limit: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # it is over
        limit.reschedule(asyncio.get_running_loop().time())


async def _left(receive: Receive) -> None:
    """Return when the caller is gone. The request's body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
