"""Errors as callers of the admin API get them: ``{"success": false, "error", "remedy"}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin import invalid
from rl.config import LineConfig, RunConfig
from rl.errors import (
    BrokerUnavailable,
    DatabaseRefused,
    DatabaseUnavailable,
    InvalidInput,
    RlfleetError,
    UnknownVersion,
)

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
STORED = (LineConfig.__name__, RunConfig.__name__)
"""Configs that people wrote, and can change."""


class Refused(HTTPException):
    """An answer that is not what was asked for. ``remedy`` says what to do next."""

    def __init__(self, status: int, error: str, remedy: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, error, headers)
        self.remedy = remedy


def not_found(what: str, remedy: str) -> Refused:
    """404."""
    return Refused(404, f"there is no {what}", remedy)


def refused_of(error: Exception) -> Refused:
    """What a caller is told of ``error``."""
    match error:
        case Refused():
            found = error
        case RequestValidationError():
            found = Refused(422, *invalid.told(error.errors()[0]))
        case ValidationError() if error.title in STORED:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            remedy = "change the line's config with `rlfleet line`"
            found = Refused(409, f"a stored config is not understood: {where}: {first['msg']}", remedy)
        case UnknownVersion():
            found = not_found(f"version {error.value}", error.remedy)
        case InvalidInput():
            what = "cannot be left out" if error.value is None else f"cannot be {error.value!r:.120}"
            found = Refused(400, f"{error.field} {what}", error.remedy)
        case DatabaseUnavailable() | BrokerUnavailable():
            log.error("%s", error)
            after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            who = "database" if isinstance(error, DatabaseUnavailable) else "broker"
            remedy = "try again; the log of the admin server says why, and `rlfleet status` what runs"
            found = Refused(503, f"the {who} did not answer", remedy, after)
        case DatabaseRefused():
            log.error("%s", error)
            found = Refused(503, "the database refuses the admin server", "its log says what its login may not do")
        case RlfleetError():
            found = Refused(409, str(error), "mend that, and ask again")
        case HTTPException() if isinstance(error.__cause__, ValueError | RecursionError):  # of reading the body
            found = Refused(422, *invalid.NO_JSON)
        case HTTPException():
            found = Refused(error.status_code, str(error.detail), invalid.DOCUMENT, error.headers)
        case _:
            if isinstance(error, ValidationError):  # it is answered here, and not raised again for the log
                log.error("an answer or a row is not as its shape says", exc_info=error)
            found = Refused(500, "the admin server failed", "its log has the traceback", {"Connection": "close"})
    return found


def answer(_: Request, error: Exception) -> Response:
    """The answer for any exception that a handler of the API raised."""
    return answered(refused_of(error))


def answered(found: Refused) -> Response:
    """The answer for a refusal."""
    body = {"success": False, "error": _printable(found.detail), "remedy": _printable(found.remedy)}
    return JSONResponse(body, found.status_code, found.headers)


def _printable(words: str) -> str:
    """Without halves of pairs, which no encoding takes: the names of unknown fields are whatever the caller sent."""
    return words.encode("utf-8", "replace").decode()
