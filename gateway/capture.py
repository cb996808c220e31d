"""Recording calls: one thread commits whatever is waiting in one transaction, and callers wait for their commit.

What breaks without it: one commit a call is one disk flush a call, and a few hundred calls a second at most;
an answer given before its commit is on-policy data that a crash loses while the agent acts on it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from db import calls
from db.calls import NewCall
from db.session import transaction
from rl.errors import DatabaseUnavailable

BATCH = 256
COMMIT_SECONDS = 30.0

Waiting = tuple[NewCall, "asyncio.Future[bool]"]

log = logging.getLogger(__name__)


class Recorder:
    """A queue of calls and the thread that stores them. Belongs to the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    async def record(self, call: NewCall) -> bool:
        """Wait until the call is committed. False when another call was stored under its id before.

        Raises:
            DatabaseUnavailable: it was not committed, or not within ``COMMIT_SECONDS``; it may be recorded yet,
                so the caller repeats it under the same id.
        """
        future: asyncio.Future[bool] = self._loop.create_future()
        self._queue.put((call, future))
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                return await future
        except TimeoutError:
            raise DatabaseUnavailable(f"the database took more than {COMMIT_SECONDS:.0f} s to commit a call") from None

    async def close(self) -> None:
        """Store what is waiting, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < BATCH and (following := self._next()) is not None:
                batch.append(following)
            self._loop.call_soon_threadsafe(_settle, batch, store([call for call, _ in batch]))

    def _next(self) -> Waiting | None:
        try:
            found = self._queue.get_nowait()
        except Empty:
            return None
        if found is None:
            self._queue.put(None)
        return found


def store(batch: Sequence[NewCall]) -> list[bool | Exception]:
    """Commit the calls together; if one of them cannot be stored, each by itself. One outcome a call."""
    try:
        with transaction() as session:
            return list(calls.insert(session, batch))
    except DatabaseUnavailable as error:
        return [error] * len(batch)
    except Exception as error:
        if len(batch) == 1:
            log.exception("call %s cannot be stored", batch[0].call_id)
            return [error]
        return [outcome for call in batch for outcome in store([call])]


def _settle(batch: Sequence[Waiting], outcomes: Sequence[bool | Exception]) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
