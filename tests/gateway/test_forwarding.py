"""The connections that the gateway keeps to its engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from db.engines import Address
from gateway import probing
from gateway.forwarding import Engines
from rl.errors import EngineUnavailable


class Listener:
    """Answers 200 to every request once ``may_answer``, and tells how many connections there were and are."""

    def __init__(self) -> None:
        self.accepted = 0
        self.asked, self.may_answer, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.set()
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            self.closed.set()
        finally:
            writer.close()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Address]:
        server = await asyncio.start_server(self.converse, "127.0.0.1", 0)
        async with server:
            yield Address("cpu@test", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def forget(engines: Engines) -> None:
    with pytest.raises(EngineUnavailable, match="no engine has announced itself"):
        await engines.ask([], "v1", "/v1", b"{}")


def test_a_connection_is_used_again_until_its_engine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SECONDS", 0.0)

    async def check() -> None:
        listener, engines = Listener(), Engines("")
        async with listener.served() as engine:
            assert await engines.states([engine]) == {"cpu@test": "ok"}
            assert await engines.states([engine]) == {"cpu@test": "ok"}
            assert (listener.accepted, listener.closed.is_set()) == (1, False)
            await forget(engines)
            await asyncio.wait_for(listener.closed.wait(), 30)

    asyncio.run(check())


def test_a_call_under_way_is_answered_and_its_connection_closed_when_the_engine_goes() -> None:
    async def check() -> None:
        listener, engines = Listener(), Engines("")
        listener.may_answer.clear()
        async with listener.served() as engine:
            call = asyncio.create_task(engines.states([engine]))
            await asyncio.wait_for(listener.asked.wait(), 30)
            await forget(engines)
            listener.may_answer.set()
            assert await call == {"cpu@test": "ok"}
            await asyncio.wait_for(listener.closed.wait(), 30)
            listener.closed.clear()  # it was asked one thing more, over another connection
            await engines.close()
            await asyncio.wait_for(listener.closed.wait(), 30)

    asyncio.run(check())
