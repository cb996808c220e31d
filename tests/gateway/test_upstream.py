"""The connections to the base model's server."""

from __future__ import annotations

import asyncio
import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.answers import Deadlines
from gateway.settings import GatewaySettings
from gateway.upstream import Upstream
from tests.gateway.doubles import FakeEngine, served

CALLS = 150


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
        settings = GatewaySettings(UPSTREAM_BASE_URL=f"{url}/v1")  # type: ignore[call-arg]
        upstream = Upstream(settings, Deadlines(30, 30))
        body = json.dumps({"model": "base", "messages": []}).encode()
        answers = await asyncio.gather(*[upstream.ask(body) for _ in range(CALLS)])
        await upstream.close()
        return [one.status for one in answers]

    with served(Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])) as url:
        assert asyncio.run(ask(url)) == [200] * CALLS
