"""Threads that store what was captured: one for callers who wait for their commit, one that empties the spool."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from db import captured
from db.captured import Captured
from gateway.catalog import AWAY
from gateway.spool import SYNC_SECONDS, Batch, Spool
from rl.errors import DatabaseUnavailable, InvalidRow

BATCH = 256
BATCH_BYTES = 8 << 20
COMMIT_SECONDS = 30.0
LINGER_SECONDS = 0.1
"""Between two looks at the spool: calls that come meanwhile share a transaction, which is most of what one costs."""
LONGEST_WAIT_SECONDS = 2.0
"""Between two tries while the database is away."""
FLUSH_SECONDS = 5.0
"""For the database to take what is left when the gateway ends; the rest stays on disk."""

Waiting = tuple[Captured, "asyncio.Future[bool]"]

REFUSED = "captured calls cannot be stored; the gateway's log says why"

log = logging.getLogger(__name__)


class Commits:
    """One thread commits whatever waits in one transaction. Belongs to the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    async def commit(self, record: Captured) -> bool:
        """Wait until the record is committed. False when another was stored under its id before.

        Raises:
            DatabaseUnavailable: it was not committed, or not within ``COMMIT_SECONDS``.
            InvalidRow: the database cannot hold it.
        """
        future: asyncio.Future[bool] = self._loop.create_future()
        self._queue.put((record, future))
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                return await future
        except TimeoutError:
            raise DatabaseUnavailable(f"the database took more than {COMMIT_SECONDS:.0f} s to commit a call") from None

    def close(self) -> None:
        """Store what is waiting, as far as the database takes it within ``FLUSH_SECONDS``, then end the thread."""
        self._queue.put(None)
        self._thread.join(FLUSH_SECONDS)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < BATCH and (following := self._next()) is not None:
                batch.append(following)
            self._loop.call_soon_threadsafe(_settle, batch, _outcomes([record for record, _ in batch]))

    def _next(self) -> Waiting | None:
        try:
            found = self._queue.get_nowait()
        except Empty:
            return None
        if found is None:
            self._queue.put(None)
        return found


def _outcomes(batch: Sequence[Captured]) -> Sequence[bool | Exception]:
    try:
        return captured.store(batch)
    except DatabaseUnavailable as error:
        return [error] * len(batch)
    except Exception as error:
        log.exception("%d calls cannot be stored", len(batch))
        return [error] * len(batch)


def _settle(batch: Sequence[Waiting], outcomes: Sequence[bool | Exception]) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Drain:
    """Stores what the spool holds, the oldest first; a record that the database refuses for itself holds up no other.

    ``away`` says why nothing is stored at the moment, in words for everybody: the log has those of the database. It is
    empty while the database takes what it is given.
    """

    def __init__(self, spool: Spool) -> None:
        self.away = ""
        self._spool = spool
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("drain", self._run), ("spool-sync", self._sync))
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> bool:
        """Store what the database takes within ``FLUSH_SECONDS``, then end the threads. False where one hangs."""
        self._deadline = time.monotonic() + FLUSH_SECONDS
        self._stop.set()
        for thread in self._threads:
            thread.join(max(0.0, self._deadline + 1 - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        wait = LINGER_SECONDS
        while not self._stop.wait(wait):
            wait = LINGER_SECONDS if self._empty() else min(2 * wait, LONGEST_WAIT_SECONDS)
        self._empty()

    def _empty(self) -> bool:
        """Store until nothing waits. False where the database, or the disk, does not let it."""
        try:
            while time.monotonic() < self._deadline and (batch := self._spool.read(BATCH, BATCH_BYTES)) is not None:
                self._store(batch)
        except DatabaseUnavailable as error:
            if not self.away:
                log.warning("captured calls wait in the spool: %s", error)
            self.away = AWAY
            return False
        except Exception:
            if self.away != REFUSED:
                log.exception("captured records cannot be stored; they are kept and tried again")
            self.away = REFUSED
            return False
        if self.away:
            log.warning("the spool is empty")
        self.away = ""
        return True

    def _store(self, batch: Batch) -> None:
        outcomes = captured.store(batch.records)
        refused = 0
        for record, outcome in zip(batch.records, outcomes, strict=True):
            if isinstance(outcome, InvalidRow):
                self._spool.refuse(record, outcome)
                refused += 1
        self._spool.done(batch)
        if refused:
            captured.alert(refused, str(self._spool.folder))

    def _sync(self) -> None:
        while not self._stop.wait(SYNC_SECONDS):
            self._try(self._spool.sync, "what was written is not on the disk")
            self._try(self._spool.forget, "what was stored is not deleted")
        self._try(self._spool.sync, "what was written is not on the disk")

    def _try(self, work: Callable[[], None], failing: str) -> None:
        """Do it, and go on whatever comes of it: it is tried again, and the other work must not end with it."""
        try:
            work()
        except OSError as error:
            log.error("spool %s: %s: %s", self._spool.folder, failing, error.strerror)
        except Exception:
            log.exception("spool %s: %s", self._spool.folder, failing)
