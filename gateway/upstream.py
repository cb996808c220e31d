"""One server that is not ours: any OpenAI-compatible one, by URL, perhaps behind a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx

from gateway import probing
from gateway.adapters import bases_in
from gateway.answers import NOT_ONE, Answer, Deadlines, Stream, is_failure, stream_of_body
from gateway.bases import Bases
from gateway.breaker import Limits
from gateway.chat import Spoken, parse_answer
from gateway.configured import LOADING, Server
from gateway.errors import EngineFailed, Refusal
from gateway.forwarding import is_stream
from gateway.guard import Guard
from gateway.limits import BUSY, Gate
from gateway.loading import KEY_REFUSED, UNKNOWN, cards_of
from gateway.probing import OK, SILENT, Asked
from gateway.routing import BASE
from gateway.streaming import Heard
from gateway.wire import IDLE_SECONDS
from rl.errors import EngineUnavailable

CONNECT_SECONDS = 2.0
WRITE_SECONDS = 30.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=IDLE_SECONDS)
"""Every call that its own limits let pass has its connection at once: that server bounds what it takes, and says so.
httpx would use a connection again after up to 5 s, which is when vLLM closes it."""
MODELS = "/models"
NO_SUCH_PAGE = (400, 404, 405)
"""What servers without ``MODELS`` say of it."""
MOVED = "answers with a redirection: check its url"

NOTHING_DROPPED = dict.fromkeys(("logprobs", "return_token_ids"), True)
"""The server was asked for what the caller wants alone."""


class Failing(EngineFailed):
    """The server answered 404 or 5xx to ``who``, which is ``answer``.

    A 404 to the base model counts against no breaker: lines with other base models share the one of the server.
    """

    def __init__(self, answer: Answer, who: str) -> None:
        excerpt, why = answer.body[:200].decode("utf-8", "replace"), f"answered {answer.status}"
        super().__init__(f"{why}: {excerpt}", why, asked=who != BASE or answer.status != UNKNOWN)
        self.answer = answer


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
    """A server, its breakers and its limits. It streams where it can; where it cannot, its answer is cut up.

    ``bases`` are its base models, which matter where it loads adapters.
    """

    def __init__(self, server: Server, deadlines: Deadlines, limits: Limits) -> None:
        self.server = server
        self.guard = Guard(limits, Gate(server.most))
        self.bases = Bases(server.bases)
        self._deadlines = deadlines
        self._client = httpx.AsyncClient(
            headers={"content-type": "application/json"}
            | ({"authorization": f"Bearer {server.key}"} if server.key else {}),
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
            limits=LIMITS,
            # A transport of its own heeds no HTTP_PROXY, as ``Wire`` does not: those are servers beside ours.
            transport=httpx.AsyncHTTPTransport(limits=LIMITS) if server.kind in LOADING else None,
        )
        self._probed = Asked(self._probe)

    async def ask(self, body: bytes, wants: Mapping[str, Any] | None = None, who: str = BASE) -> Answer:
        """What the server says as ``who``; with ``wants``, the caller's request, as a stream that has begun.

        A 429 says that it is full, or that one of its limits is reached.

        Raises:
            Failing: it answered 404 or 5xx.
            EngineUnavailable: it did not answer in time, or not with a completion.
        """
        return await self.guard.ask(self.server.name, self.server.home, who, partial(self._asked, body, wants, who))

    async def _asked(self, body: bytes, wants: Mapping[str, Any] | None, who: str) -> Answer:
        heard = wants if wants is None or who != BASE else {**wants, **NOTHING_DROPPED}
        try:
            async with self._deadlines.to_end() if heard is None else self._deadlines.to_begin():
                return await self._ask(body, heard, who)
        except httpx.RequestError as error:
            raise EngineUnavailable(f"did not answer ({type(error).__name__})") from error

    async def _ask(self, body: bytes, wants: Mapping[str, Any] | None, who: str) -> Answer:
        request = self._client.build_request("POST", f"{self.server.url}/chat/completions", content=body)
        response = await self._client.send(request, stream=True)
        if response.status_code in KEY_REFUSED:  # not passed on: the caller would take its own key for the wrong one
            await response.aclose()
            raise EngineUnavailable(f"refused {self.server.key_name}")
        headers = response.headers
        media_type = headers.get("content-type", "application/json")
        answer = Answer(response.status_code, media_type, headers.get("retry-after"))
        if wants is not None and answer.status == 200 and is_stream(headers):
            answer.stream = await Stream(Pieces(response), Heard(wants), self._deadlines).begin()
            return answer
        try:
            answer.body = await response.aread()
        finally:
            await response.aclose()
        if is_failure(answer.status) and answer.status < 400:
            raise EngineUnavailable(f"answered {answer.status}, which is no completion: check its url")
        if is_failure(answer.status):
            raise Failing(answer, who)
        if answer.status == 200 and wants is not None:
            answer.stream = stream_of_body(answer.body, wants, self._deadlines)
        elif answer.status == 200:
            answer.spoken = _spoken(answer.body)
        return answer

    async def state(self) -> str:
        """``OK``, or what is wrong with the server, as of a moment ago; no completion is asked for."""
        return await self._probed.state()

    def look(self) -> None:
        """Begin to ask how it is, and which base models it has, if that was not asked a moment ago."""
        self._probed.begin()

    async def _probe(self) -> str:
        try:
            async with asyncio.timeout(probing.ANSWER_SECONDS):
                models = await self._status(f"{self.server.url}{MODELS}")
                if models not in NO_SUCH_PAGE:
                    return self._said(models)
                return self._said(await self._status(f"{self.server.home}/health"))
        except TimeoutError:
            return SILENT

    def _said(self, status: int | None) -> str:
        if status in KEY_REFUSED:
            return f"refuses the key: check {self.server.key_name}"
        if status is not None and 300 <= status < 400:
            return MOVED
        if status in NO_SUCH_PAGE:
            return "has neither /models nor /health: check its url"
        return OK if status in (200, BUSY) else SILENT

    async def _status(self, url: str) -> int | None:
        try:
            response = await self._client.get(url)
        except httpx.HTTPError:
            return None
        if response.status_code == 200 and self.server.kind in LOADING and url.endswith(MODELS):
            self.bases.heard(bases_in(cards_of(response.content)))
        return response.status_code

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _spoken(body: bytes) -> Spoken:
    try:
        return parse_answer(body)
    except Refusal as error:
        raise EngineFailed(f"{NOT_ONE} ({error.detail})", NOT_ONE) from None
