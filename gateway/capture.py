"""Recording calls off the request path, so that what an agent acts on is what is stored, whatever is killed.

    async with recorder.only(call_id):                    a second request with the id waits here for the first
        before = recorder.remembered(call_id)             answered before: give that, ask no engine
        looking = asyncio.ensure_future(recorder.answered(call_id))      beside the engine's work
        ...                                               nothing is given, not one streamed byte, before it is known
        recorded = await recorder.record(call, committed=False)          on disk; only then the answer, or its end

A call is written to the spool before its answer is given, and stored soon after by a thread that takes many at once.
With ``committed`` the caller waits for the commit instead, and the spool is not used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from db import calls, captured
from db.call_rows import CallRow, call_of
from db.calls import NewCall
from db.captured import Captured, Kind
from db.failures import NewFailure
from db.session import transaction
from gateway.segment import encode
from gateway.settings import Capture, GatewaySettings
from gateway.spool import Spool
from gateway.storing import Commits, Drain
from rl import records
from rl.errors import DatabaseUnavailable
from rl.records import Quarantined

LOOK_SECONDS = 1.0
AWAY_SECONDS = 2.0
"""For how long no question is put to a database that did not answer one."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that was answered before, as it was recorded."""

    trajectory_id: str
    call: records.Call


@dataclass(frozen=True, slots=True)
class Recorded:
    """Whether the call is the first of its id. If not, ``before`` is what was recorded; None: it is gone meanwhile."""

    is_new: bool
    before: Answered | None = None


class Recorder:
    """The spool and the threads that empty it. Belongs to the event loop that made it.

    Raises:
        StartError: the spool cannot be used.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.spool: Spool | None = None
        self._drain: Drain | None = None
        if settings.capture is not Capture.OFF:
            self.spool = Spool(settings.spool_folder, settings.spool_mb << 20)
            self._drain = Drain(self.spool)
        self._commits = Commits()
        self._mode = settings.capture
        self._answering: dict[str, asyncio.Event] = {}
        self._asked: dict[str, asyncio.Future[Answered | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._away_until = 0.0

    @property
    def away(self) -> str:
        """Why captured calls are not stored at the moment; empty while they are."""
        return self._drain.away if self._drain else ""

    @property
    def has_room(self) -> bool:
        """Whether another call can be recorded, as far as is known."""
        return self.spool is None or self.spool.size < self.spool.limit

    def state(self) -> dict[str, Any]:
        """Numbers of the spool: records and bytes that wait, the age of the oldest, and what was refused."""
        if self.spool is None:
            return {"mode": Capture.OFF.value}
        return {
            "mode": self._mode.value,
            "waiting": self.spool.waiting,
            "bytes": self.spool.size,
            "oldest_seconds": round(self.spool.age(), 1),
            "refused": self.spool.refused,
        }

    @asynccontextmanager
    async def only(self, call_id: str) -> AsyncIterator[None]:
        """Within the block no other request has this call id."""
        while (other := self._answering.get(call_id)) is not None:
            await other.wait()
        self._answering[call_id] = ended = asyncio.Event()
        try:
            yield
        finally:
            del self._answering[call_id]
            ended.set()

    def remembered(self, call_id: str) -> Answered | None:
        """The recorded answer, if it is in the spool. Costs next to nothing where it is not."""
        record = self.spool.find(call_id) if self.spool else None
        return record and _answered(record)

    async def answered(self, call_id: str) -> Answered | None:
        """The recorded answer, if the spool or the database knows one. A database that is away is not asked."""
        if (found := self.remembered(call_id)) is not None or time.monotonic() < self._away_until:
            return found
        if call_id not in self._asked:
            self._asked[call_id] = asyncio.get_running_loop().create_future()
        asked = self._asked[call_id]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(asked)

    async def record(self, call: NewCall, *, committed: bool = False) -> Recorded:
        """Have the call outlive this process; with ``committed``, have the database hold it. With capture off, nothing.

        Raises:
            Refusal: 503, the spool is full or its disk refuses: the answer must not be given.
            DatabaseUnavailable: with ``committed``; it may be recorded yet, so the caller repeats it under its id.
            ValueError, OverflowError: it holds a number that cannot be stored.
        """
        if self.spool is None:
            return Recorded(True)
        if (before := self.remembered(call.call_id)) is not None:
            return Recorded(False, before)
        row = calls.row_of(call if call.made_at else replace(call, made_at=datetime.now(UTC)))
        record = Captured(Kind.CALL, row)
        if committed or self._mode is Capture.REQUIRED:
            is_new = await self._commits.commit(record)
            return Recorded(True) if is_new else Recorded(False, await asyncio.to_thread(_stored, call.call_id))
        self.spool.append(encode(record, time.time()), call.call_id)
        return Recorded(True)

    def failed(self, failure: NewFailure) -> None:
        """Record that a version did not answer a call.

        Raises:
            Refusal: 503, as in ``record``.
        """
        self._append(captured.of_failure(failure))

    async def refused(self, trajectory_id: str, agent_id: str | None, *, committed: bool = False) -> None:
        """Record that nobody agreed to the trajectory: what is stored of it is deleted, and nothing of it is stored.

        Raises:
            Refusal, DatabaseUnavailable: as in ``record``.
        """
        await self._put(captured.of_refusal(trajectory_id, agent_id), committed)

    async def quarantined(self, line: str, row: Quarantined, *, committed: bool = False) -> None:
        """Record that a line's redaction does not let a call be stored.

        Raises:
            Refusal, DatabaseUnavailable: as in ``record``.
        """
        await self._put(captured.of_quarantined(line, row), committed)

    async def close(self) -> None:
        """Store what waits as far as the database allows; the rest is on disk for the next start."""
        committing = asyncio.to_thread(self._commits.close)
        if self._drain is None or self.spool is None:
            await committing
            return
        _, is_ended = await asyncio.gather(committing, asyncio.to_thread(self._drain.close))
        if is_ended:  # else a thread may still write to its files
            self.spool.close()

    async def _put(self, record: Captured, committed: bool) -> None:
        if self.spool is not None and (committed or self._mode is Capture.REQUIRED):
            await self._commits.commit(record)
        else:
            self._append(record)

    def _append(self, record: Captured) -> None:
        if self.spool is not None:
            self.spool.append(encode(record, time.time()), None)

    async def _ask(self) -> None:
        """Ask the database for all ids that wait, together, until none does."""
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await asyncio.to_thread(_stored_of, list(asked))
            except DatabaseUnavailable:
                found, self._away_until = {}, time.monotonic() + AWAY_SECONDS
            except Exception:
                log.exception("repeated calls cannot be looked up; they are answered anew")
                found, self._away_until = {}, time.monotonic() + AWAY_SECONDS
            for call_id, future in asked.items():
                if not future.done():
                    future.set_result(found.get(call_id))


def _answered(record: Captured) -> Answered:
    row = CallRow(*record.fields)  # type: ignore[arg-type]
    return Answered(row.trajectory_id, call_of(row))


def _stored_of(ids: list[str]) -> dict[str, Answered]:
    taken = calls.taken(ids, LOOK_SECONDS)
    return {one: found for one in taken if (found := _stored(one)) is not None}


def _stored(call_id: str) -> Answered | None:
    with transaction() as session:
        found = calls.with_id(session, call_id)
    return None if found is None else Answered(*found)
