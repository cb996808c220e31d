"""Who may call: bearer keys, or programs on loopback alone where none is configured."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Refusal, openai_error
from rl.local_requests import is_loopback, strange_header


class NoPages:
    """Without keys no web page is served, on any path: everybody's browser calls from loopback. 403.

    With keys nothing is looked at: a browser sends no bearer key by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before anything of its body is read."""
        if scope["type"] == "http" and not scope["app"].state.completions.keys:
            server = scope.get("server")
            if strange := strange_header(Headers(scope=scope), server[0] if server else ""):
                await openai_error(Request(scope), _not_for_pages(strange))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check(request: Request, keys: tuple[bytes, ...]) -> None:
    """Return if the caller may pass. Every key is compared, each in constant time.

    Raises:
        Refusal: 401, the key is missing or wrong, or there are no keys and the caller is elsewhere.
    """
    if not keys:
        if request.client is not None and not is_loopback(request.client.host):
            raise _refusal("without RLFLEET_GATEWAY_KEYS only callers on this machine are served; set it")
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    fits = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in keys]
    if scheme.lower() != "bearer" or not any(fits):
        raise _refusal("send 'Authorization: Bearer <key>' with one of the keys in RLFLEET_GATEWAY_KEYS")


def _refusal(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message, {"WWW-Authenticate": "Bearer"})


def _not_for_pages(strange: str) -> Refusal:
    why = f"{strange}: without RLFLEET_GATEWAY_KEYS only programs on this machine are served, and no web page"
    return Refusal(403, "not_local", f"{why}; call 127.0.0.1 or localhost, or set RLFLEET_GATEWAY_KEYS and send a key")
