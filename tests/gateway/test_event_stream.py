"""Streams whose caller or whose record fails: what is sent, and who is blamed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway import completions, event_stream
from gateway.answers import Deadlines, Stream
from gateway.event_stream import EventStream
from gateway.streaming import END, Heard, event
from rl.errors import InvalidRow
from tests.gateway.conftest import World

Sent = MutableMapping[str, Any]
SPOKEN = [
    event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}) for word in ("go ", "on ")
]
LAST = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


class Source:
    """Says those pieces, and tells whether it was let go of."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces, self.is_closed = list(pieces), False

    async def more(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def aclose(self) -> None:
        self.is_closed = True


class Answering:
    """An answer on its way to a caller that takes each message by ``take``."""

    def __init__(self, *pieces: bytes, record: Exception | None = None, answer_seconds: float = 600) -> None:
        self.source, self._record, self._deadlines = Source(*pieces), record, Deadlines(30, answer_seconds)
        self.sent: list[bytes] = []
        self.blamed: list[str] = []
        self.recorded = 0
        self.is_let_go = False

    async def give(self, take: Callable[[Sent], Awaitable[None]] | None = None) -> None:
        async def send(message: Sent) -> None:
            if take is not None:
                await take(message)
            self.sent.append(message.get("body", b""))

        async def receive() -> Sent:
            await asyncio.Event().wait()
            return {}

        stream = await Stream(self.source, Heard({}), self._deadlines).begin()
        stream.broke = lambda: self.blamed.append("the breaker")
        held = AsyncExitStack()
        held.callback(lambda: setattr(self, "is_let_go", True))
        await EventStream(stream, {}, self._recorded, self.blamed.append, held)({}, receive, send)

    async def _recorded(self) -> None:
        self.recorded += 1
        if self._record is not None:
            raise self._record


@pytest.mark.parametrize("stops_at", [1, 2, 3])
def test_a_caller_that_stops_reading_is_let_go_of(monkeypatch: pytest.MonkeyPatch, stops_at: int) -> None:
    monkeypatch.setattr(event_stream, "TAKING_SECONDS", 0.2)
    answering = Answering(*SPOKEN, LAST, END)

    async def take(_: Sent) -> None:
        if len(answering.sent) == stops_at:
            await asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(answering.give(take), 30))

    assert len(answering.sent) == stops_at
    assert (answering.source.is_closed, answering.is_let_go, answering.blamed) == (True, True, [])
    assert answering.recorded == (stops_at == 3)


def test_the_time_that_a_caller_takes_is_not_the_engines() -> None:
    answering = Answering(*SPOKEN, LAST, END, answer_seconds=0.5)

    async def take(message: Sent) -> None:
        if message.get("body"):
            await asyncio.sleep(0.6)

    asyncio.run(answering.give(take))

    assert (b"".join(answering.sent), answering.blamed) == (b"".join([*SPOKEN, LAST, END]), [])


def test_an_answer_that_breaks_off_is_the_engines_failure() -> None:
    answering = Answering(*SPOKEN, event({"error": {"message": "You see: red ball"}}))

    asyncio.run(answering.give())

    assert answering.blamed == ["the breaker", "failed"]
    assert b"the engine failed: You see: red ball; ask again" in answering.sent[-1]


@pytest.mark.parametrize("why", [ValueError("a number"), OverflowError(), InvalidRow("turn", -1, "must be 0 or more")])
def test_what_cannot_be_recorded_ends_with_an_error(why: Exception) -> None:
    answering = Answering(*SPOKEN, LAST, END, record=why)

    asyncio.run(answering.give())

    assert answering.sent[1:-1] == SPOKEN
    assert f"the call cannot be recorded ({type(why).__name__})".encode() in answering.sent[-1]
    assert answering.blamed == []


def test_a_request_that_does_not_come_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "BODY_SECONDS", 0.2)
    url = world.gateway().base_url

    with socket.create_connection((url.host, url.port), 30) as caller:
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\n{")
        answer = b"".join(iter(lambda: caller.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
