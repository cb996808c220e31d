"""A chat completion as server-sent events, while it is being spoken."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gpu.chat import Turn
from gpu.detokenize import Detokenizer
from gpu.generate import Completion, Request
from rl.errors import RlfleetError

CHUNK = "chat.completion.chunk"
END = b"data: [DONE]\n\n"


class Spoken:
    """What the decoding thread says about one request, for a coroutine to read as it comes."""

    def __init__(self, request: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[tuple[int, float] | Completion | Exception] = asyncio.Queue()
        self._stop = request.heard
        self.request = replace(request, heard=self._heard, finished=self._put)

    async def more(self) -> tuple[list[tuple[int, float]], Completion | Exception | None]:
        """The tokens since the last call, at least one unless it is over, and how it ended once it has."""
        tokens: list[tuple[int, float]] = []
        while not tokens or not self._said.empty():
            said = await self._said.get()
            if not isinstance(said, tuple):
                return tokens, said
            tokens.append(said)
        return tokens, None

    def _heard(self, token: int, logprob: float) -> bool:
        self._put((token, logprob))
        return self._stop is not None and self._stop(token, logprob)

    def _put(self, said: tuple[int, float] | Completion | Exception) -> None:
        # The server may be gone by the time the last rows finish.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._said.put_nowait, said)


class Shown:
    """How much of the reasoning and of the content the caller has."""

    def __init__(self) -> None:
        self._characters = {"reasoning_content": 0, "content": 0}

    def more(self, reasoning: str | None, content: str | None) -> dict[str, Any]:
        """What is new of each, as a delta; that counts as shown."""
        delta = {}
        for name, text in (("reasoning_content", reasoning), ("content", content)):
            if text is not None and len(text) > self._characters[name]:
                delta[name] = text[self._characters[name] :]
                self._characters[name] = len(text)
        return delta


class EventStream(StreamingResponse):
    """The events of a turn. However the response ends, the request gives up its slot."""

    def __init__(self, turn: Turn, spoken: Spoken) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events(turn, spoken), headers=headers, media_type="text/event-stream")
        self._cancelled = spoken.request.cancelled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._cancelled.set()


async def events(turn: Turn, spoken: Spoken) -> AsyncIterator[bytes]:
    """OpenAI's chunks, each token with its id and log-probability in one of them.

    Text that may be a stop sequence, a tool call or the end of reasoning is held until that is known, so a chunk's
    text may lag behind its tokens. Content and reasoning of all chunks together are those of the response that is not
    streamed. An error on the way is an event of its own, and the last.
    """
    text, shown = Detokenizer(turn.version.tokens.decode), Shown()
    usage = {"usage": None} if _counts(turn) else {}
    start = _chunk(turn, {"role": "assistant", "content": ""})
    yield _event(start | {"prompt_token_ids": turn.request.prompt} | usage)
    end: Completion | Exception | None = None
    while end is None:
        tokens, end = await spoken.more()
        text.push(token for token, _ in tokens)
        if tokens:
            parts = turn.said_so_far(text.text)
            delta = shown.more(parts.reasoning, parts.content) or {"content": ""}
            yield _event(_chunk(turn, delta, tokens) | usage)
    if isinstance(end, Exception):
        yield _event({"error": _failure(end)})
        return
    yield _event(_last(turn, end, shown) | usage)
    if usage:
        yield _event(turn.envelope(CHUNK, []) | {"usage": turn.usage(end)})
    yield END


def _last(turn: Turn, done: Completion, shown: Shown) -> dict[str, Any]:
    """The chunk with what was held: the rest of the content, the tool calls, and why the answer ended."""
    said = turn.said(done)
    delta: dict[str, Any] = shown.more(said.reasoning, said.content)
    if said.tool_calls:
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(said.tool_calls)]
    chunk = _chunk(turn, delta)
    chunk["choices"][0] |= {"finish_reason": said.finish_reason, "stop_reason": said.stop_reason}
    return chunk


def _chunk(turn: Turn, delta: dict[str, Any], tokens: Sequence[tuple[int, float]] = ()) -> dict[str, Any]:
    ids = [token for token, _ in tokens]
    logprobs = turn.logprobs(ids, [logprob for _, logprob in tokens]) if tokens else None
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None, "token_ids": ids}
    return turn.envelope(CHUNK, [choice])


def _counts(turn: Turn) -> bool:
    options = turn.asked.stream_options
    return bool(options and options.include_usage)


def _failure(error: Exception) -> dict[str, Any]:
    """The error in OpenAI's shape; what nobody foresaw stays in the log."""
    known = isinstance(error, RlfleetError)
    message = str(error) if known else "The engine failed; its log says why."
    kind = type(error).__name__ if known else "InternalServerError"
    return {"message": message, "type": kind, "param": None, "code": None}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
