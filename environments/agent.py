"""A chat client for agents: OpenAI's chat completions, spoken to a gateway or straight to an engine.

A rollout makes thousands of small calls next to an engine that wants the same cores, so a call costs as little
here as httpx allows: no client layer (cookies, redirects, proxies), headers built once, and one transport per
connection, because httpx's own pool walks all of its connections on every request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from rl.errors import CallFailed, CallRefused, ContextExceeded, EngineUnavailable, PermanentError
from rl.records import Message

if TYPE_CHECKING:
    import httpx

FULL = 429
BUSY = frozenset({FULL, 503})
"""The server asks for patience: it is full, or it is draining."""

REFUSED = frozenset({400, 413, 422})
"""The server cannot use this request; others are answered."""

TOO_LONG = (b"context_length_exceeded", b"maximum context length")
"""How OpenAI's code, and vLLM's words, tell that a conversation is longer than the context."""

ANOTHER = "Hello"
"""What a server is asked that fails a conversation, to learn whether it fails all of them."""

ANOTHER_SECONDS = 10.0
"""For one token; a server that hangs must not take the time in which it can be called away."""
CONNECT_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0


class ChatClient:
    """Sends chat completions as one agent. Use it as an async context manager, in one event loop.

    ``base_url`` is OpenAI's: ``http://host:port/v1``; ``/v1`` is added when there is no path. A busy server
    (429, 503) is asked again after its ``Retry-After`` for at most ``patience_seconds``; a server that cannot
    be reached, or that fails, for at most ``outage_seconds``. ``timeout_seconds`` bounds the wait for one reply.

    In the second half of that time a server that was not full lately is asked something else: one that answers that,
    and fails the conversation once more, is not away. Nobody records what it says then.

    A server that is not ours is told nothing but the conversation: without ``names`` no ids are sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        model: str,
        temperature: float,
        max_tokens: int,
        agent_id: str,
        *,
        patience_seconds: float = 120.0,
        outage_seconds: float = 5.0,
        timeout_seconds: float = 120.0,
        names: bool = True,
    ) -> None:
        import httpx

        path = urlsplit(base_url).path.rstrip("/") or "/v1"
        self._url = httpx.URL(base_url).copy_with(path=f"{path}/chat/completions")
        self._request = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._headers = {"Content-Type": "application/json", "User-Agent": "rlfleet"}
        self._headers |= {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Who plays reads the calls back as soon as the episode is over.
        self._ours = {"X-Agent-Id": agent_id, "X-Capture": "committed"} if names else None
        limits = {"connect": CONNECT_SECONDS, "read": timeout_seconds, "write": timeout_seconds, "pool": None}
        self._extensions = {"timeout": limits}
        self._patience_seconds = patience_seconds
        self._outage_seconds = outage_seconds
        self._ssl = httpx.create_ssl_context() if self._url.scheme == "https" else False
        self._idle: list[httpx.AsyncHTTPTransport] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def complete(
        self, messages: Sequence[Message], *, trajectory_id: str, turn: int, call_id: str, seed: int | None = None
    ) -> str:
        """The content of the model's reply; empty where it has none.

        Raises as ``reply`` does.
        """
        said = await self.reply(messages, trajectory_id=trajectory_id, turn=turn, call_id=call_id, seed=seed)
        return said.content or ""

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        trajectory_id: str,
        turn: int,
        call_id: str,
        seed: int | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Message:
        """The model's reply, with the functions that it calls where it was offered ``tools``.

        Every attempt carries the same ``call_id``, so that a gateway records the call once.

        Raises:
            EngineUnavailable: no reply within the bounds, or the engine has let the model go meanwhile.
            ContextExceeded: the conversation is longer than the engine's context.
            CallRefused: the server refuses this conversation, or answers it with something other than a completion.
            CallFailed: it fails this conversation while it answers another.
            PermanentError: the server refuses every request.
        """
        headers = self._about({"X-Trajectory-Id": trajectory_id, "X-Turn": str(turn), "X-Call-Id": call_id})
        body: dict[str, Any] = {**self._request, "messages": [m.model_dump(exclude_none=True) for m in messages]}
        if seed is not None:
            body["seed"] = seed
        if tools:
            body["tools"] = list(tools)
        return _reply(await self._said(headers, body), str(self._url))

    async def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """The whole message that the model answers with, reasoning and tool calls too. Nothing records it.

        Raises as ``complete`` does.
        """
        asked = {"messages": list(messages), "tools": tools or None, "seed": seed}
        return await self._said(
            self._about({}), self._request | {name: value for name, value in asked.items() if value is not None}
        )

    def _about(self, names: Mapping[str, str]) -> dict[str, str]:
        """The headers of a request, with its ``names`` for a server of ours."""
        return self._headers if self._ours is None else self._headers | self._ours | dict(names)

    async def _said(self, headers: dict[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """The message of the completion. Half of a surrogate pair, which no server reads, is sent as ``?``."""
        text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        status, answer = await self._persist(headers, text)
        if status == 404 and b"model_not_found" in answer:
            raise EngineUnavailable(f"{self._url} does not serve {self._request['model']}: {_explain(answer)}")
        if status in REFUSED and any(words in answer for words in TOO_LONG):
            raise ContextExceeded("messages", len(body["messages"]), _explain(answer))
        if status != 200:
            kind = CallRefused if status in REFUSED else PermanentError
            raise kind(f"{self._url} refused the call with {status}: {_explain(answer)}")
        return _message(answer, str(self._url))

    async def _persist(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of the first answer that is not a busy or a failing server's."""
        started = heard = full = time.monotonic()
        backoff, bound, is_late = FIRST_BACKOFF_SECONDS, self._patience_seconds, False
        while True:
            if not is_late or await self._answers_another(bound / 2):
                status, wait, answer = await self._attempt(headers, body)
                if not _fails(status):
                    return status, answer
                if is_late and status != FULL:
                    raise CallFailed(f"{self._url} {_said(status, answer)}, and answers another conversation")
            now = time.monotonic()
            if status in BUSY:
                heard, bound = now, self._patience_seconds
                remaining = started + bound - now
            else:
                bound = self._outage_seconds
                remaining = heard + bound - now
            full = now if status == FULL else full
            wait = wait or backoff
            # What is known of a server that was full until just now, or that names a time beyond the patience, is not
            # that it fails this conversation.
            is_over, was_late, is_late = wait > remaining, is_late, now - full >= bound / 2
            if is_over and (was_late or not is_late):
                raise EngineUnavailable(f"{self._url} {_said(status, answer)} (given up after {now - started:.1f} s)")
            await asyncio.sleep(0 if is_over else wait)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    async def _answers_another(self, seconds: float) -> bool:
        """Whether the server completes a conversation that is none of ours within ``seconds``, at most ten."""
        asked = self._request | {"messages": [{"role": "user", "content": ANOTHER}], "max_tokens": 1}
        whose = (self._ours or {}).get("X-Agent-Id")
        headers = self._about({"X-Consent": "false", "X-Trajectory-Id": f"{whose}/another"})
        try:
            async with asyncio.timeout(min(seconds, ANOTHER_SECONDS)):
                status, _, _ = await self._attempt(headers, json.dumps(asked).encode())
        except TimeoutError:
            return False
        return status == 200

    async def _attempt(self, headers: dict[str, str], body: bytes) -> tuple[int, float, bytes]:
        """Status (0 when nothing answered), the seconds that the server asks to wait, and the body."""
        import httpx

        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions=self._extensions)
        transport = self._idle.pop() if self._idle else self._connect()
        try:
            response = await transport.handle_async_request(request)
            return response.status_code, _retry_after(response), await response.aread()
        except httpx.TransportError as error:
            return 0, 0.0, f"{type(error).__name__} {error}".strip().encode()
        finally:
            self._idle.append(transport)

    def _connect(self) -> httpx.AsyncHTTPTransport:
        import httpx

        one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        return httpx.AsyncHTTPTransport(verify=self._ssl, limits=one, trust_env=False)


def _retry_after(response: httpx.Response) -> float:
    """Seconds of the ``Retry-After`` header; 0 where it is missing or a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _fails(status: int) -> bool:
    """Whether the answer is a busy or a failing server's, or none."""
    return status == 0 or status in BUSY or status >= 500


def _said(status: int, answer: bytes) -> str:
    return f"answers {status}: {_explain(answer)}" if status else f"does not answer: {_explain(answer)}"


def _explain(answer: bytes) -> str:
    """The server's own words: OpenAI's ``error.message``, FastAPI's ``detail``, or the start of the body."""
    try:
        parsed = json.loads(answer)
        error = parsed.get("error", parsed.get("detail"))
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, AttributeError, KeyError):
        return answer[:200].decode(errors="replace")


def _message(answer: bytes, url: str) -> dict[str, Any]:
    """The completion's message.

    Raises:
        CallRefused: it is none. One answer may be broken where the others are not.
    """
    try:
        return dict(json.loads(answer)["choices"][0]["message"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CallRefused(
            f"{url} answered 200 with something other than a chat completion: {answer[:120]!r}; "
            "point base_url at an OpenAI-compatible server"
        ) from error


def _reply(said: Mapping[str, Any], url: str) -> Message:
    """The assistant's message, without what is not known here.

    Raises:
        CallRefused: it is no message of a chat.
    """
    known = {name: said.get(name) or None for name in ("content", "reasoning_content", "tool_calls")}
    try:
        return Message.model_validate({"role": "assistant"} | known)
    except ValidationError as error:
        raise CallRefused(f"{url} answered with what is no message: {error.errors()[0]['loc']}") from error
