"""Reading a request's body, within a size and a time: a slow caller must not hold a connection for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from gateway.errors import Refusal, too_slow


async def read(request: Request, most: int, seconds: float, too_large: Callable[[], Refusal]) -> bytes:
    """The body, of at most ``most`` bytes, read within ``seconds``.

    Raises:
        Refusal: 408; or what ``too_large`` gives, as soon as it is known.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _pieces(request, most, too_large)
    except TimeoutError:
        raise too_slow(seconds) from None


async def _pieces(request: Request, most: int, too_large: Callable[[], Refusal]) -> bytes:
    pieces, size = [], 0
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large()
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise too_large()
        pieces.append(piece)
    return b"".join(pieces)
