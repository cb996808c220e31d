"""Asking an engine of ours, or the base model's server, for one completion."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from db.engines import Address
from gateway.errors import unavailable
from gateway.settings import GatewaySettings
from rl.errors import EngineUnavailable

TIMEOUT = {"connect": 2.0, "read": 600.0, "write": 30.0, "pool": 600.0}
"""Seconds. A long generation is an answer under way; only connecting must be quick."""

HEALTH_SECONDS = 2.0

KEY_REFUSED = (401, 403)
"""Not passed on: the caller would take its own key for the wrong one."""

EXTENSIONS = {"timeout": TIMEOUT}

ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=3.0)
"""One that was idle for longer is not used again: vLLM closes it after 5 s (our engine after 75), under a request."""

LOST = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: its status, body, type and ``Retry-After``, as they are passed on."""

    status: int
    body: bytes
    media_type: str
    retry_after: str | None


class Engines:
    """The engines of ours.

    A call takes an idle transport of one connection, or makes one. A shared pool looks at each of its connections
    for each call: with 64 under way that alone was more than half of the gateway's work.
    """

    def __init__(self, key: str) -> None:
        self._tls = ssl.create_default_context()
        self._idle: dict[str, list[httpx.AsyncHTTPTransport]] = {}
        self._headers = [("content-type", "application/json")]
        if key:
            self._headers.append(("authorization", f"Bearer {key}"))
        self._loading: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def complete(self, engines: Sequence[Address], version: str, uri: str, body: bytes) -> Answer:
        """The answer of the first engine, newest first, that can give one; it may be a 4xx of the request's own.

        ``engines`` are all there are: connections to any other are closed.

        Raises:
            EngineUnavailable: none can; says of each why.
        """
        await self._forget_all_but({engine.url for engine in engines})
        reasons = []
        for engine in engines:
            try:
                return await self._complete(engine.url, version, uri, body)
            except EngineUnavailable as error:
                reasons.append(f"{engine.name}: {error}")
        raise EngineUnavailable("; ".join(reasons) or "no engine has announced itself; start a GPU worker")

    async def _complete(self, url: str, version: str, uri: str, body: bytes) -> Answer:
        answer = await self._send("POST", url, "/v1/chat/completions", body)
        if answer.status == 404:
            await self._load(url, version, uri)
            answer = await self._send("POST", url, "/v1/chat/completions", body)
        if answer.status in KEY_REFUSED:
            raise EngineUnavailable(f"answered {answer.status}: RLFLEET_ENGINE_KEY is not the engine's")
        if answer.status == 404 or answer.status >= 500:
            raise EngineUnavailable(f"answered {answer.status}: {_excerpt(answer.body)}")
        return answer

    async def _load(self, url: str, version: str, uri: str) -> None:
        """Have the engine load the version, once however many calls are waiting for it."""
        key = (url, version)
        if key not in self._loading:
            self._loading[key] = asyncio.ensure_future(self._post_load(url, version, uri))
            self._loading[key].add_done_callback(lambda _: self._loading.pop(key))
        await asyncio.shield(self._loading[key])

    async def _post_load(self, url: str, version: str, uri: str) -> None:
        body = json.dumps({"lora_name": version, "lora_path": uri}).encode()
        answer = await self._send("POST", url, "/v1/load_lora_adapter", body)
        if answer.status >= 400 and b"already" not in answer.body:
            raise EngineUnavailable(f"cannot load {version} from {uri} ({answer.status}): {_excerpt(answer.body)}")

    async def answers(self, engine: Address) -> bool:
        """Whether the engine's ``/health`` says 200 within ``HEALTH_SECONDS``."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                return (await self._send("GET", engine.url, "/health", b"")).status == 200
        except (EngineUnavailable, TimeoutError):
            return False

    async def _send(self, method: str, url: str, path: str, body: bytes) -> Answer:
        request = httpx.Request(method, url + path, headers=self._headers, content=body, extensions=EXTENSIONS)
        idle = self._idle.setdefault(url, [])
        transport = idle.pop() if idle else httpx.AsyncHTTPTransport(self._tls, limits=ONE_CONNECTION, retries=1)
        try:
            response = await transport.handle_async_request(request)
            content = await response.aread()
        except LOST as error:
            raise EngineUnavailable(f"did not answer ({type(error).__name__})") from error
        except httpx.TimeoutException as error:
            raise EngineUnavailable(f"took too long ({type(error).__name__})") from error
        finally:
            if self._idle.get(url) is idle:
                idle.append(transport)
            else:
                await transport.aclose()
        return _answer(response, content)

    async def _forget_all_but(self, urls: set[str]) -> None:
        """Close the connections to engines that are elsewhere now: a restarted engine has another port."""
        for url in self._idle.keys() - urls:
            for transport in self._idle.pop(url, []):
                await transport.aclose()

    async def close(self) -> None:
        """Close every connection."""
        await self._forget_all_but(set())


class Upstream:
    """The base model's server, if one is configured."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.url, self.model = settings.upstream_base_url.rstrip("/"), settings.upstream_model
        key = settings.upstream_api_key
        self._client = httpx.AsyncClient(
            headers={"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(**TIMEOUT),
        )

    async def complete(self, body: bytes) -> Answer:
        """The base model's answer.

        Raises:
            Refusal: 503, its server did not answer.
        """
        try:
            response = await self._client.post(f"{self.url}/chat/completions", content=body)
        except httpx.TransportError as error:
            raise unavailable(
                "upstream_unavailable", f"UPSTREAM_BASE_URL did not answer ({type(error).__name__})"
            ) from error
        if response.status_code in KEY_REFUSED:
            raise unavailable("upstream_unavailable", "the server at UPSTREAM_BASE_URL refused UPSTREAM_API_KEY")
        return _answer(response, response.content)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _answer(response: httpx.Response, content: bytes) -> Answer:
    headers = response.headers
    media_type = headers.get("content-type", "application/json")
    return Answer(response.status_code, content, media_type, headers.get("retry-after"))


def _excerpt(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
