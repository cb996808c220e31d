"""How large a request's body may be: nothing that people or programs send here is large."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import errors
from admin.errors import Refused

MOST_BYTES = 64 * 1024


class BodyLimit:
    """Answers 413 to a body that says it is larger than ``MOST_BYTES``, or turns out to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if said.isdigit() and (len(said) > len(str(MOST_BYTES)) or int(said) > MOST_BYTES):
            await errors.answered(_too_large())(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    """``receive``, which raises 413 once more came than may."""
    size = 0

    async def take() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            raise _too_large()
        return message

    return take


def _too_large() -> Refused:
    return Refused(413, "the body is too large", f"send at most {MOST_BYTES} bytes", {"Connection": "close"})
