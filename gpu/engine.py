"""The engine: an OpenAI-compatible server over the versions of one device.

``GET /health``, ``GET /v1/models``, ``POST /v1/chat/completions`` and vLLM's ``/v1/load_lora_adapter`` and
``/v1/unload_lora_adapter``, whose path may be a folder of full weights too. Errors have OpenAI's shape. The
handlers are plain Starlette: on a small model the framework costs more than the tokens.

``python -m gpu.engine --base FOLDER`` serves one folder alone, with no fleet around it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import itertools
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from gpu import chat
from gpu.device import torch_device
from gpu.generate import Completion, Request
from gpu.policy import Policy, Version
from gpu.scheduler import Scheduler
from gpu.settings import checked
from gpu.stream import EventStream, Spoken
from rl.errors import Cancelled, ContextExceeded, EngineUnavailable, InvalidInput, RlfleetError, StartError
from rl.local_requests import strange_header

log = logging.getLogger(__name__)

RETRY_SECONDS = "1"
NO_PAGES = "without a key only programs on this machine are served, as 127.0.0.1; set RLFLEET_ENGINE_KEY"
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections: whoever closes second loses a request to a closed socket."""

Handler = Callable[[HttpRequest], Awaitable[Response]]


class Engine:
    """The routes over one policy and its scheduler. With a ``key``, all but health ask for it as a bearer token."""

    def __init__(self, policy: Policy, scheduler: Scheduler, key: str | None = None) -> None:
        self.policy = policy
        self.scheduler = scheduler
        self._key = key.encode() if key else None
        self._numbers = itertools.count(1)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._guarded(self.complete), methods=["POST"]),
                Route("/v1/models", self._guarded(self.models)),
                Route("/v1/load_lora_adapter", self._guarded(self.load), methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._guarded(self.unload), methods=["POST"]),
                Route("/health", self._guarded(self.health, is_open=True)),
            ]
        )

    async def health(self, request: HttpRequest) -> Response:
        """Whether the engine lives, what it serves and how long its queue is."""
        state = {"status": "ok", "device": str(self.policy.device), "versions": self.policy.names()}
        return _json({**state, "running": self.scheduler.running, "waiting": self.scheduler.waiting})

    async def models(self, request: HttpRequest) -> Response:
        """The versions, in OpenAI's list."""
        versions = [version for name in self.policy.names() if (version := self.policy.version(name))]
        return _json({"object": "list", "data": [_model(version) for version in versions]})

    async def complete(self, request: HttpRequest) -> Response:
        """One chat completion, whole or as a stream."""
        asked = chat.parse(await request.body())
        version = self.policy.version(asked.model)
        if version is None:
            return _error(404, f"The model `{asked.model}` does not exist.", "NotFoundError", "model_not_found")
        turn = chat.plan(asked, version, f"{next(self._numbers):08x}")
        if asked.stream:
            spoken = Spoken(turn.request)
            self.scheduler.submit(version, spoken.request)
            return EventStream(turn, spoken)
        done = await self._decode(request, version, turn.request)
        return Response(chat.response(turn, done), media_type="application/json")

    async def load(self, request: HttpRequest) -> Response:
        """Serve a folder: ``{"lora_name", "lora_path"}``, and ``base_path`` where the adapter's base was moved."""
        name, path, base = _loading(await request.body())
        await asyncio.to_thread(self.policy.load, name, path, base)
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: HttpRequest) -> Response:
        """Stop serving ``{"lora_name"}``."""
        name, _, _ = _loading(await request.body(), path_needed=False)
        if not await asyncio.to_thread(self.policy.unload, name):
            return _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError", "model_not_found")
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _decode(self, asking: HttpRequest, version: Version, planned: Request) -> Completion:
        """Hand the request to the decoding thread and wait, as long as the client does."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()

        def finished(result: Completion | Exception) -> None:
            # The server may be gone by the time the last rows finish.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, result)

        self.scheduler.submit(version, replace(planned, finished=finished))
        leaving = asyncio.create_task(_disconnected(asking))
        leaving.add_done_callback(lambda _: _settle(answer, Cancelled("the client is gone")))
        try:
            return await answer
        finally:
            planned.cancelled.set()
            leaving.cancel()

    def _guarded(self, handler: Handler, *, is_open: bool = False) -> Handler:
        """The handler behind the key, unless it ``is_open``, with the errors it may raise as responses."""

        async def guarded(request: HttpRequest) -> Response:
            if refused := self._refused(request, is_open):
                return refused
            try:
                return await handler(request)
            except InvalidInput as error:
                code = "context_length_exceeded" if isinstance(error, ContextExceeded) else None
                return _error(400, str(error), "BadRequestError", code, error.field)
            except EngineUnavailable as error:
                return _error(429, str(error), "RateLimitError", "queue_full")
            except RlfleetError as error:
                return _error(503, str(error), type(error).__name__, None)
            except Exception:
                log.exception("%s failed", request.url.path)
                return _error(500, "The engine failed; its log says why.", "InternalServerError", None)

        return guarded

    def _refused(self, request: HttpRequest, is_open: bool) -> Response | None:
        """The answer to who may not ask: without a key web pages, which reach loopback and may load any folder."""
        if not self._key:
            why = strange_header(request.headers)
            return _error(403, f"{why}: {NO_PAGES}", "PermissionDeniedError", "not_local") if why else None
        if is_open or hmac.compare_digest(_bearer(request), self._key):
            return None
        return _error(401, "Incorrect API key provided.", "AuthenticationError", "invalid_api_key")


class EngineServer:
    """An engine on a loopback port, in a thread; ``port`` 0 takes a free one.

    ``max_waiting`` is how many requests may wait, by default what ``RLFLEET_ENGINE_QUEUE`` says.

    Raises:
        StartError: no ``key`` is given, and in production ``RLFLEET_ENGINE_KEY`` is not set; or the port is taken.
    """

    def __init__(self, policy: Policy, key: str | None = None, max_waiting: int | None = None, port: int = 0) -> None:
        here = checked()
        self.scheduler = Scheduler(policy, max_waiting or here.engine_queue)
        app = Engine(policy, self.scheduler, key or here.engine_key).app()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._socket = _listening(port)
        self._thread = threading.Thread(
            target=partial(self._server.run, sockets=[self._socket]), name="engine", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it serves; add ``/v1`` for an OpenAI client."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def start(self) -> str:
        """Serve, and return the URL. The socket listens already, so a caller that connects now only waits."""
        self.scheduler.start()
        self._thread.start()
        return self.url

    def stop(self) -> None:
        """Finish the requests that are being answered, then close the port."""
        self._server.should_exit = True
        if self._thread.ident:
            self._thread.join()
        self.scheduler.stop()
        self._socket.close()


def _listening(port: int) -> socket.socket:
    """A listening loopback socket that names its protocol.

    asyncio turns Nagle's algorithm off only on sockets that say they are TCP, and what is accepted says what
    the listener says; without it every answer waits 40 ms for the client's delayed acknowledgement.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(f"port = {port}: {error}; name a free port, or 0 for any") from error
    listener.listen(2048)
    return listener


async def _disconnected(request: HttpRequest) -> None:
    """Return when the client is gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _settle(answer: asyncio.Future[Completion], result: Completion | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _loading(body: bytes, path_needed: bool = True) -> tuple[str, str, str | None]:
    """Name, path and base of a load or unload request."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise InvalidInput("body", body[:100], "send a JSON object") from error
    if not isinstance(fields, dict):
        raise InvalidInput("body", fields, "send a JSON object")
    for name in ("lora_name", "lora_path") if path_needed else ("lora_name",):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise InvalidInput(name, fields.get(name), "send a non-empty string")
    return fields["lora_name"], str(fields.get("lora_path", "")), fields.get("base_path")


def _bearer(request: HttpRequest) -> bytes:
    return request.headers.get("authorization", "").removeprefix("Bearer ").encode()


def _model(version: Version) -> dict[str, object]:
    parent = version.base.path if version.kind == "adapter" else None
    return {"id": version.name, "object": "model", "owned_by": "rlfleet", "root": version.path, "parent": parent}


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content).encode(), status, headers, media_type="application/json")


def _error(status: int, message: str, kind: str, code: str | None, param: str | None = None) -> Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return _json(body, status, {"Retry-After": RETRY_SECONDS} if status in (429, 503) else None)


def main() -> None:
    """The command line: serve one folder until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m gpu.engine", description="An OpenAI-compatible server.")
    parser.add_argument("--base", type=Path, required=True, help="folder of full weights, or of an adapter")
    parser.add_argument("--name", help="what requests call it; the folder's name if left out")
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0 takes a free one")
    parser.add_argument("--device", default="cpu", help="cpu, or a CUDA device such as cuda:0")
    args = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.set())
    try:
        torch.set_num_threads(checked().torch_threads)
        policy = Policy(torch_device(args.device))
        policy.load(args.name or args.base.resolve().name, str(args.base))
        server = EngineServer(policy, port=args.port)
    except RlfleetError as error:
        sys.exit(f"gpu.engine: {error}")
    sys.stdout.write(f"{server.start()}/v1\n")
    sys.stdout.flush()
    stopping.wait()
    server.stop()


if __name__ == "__main__":
    main()
