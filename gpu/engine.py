"""The engine: an OpenAI-compatible server over the versions of one device.

``GET /health``, ``GET /v1/models``, ``POST /v1/chat/completions`` and vLLM's ``/v1/load_lora_adapter`` and
``/v1/unload_lora_adapter``, whose path may be a folder of full weights too. Errors have OpenAI's shape. The
handlers are plain Starlette: on a small model the framework costs more than the tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from gpu import chat
from gpu.generate import Completion, Request
from gpu.policy import Policy, Version
from gpu.scheduler import Scheduler
from gpu.settings import checked
from rl.errors import EngineUnavailable, InvalidInput, RlfleetError

log = logging.getLogger(__name__)

RETRY_SECONDS = "1"
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
                Route("/health", self.health),
            ]
        )

    async def health(self, request: HttpRequest) -> Response:
        """Whether the engine lives, what it serves and how long its queue is."""
        state = {"status": "ok", "device": str(self.policy.device), "versions": self.policy.names()}
        return _json({**state, "waiting": self.scheduler.waiting})

    async def models(self, request: HttpRequest) -> Response:
        """The versions, in OpenAI's list."""
        versions = [version for name in self.policy.names() if (version := self.policy.version(name))]
        return _json({"object": "list", "data": [_model(version) for version in versions]})

    async def complete(self, request: HttpRequest) -> Response:
        """One chat completion."""
        asked = chat.parse(await request.body())
        version = self.policy.version(asked.model)
        if version is None:
            return _error(404, f"The model `{asked.model}` does not exist.", "NotFoundError", "model_not_found")
        text, planned = chat.plan(asked, version)
        done = await self._decode(version, planned)
        number = f"{next(self._numbers):08x}"
        body = chat.response(number, asked.model, version.tokens, text, planned.prompt, done)
        return Response(body, media_type="application/json")

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

    async def _decode(self, version: Version, planned: Request) -> Completion:
        """Hand the request to the decoding thread and wait."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()

        def finished(result: Completion | Exception) -> None:
            # The server may be gone by the time the last rows finish.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, result)

        self.scheduler.submit(
            version, Request(planned.prompt, planned.max_tokens, planned.temperature, planned.seed, finished)
        )
        return await answer

    def _guarded(self, handler: Handler) -> Handler:
        """The handler behind the key, with the errors it may raise as responses."""

        async def guarded(request: HttpRequest) -> Response:
            if self._key and not hmac.compare_digest(_bearer(request), self._key):
                return _error(401, "Incorrect API key provided.", "AuthenticationError", "invalid_api_key")
            try:
                return await handler(request)
            except InvalidInput as error:
                return _error(400, str(error), "BadRequestError", None, error.field)
            except EngineUnavailable as error:
                return _error(429, str(error), "RateLimitError", "queue_full")
            except RlfleetError as error:
                return _error(503, str(error), type(error).__name__, None)
            except Exception:
                log.exception("%s failed", request.url.path)
                return _error(500, "The engine failed; its log says why.", "InternalServerError", None)

        return guarded


class EngineServer:
    """An engine on a loopback port of its own, in a thread. ``start`` returns once it accepts connections.

    Raises:
        StartError: no ``key`` is given, and in production ``RLFLEET_ENGINE_KEY`` is not set.
    """

    def __init__(self, policy: Policy, key: str | None = None, max_waiting: int = 1024) -> None:
        self.scheduler = Scheduler(policy, max_waiting)
        app = Engine(policy, self.scheduler, key or checked().engine_key).app()
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
        self._socket = _listening()
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


def _listening() -> socket.socket:
    """A listening loopback socket that names its protocol.

    asyncio turns Nagle's algorithm off only on sockets that say they are TCP, and what is accepted says what
    the listener says; without it every answer waits 40 ms for the client's delayed acknowledgement.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    return listener


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
