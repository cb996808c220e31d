"""HTTP/1.1 as servers speak it, over real sockets: framing, connections that are used again, and broken ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.wire import Wire
from rl.errors import EngineUnavailable

Writer = asyncio.StreamWriter
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@dataclass
class Server:
    """Answers each request with the next of ``script``; an empty answer closes the connection without a word."""

    script: list[bytes]
    closes: bool = False
    accepted: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    async def converse(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.accepted += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                answer = self.script.pop(0)
                writer.write(answer)
                if self.closes or not answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self.converse, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self


def talk(server: Server, conversation: Callable[[Wire, Server], Awaitable[Any]]) -> Any:
    """What the conversation over one wire returns."""

    async def run() -> Any:
        async with server.served():
            wire = Wire({"content-type": "application/json"})
            try:
                return await asyncio.wait_for(conversation(wire, server), 60)
            finally:
                wire.forget_all_but(set())

    return asyncio.run(run())


async def ask(wire: Wire, server: Server, path: str = "/v1/x") -> tuple[int, bytes]:
    response = await wire.ask("POST", server.url, path, b"{}")
    return response.status, await response.read()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (200, b"hi")),
        (b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", (503, b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            (200, b"hi0123456789"),
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-trailer: 1\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, (200, b"hi")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000, (200, b"x" * 100_000)),
    ],
)
def test_an_answer_is_read_to_its_end_and_its_connection_used_again(answer: bytes, expected: tuple[int, bytes]) -> None:
    server = Server([answer, OK])

    async def twice(wire: Wire, server: Server) -> list[tuple[int, bytes]]:
        return [await ask(wire, server), await ask(wire, server)]

    assert talk(server, twice) == [expected, (200, b"hi")]
    assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: close\r\n\r\nhi",
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_used_again(answer: bytes) -> None:
    server = Server([answer, answer], closes=True)

    async def twice(wire: Wire, server: Server) -> list[tuple[int, bytes]]:
        return [await ask(wire, server), await ask(wire, server)]

    assert talk(server, twice) == [(200, b"hi")] * 2
    assert server.accepted == 2


def test_a_request_is_said_in_full() -> None:
    server = Server([OK])

    async def once(wire: Wire, server: Server) -> None:
        await (await wire.ask("POST", server.url + "/engine", "/v1/x", b'{"a": 1}')).read()

    talk(server, once)
    where = server.url.removeprefix("http://").encode()
    assert server.heads == [
        b"POST /engine/v1/x HTTP/1.1\r\nhost: "
        + where
        + b"\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n"
    ]
    assert server.bodies == [b'{"a": 1}']


def test_an_idle_connection_that_the_server_gave_up_is_replaced_once() -> None:
    server = Server([OK, b"", OK])

    async def twice(wire: Wire, server: Server) -> list[tuple[int, bytes]]:
        return [await ask(wire, server), await ask(wire, server)]

    assert talk(server, twice) == [(200, b"hi")] * 2
    assert (server.accepted, len(server.bodies)) == (2, 3)


def test_a_server_that_never_says_a_word_is_asked_once() -> None:
    server = Server([b"", OK])

    async def once(wire: Wire, server: Server) -> None:
        with pytest.raises(EngineUnavailable, match="did not answer"):
            await ask(wire, server)

    talk(server, once)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "did not answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", "did not answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", "broke off in the middle"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhi", "broke off in the middle"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-9\r\nhi\r\n", "broke off in the middle"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1_0\r\nhi\r\n", "broke off in the middle"),
    ],
)
def test_what_is_no_whole_answer_is_no_answer(answer: bytes, says: str) -> None:
    async def once(wire: Wire, server: Server) -> None:
        with pytest.raises(EngineUnavailable, match=says):
            await ask(wire, server)

    talk(Server([answer], closes=True), once)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://does-not-exist.invalid", "localhost:80", "ftp://x"])
def test_where_nobody_listens_is_no_engine(url: str) -> None:
    async def once() -> None:
        with pytest.raises(EngineUnavailable):
            await Wire({}).ask("GET", url, "/health")

    asyncio.run(once())


def test_an_answer_that_is_given_up_closes_its_connection() -> None:
    server = Server([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", OK])

    async def twice(wire: Wire, server: Server) -> tuple[int, bytes]:
        response = await wire.ask("POST", server.url, "/v1/x", b"{}")
        assert await response.more() == b"hi"
        await response.aclose()
        return await ask(wire, server)

    assert talk(server, twice) == (200, b"hi")
    assert server.accepted == 2
