"""The connections to the base model's server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.answers import Deadlines
from gateway.breaker import Limits
from gateway.configured import of_base
from gateway.upstream import Upstream
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
