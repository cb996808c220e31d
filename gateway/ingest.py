"""What agents report, parsed: each event by itself, so that a bad one never stops the good ones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from db.recordings import DEFAULT_LINE, Event
from gateway.chat import JSON
from gateway.events import EndTrajectory, GiveFeedback, RecordStep, StartTrajectory
from rl.errors import InvalidRow

TO_CLEAN = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|[eE]\+?\d{3}")
"""Marks of what JSON can say and Postgres cannot hold. Most bodies have none and need no second look."""


def decode(raw: bytes) -> Any:
    """The JSON value in ``raw``, as Postgres can hold it.

    NUL becomes U+FFFD, half of a surrogate pair ``?``, and a number too large for a double null.

    Raises:
        ValueError: it is not JSON in UTF-8, or is nested too deeply.
    """
    try:
        value = JSON.decode(raw.decode())
        return _clean(value) if TO_CLEAN.search(raw) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


KINDS: dict[str, type[StartTrajectory | RecordStep | EndTrajectory | GiveFeedback]] = {
    "startTrajectory": StartTrajectory,
    "recordStep": RecordStep,
    "endTrajectory": EndTrajectory,
    "feedback": GiveFeedback,
}


@dataclass(frozen=True)
class Rejected:
    """Why the event at ``index`` is not stored. ``row`` has its type and ids, and ``line`` where to show it."""

    index: int
    type: str
    field: str
    reason: str
    row: str
    line: str

    def shown(self) -> dict[str, Any]:
        """As the answer has it."""
        return {"index": self.index, "type": self.type, "field": self.field, "reason": self.reason}


def parse(event: object) -> Event:
    """The event as it is stored.

    Raises:
        InvalidRow: a field is missing, unknown or wrong.
    """
    if not isinstance(event, dict):
        raise InvalidRow("event", "<not shown>", "must be an object")
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidRow("type", "<not shown>", f"must be one of {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate({key: one for key, one in event.items() if key != "type"}).event()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "event"
        raise InvalidRow(field[:200], "<not shown>", first["msg"].removeprefix("Value error, ")) from None


def rejected(index: int, event: object, field: str, reason: str) -> Rejected:
    """What is kept of an event that cannot be used: nothing but its ids, for nobody may have agreed to more."""
    said: Mapping[str, Any] = event if isinstance(event, dict) else {}
    names = ("type", "trajectoryId", "stepNumber", "callId", "feedbackId")
    ids = [str(said[name])[:256] for name in names if isinstance(said.get(name), str | int)]
    line = said.get("line")
    return Rejected(
        index=index,
        type=ids[0][:64] if ids and "type" in said else "",
        field=field,
        reason=reason,
        row=" ".join(ids) or f"event {index}",
        line=line if isinstance(line, str) else DEFAULT_LINE,
    )
