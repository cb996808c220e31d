"""Who may ask for what: a bearer token for programs, the same token in a cookie for people with a browser.

Pages that change something are safe against other sites three times over: the cookie is ``SameSite=Strict``, the
browser's ``Sec-Fetch-Site`` must not name another site, and each form carries a word that only holders of the cookie
can know.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from admin.errors import Refused
from admin.limits import Limit
from db import tokens
from db.session import transaction
from db.tokens import Holder, Role

COOKIE = "rlfleet_token"
REMEDY = "send 'Authorization: Bearer TOKEN'; `rlfleet token create NAME` makes one"
GUESSES_PER_SECOND, GUESSES = 1 / 6, 10
"""Wrong tokens that one address may show; good ones are let in all the same."""
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
    token: str
    by_cookie: bool

    @property
    def actor(self) -> str:
        """As the audit and decisions name the caller."""
        return self.holder.name

    @property
    def form_word(self) -> str:
        """What forms of this caller carry."""
        return hmac.new(self.token.encode(), b"rlfleet form", hashlib.sha256).hexdigest()

    def is_word(self, given: str) -> bool:
        """Whether the form was made for this caller."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.form_word.encode())


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
        address = request.client.host if request.client else ""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        by_cookie = not given
        token = request.cookies.get(COOKIE, "") if by_cookie else given.strip()
        if not token or (given and scheme.lower() != "bearer"):
            raise unauthorized("no token")
        return Caller(self.holder(token, address), address, token, by_cookie)

    def holder(self, token: str, address: str) -> Holder:
        """Whose the token is; counts as one request of theirs.

        Raises:
            Refused: 401, it is nobody's; 429, the address has shown too many of those, or the holder asks too often.
        """
        with transaction(PATIENCE_SECONDS) as session:
            holder = tokens.holder_of(session, token)
        if holder is None:
            self._guessed.take(address)
            raise unauthorized("this token is nobody's, was revoked or has expired")
        self._asked.take(str(holder.token_id))
        return holder


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
        # A browser sends the cookie by itself, and the API has no form to carry a word.
        if caller.by_cookie and request.method not in ("GET", "HEAD") and not _is_own(request):
            raise Refused(403, "a page of another site may not ask for this", "use a bearer token")
        return caller

    return Depends(may)


def _is_own(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in SAME
    origin = request.headers.get("origin")
    return origin is None or origin.partition("//")[2] == request.headers.get("host")


Viewer = Annotated[Caller, _with("viewer")]
"""Anybody with a token."""
Operator = Annotated[Caller, _with("operator")]
"""Somebody who may change things."""
