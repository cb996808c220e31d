"""The gateway's HTTP surface: ``uvicorn gateway.app:app --no-access-log``. Handlers are functions of a request.

FastAPI's parameter and response models are left out on purpose: a fleet's own rollouts send thousands of calls
a minute through here, and each is parsed once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from db.releases import LineReleases
from gateway import access
from gateway.completions import Completions
from gateway.errors import openai_error, unknown_model
from gateway.health import health, readiness
from gateway.reports import Reports
from gateway.routing import of_version
from gateway.settings import GatewaySettings, settings
from rl.errors import DatabaseUnavailable

REPORTS = {
    "/v1/trajectories": ("startTrajectory", ""),
    "/v1/trajectories/{id:path}/steps": ("recordStep", "trajectoryId"),
    "/v1/trajectories/{id:path}/end": ("endTrajectory", "trajectoryId"),
    "/v1/trajectories/{id:path}/feedback": ("feedback", "trajectoryId"),
    "/v1/calls/{id:path}/feedback": ("feedback", "callId"),
}
"""Single events by path: their type, and what the id in the path is called. Ids may hold slashes."""


def create_app(given: GatewaySettings | None = None) -> FastAPI:
    """The application. Settings are read when it starts, not when it is made; ``given`` replaces them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = given.checked() if given else settings()
        app.state.completions = completions = Completions(chosen)
        app.state.reports = reports = Reports(chosen, completions.redactor)
        try:
            yield
        finally:
            await reports.close()
            await completions.close()

    app = FastAPI(title="rlfleet gateway", lifespan=lifespan, openapi_url=None)
    app.add_route("/health", show_health, methods=["GET"])
    app.add_route("/ready", show_readiness, methods=["GET"])
    app.add_route("/live", show_life, methods=["GET"])
    app.add_route("/v1/models", list_models, methods=["GET"])
    app.add_route("/v1/models/{id:path}", show_model, methods=["GET"])
    app.add_route("/v1/chat/completions", complete_chat, methods=["POST"])
    app.add_route("/v1/ingest", ingest, methods=["POST"])
    for path, (kind, name) in REPORTS.items():
        app.add_route(path, _taking(kind, name), methods=["POST"])
    for error in (HTTPException, DatabaseUnavailable, Exception):
        app.add_exception_handler(error, openai_error)
    app.add_middleware(access.NoPages)
    return app


async def show_health(request: Request) -> JSONResponse:
    """200 when the database and an engine answer and a line can be, else 503; the body has details. Needs no key."""
    state = await health(_completions(request))
    return JSONResponse(state.body(), 200 if state.is_good else 503)


async def show_readiness(request: Request) -> JSONResponse:
    """200 when calls can be answered, also from what was last known (``degraded``), else 503. Needs no key."""
    state = await readiness(_completions(request))
    return JSONResponse(state.body(), 200 if state.is_good else 503)


async def show_life(_: Request) -> JSONResponse:
    """200 for as long as the process serves at all: whoever restarts it on anything less only makes it worse."""
    return JSONResponse({"status": "ok"})


async def list_models(request: Request) -> JSONResponse:
    """Lines with their live releases, then the versions that these name."""
    completions = _completions(request)
    access.check(request, completions.keys)
    lines = (await completions.catalog.snapshot()).lines.values()
    versions = sorted({release.version for line in lines for release in line.releases})
    models = [_line_model(line) for line in lines] + [_model(version) for version in versions]
    return JSONResponse({"object": "list", "data": models})


async def show_model(request: Request) -> JSONResponse:
    """A line, or a version that may be asked by its name.

    Raises:
        Refusal: 404.
    """
    completions, name = _completions(request), request.path_params["id"]
    access.check(request, completions.keys)
    if (line := (await completions.catalog.snapshot()).lines.get(name)) is not None:
        return JSONResponse(_line_model(line))
    if (version := await completions.catalog.version(name)) is None:
        raise unknown_model(name, "GET /v1/models lists those that are released")
    return JSONResponse(_model(of_version(version).version))


async def complete_chat(request: Request) -> Response:
    """A chat completion by the version that the line's releases choose, recorded before it is given."""
    return await _completions(request).reply(request)


async def ingest(request: Request) -> JSONResponse:
    """What agents report: many events at once; see ``docs/ingest.md``."""
    return await _reports(request).ingest(request)


def _taking(kind: str, name: str) -> Callable[[Request], Awaitable[JSONResponse]]:
    """A handler of single events of that kind; ``name`` is what the id in its path is called."""

    async def take(request: Request) -> JSONResponse:
        named = {name: request.path_params["id"]} if name else {}
        return await _reports(request).one(request, kind, named)

    return take


def _reports(request: Request) -> Reports:
    reports: Reports = request.app.state.reports
    return reports


def _completions(request: Request) -> Completions:
    completions: Completions = request.app.state.completions
    return completions


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rlfleet"}


def _line_model(line: LineReleases) -> dict[str, Any]:
    live = [{"stage": one.stage, "share": one.share, "version": one.version} for one in line.releases]
    pinned = line.pinned and line.pinned.name
    return _model(line.line) | {"releases": live, "killed": line.killed, "pinned": pinned}


app = create_app()
