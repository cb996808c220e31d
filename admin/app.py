"""The admin server, started by ``python -m admin``. Handlers are plain functions in threads that wait for the database.

``uvicorn admin.app:app`` alone believes whatever a caller on this machine says in ``X-Forwarded-For``; ``python -m
admin`` believes only the proxies in ``RLFLEET_ADMIN_PROXY``, and the limits rest on that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from admin import errors
from admin.access import COOKIE, Guard, forgets_cookie, is_secure, shows_token, unauthorized
from admin.api import ROUTERS
from admin.bodies import BodyLimit
from admin.pages import PAGES, page_error
from admin.settings import AdminSettings, settings
from db.session import limit_pool_wait
from rl.errors import RlfleetError

STATIC = Path(__file__).parent / "static"
API = "/api/admin"
POOL_SECONDS = 3.0
"""How long a request waits for a connection to the database; then it is answered with 503."""
DOCUMENT = f"{API}/openapi.json"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'none'; object-src 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Of every answer but static files, which may be kept: no page asks another machine for anything, or is framed."""


def create_app(given: AdminSettings | None = None) -> FastAPI:
    """The application. Settings are read when it starts, not when it is made; ``given`` replaces them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.settings = chosen = given.checked() if given else settings()
        app.state.guard = Guard(chosen.requests_per_second)
        limit_pool_wait(POOL_SECONDS)
        yield

    app = FastAPI(
        title="rlfleet admin",
        version="1",
        lifespan=lifespan,
        openapi_url=DOCUMENT,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    for page in PAGES:
        app.include_router(page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    # Whatever only Exception stands for is answered, raised again, and its connection closed.
    for error in (HTTPException, RequestValidationError, ValidationError, RlfleetError, Exception):
        app.add_exception_handler(error, _answer)
    app.add_middleware(BodyLimit)
    app.middleware("http")(_guarded)
    return app


def _answer(request: Request, error: Exception) -> Response:
    path = request.url.path
    is_page = not path.startswith(("/api/", "/health", "/ready", "/live", "/metrics", "/static"))
    response = page_error(request, error) if is_page else errors.answer(request, error)
    # What was not foreseen is answered outside of the middleware.
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _guarded(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    path = request.url.path
    if path.startswith(f"{API}/") and path != DOCUMENT and not shows_token(request):
        response = errors.answered(unauthorized("no token"))  # before anything of its body is looked at
    else:
        response = await handle(request)
        if forgets_cookie(request):
            response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=is_secure(request))
    for name, value in HEADERS.items():
        if name != "Cache-Control" or not path.startswith("/static/"):
            response.headers.setdefault(name, value)
    return response


app = create_app()
