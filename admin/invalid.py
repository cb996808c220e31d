"""What is wrong with a request that is not as the OpenAPI document says: the field, what was sent, and what may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
VERSION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
REASON = r"^[^\x00]*[^\x00\s][^\x00]*$"
WINDOW = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00|run/[a-z0-9][a-z0-9_-]{0,63}/[0-9]{4})$"
WORDS = {
    NAME: "1 to 64 of the characters a-z, 0-9, _ and -, the first a letter or a digit",
    VERSION: "1 to 200 letters, digits and the characters . _ -, the first a letter or a digit",
    REASON: "a text that is not blank, without NUL characters",
    WINDOW: "an hour like 2025-01-15T10:00 (UTC), or a round of a run like run/demo/0003",
}
"""What each pattern asks for."""

DOCUMENT = "/api/admin/openapi.json says what can be asked for"
NO_JSON = ("body cannot be read as JSON", "send one object in UTF-8, without deep nesting or endless numbers")
"""Error and remedy where reading breaks off without a place in the text."""
NOT_SENT_AS_JSON = ("body is not sent as JSON", "send one object, with the header Content-Type: application/json")
PLACES = ("body", "query", "path", "cookie", "header")
BEGINNING = "rlf_"
"""Of every token."""
LONGEST = 80


def told(problem: Mapping[str, Any]) -> tuple[str, str]:
    """The error and the remedy for one of pydantic's problems with a request.

    What was sent is shown shortened, but for what may hold a token: a text with one, fields that are not known, and
    lists and objects.
    """
    kind, sent, place = problem["type"], problem.get("input"), problem["loc"]
    if kind == "json_invalid":
        return f"body is no JSON at character {place[-1]}: {problem['ctx']['error']}", "send one object"
    where = _short(".".join(str(part) for part in place if part not in PLACES)) or "body"
    if kind == "missing":
        return f"{where} is left out", f"send it; {DOCUMENT}"
    if kind == "extra_forbidden":
        return f"{where} is no field of this request", f"leave it out, or spell it otherwise; {DOCUMENT}"
    if where == "body" and isinstance(sent, bytes):
        return NOT_SENT_AS_JSON
    words = WORDS.get(problem.get("ctx", {}).get("pattern", ""), problem["msg"])
    return f"{where} cannot be {_shown(sent)}", f"{words}; {DOCUMENT}"


def _shown(sent: object) -> str:
    if isinstance(sent, dict | list):
        return "an object" if isinstance(sent, dict) else "a list"
    return _short(repr(sent))


def _short(words: str) -> str:
    if BEGINNING in words:
        return "<hidden>"
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
