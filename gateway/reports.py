"""Events over HTTP: read within bounds, redacted, stored in a thread with few at a time, answered after the commit."""

from __future__ import annotations

import asyncio
import functools
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from db import recordings
from db.feedback import NewFeedback
from db.recordings import Event, Start
from db.session import transaction
from gateway import access, bodies
from gateway.errors import RETRY_AFTER_SECONDS, Refusal, bad_request
from gateway.ingest import Rejected, decode, parse, rejected
from gateway.redaction import Rules, of_rejected, rules_of
from gateway.redactor import Redactor, unusable
from gateway.settings import GatewaySettings
from rl.errors import DatabaseUnavailable, InvalidRow, InvalidSettings
from rl.records import Quarantined

SCHEMA = 1
MOST_EVENTS, MOST_BYTES = 1_000, 8 << 20
AT_ONCE = 4
"""Requests that are stored at the same moment; the others wait."""
PATIENCE_SECONDS = 15.0
"""Less than a recorder waits for its answer."""

log = logging.getLogger(__name__)


class Reports:
    """Takes what agents report. At most ``ingest_waiting`` requests are held, beyond that a caller comes again."""

    def __init__(self, settings: GatewaySettings, redactor: Redactor) -> None:
        self.keys, self.most = settings.keys, settings.ingest_waiting
        self._redactor, self._seconds = redactor, settings.body_seconds
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ingest")
        self._held: set[asyncio.Task[dict[str, Any]]] = set()

    async def close(self) -> None:
        """Store what is waiting, then end the threads."""
        await asyncio.gather(*self._held, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    async def ingest(self, request: Request) -> JSONResponse:
        """Many events: which were stored, which were there, and which cannot be used.

        Raises:
            Refusal: 400, 401, 408, 413, 415, 429, or 503 where a line's redaction cannot be applied.
            DatabaseUnavailable: nothing was stored, or it is not known whether it was.
        """
        raw, encoding = await self._body(request)
        return JSONResponse(await self._run(functools.partial(ingest, raw, encoding)))

    async def one(self, request: Request, kind: str, named: dict[str, str]) -> JSONResponse:
        """One event of that kind, with the ids that its path names. 422 when it cannot be used.

        Raises:
            Refusal: 400, 401, 408, 413, 415, 429 or 503, as for ``ingest``.
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
        if len(self._held) >= self.most:
            raise _full()
        too_large = functools.partial(_too_large, f"more than {MOST_BYTES} bytes")
        return await bodies.read(request, MOST_BYTES, self._seconds, too_large), encoding

    async def _run(self, read: Callable[[], Report]) -> dict[str, Any]:
        """The answer. A caller that goes away meanwhile does not free its place before it is done."""
        if len(self._held) >= self.most:
            raise _full()
        running = asyncio.create_task(self._taken(read))
        self._held.add(running)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    async def _taken(self, read: Callable[[], Report]) -> dict[str, Any]:
        """Read and store in the threads of reports. Rules and hooks run elsewhere and keep none of them waiting."""
        loop = asyncio.get_running_loop()
        report = await loop.run_in_executor(self._threads, _with_rules, read)
        if report.answer is not None:
            return report.answer
        report.take(await self._redactor.reported(report.good, report.rules))
        return await loop.run_in_executor(self._threads, _stored, report)

    def _done(self, running: asyncio.Task[dict[str, Any]]) -> None:
        self._held.discard(running)
        if not running.cancelled():
            running.exception()  # seen, also where the caller is gone


@dataclass
class Report:
    """Events that can be used and that cannot, by their place. ``rules`` are to be applied before any is stored."""

    events: Sequence[object]
    good: dict[int, Event]
    bad: list[Rejected]
    rules: dict[int, Rules] = field(default_factory=dict)
    answer: dict[str, Any] | None = None

    def take(self, redacted: Mapping[int, Event | InvalidRow]) -> None:
        """The events as they may be stored. Those that may not be join the bad ones."""
        self.good = {index: one for index, one in redacted.items() if not isinstance(one, InvalidRow)}
        for index, one in redacted.items():
            if isinstance(one, InvalidRow):
                self.bad.append(rejected(index, self.events[index], one.field, one.remedy))
        self.bad.sort(key=lambda one: one.index)


def _full() -> Refusal:
    message = "too many reports are waiting to be stored; send the same again later"
    return Refusal(429, "busy", message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _too_large(what: str) -> Refusal:
    return Refusal(413, "too_large", f"{what}; send at most {MOST_EVENTS} events and {MOST_BYTES} bytes at once")


def ingest(raw: bytes, encoding: str) -> Report:
    """The events in a body.

    Raises:
        Refusal: 400 or 413.
    """
    body = _decoded(raw, encoding)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or set(body) != {"schema", "events"}:
        raise bad_request("body", f'must be {{"schema": {SCHEMA}, "events": [...]}}')
    if not isinstance(body["events"], list):
        raise bad_request("events", "must be a list")
    if len(body["events"]) > MOST_EVENTS:
        raise _too_large(f"{len(body['events'])} events")
    return _parsed(body["events"])


def one(raw: bytes, encoding: str, named: dict[str, str]) -> Report:
    """The event in a body that lacks what the path names, as for many."""
    body = _decoded(raw, encoding)
    if not isinstance(body, dict):
        raise bad_request("body", "must be a JSON object")
    if twice := sorted(body.keys() & named.keys()):
        bad = [rejected(0, named, twice[0], "leave it out: the path says it")]
        return Report([named], {}, bad, answer=_answer([], bad))
    return _parsed([body | named])


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


def _parsed(events: Sequence[object]) -> Report:
    report = Report(events, {}, [])
    for index, event in enumerate(events):
        try:
            report.good[index] = parse(event)
        except InvalidRow as error:
            report.bad.append(rejected(index, event, error.field, error.remedy))
    return report


def _with_rules(read: Callable[[], Report]) -> Report:
    """The report with the rules that are to be applied to it; where there are none, it is stored and answered."""
    report = read()
    if report.answer is not None:
        return report
    try:
        report.bad = of_rejected(report.bad) if report.bad else []
        report.rules = rules_of(report.good) if report.good else {}
    except InvalidSettings as error:
        raise unusable(str(error)) from error
    if not report.rules:
        report.answer = _stored(report)
    return report


def _stored(report: Report) -> dict[str, Any]:
    """Store the events. Returns the answer."""
    good, bad = report.good, report.bad
    try:
        return _answer(_commit(list(good.values()), bad), bad)
    except DatabaseUnavailable:
        raise
    except InvalidRow as error:
        log.info("%s; each event is stored by itself", error)
    except Exception:
        if len(good) < 2:
            raise
        log.exception("%d events cannot be stored together; each is stored by itself", len(good))
    return _one_by_one(report.events, good, bad)


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
    foreign: set[str | None] = set()
    # Starts first: what follows one that is refused must not go where another's start went.
    for index, event in sorted(good.items(), key=lambda item: not isinstance(item[1], Start)):
        if not isinstance(event, NewFeedback) and event.trajectory_id in foreign:
            bad.append(rejected(index, events[index], "trajectoryId", recordings.OWNED))
            continue
        try:
            stored += _commit([event], [])
        except DatabaseUnavailable:
            raise
        except InvalidRow as error:
            foreign |= {event.trajectory_id} if isinstance(event, Start) else set()
            bad.append(rejected(index, events[index], error.field, error.remedy))
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
