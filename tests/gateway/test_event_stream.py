"""Streams whose caller or whose record fails: what is sent, and who is blamed."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from sqlalchemy import text
from starlette.types import Receive, Scope, Send

from db.session import transaction
from gateway import event_stream
from gateway.answers import Deadlines, Stream
from gateway.event_stream import EventStream
from gateway.streaming import END, Heard, event
from rl.errors import InvalidRow
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.recorder.doubles import wait_until

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
        reply = EventStream(stream, {}, self._recorded, self.blamed.append)
        reply.held.callback(lambda: setattr(self, "is_let_go", True))
        await reply({}, receive, send)

    async def _recorded(self) -> None:
        self.recorded += 1
        if self._record is not None:
            raise self._record


@pytest.mark.parametrize("stops_at", [1, 2, 3])
def test_a_caller_that_stops_reading_is_let_go_of(monkeypatch: pytest.MonkeyPatch, stops_at: int) -> None:
    monkeypatch.setattr(event_stream, "TAKING_SECONDS", 1.0)
    answering = Answering(*SPOKEN, LAST, END)

    async def take(_: Sent) -> None:
        if len(answering.sent) == stops_at:
            await asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(answering.give(take), 30))

    assert len(answering.sent) == stops_at
    assert (answering.source.is_closed, answering.is_let_go, answering.blamed) == (True, True, [])
    assert answering.recorded == (stops_at == 3)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def test_the_time_that_a_caller_takes_is_not_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "TAKING_SECONDS", 1e6)
    answering = Answering(*SPOKEN, LAST, END, answer_seconds=60)

    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)

        async def take(message: Sent) -> None:
            loop.skipped += 61 if message.get("body") else 0

        runner.run(answering.give(take))

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


def test_a_name_that_no_header_can_carry_holds_nothing(world: World) -> None:
    """Whatever goes wrong before the first byte, the engine and the call's id are let go of."""
    with transaction() as session:
        session.execute(text("update rlfleet.versions set name = 'агент-' || name"))
    engine, ended = FakeEngine(fate="endless"), list[int]()
    app = engine.app()

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope.get("path") == "/v1/chat/completions":
            ended.append(1)

    world.announce("cpu@test", world.serve(counting))
    world.release(0)
    gateway = world.gateway()
    body = {"messages": [{"role": "user", "content": "go"}], "stream": True}
    gc.disable()
    try:
        for _ in range(2):
            answer = gateway.post("/v1/chat/completions", json=body, headers={"X-Call-Id": "c1"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        wait_until(lambda: len(ended) == 2)
    finally:
        gc.enable()
        engine.fate = ""
    assert world.count() == 0


@pytest.mark.parametrize("path", ["chat/completions", "ingest", "trajectories/t1/steps", "calls/c1/feedback"])
def test_a_request_that_does_not_come_is_not_waited_for(world: World, path: str) -> None:
    url = world.gateway(RLFLEET_GATEWAY_BODY_SECONDS="0.2").base_url

    with socket.create_connection((url.host, url.port), 30) as caller:
        caller.sendall(f"POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{{".encode())
        answer = b"".join(iter(lambda: caller.recv(65536), b""))  # the end of the connection

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    took = "the request's body took more than 0.2 s (RLFLEET_GATEWAY_BODY_SECONDS)"
    assert json.loads(body)["error"] == {
        "message": f"{took}; send it again, or less of it",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_timeout",
    }
