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
from gateway.errors import reason_of
from gateway.streaming import failure
from rl.errors import DatabaseUnavailable, EngineUnavailable

log = logging.getLogger(__name__)

TAKING_SECONDS = 60.0
"""How long an answer's events may wait for the caller in all: one that stops reading is one that has gone away."""

NO_BUFFERING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends the events as they come. ``record`` is awaited before the last ones are sent, ``failed`` told of a failure.

    Once the first byte is sent nothing else may answer: what goes wrong then is an event of its own, and the last.
    A caller that goes away, or stops reading, ends the engine's work, and nothing is recorded: what was not given to
    its end is no answer, and a retry under the same id gets a whole one. ``held`` is let go of when all is over.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: Stream,
        headers: Mapping[str, str],
        record: Callable[[], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        super().__init__(headers={**headers, **NO_BUFFERING})
        del self.headers["content-length"]
        self._stream, self._record, self._failed = stream, record, failed
        self.held = AsyncExitStack()
        self._patience = TAKING_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if (last := await self._sent(send, leaving)) is not None:
                await self._give(send, last, more_body=False)
        except TimeoutError:
            log.warning("a caller stopped reading its answer, which was given up after %g s", TAKING_SECONDS)
        finally:
            leaving.cancel()
            try:
                await self._stream.aclose()
            finally:
                await self.held.aclose()

    async def _sent(self, send: Send, leaving: asyncio.Future[None]) -> bytes | None:
        """Send all but the last events. Returns those; None when the caller went away.

        Raises:
            TimeoutError: it stopped reading.
        """
        try:
            if not await self._passed_on(send, leaving):
                return None
        except EngineUnavailable as error:
            return None if leaving.done() else self._broken(error)
        return await self._recorded()

    def _broken(self, error: EngineUnavailable) -> bytes:
        """The event that says what the engine did to the answer, once that is recorded."""
        self._stream.broke()
        try:
            self._failed(reason_of(error))
        except HTTPException as refusal:
            return failure(refusal.detail, getattr(refusal, "code", "internal_error"))
        return failure(f"the answer cannot go on: the engine {error}; ask again", "engine_unavailable")

    async def _recorded(self) -> bytes:
        """The last events: those of the answer, or the one that says why it is not recorded."""
        try:
            await self._record()
        except HTTPException as error:
            return failure(error.detail, getattr(error, "code", "internal_error"))
        except DatabaseUnavailable as error:
            log.error("%s", error)
            return failure("the database did not answer, so the call cannot be recorded; ask again", "not_recorded")
        except Exception as error:
            log.exception("a streamed answer cannot be recorded")
            return failure(f"the call cannot be recorded ({type(error).__name__})", "not_recorded")
        return self._stream.last

    async def _passed_on(self, send: Send, leaving: asyncio.Future[None]) -> bool:
        """Send the events as they come. Whether the caller stayed; where it left, the waiting for the next one ends."""
        try:
            async with asyncio.timeout(None) as limit:
                leaving.add_done_callback(lambda _: _end(limit))
                async for events in self._stream.events():
                    await self._give(send, events, more_body=True)
        except TimeoutError:
            if not leaving.done():
                raise
        return not leaving.done()

    async def _give(self, send: Send, events: bytes, *, more_body: bool) -> None:
        """Send the events once the caller has taken those before them.

        Raises:
            TimeoutError: it has let the answer wait for too long.
        """
        now = asyncio.get_running_loop().time
        began = now()
        async with asyncio.timeout(self._patience):
            await send({"type": "http.response.body", "body": events, "more_body": more_body})
        self._patience -= now() - began


def _end(limit: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # it is over
        limit.reschedule(asyncio.get_running_loop().time())


async def _left(receive: Receive) -> None:
    """Return when the caller is gone. The request's body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
