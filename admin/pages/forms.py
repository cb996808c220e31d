"""Forms: read as they came, and believed only where they carry the caller's own word."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse

from admin.access import Operator
from admin.errors import Refused

URLENCODED = "application/x-www-form-urlencoded"


async def urlencoded(request: Request) -> dict[str, str]:
    """The fields of a form as browsers send them by themselves; no body has none.

    Raises:
        Refused: 415, it is sent in another way, such as in a character set that the sender chose.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in ("", URLENCODED):
        raise Refused(415, f"a form is not sent as {said:.100}", f"send it as {URLENCODED}")
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


async def _fields(request: Request, caller: Operator) -> dict[str, str]:
    given = await urlencoded(request)
    if not caller.is_word(given.pop("word", "")):
        raise Refused(403, "this form is not from a page of yours, or you signed in again since", "load the page again")
    if any("\0" in value for value in given.values()):
        raise Refused(400, "a field holds a NUL character", "leave it out")
    return given


Fields = Annotated[dict[str, str], Depends(_fields)]
"""The fields of a form that an operator sent from a page of ours."""


def back(path: str) -> RedirectResponse:
    """To the page at ``path``, after a form was carried out."""
    return RedirectResponse(path, 303)
