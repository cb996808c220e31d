"""Signing a browser in with a token, and out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from admin.access import COOKIE, PATIENCE_SECONDS, Guard, address_of, forget_cookie, is_secure, refuse_other_sites
from admin.errors import Refused
from admin.pages.forms import urlencoded
from admin.pages.rendering import page
from db import sessions
from db.session import transaction

router = APIRouter()


@router.get("/login")
def ask(request: Request, next: str = "/") -> Response:
    """The form for the token."""
    return page(request, "login.html", None, next=_own(next), error="")


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Give the browser a session, in a cookie that no script can read.

    Raises:
        Refused: 403, a page of another site asks: it would make a browser act in the name of its own token's holder.
    """
    refuse_other_sites(request, "open this server's own page to sign in")
    form = await urlencoded(request)
    token, to = form.get("token", "").strip(), _own(form.get("next", "/"))
    try:
        value = await run_in_threadpool(_begun, request, token)
    except Refused as error:
        return page(request, "login.html", None, error.status_code, next=to, error=error.detail)
    answer = RedirectResponse(to, 303)
    seconds = sessions.HOURS * 3600
    answer.set_cookie(COOKIE, value, seconds, httponly=True, samesite="strict", secure=is_secure(request))
    return answer


@router.post("/logout")
def sign_out(request: Request) -> Response:
    """End the session and take its cookie, whether or not it is still good; the token goes on to be.

    Raises:
        Refused: 403, a page of another site asks.
    """
    refuse_other_sites(request, "sign out on a page of this server")
    forget_cookie(request)
    if shown := request.cookies.get(COOKIE):
        with transaction(PATIENCE_SECONDS) as session:
            sessions.end(session, shown)
    return RedirectResponse("/login", 303)


def _begun(request: Request, token: str) -> str:
    """A session of the token's holder. One that the browser has already ends: nobody could end it later."""
    guard: Guard = request.app.state.guard
    holder = guard.holder(token, address_of(request))
    with transaction(PATIENCE_SECONDS) as session:
        if before := request.cookies.get(COOKIE):
            sessions.end(session, before)
        return sessions.start(session, holder.token_id)


def _own(path: str) -> str:
    """The path, if it is one of ours: another site's address must not be led to from here."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
