"""Forms: read as they came, and believed only where they carry the caller's own word."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse

from admin.access import Operator
from admin.errors import Refused

MOST_FIELDS = 20


async def _fields(request: Request, caller: Operator) -> dict[str, str]:
    form: FormData = await request.form(max_files=0, max_fields=MOST_FIELDS)
    given = {name: value for name, value in form.items() if isinstance(value, str)}
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
