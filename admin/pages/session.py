"""Signing in with a token, and out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from admin.access import COOKIE, Guard, Viewer
from admin.errors import Refused
from admin.pages.forms import urlencoded
from admin.pages.rendering import page

router = APIRouter()
SECONDS = 12 * 3600
"""A working day: whoever leaves a browser open is asked again on the next."""


@router.get("/login")
def ask(request: Request, next: str = "/") -> Response:
    """The form for the token."""
    return page(request, "login.html", None, next=_own(next), error="")


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Keep the token in a cookie that no script can read."""
    form = await urlencoded(request)
    token, to = form.get("token", "").strip(), _own(form.get("next", "/"))
    guard: Guard = request.app.state.guard
    try:
        await run_in_threadpool(guard.holder, token, request.client.host if request.client else "")
    except Refused as error:
        return page(request, "login.html", None, error.status_code, next=to, error=error.detail)
    answer = RedirectResponse(to, 303)
    secure = request.app.state.settings.secure or request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, SECONDS, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
def sign_out(_: Viewer) -> Response:
    """Forget the token in this browser; it goes on to be good."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _own(path: str) -> str:
    """The path, if it is one of ours: another site's address must not be led to from here."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
