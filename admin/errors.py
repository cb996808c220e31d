"""Errors as callers of the admin API get them: ``{"success": false, "error", "remedy"}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rl.errors import BrokerUnavailable, DatabaseUnavailable, InvalidInput, RlfleetError

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5


class Refused(HTTPException):
    """An answer that is not what was asked for. ``remedy`` says what to do next."""

    def __init__(self, status: int, error: str, remedy: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, error, headers)
        self.remedy = remedy


def not_found(what: str, remedy: str = "") -> Refused:
    """404."""
    return Refused(404, f"there is no {what}", remedy)


def refused_of(error: Exception) -> Refused:
    """What a caller is told of ``error``."""
    match error:
        case Refused():
            found = error
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
            found = Refused(422, f"{where or 'body'}: {first['msg']}", "see /api/admin/openapi.json")
        case InvalidInput():
            found = Refused(400, f"{error.field} cannot be {error.value!r:.120}", error.remedy)
        case DatabaseUnavailable() | BrokerUnavailable():
            log.error("%s", error)
            after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            found = Refused(503, "the database or the broker did not answer", "try again", after)
        case RlfleetError():
            found = Refused(409, str(error))
        case HTTPException():
            found = Refused(error.status_code, str(error.detail), "", error.headers)
        case _:
            found = Refused(500, "the admin server failed", "its log has the traceback", {"Connection": "close"})
    return found


def answer(_: Request, error: Exception) -> Response:
    """The answer for any exception that a handler of the API raised."""
    found = refused_of(error)
    body = {"success": False, "error": found.detail} | ({"remedy": found.remedy} if found.remedy else {})
    return JSONResponse(body, found.status_code, found.headers)
