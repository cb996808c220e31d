"""The connections to the base model's server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.answers import Deadlines
from gateway.breaker import Limits
from gateway.configured import Kind, Server, of_base
from gateway.upstream import Upstream
from gateway.wire import IDLE_SECONDS
from rl.errors import EngineUnavailable
from tests.gateway.doubles import FakeEngine, served

CALLS = 150
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_every_call_has_a_connection_at_once() -> None:
    """The server answers none before it has all of them."""
    begun: list[Request] = []
    all_have = asyncio.Event()

    async def complete(request: Request) -> Response:
        begun.append(request)
        if len(begun) == CALLS:
            all_have.set()
        await all_have.wait()
        return JSONResponse(FakeEngine().completion("base", 1))

    async def ask(url: str) -> list[int]:
        upstream = Upstream(of_base(f"{url}/v1", "", ""), Deadlines(30, 30), Limits())
        body = json.dumps({"model": "base", "messages": []}).encode()
        answers = await asyncio.gather(*[upstream.ask(body) for _ in range(CALLS)])
        await upstream.close()
        return [one.status for one in answers]

    with served(Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])) as url:
        assert asyncio.run(ask(url)) == [200] * CALLS


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A space ten times a second, as some proxies keep a connection alive."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.1)
    except ConnectionError:
        pass
    finally:
        writer.close()


def saying(head: bytes, body: bytes = b"") -> Answering:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + head + b"\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    return say


async def asked(answering: Answering, wants: dict[str, Any] | None, deadlines: Deadlines) -> str:
    """What is said of a server that cannot be used."""
    server = await asyncio.start_server(answering, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    upstream = Upstream(of_base(url, "", ""), deadlines, Limits())
    try:
        async with asyncio.timeout(60):
            with pytest.raises(EngineUnavailable) as failed:
                await upstream.ask(b"{}", wants)
            is_dripping = answering is drip
            return str(failed.value) if is_dripping else f"{failed.value}; {await upstream.state()}"
    finally:
        await upstream.close()
        server.close()


@pytest.mark.parametrize(
    ("wants", "deadlines", "says"),
    [
        (None, Deadlines(60, 0.5), "took more than 0.5 s"),
        ({"stream": True}, Deadlines(0.5, 60), "said nothing for 0.5 s"),
    ],
)
def test_a_server_that_drips_is_given_up(wants: dict[str, Any] | None, deadlines: Deadlines, says: str) -> None:
    assert asyncio.run(asked(drip, wants, deadlines)).startswith(says)


@pytest.mark.parametrize("wants", [None, {"stream": True}])
@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        (
            b"301 Moved\r\nlocation: https://elsewhere/",
            b"",
            "answered 301, which is no completion: check its url; answers with",
        ),
        (b"204 No Content", b"", "answered 204, which is no completion"),
        (b"200 OK\r\ncontent-encoding: gzip", b"abcd", "did not answer (DecodingError); does not answer"),
    ],
)
def test_what_is_no_answer_is_the_servers_failure(
    wants: dict[str, Any] | None, head: bytes, body: bytes, says: str
) -> None:
    assert asyncio.run(asked(saying(head, body), wants, Deadlines(60, 60))).startswith(says)


async def state(of_models: int, of_health: int) -> str:
    """What is said of a server that answers so at its pages."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_health = b" /health " in await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        writer.write(head % (of_health if is_health else of_models))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    upstream = Upstream(of_base(f"http://127.0.0.1:{port_of(server)}/v1", "", ""), Deadlines(), Limits())
    try:
        return await upstream.state()
    finally:
        await upstream.close()
        server.close()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("of_models", "of_health", "says"),
    [
        (429, 404, "ok"),
        (400, 200, "ok"),
        (404, 200, "ok"),
        (405, 200, "ok"),
        (405, 429, "ok"),
        (405, 405, "has neither /models nor /health: check its url"),
        (405, 503, "does not answer"),
        (500, 200, "does not answer"),
    ],
)
def test_one_that_is_busy_or_lists_no_models_lives(of_models: int, of_health: int, says: str) -> None:
    assert asyncio.run(state(of_models, of_health)) == says


def test_a_connection_that_was_idle_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes it when a second request comes, as one does that was about to close it."""
    body, plain = json.dumps(FakeEngine().completion("base", 1)).encode(), time.monotonic
    opened: list[asyncio.StreamWriter] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await reader.readuntil(b"\r\n\r\n{}")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await reader.read(1)
        writer.close()

    async def twice() -> list[int]:
        server = await asyncio.start_server(once, "127.0.0.1", 0)
        upstream = Upstream(of_base(f"http://127.0.0.1:{port_of(server)}/v1", "", ""), Deadlines(60, 60), Limits())
        try:
            first = await upstream.ask(b"{}")
            monkeypatch.setattr(time, "monotonic", lambda: plain() + IDLE_SECONDS)
            return [first.status, (await upstream.ask(b"{}")).status]
        finally:
            await upstream.close()
            server.close()
            for writer in opened:
                writer.close()
                await writer.wait_closed()

    assert asyncio.run(twice()) == [200, 200]
    assert len(opened) == 2


@pytest.mark.parametrize(("kind", "goes_through_it"), [("vllm", False), ("sglang", False), ("openai", True)])
def test_servers_of_ones_own_are_asked_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, goes_through_it: bool
) -> None:
    """A proxy would be told the key, and could not reach them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    heard: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def asked_through() -> str:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port_of(server)}")
        one = Server("gpu", "the upstream gpu", kind, "http://nowhere.invalid:8000/v1", "KEY", "hush")
        upstream = Upstream(one, Deadlines(), Limits())
        try:
            return await upstream.state()
        finally:
            await upstream.close()
            server.close()

    assert asyncio.run(asked_through()) == ("ok" if goes_through_it else "does not answer")
    assert bool(heard) == goes_through_it
