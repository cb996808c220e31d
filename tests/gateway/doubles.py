"""An engine that says what a test wants, over the real protocol; and servers on free ports."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.breaker import Breaker

PATIENCE = 120.0


@dataclass
class FakeEngine:
    """Knows ``versions``; loads what it is asked to from ``loadable``; answers 503 while it drains, or ``refusal``.

    Each answer is different: its first token is the number of the answer. ``fate`` is what becomes of one: ``silent``
    (nothing is heard), ``whole`` (not streamed, whatever was asked), and of a stream ``dumb`` (nothing after the head),
    ``fails`` and ``cut`` (an error, and the end of the connection, in the middle), ``failed`` (an error before the
    first token), and ``endless``. ``kept`` counts the callers that it keeps waiting, ``gone`` those of them that went
    away, ``probed`` the requests for its models. ``roots`` are the folders that it says it has versions from.
    """

    versions: set[str] = field(default_factory=set)
    loadable: set[str] = field(default_factory=set)
    is_draining: bool = False
    has_tokens: bool = True
    refusal: int | None = None
    key: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    loads: list[dict[str, str]] = field(default_factory=list)
    fate: str = ""
    kept: int = 0
    gone: int = 0
    roots: dict[str, str] = field(default_factory=dict)
    probed: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            ]
        )

    async def health(self, _: Request) -> JSONResponse:
        return JSONResponse({}, 503 if self.is_draining else 200)

    async def load(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.loads.append(body)
        if body["lora_path"] not in self.loadable:
            return JSONResponse({"error": {"message": "no such folder"}}, 400)
        if self.roots.get(body["lora_name"], body["lora_path"]) != body["lora_path"]:
            return JSONResponse({"error": {"message": "it is loaded from elsewhere; unload it first"}}, 400)
        self.versions.add(body["lora_name"])
        return JSONResponse({"status": "ok"})

    async def unload(self, request: Request) -> JSONResponse:
        name = (await request.json())["lora_name"]
        self.versions.discard(name)
        return JSONResponse({"status": "ok"}, 200 if self.roots.pop(name, None) else 404)

    async def models(self, request: Request) -> JSONResponse:
        self.probed += 1
        if refused := self._refused(request):
            return refused
        return JSONResponse({"data": [{"id": name, "root": root} for name, root in self.roots.items()]})

    async def complete(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if self.refusal is not None:
            return JSONResponse({"error": {"message": "no"}}, self.refusal, {"Retry-After": "9"})
        body = await request.json()
        if self.versions and body["model"] not in self.versions:
            return JSONResponse({"error": {"message": "unknown model"}}, 404)
        self.asked.append(body)
        request.state.usage = bool((body.get("stream_options") or {}).get("include_usage"))
        if self.fate == "silent":
            await self._patient(request)
        answer = self.completion(body["model"], len(self.asked))
        if body.get("stream") and self.fate != "whole":
            return StreamingResponse(self.events(request, answer), media_type="text/event-stream")
        return JSONResponse(answer)

    def _refused(self, request: Request) -> JSONResponse | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        if self.is_draining:
            return JSONResponse({"error": {"message": "draining"}}, 503, {"Retry-After": "7"})
        return None

    async def events(self, request: Request, answer: dict[str, Any]) -> AsyncIterator[bytes]:
        """The answer as an engine of ours streams it, a token in each chunk."""
        (choice,) = answer["choices"]
        tokens = choice.get("token_ids", [None] * 2)
        head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}

        def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
            one = {"index": 0, "delta": delta, "finish_reason": finish, **fields}
            return b"data: " + json.dumps(head | {"choices": [one]}).encode() + b"\n\n"

        head |= {"prompt_token_ids": answer["prompt_token_ids"]} if self.has_tokens else {}
        yield chunk({"role": "assistant", "content": ""})
        head.pop("prompt_token_ids", None)
        if self.fate == "dumb":
            await self._patient(request)
        if self.fate == "failed":
            yield b'data: {"error": {"message": "out of memory"}}\n\n'
            return
        words = choice["message"]["content"]
        for index, part in enumerate((words[:5], words[5:])):
            said: dict[str, Any] = {"token_ids": [tokens[index]]} if self.has_tokens else {}
            yield chunk({"content": part}, logprobs={"content": [choice["logprobs"]["content"][index]]}, **said)
            if self.fate == "fails":
                yield b'data: {"error": {"message": "out of memory"}}\n\n'
                return
            if self.fate == "cut":
                raise ConnectionAbortedError
            if self.fate == "endless":
                await self._patient(request)
                if self.fate:
                    return
        yield chunk({}, "stop")
        if request.state.usage:
            yield b"data: " + json.dumps(head | {"choices": [], "usage": answer["usage"]}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def _patient(self, request: Request) -> None:
        """Return when the caller is gone, or the server stops."""
        self.kept += 1
        try:
            while not await request.is_disconnected() and self.fate:
                await asyncio.sleep(0.01)
        finally:
            self.gone += 1

    def completion(self, model: str, number: int) -> dict[str, Any]:
        logprobs = [-0.25, -1.5]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": f"go to the red ball {number}", "refusal": None},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "t", "logprob": one, "top_logprobs": []} for one in logprobs]},
        }
        answer = {
            "id": f"cmpl-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        if self.has_tokens:
            answer["prompt_token_ids"] = [5, 6, 7]
            choice["token_ids"] = [number, 2]
        return answer


def pass_seconds(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on it is so much later for every circuit breaker of this process."""
    enter, wait, failed = Breaker.enter, Breaker.wait, Breaker.failed
    monkeypatch.setattr(Breaker, "enter", lambda one, now: enter(one, now + seconds))
    monkeypatch.setattr(Breaker, "wait", lambda one, now: wait(one, now + seconds))
    monkeypatch.setattr(Breaker, "failed", lambda one, permit, now: failed(one, permit, now + seconds))


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """The URL of ``app``, served in a thread of this process until the block ends; ``options`` are uvicorn's."""
    usual = {"host": "127.0.0.1", "port": 0, "log_level": "warning", "access_log": False}
    config = uvicorn.Config(app, **(usual | options))
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def startup_then_tell(*arguments: Any, **named: Any) -> None:
        await startup(*arguments, **named)
        started.set()

    server.startup = startup_then_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
