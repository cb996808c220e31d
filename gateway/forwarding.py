"""Asking the engines of ours for one completion: who is asked, in which order, and when one is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from db.engines import Address
from gateway.answers import NOT_ONE, Answer, Deadlines, Stream, is_failure, stream_of_body
from gateway.breaker import Limits
from gateway.chat import parse_answer
from gateway.errors import EngineFailed, Refusal, reason_of
from gateway.guard import Guard
from gateway.limits import BUSY
from gateway.loading import KEY_REFUSED, Loading
from gateway.probing import ALIVE, Probes
from gateway.streaming import Heard
from gateway.wire import Response, Wire
from rl.errors import EngineUnavailable

ALIVE_SECONDS = 10.0
"""How long an engine that is silent over a long answer may take to say that it lives: it may be very busy."""

COMPLETIONS = "/v1/chat/completions"
NOBODY = "no engine has announced itself; start a GPU worker"
Wants = Mapping[str, Any]
Try = tuple[str, Callable[[], Awaitable[Answer]]]
"""Who may answer, by name, and how it is asked."""


class Engines:
    """The engines of ours, with a circuit breaker for each version on each of them. ``key_name`` is for messages."""

    def __init__(
        self,
        key: str,
        deadlines: Deadlines | None = None,
        limits: Limits | None = None,
        *,
        key_name: str = "RLFLEET_ENGINE_KEY",
        loading: Callable[[Wire, str], Loading] = Loading,
        guard: Guard | None = None,
    ) -> None:
        self._deadlines, self._key_name = deadlines or Deadlines(), key_name
        self._wire = Wire({"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {}))
        self._guard = guard or Guard(limits or Limits())
        self._loading, self._probes = loading(self._wire, key_name), Probes(self._wire)

    async def ask(
        self, engines: Sequence[Address], version: str, uri: str, body: bytes, wants: Wants | None = None
    ) -> Answer:
        """The answer of the first engine, newest first, that can give one; it may be a 4xx of the request's own.

        ``engines`` are all there are: connections to any other are closed. ``wants`` is the caller's request, where
        it wants a stream: the answer has begun by then, if it is a completion.

        A 429 says that those that could answer are full.

        Raises:
            EngineFailed: none can; says of each why.
        """
        return await first_of(self.tries(engines, version, uri, body, wants))

    def tries(
        self, engines: Sequence[Address], version: str, uri: str, body: bytes, wants: Wants | None = None
    ) -> list[Try]:
        """How ``ask`` asks each engine, by name."""
        self._forget_all_but({engine.url for engine in engines})
        return [(one.name, partial(self._try, one, version, uri, body, wants)) for one in engines]

    async def _try(self, engine: Address, version: str, uri: str, body: bytes, wants: Wants | None) -> Answer:
        """The engine's answer, if its breaker lets the call pass."""
        asking = partial(self._answer, engine.url, version, uri, body, wants)
        return await self._guard.ask(engine.name, engine.url, version, asking)

    async def _answer(self, url: str, version: str, uri: str, body: bytes, wants: Wants | None) -> Answer:
        if wants is None:
            async with self._patience(url):
                return await _whole(await self._asked(url, version, uri, body), self._key_name)
        async with self._deadlines.to_begin():
            response = await self._asked(url, version, uri, body)
            if response.status != 200 or not is_stream(response.headers):
                answer = await _whole(response, self._key_name)
                if answer.status == 200:
                    answer.stream = stream_of_body(answer.body, wants, self._deadlines)
                return answer
            answer = _answer_of(response, b"")
            answer.stream = await Stream(response, Heard(wants), self._deadlines).begin()
            return answer

    async def _asked(self, url: str, version: str, uri: str, body: bytes) -> Response:
        """The engine's answer, asked again once it has loaded the version if it did not know it."""
        await self._loading.check(url, version, uri)
        response = await self._wire.ask("POST", url, COMPLETIONS, body)
        try:
            if not await self._loading.is_missing(url, version, response.status):
                return response
        except BaseException:
            await response.aclose()
            raise
        await response.read()
        await self._loading.load(url, version, uri)
        return await self._wire.ask("POST", url, COMPLETIONS, body)

    @asynccontextmanager
    async def _patience(self, url: str) -> AsyncIterator[None]:
        """Within it an engine has the time for a whole answer, as long as it lives.

        An answer that is not streamed may rightly say nothing for minutes, so after the deadline of the first byte the
        engine is asked, again and again, whether it lives.
        """
        loop, watching = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        try:
            async with asyncio.timeout(self._deadlines.answer) as limit:
                begin = loop.call_later(
                    self._deadlines.first_byte, lambda: watching.add(loop.create_task(self._watch(url, limit)))
                )
                try:
                    yield
                finally:
                    begin.cancel()
                    for watch in watching:
                        watch.cancel()
        except TimeoutError:
            raise EngineUnavailable("took too long, or does not live any more") from None

    async def _watch(self, url: str, limit: asyncio.Timeout) -> None:
        while await self._lives(url, ALIVE_SECONDS) in ALIVE:
            await asyncio.sleep(self._deadlines.first_byte)
        limit.reschedule(asyncio.get_running_loop().time())

    async def states(self, engines: Sequence[Address]) -> dict[str, str]:
        """By name ``OK``, or what is wrong with the engine, as of a moment ago."""
        said = await asyncio.gather(*(self._probes.state(engine.url) for engine in engines))
        return {engine.name: one for engine, one in zip(engines, said, strict=True)}

    def kept_from(self, engine: Address) -> dict[str, float]:
        """The versions that the engine is not asked for, because it failed them, and the seconds until it is."""
        return self._guard.waits(engine.url)

    async def _lives(self, url: str, seconds: float) -> int | None:
        """The status of the engine's ``/health``; None where there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                response = await self._wire.ask("GET", url, "/health")
                await response.read()
                return response.status
        except (EngineUnavailable, TimeoutError):
            return None

    def _forget_all_but(self, urls: set[str]) -> None:
        self._wire.forget_all_but(urls)
        self._loading.forget_all_but(urls)
        self._probes.forget_all_but(urls)
        self._guard.forget_all_but(urls)

    async def close(self) -> None:
        """Close every connection."""
        self._forget_all_but(set())


def is_stream(headers: Mapping[str, str]) -> bool:
    """Whether the body is server-sent events."""
    return headers.get("content-type", "").startswith("text/event-stream")


async def first_of(tries: Sequence[Try], nobody: str = NOBODY) -> Answer:
    """The answer of the first that can give one; a 429 where those that could are full.

    Raises:
        EngineFailed: none can; says of each why, or ``nobody`` where there is none.
    """
    failures, busy = [], None
    for name, asking in tries:
        try:
            answer = await asking()
        except EngineUnavailable as error:
            failures.append((name, error))
            continue
        if answer.status != BUSY:
            return answer
        busy = busy or answer
    if busy is not None:
        return busy
    raise _of_all(failures, nobody)


async def _whole(response: Response, key_name: str) -> Answer:
    """The answer, if it is one.

    Raises:
        EngineUnavailable: it is the engine's failure, or is not a chat completion.
    """
    body = await response.read()
    if response.status in KEY_REFUSED:  # not passed on: the caller would take its own key for the wrong one
        raise EngineUnavailable(f"answered {response.status}: {key_name} is not the engine's")
    if is_failure(response.status):
        raise EngineFailed(f"answered {response.status}: {_excerpt(body)}", f"answered {response.status}")
    answer = _answer_of(response, body)
    if response.status == 200:
        try:
            answer.spoken = parse_answer(body)
        except Refusal as error:
            raise EngineFailed(error.detail, NOT_ONE) from None
    return answer


def _of_all(failures: Sequence[tuple[str, EngineUnavailable]], nobody: str) -> EngineFailed:
    """The failures of all, by name, as one."""
    if not failures:
        return EngineFailed(nobody, nobody)
    message = "; ".join(f"{name}: {error}" for name, error in failures)
    reason = "; ".join(f"{name}: {reason_of(error)}" for name, error in failures)
    asked = any(not isinstance(error, EngineFailed) or error.asked for _, error in failures)
    return EngineFailed(message, reason, asked=asked)


def _answer_of(response: Response, body: bytes) -> Answer:
    headers = response.headers
    media_type = headers.get("content-type", "application/json")
    return Answer(response.status, media_type, headers.get("retry-after"), body)


def _excerpt(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
