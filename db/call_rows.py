"""A call as text: one text or null a column. One statement stores many of them, and a gateway's spool holds them.

Postgres has no array of arrays of unequal lengths, and the driver quotes strings much faster than it adapts lists.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rl import records


class CallRow(NamedTuple):
    """A row of ``rlfleet.calls``. ``at`` and ``created_at`` are ISO 8601, or null where nobody said."""

    call_id: str
    trajectory_id: str
    turn: str
    place: str
    at: str | None
    line: str
    model: str
    agent_id: str | None
    body: str
    prompt_token_ids: str | None
    token_ids: str | None
    logprobs: str | None
    temperature: str | None
    finish_reason: str | None
    created_at: str | None


KINDS = {
    "turn": "int",
    "place": "int",
    "at": "timestamptz",
    "created_at": "timestamptz",
    "body": "json",
    "prompt_token_ids": "bytea",
    "token_ids": "bytea",
    "logprobs": "bytea",
    "temperature": "float8",
}
"""The types of the columns that are no text."""


def body_of(messages: object, response: object, tools: object) -> str:
    """The column ``body``: what was said to the model, what it said, and the tools that it was offered."""
    offered = {"tools": tools} if tools else {}
    return json_text({"messages": messages, "response": response, **offered})


def call_of(row: CallRow) -> records.Call:
    """The call that the row says, as it is read back once it is stored.

    Raises:
        ValueError: the row is not one that ``rlfleet.calls`` can hold.
    """
    body = json.loads(row.body)
    return records.Call(
        call_id=row.call_id,
        turn=int(row.turn),
        model=row.model,
        messages=body["messages"],
        response=body["response"],
        prompt_token_ids=unpacked("i", _bytes(row.prompt_token_ids)),
        token_ids=unpacked("i", _bytes(row.token_ids)),
        logprobs=unpacked("f", _bytes(row.logprobs)),
        temperature=None if row.temperature is None else float(row.temperature),
        finish_reason=row.finish_reason,
        tools=body.get("tools"),
    )


def packed(kind: Literal["i", "f"], values: Sequence[float] | None) -> str | None:
    """Four bytes a number, the highest first, as Postgres reads them in hex."""
    return None if values is None else "\\x" + _swapped(array(kind, values)).tobytes().hex()


def unpacked(kind: Literal["i", "f"], stored: bytes | memoryview | None) -> list[Any] | None:
    """The numbers that were stored in four bytes each: integers, or single-precision floats."""
    if stored is None:
        return None
    values = array(kind)
    values.frombytes(stored)
    return _swapped(values).tolist()


def _bytes(stored: str | None) -> bytes | None:
    return None if stored is None else bytes.fromhex(stored[2:])


def _swapped(values: array[Any]) -> array[Any]:
    if sys.byteorder == "little":
        values.byteswap()
    return values


def json_text(value: object) -> str:
    """``value`` as JSON that Postgres takes: NUL becomes U+FFFD, and half of a surrogate pair becomes ``?``.

    A sampled byte-level token can decode to either, and must not lose the call that it is in.
    """
    dumped = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in dumped:
        dumped = json.dumps(_without_nul(value), ensure_ascii=False)
    return dumped if dumped.isascii() else dumped.encode("utf-8", "replace").decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_nul(key): _without_nul(one) for key, one in value.items()}
    return [_without_nul(one) for one in value] if isinstance(value, list | tuple) else value
