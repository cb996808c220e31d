"""Events over HTTP: read within bounds, stored in a thread with few at a time, answered after the commit."""

from __future__ import annotations

import asyncio
import functools
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse

from db import recordings
from db.recordings import Event
from db.session import transaction
from gateway import access
from gateway.errors import RETRY_AFTER_SECONDS, Refusal, bad_request
from gateway.ingest import Rejected, decode, parse, rejected
from gateway.redaction import of_events, of_rejected
from gateway.settings import GatewaySettings
from rl.errors import DatabaseUnavailable, InvalidRow
from rl.records import Quarantined

SCHEMA = 1
MOST_EVENTS, MOST_BYTES = 1_000, 8 << 20
AT_ONCE = 4
"""Requests that are stored at the same moment; the others wait."""
PATIENCE_SECONDS = 15.0
"""Less than a recorder waits for its answer."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Reports:
    """Takes what agents report. At most ``ingest_waiting`` requests are held, beyond that a caller comes again."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.keys, self.most = settings.keys, settings.ingest_waiting
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ingest")
        self._held = 0

    async def close(self) -> None:
        """Store what is waiting, then end the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    async def ingest(self, request: Request) -> JSONResponse:
        """Many events: which were stored, which were there, and which cannot be used.

        Raises:
            Refusal: 400, 401, 413, 415 or 429.
            DatabaseUnavailable: nothing was stored, or it is not known whether it was.
        """
        raw, encoding = await self._body(request)
        return JSONResponse(await self._run(functools.partial(ingest, raw, encoding)))

    async def one(self, request: Request, kind: str, named: dict[str, str]) -> JSONResponse:
        """One event of that kind, with the ids that its path names. 422 when it cannot be used.

        Raises:
            Refusal: 400, 401, 413, 415 or 429.
            DatabaseUnavailable: as for ``ingest``.
        """
        raw, encoding = await self._body(request)
        answer = await self._run(functools.partial(one, raw, encoding, {"type": kind} | named))
        if not answer["rejected"]:
            return JSONResponse({name: answer[name] for name in ("schema", "accepted", "duplicate")})
        field, reason = answer["rejected"][0]["field"], answer["rejected"][0]["reason"]
        error = {"message": f"{field}: {reason}", "type": "invalid_request_error", "param": field}
        return JSONResponse({"error": error | {"code": "invalid_event"}}, 422)

    async def _body(self, request: Request) -> tuple[bytes, str]:
        """The body as it was sent, and its encoding; refused before it is read where that can be."""
        access.check(request, self.keys)
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise Refusal(415, "unknown_encoding", "Content-Encoding: send gzip, or leave it out")
        if self._held >= self.most:
            raise _full()
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BYTES:
                raise _too_large(f"more than {MOST_BYTES} bytes")
        return bytes(raw), encoding

    async def _run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. A caller that goes away meanwhile does not free its place before it is done."""
        if self._held >= self.most:
            raise _full()
        self._held += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    def _done(self, running: asyncio.Future[Any]) -> None:
        self._held -= 1
        if not running.cancelled():
            running.exception()  # seen, also where the caller is gone


def _full() -> Refusal:
    message = "too many reports are waiting to be stored; send the same again later"
    return Refusal(429, "busy", message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _too_large(what: str) -> Refusal:
    return Refusal(413, "too_large", f"{what}; send at most {MOST_EVENTS} events and {MOST_BYTES} bytes at once")


def ingest(raw: bytes, encoding: str) -> dict[str, Any]:
    """Store the events in a body. Returns the answer.

    Raises:
        Refusal: 400, 413, or 503 where a line's redaction cannot be applied.
    """
    body = _decoded(raw, encoding)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or set(body) != {"schema", "events"}:
        raise bad_request("body", f'must be {{"schema": {SCHEMA}, "events": [...]}}')
    if not isinstance(body["events"], list):
        raise bad_request("events", "must be a list")
    if len(body["events"]) > MOST_EVENTS:
        raise _too_large(f"{len(body['events'])} events")
    return _store(body["events"])


def one(raw: bytes, encoding: str, named: dict[str, str]) -> dict[str, Any]:
    """Store the event in a body that lacks what the path names. Returns the answer, as for many."""
    body = _decoded(raw, encoding)
    if not isinstance(body, dict):
        raise bad_request("body", "must be a JSON object")
    if twice := sorted(body.keys() & named.keys()):
        bad = rejected(0, named, twice[0], "leave it out: the path says it")
        return _answer([], [bad])
    return _store([body | named])


def _decoded(raw: bytes, encoding: str) -> Any:
    try:
        return decode(_unpacked(raw) if encoding == "gzip" else raw)
    except (ValueError, zlib.error) as error:
        raise bad_request("body", f"must be a JSON object ({str(error)[:200]})") from None


def _unpacked(raw: bytes) -> bytes:
    """The content of one gzip member, cut off as soon as it is too much."""
    unpacker = zlib.decompressobj(wbits=31)
    found = unpacker.decompress(raw, MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise _too_large(f"more than {MOST_BYTES} bytes unpacked")
    if not unpacker.eof:
        raise ValueError("the gzip stream is cut off")
    return found


def _store(events: Sequence[object]) -> dict[str, Any]:
    good: dict[int, Event] = {}
    bad: list[Rejected] = []
    for index, event in enumerate(events):
        try:
            good[index] = parse(event)
        except InvalidRow as error:
            bad.append(rejected(index, event, error.field, error.remedy))
    bad = of_rejected(bad) if bad else bad
    good = _redacted(events, good, bad) if good else good
    try:
        return _answer(_commit(list(good.values()), bad), bad)
    except DatabaseUnavailable:
        raise
    except Exception:
        if len(good) < 2:
            raise
        log.exception("%d events cannot be stored together; each is stored by itself", len(good))
    return _one_by_one(events, good, bad)


def _redacted(events: Sequence[object], good: Mapping[int, Event], bad: list[Rejected]) -> dict[int, Event]:
    """The events as they may be stored. Those that may not be join the bad ones."""
    kept: dict[int, Event] = {}
    for index, one in of_events(good).items():
        if isinstance(one, InvalidRow):
            bad.append(rejected(index, events[index], one.field, one.remedy))
        else:
            kept[index] = one
    bad.sort(key=lambda one: one.index)
    return kept


def _commit(good: list[Event], bad: Sequence[Rejected]) -> list[bool]:
    with transaction(PATIENCE_SECONDS) as session:
        stored = recordings.store(session, good) if good else []
        by_line: dict[str, list[Quarantined]] = {}
        for one in bad:
            row = Quarantined(source="ingest", row=one.row, field=one.field, reason=one.reason)
            by_line.setdefault(one.line, []).append(row)
        for line, rows in by_line.items():
            recordings.quarantine(session, line, rows)
        return stored


def _one_by_one(events: Sequence[object], good: dict[int, Event], bad: list[Rejected]) -> dict[str, Any]:
    """What the database refuses of one event must not hold up the others; when it refuses each, it is not theirs."""
    stored: list[bool] = []
    failed: Exception | None = None
    for index, event in good.items():
        try:
            stored += _commit([event], [])
        except DatabaseUnavailable:
            raise
        except Exception as error:
            failed = error
            bad.append(rejected(index, events[index], "event", "the database cannot hold it"))
    if failed is not None and not stored:
        raise failed
    _commit([], bad)
    return _answer(stored, sorted(bad, key=lambda one: one.index))


def _answer(stored: Sequence[bool], bad: Sequence[Rejected]) -> dict[str, Any]:
    rejections = [one.shown() for one in bad]
    accepted = sum(stored)
    return {"schema": SCHEMA, "accepted": accepted, "duplicate": len(stored) - accepted, "rejected": rejections}
