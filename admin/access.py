"""Who may ask for what: a bearer token for programs, and for people with a browser the cookie of a session.

A token signs a browser in, and its cookie holds a value of the session alone: every port of a host receives cookies.
Pages that change something are safe against other sites three times over: the cookie is ``SameSite=Strict``, the
browser's ``Sec-Fetch-Site`` must not name another site, and each form carries a word that only holders of the cookie
can know.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from admin.errors import Refused
from admin.limits import Limit
from db import sessions, tokens
from db.session import transaction
from db.tokens import Holder, Role

COOKIE = "rlfleet_session"
REMEDY = "send 'Authorization: Bearer TOKEN'; `rlfleet token create NAME` makes one"
GUESSES_PER_SECOND, GUESSES = 1 / 6, 10
"""Wrong tokens that one address may show; good ones are let in all the same, and those that were good are no guess."""
PATIENCE_SECONDS = 3.0
"""For whose a token is."""
SAME = ("same-origin", "none")
BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="as `rlfleet token create` prints it")
"""Only for the OpenAPI document: the guard reads the header itself."""


@dataclass(frozen=True)
class Caller:
    """Who asks, from where, and whether by cookie."""

    holder: Holder
    address: str
    by_cookie: bool
    shown: str = field(repr=False)
    """The token, or what the cookie holds."""

    @property
    def actor(self) -> str:
        """As the audit and decisions name the caller."""
        return self.holder.name

    @property
    def form_word(self) -> str:
        """What forms of this caller carry."""
        return hmac.new(self.shown.encode("utf-8", "surrogatepass"), b"rlfleet form", hashlib.sha256).hexdigest()

    def is_word(self, given: str) -> bool:
        """Whether the form was made for this caller."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.form_word.encode())


Known = Callable[..., Holder | None]
Ended = Callable[..., int | None]
"""``holder_of`` and ``ended`` of ``db.tokens`` or ``db.sessions``."""


class Guard:
    """What the server knows of its callers: how often each asked, and which addresses guess."""

    def __init__(self, requests_per_second: float) -> None:
        self._asked = Limit(requests_per_second, 10 * requests_per_second)
        self._guessed = Limit(GUESSES_PER_SECOND, GUESSES)

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            Refused: 401, no token or one that is nobody's; 429, too many of either.
        """
        address = address_of(request)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        by_cookie = not given
        shown = request.cookies.get(COOKIE, "") if by_cookie else given.strip()
        if not shown or (given and scheme.lower() != "bearer"):
            raise unauthorized("no token")
        if not by_cookie:
            return Caller(self.holder(shown, address), address, by_cookie, shown)
        try:
            holder = self._known(shown, address, sessions.holder_of, sessions.ended, "this session is over: sign in")
        except Refused:
            forget_cookie(request)
            raise
        return Caller(self._counted(holder), address, by_cookie, shown)

    def holder(self, token: str, address: str) -> Holder:
        """Whose the token is; counts as one request of theirs.

        Raises:
            Refused: 401, it is nobody's; 429, the address has shown too many of those, or the holder asks too often.
        """
        why = "this token is nobody's, was revoked or has expired"
        return self._counted(self._known(token, address, tokens.holder_of, tokens.ended, why))

    def _counted(self, holder: Holder) -> Holder:
        self._asked.take(str(holder.token_id))
        return holder

    def _known(self, shown: str, address: str, holder_of: Known, ended: Ended, why: str) -> Holder:
        with transaction(PATIENCE_SECONDS) as session:
            holder = holder_of(session, shown)
            over = ended(session, shown) if holder is None else None
        if holder is not None:
            return holder
        if over is None:
            self._guessed.take(address)
        else:  # somebody had it once: no guess, and none of what the good tokens of its holder may ask for
            self._asked.take(f"over {over}")
        raise unauthorized(why)


def address_of(request: Request) -> str:
    """Where the request comes from, as far as the server believes it."""
    return request.client.host if request.client else ""


def forget_cookie(request: Request) -> None:
    """Let the answer, whatever it is, take the cookie from the browser."""
    request.state.forgets_cookie = True


def is_secure(request: Request) -> bool:
    """Whether the cookie is for https alone."""
    return bool(request.app.state.settings.secure) or request.url.scheme == "https"


def forgets_cookie(request: Request) -> bool:
    """Whether the answer is to take the cookie from the browser."""
    return bool(getattr(request.state, "forgets_cookie", False))


def shows_token(request: Request) -> bool:
    """Whether there is something that may be a token."""
    return bool(request.headers.get("authorization") or request.cookies.get(COOKIE))


def unauthorized(why: str) -> Refused:
    """401."""
    return Refused(401, why, REMEDY, {"WWW-Authenticate": "Bearer"})


def _with(role: Role) -> Any:
    def may(request: Request, _: Annotated[object, Security(BEARER)]) -> Caller:
        guard: Guard = request.app.state.guard
        caller = request.state.caller = guard.caller(request)
        if not caller.holder.may(role):
            raise Refused(403, f"{caller.actor} is a {caller.holder.role}", f"this takes the token of a {role}")
        # A browser sends the cookie by itself, and the API has no form to carry a word: there its page must be named.
        if caller.by_cookie and request.method not in ("GET", "HEAD"):
            refuse_other_sites(request, "use a bearer token", unsaid=not request.url.path.startswith("/api/"))
        return caller

    return Depends(may)


def refuse_other_sites(request: Request, remedy: str, *, unsaid: bool = True) -> None:
    """Let through what a page of this server sent, and, with ``unsaid``, what names no page at all.

    Raises:
        Refused: 403, a page of another site sent it, or one that is not named.
    """
    if not _is_own(request, unsaid=unsaid):
        raise Refused(403, "only a page of this server may ask for this", remedy)


def _is_own(request: Request, *, unsaid: bool) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in SAME
    origin = request.headers.get("origin")
    return unsaid if origin is None else origin.partition("//")[2] == request.headers.get("host")


Viewer = Annotated[Caller, _with("viewer")]
"""Anybody with a token."""
Operator = Annotated[Caller, _with("operator")]
"""Somebody who may change things."""
