"""Calls of language models: stored in bulk, once each by id, and read back by trajectory."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import partitions
from rl import records


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be stored: ``rl.records.Call`` with where it belongs, its messages as plain JSON.

    ``messages`` and ``response`` have only the fields of ``rl.records.Message``. ``place`` orders the calls of one
    turn. ``at`` says which partition it lies in: when it was made; None is where its trajectory lies, or this moment.
    """

    call_id: str
    trajectory_id: str
    turn: int
    line: str
    model: str
    agent_id: str | None
    messages: Sequence[Mapping[str, Any]]
    response: Mapping[str, Any]
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    temperature: float | None = None
    finish_reason: str | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    place: int = 0
    at: datetime | None = None

    @classmethod
    def of(
        cls,
        call: records.Call,
        *,
        trajectory_id: str,
        line: str,
        agent_id: str | None,
        place: int = 0,
    ) -> NewCall:
        """The call of a trajectory that was collected rather than captured."""
        return cls(
            call_id=call.call_id,
            trajectory_id=trajectory_id,
            turn=call.turn,
            line=line,
            model=call.model,
            agent_id=agent_id,
            messages=[message.model_dump(exclude_none=True) for message in call.messages],
            response=call.response.model_dump(exclude_none=True),
            prompt_token_ids=call.prompt_token_ids,
            token_ids=call.token_ids,
            logprobs=call.logprobs,
            temperature=call.temperature,
            finish_reason=call.finish_reason,
            tools=call.tools,
            place=place,
        )


COLUMNS = {
    "call_id": "text",
    "trajectory_id": "text",
    "turn": "int",
    "place": "int",
    "at": "timestamptz",
    "line": "text",
    "model": "text",
    "agent_id": "text",
    "body": "json",
    "prompt_token_ids": "bytea",
    "token_ids": "bytea",
    "logprobs": "bytea",
    "temperature": "float8",
    "finish_reason": "text",
}

# One array of text a column: Postgres has no array of arrays of unequal lengths, and the driver quotes
# strings much faster than it adapts nested lists.
INSERT = text(f"""
    with new as (
        select * from unnest({", ".join(f"cast(:{name} as text[])" for name in COLUMNS)}) as new({", ".join(COLUMNS)})
    ), fresh as (
        insert into rlfleet.call_keys (call_id, trajectory_id, at)
        select call_id, trajectory_id, cast(at as timestamptz) from new
        on conflict (call_id) do nothing returning call_id
    )
    insert into rlfleet.calls ({", ".join(COLUMNS)})
    select {", ".join(f"cast({name} as {kind})" for name, kind in COLUMNS.items())}
      from new join fresh using (call_id)
    returning call_id
""")  # noqa: S608 (built from the constants above)


KNOWN = text("""
    select trajectory_id, at, erased_at is not null as refused
      from rlfleet.trajectory_keys where trajectory_id = any(:ids)
    union all
    select trajectory_id, null, true from rlfleet.recordings where trajectory_id = any(:ids) and consent is false
""")


def insert(session: Session, calls: Sequence[NewCall]) -> list[bool]:
    """Store the calls in one statement. For each: False when its id was taken.

    Nothing is stored of a trajectory that was erased or refused consent, and its calls are no repeats: True.
    """
    if not calls:
        return []
    known = session.execute(KNOWN, {"ids": list({call.trajectory_id for call in calls})}).all()
    refused = {row.trajectory_id for row in known if row.refused}
    at = {row.trajectory_id: row.at for row in known if row.at is not None}
    first = {call.call_id: call for call in reversed(calls) if call.trajectory_id not in refused}
    if not first:
        return [True] * len(calls)
    present = datetime.now(UTC)
    rows = [_row(call, call.at or at.get(call.trajectory_id, present)) for call in first.values()]
    partitions.ensure([call.at or present for call in first.values()])
    columns = {name: list(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    fresh = set(session.scalars(INSERT, columns))
    stored = []
    for call in calls:
        stored.append(call.call_id in fresh or call.trajectory_id in refused)
        fresh.discard(call.call_id)
    return stored


def _row(call: NewCall, at: datetime) -> tuple[str | None, ...]:
    offered = {"tools": call.tools} if call.tools else {}
    return (
        call.call_id,
        call.trajectory_id,
        str(call.turn),
        str(call.place),
        at.isoformat(),
        call.line,
        call.model,
        call.agent_id,
        json_text({"messages": call.messages, "response": call.response, **offered}),
        _packed("i", call.prompt_token_ids),
        _packed("i", call.token_ids),
        _packed("f", call.logprobs),
        None if call.temperature is None else repr(call.temperature),
        call.finish_reason,
    )


def _packed(kind: Literal["i", "f"], values: Sequence[float] | None) -> str | None:
    """Four bytes a number, the highest first, as Postgres reads them in hex."""
    return None if values is None else "\\x" + _swapped(array(kind, values)).tobytes().hex()


def unpacked(kind: Literal["i", "f"], stored: bytes | memoryview | None) -> list[Any] | None:
    """The numbers that were stored in four bytes each: integers, or single-precision floats."""
    if stored is None:
        return None
    values = array(kind)
    values.frombytes(stored)
    return _swapped(values).tolist()


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


READ = """
    select call_id, trajectory_id, turn, model, body, prompt_token_ids, token_ids, logprobs, temperature, finish_reason
      from rlfleet.calls
"""


OF_TRAJECTORIES = f"""
    {READ} where trajectory_id = any(:ids) and at >= :since and at < :until
    order by trajectory_id, turn, place, created_at, call_id
"""


def of_trajectories(session: Session, ids: Sequence[str]) -> dict[str, list[records.Call]]:
    """The calls of each trajectory by (turn, place, time of storing); one without calls has an empty list."""
    if not ids:
        return {}
    since, until = _weeks_of(session, ids)
    rows = session.execute(text(OF_TRAJECTORIES), {"ids": list(ids), "since": since, "until": until})
    calls: dict[str, list[records.Call]] = {trajectory_id: [] for trajectory_id in ids}
    for row in rows:
        calls[row.trajectory_id].append(_call(row))
    return calls


def _weeks_of(session: Session, ids: Sequence[str]) -> tuple[datetime, datetime]:
    """The time that the trajectories' partitions span: all of it where one of them was not collected yet."""
    found = text("select min(at), max(at), count(*) from rlfleet.trajectory_keys where trajectory_id = any(:ids)")
    first, last, number = session.execute(found, {"ids": list(ids)}).one()
    if number < len(set(ids)):
        return partitions.FIRST, datetime.now(UTC) + partitions.LATEST
    return partitions.week_of(first), partitions.week_of(last) + partitions.WEEK


def with_id(session: Session, call_id: str) -> tuple[str, records.Call] | None:
    """The trajectory's id and the call stored under ``call_id``, or None."""
    key = text("select trajectory_id, at from rlfleet.call_keys where call_id = :call_id")
    found = session.execute(key, {"call_id": call_id}).one_or_none()
    if found is None:
        return None
    row = session.execute(
        text(f"{READ} where trajectory_id = :trajectory_id and call_id = :call_id and at = :at"),
        {"trajectory_id": found.trajectory_id, "call_id": call_id, "at": found.at},
    ).one_or_none()
    return None if row is None else (row.trajectory_id, _call(row))  # its week may be dropped at this moment


SETTLE = {
    table: text(f"""
        update rlfleet.{table} set at = :at
         where trajectory_id = any(:ids) and (at < :since or at >= :until) returning 1
    """)  # noqa: S608 (of the names below)
    for table in ("calls", "turns")
}
SETTLE_KEYS = text("""
    update rlfleet.call_keys k set at = c.at from rlfleet.calls c
     where c.trajectory_id = any(:ids) and c.at >= :since and c.at < :until
       and k.call_id = c.call_id and k.at <> c.at
""")


def settle(session: Session, ids: Sequence[str], at: datetime) -> int:
    """Bring the calls and turns of these trajectories into the partition of ``at``, their window's. How many moved.

    Agents report calls as they happen, and an episode may begin in the week before its window.
    """
    values = {"ids": list(ids), "at": at} | partitions.bounds(at)
    partitions.ensure([at])
    moved = sum(len(session.execute(statement, values).all()) for statement in SETTLE.values())
    if moved:
        session.execute(SETTLE_KEYS, values)
    return moved


def _call(row: Row[Any]) -> records.Call:
    return records.Call(
        call_id=row.call_id,
        turn=row.turn,
        model=row.model,
        messages=row.body["messages"],
        response=row.body["response"],
        prompt_token_ids=unpacked("i", row.prompt_token_ids),
        token_ids=unpacked("i", row.token_ids),
        logprobs=unpacked("f", row.logprobs),
        temperature=row.temperature,
        finish_reason=row.finish_reason,
        tools=row.body.get("tools"),
    )
