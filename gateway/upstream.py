"""The base model's server: any OpenAI-compatible one, by URL, perhaps behind a proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gateway.answers import Answer, Deadlines, Stream, stream_of_body
from gateway.chat import parse_answer
from gateway.errors import unavailable
from gateway.forwarding import is_stream
from gateway.probing import KEY_REFUSED
from gateway.settings import GatewaySettings
from gateway.streaming import Heard
from rl.errors import EngineUnavailable

CONNECT_SECONDS = 2.0
WRITE_SECONDS = 30.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100)
"""Every call has its connection at once: that server bounds what it takes, and says so."""

NOTHING_DROPPED = dict.fromkeys(("logprobs", "return_token_ids"), True)
"""The base model's server was asked for what the caller wants alone."""


class Pieces:
    """The bytes of a streamed answer, with the errors of ours."""

    def __init__(self, response: httpx.Response) -> None:
        self._response, self._pieces = response, response.aiter_bytes()

    async def more(self) -> bytes:
        """The next of them; empty at the end."""
        try:
            return await anext(self._pieces, b"")
        except httpx.HTTPError as error:
            raise EngineUnavailable(f"broke off in the middle of its answer ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Give up the rest."""
        await self._response.aclose()


class Upstream:
    """The base model's server, if one is configured. It streams where it can; where it cannot, its answer is cut up."""

    def __init__(self, settings: GatewaySettings, deadlines: Deadlines) -> None:
        self.url, self.model = settings.upstream_base_url.rstrip("/"), settings.upstream_model
        self._deadlines = deadlines
        key = settings.upstream_api_key
        self._client = httpx.AsyncClient(
            headers={"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
            limits=LIMITS,
        )

    async def ask(self, body: bytes, wants: Mapping[str, Any] | None = None) -> Answer:
        """The base model's answer; with ``wants``, the caller's request, as a stream that has begun.

        Raises:
            Refusal: 503, its server did not answer; 502, it answered something else.
        """
        seconds = self._deadlines.answer if wants is None else self._deadlines.first_byte
        try:
            return await self._ask(body, wants, seconds)
        except httpx.TransportError as error:
            raise unavailable(
                "upstream_unavailable", f"UPSTREAM_BASE_URL did not answer ({type(error).__name__})"
            ) from error
        except EngineUnavailable as error:
            raise unavailable("upstream_unavailable", f"the server at UPSTREAM_BASE_URL {error}") from error

    async def _ask(self, body: bytes, wants: Mapping[str, Any] | None, seconds: float) -> Answer:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS, write=WRITE_SECONDS)
        request = self._client.build_request("POST", f"{self.url}/chat/completions", content=body, timeout=timeout)
        response = await self._client.send(request, stream=True)
        if response.status_code in KEY_REFUSED:
            await response.aclose()
            raise unavailable("upstream_unavailable", "the server at UPSTREAM_BASE_URL refused UPSTREAM_API_KEY")
        headers = response.headers
        media_type = headers.get("content-type", "application/json")
        answer = Answer(response.status_code, media_type, headers.get("retry-after"))
        if wants is not None and answer.status == 200 and is_stream(headers):
            heard = Heard({**wants, **NOTHING_DROPPED})
            async with self._deadlines.to_begin():
                answer.stream = await Stream(Pieces(response), heard, self._deadlines).begin()
            return answer
        try:
            answer.body = await response.aread()
        finally:
            await response.aclose()
        if answer.status == 200 and wants is not None:
            answer.stream = stream_of_body(answer.body, {**wants, **NOTHING_DROPPED}, self._deadlines)
        elif answer.status == 200:
            answer.spoken = parse_answer(answer.body)
        return answer

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
