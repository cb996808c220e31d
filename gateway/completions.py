"""One completion from end to end: who answers, the answer, its record, and only then the reply."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from db.releases import NamedVersion
from gateway import access, bodies, routing
from gateway.answers import Answer, Deadlines
from gateway.breaker import Limits
from gateway.caller import Caller, caller_of
from gateway.capture import Answered
from gateway.catalog import Catalog
from gateway.chat import ChatRequest, Spoken, parse_request
from gateway.errors import EngineFailed, Refusal, bad_request, too_large, unavailable, unknown_model, withheld
from gateway.event_stream import EventStream
from gateway.forwarding import NOBODY, Engines, first_of
from gateway.limits import BUSY
from gateway.recording import Recording
from gateway.redactor import Redactor
from gateway.repeated import repeated
from gateway.routing import BASE, REMOTE, Route, Rules
from gateway.settings import Capture, GatewaySettings
from gateway.upstreams import NO_REMOTE, Upstreams
from rl.logs import about

Looking = asyncio.Future[Answered | None]
"""What was answered under the call's id before, once it is known."""


@dataclass(slots=True)
class Given:
    """The answer to a call, and who gave it. ``seconds`` are the server's, until the first byte of a stream."""

    route: Route
    version: str
    answer: Answer
    seconds: float


class Completions:
    """What the gateway holds while it runs. Made inside the event loop it serves in."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings, self.keys = settings, settings.keys
        is_fine = settings.capture is not Capture.REQUIRED
        self.catalog = Catalog(settings.pinned_version, stale_is_fine=is_fine, keep=settings.releases_file)
        deadlines = Deadlines(settings.first_byte_seconds, settings.answer_seconds)
        limits = Limits(settings.breaker_failures, settings.breaker_seconds)
        self.engines = Engines(settings.engine_key, deadlines, limits)
        self.upstreams = Upstreams(settings.servers(), settings.artifacts, deadlines, limits)
        self.redactor = Redactor(max(1, settings.ingest_waiting // 2))
        self.recording = Recording(settings, self.catalog, self.redactor)
        self.recorder = self.recording.recorder

    async def close(self) -> None:
        """Store what is waiting and close every connection."""
        self.redactor.close()
        await self.recorder.close()
        await self.engines.close()
        await self.upstreams.close()

    def rules(self, pinned: NamedVersion | None) -> Rules:
        """By what a line's calls are routed; ``pinned`` is what the database says of ``RL_MODEL_VERSION``."""
        settings = self.settings
        return Rules(settings.use_rl_model, settings.pinned_version, pinned, settings.rollout_percentage)

    async def reply(self, request: Request) -> Response:
        """The reply to a chat completion request.

        Raises:
            Refusal: 400, 401, 404, 408, 413 or 503, with what to do.
            DatabaseUnavailable: the call could not be routed or recorded.
        """
        began = time.perf_counter()
        access.check(request, self.keys)
        caller = caller_of(request.headers)
        asked = parse_request(await self._body(request))
        async with AsyncExitStack() as held:
            if caller.names_call:
                await held.enter_async_context(self.recorder.only(caller.call_id))
                if (before := self.recording.remembered(caller)) is not None:
                    return repeated(caller, asked, before)
            given = await self._given(caller, asked)
            if isinstance(given, Answered):
                return repeated(caller, asked, given)
            try:
                return await self._reply(caller, asked, given, began, held)
            except BaseException:
                await _give_up(given)
                raise

    async def _body(self, request: Request) -> bytes:
        most_mb, seconds = self.settings.most_mb, self.settings.body_seconds
        return await bodies.read(request, most_mb << 20, seconds, lambda: too_large(most_mb))

    async def _given(self, caller: Caller, asked: ChatRequest) -> Given | Answered:
        """The answer; or what was answered under the call's id before, which is looked up beside the engine's work."""
        route = await self._route(asked.model, caller)
        about(line=route.line)
        if not caller.names_call:
            return await self._complete(caller, route, asked, None)
        looking = asyncio.ensure_future(self.recording.answered(caller))
        try:
            given = await self._complete(caller, route, asked, looking)
        except Refusal:
            if (before := await looking) is not None:
                return before
            raise
        except BaseException:
            looking.cancel()
            raise
        try:
            before = await looking
        except BaseException:
            await _give_up(given)
            raise
        if before is not None:
            await _give_up(given)
        return before or given

    async def _reply(
        self, caller: Caller, asked: ChatRequest, given: Given, began: float, held: AsyncExitStack
    ) -> Response:
        answer, line, version = given.answer, given.route.line, given.version

        async def record(spoken: Spoken) -> Response | None:
            recorded = await self.recording.record(caller, asked, line, version, spoken)
            return None if recorded.is_new else repeated(caller, asked, recorded.before)

        if (stream := answer.stream) is not None:

            async def record_stream() -> None:
                if await record(stream.spoken()) is not None:
                    raise bad_request("x-call-id", "was answered meanwhile; ask again to get that answer")

            def failed(why: str) -> None:
                if version != BASE:
                    self.recording.failed(caller, given.route, why)

            reply = EventStream(stream, _headers(caller, given, began), record_stream, failed)
            reply.held = held.pop_all()
            return reply
        if answer.spoken is not None and (before := await record(answer.spoken)) is not None:
            return before
        return Response(answer.body, answer.status, _headers(caller, given, began), answer.media_type)

    async def _route(self, model: str, caller: Caller) -> Route:
        snapshot = await self.catalog.snapshot()
        if (line := snapshot.lines.get(model)) is not None:
            return routing.of_line(line, caller.unit, self.rules(snapshot.pinned))
        if (version := await self.catalog.version(model)) is not None:
            return routing.of_version(version)
        raise unknown_model(model, f"name a version, or a line: {', '.join(snapshot.lines) or 'there is none yet'}")

    async def _complete(
        self, caller: Caller, route: Route, asked: ChatRequest, looking: Looking | None
    ) -> Given | Answered:
        """The answer; or what ``looking`` found, where no engine answers: a repeat fails nobody."""
        began = time.perf_counter()
        if route.version != BASE:
            try:
                given = await self._by_engine(route, asked, began)
            except EngineFailed as error:
                if looking is not None and (before := await looking) is not None:
                    return before
                self.recording.failed(caller, route, error.reason, asked=error.asked)
                why = f"no engine can answer for {route.version} ({error})"
                reason = f"fallback: no engine answers for {route.version}"
                route = dataclasses.replace(route, is_fallback=True, why=why, reason=reason)
            else:
                if given.answer.status == BUSY and self._has_stand_in(route):
                    return await self._instead(given, asked, began)
                return given
        self._check_base(route)
        return await self._by_base(route, asked, began)

    async def _by_engine(self, route: Route, asked: ChatRequest, began: float) -> Given:
        snapshot = await self.catalog.snapshot()
        is_ours = route.kind != REMOTE
        body = asked.for_engine(route.version if is_ours else route.uri)
        tries = self.upstreams.tries(route, asked, body, snapshot)
        if is_ours:
            tries += self.engines.tries(snapshot.engines, route.version, route.uri, body, asked.wants)
        answer = await first_of(tries, NOBODY if is_ours else NO_REMOTE)
        return Given(route, route.version, answer, time.perf_counter() - began)

    async def _by_base(self, route: Route, asked: ChatRequest, began: float) -> Given:
        answer = await self.upstreams.ask_base(route, asked)
        return Given(route, BASE, answer, time.perf_counter() - began)

    async def _instead(self, busy: Given, asked: ChatRequest, began: float) -> Given:
        """The base model's answer where all engines are full and it has one, or else what they said."""
        route = dataclasses.replace(busy.route, is_fallback=True, reason="fallback: engines are busy")
        try:
            given = await self._by_base(route, asked, began)
        except Refusal:
            return busy
        return given if given.answer.status < 400 else busy

    def _has_stand_in(self, route: Route) -> bool:
        """Whether the base model may answer where the route's version cannot."""
        return not route.is_exact and self.settings.fallback_to_base and self.upstreams.has_base

    def _check_base(self, route: Route) -> None:
        """Return if the base model may answer on this route."""
        code = "engine_unavailable" if route.version != BASE else "base_unavailable"
        if route.is_exact:
            raise unavailable(code, f"{route.why}; try again, or name the line to let another model answer")
        if route.is_fallback and not self.settings.fallback_to_base:
            raise unavailable(code, f"{route.why}; try again, or set RL_FALLBACK_TO_BASE=true")
        if not self.upstreams.has_base and route.is_fallback:
            raise unavailable(code, f"{route.why}; try again, or set UPSTREAM_BASE_URL to let the base model answer")
        if not self.upstreams.has_base:
            raise withheld(code, f"{route.why}; set UPSTREAM_BASE_URL to let the base model answer")


def _headers(caller: Caller, given: Given, began: float) -> dict[str, str]:
    """The answer's headers. Times are in milliseconds, the gateway's own without the server's."""
    own = time.perf_counter() - began - given.seconds
    headers = caller.headers(given.version) | {
        "X-Rlfleet-Reason": given.route.reason,
        "Server-Timing": f"engine;dur={given.seconds * 1e3:.1f}, gateway;dur={own * 1e3:.1f}",
    }
    if given.answer.retry_after is not None:
        headers["Retry-After"] = given.answer.retry_after
    return headers


async def _give_up(given: Given | Answered) -> None:
    if isinstance(given, Given) and given.answer.stream is not None:
        await given.answer.stream.aclose()
