"""Errors as OpenAI's clients understand them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from rl.errors import DatabaseUnavailable, EngineUnavailable

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
"""What a caller is told to wait when nothing says how long: about as long as an engine takes to come back."""


class Refusal(HTTPException):
    """An answer without a completion. ``code`` is one word for programs, ``message`` tells people what to do."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


class EngineFailed(EngineUnavailable):
    """An engine did not answer, in two wordings.

    The message is for the caller. It may hold the engine's own words, which may be those of the conversation that it
    was sent. ``reason`` is without them, for records and logs. ``asked`` is false where that says nothing against whom
    it was asked for: a circuit breaker kept the call from the engine, which has another base model, or no room.
    """

    def __init__(self, message: str, reason: str, *, asked: bool = True) -> None:
        super().__init__(message)
        self.reason, self.asked = reason, asked


def reason_of(error: EngineUnavailable) -> str:
    """Why no engine answered, in words of ours alone."""
    return error.reason if isinstance(error, EngineFailed) else str(error)


def bad_request(param: str, remedy: str) -> Refusal:
    """400: ``param`` cannot be used."""
    return Refusal(400, "invalid_request", f"{param}: {remedy}")


def too_large(most_mb: int) -> Refusal:
    """413: the request has more than ``most_mb`` MiB."""
    return Refusal(413, "request_too_large", f"a request may have {most_mb} MiB (RLFLEET_GATEWAY_MOST_MB); send less")


def too_slow(seconds: float) -> Refusal:
    """408: the request did not come within ``seconds``. Its connection is closed: the rest of it is not waited for."""
    took = f"the request's body took more than {seconds:g} s (RLFLEET_GATEWAY_BODY_SECONDS)"
    remedy = f"{took}; send it again, or less of it"
    return Refusal(408, "request_timeout", remedy, {"Connection": "close"})


def unknown_model(name: str, remedy: str) -> Refusal:
    """404, with the code that OpenAI gives."""
    return Refusal(404, "model_not_found", f"the model {name!r} does not exist: {remedy}")


def unavailable(code: str, message: str, retry_after: str | None = None) -> Refusal:
    """503: the same call may work after ``retry_after`` seconds."""
    return Refusal(503, code, message, {"Retry-After": retry_after or str(RETRY_AFTER_SECONDS)})


def withheld(code: str, message: str) -> Refusal:
    """503 without ``Retry-After``: by a person's decision nobody answers this call, however often it comes."""
    return Refusal(503, code, message)


KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
}


def openai_error(_: Request, error: Exception) -> JSONResponse:
    """The answer for any exception that a handler raised."""
    if isinstance(error, DatabaseUnavailable):
        log.error("%s", error)
        error = unavailable(
            "database_unavailable",
            "the database did not answer, and without it this call can be neither routed nor recorded; try again",
        )
    if not isinstance(error, HTTPException):
        # The server closes the connection over an exception: a caller that is not told loses its next request.
        why, headers = "the gateway failed; its log has the traceback", {"Connection": "close"}
        error = Refusal(500, "internal_error", why, headers)
    kind = KINDS.get(error.status_code, "server_error" if error.status_code >= 500 else "invalid_request_error")
    body = {"message": error.detail, "type": kind, "param": None, "code": getattr(error, "code", None)}
    return JSONResponse({"error": body}, error.status_code, error.headers)
