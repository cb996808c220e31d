"""Who calls, and for which turn of which episode: the ``X-`` headers of a request and of its answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import bad_request

LONGEST = 256
LAST_TURN = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a call. ``agent_id`` and ``consent`` are None when the caller does not say them.

    ``names_call`` says that the call id is the caller's own, so that the call may be a repeat. ``committed`` asks for
    the answer to wait until the database holds the call.
    """

    agent_id: str | None
    trajectory_id: str
    turn: int
    call_id: str
    consent: bool | None = None
    names_call: bool = False
    committed: bool = False

    @property
    def unit(self) -> str:
        """What a release share divides: agents, or episodes of agents without a name."""
        return self.agent_id or self.trajectory_id

    def headers(self, version: str) -> dict[str, str]:
        """The headers of the answer that ``version`` gave."""
        return {
            "X-Rlfleet-Version": version,
            "X-Trajectory-Id": self.trajectory_id,
            "X-Turn": str(self.turn),
            "X-Call-Id": self.call_id,
        }


def caller_of(headers: Mapping[str, str]) -> Caller:
    """The caller, with the ids made that were not sent; a turn that was not sent is 0.

    Raises:
        Refusal: 400, a header is too long, the turn is not a number, or another header says what it cannot.
    """
    call_id = _text(headers, "x-call-id")
    return Caller(
        agent_id=_text(headers, "x-agent-id") or None,
        trajectory_id=_text(headers, "x-trajectory-id") or uuid.uuid4().hex,
        turn=_turn(headers.get("x-turn", "0")),
        call_id=call_id or uuid.uuid4().hex,
        consent=_consent(headers.get("x-consent", "")),
        names_call=bool(call_id),
        committed=_committed(headers.get("x-capture", "")),
    )


def _text(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if len(value) > LONGEST:
        raise bad_request(name, f"must have at most {LONGEST} characters")
    return value


def _consent(value: str) -> bool | None:
    said = {"true": True, "false": False, "": None}
    if value.strip().lower() not in said:
        raise bad_request("x-consent", "must be true or false")
    return said[value.strip().lower()]


def _committed(value: str) -> bool:
    if value.strip().lower() not in ("", "committed"):
        raise bad_request("x-capture", "must be committed, or left out")
    return bool(value.strip())


def _turn(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or int(value[:11]) > LAST_TURN:
        raise bad_request("x-turn", f"must be a whole number from 0 to {LAST_TURN}")
    return int(value)
