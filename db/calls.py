"""Calls of language models: stored in bulk, once each by id, and read back by trajectory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rl import records


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be stored: ``rl.records.Call`` with where it belongs, its messages as plain JSON.

    ``messages`` and ``response`` have only the fields of ``rl.records.Message``.
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

    @classmethod
    def of(cls, call: records.Call, *, trajectory_id: str, line: str, agent_id: str | None) -> NewCall:
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
        )


COLUMNS = {
    "call_id": "text",
    "trajectory_id": "text",
    "turn": "int",
    "line": "text",
    "model": "text",
    "agent_id": "text",
    "body": "jsonb",
    "prompt_token_ids": "int[]",
    "token_ids": "int[]",
    "logprobs": "real[]",
    "temperature": "float8",
    "finish_reason": "text",
}

# One array of text a column: Postgres has no array of arrays of unequal lengths, and the driver quotes
# strings much faster than it adapts nested lists.
INSERT = text(f"""
    insert into rlfleet.calls ({", ".join(COLUMNS)})
    select {", ".join(f"cast({name} as {kind})" for name, kind in COLUMNS.items())}
      from unnest({", ".join(f"cast(:{name} as text[])" for name in COLUMNS)}) as new({", ".join(COLUMNS)})
    on conflict (call_id) do nothing returning call_id
""")  # noqa: S608 (built from the constants above)


def insert(session: Session, calls: Sequence[NewCall]) -> list[bool]:
    """Store the calls in one statement. For each: whether it is the stored one, False when its id was taken."""
    if not calls:
        return []
    rows = [_row(call) for call in calls]
    columns = {name: list(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    fresh = set(session.scalars(INSERT, columns))
    stored = []
    for call in calls:
        stored.append(call.call_id in fresh)
        fresh.discard(call.call_id)
    return stored


TINY = 1e-37
"""Postgres refuses a number that is too small for its ``real``, where it could round it to zero."""


def _row(call: NewCall) -> tuple[str | None, ...]:
    return (
        call.call_id,
        call.trajectory_id,
        str(call.turn),
        call.line,
        call.model,
        call.agent_id,
        jsonb({"messages": call.messages, "response": call.response}),
        _array(call.prompt_token_ids),
        _array(call.token_ids),
        _array(call.logprobs and [value if abs(value) > TINY else 0.0 for value in call.logprobs]),
        None if call.temperature is None else repr(call.temperature),
        call.finish_reason,
    )


def _array(values: Sequence[float] | None) -> str | None:
    return None if values is None else "{" + str(list(values))[1:-1] + "}"


def jsonb(value: object) -> str:
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


def of_trajectories(session: Session, ids: Sequence[str]) -> dict[str, list[records.Call]]:
    """The calls of each trajectory by (turn, time of storing); a trajectory without calls has an empty list."""
    rows = session.execute(
        text(f"{READ} where trajectory_id = any(:ids) order by trajectory_id, turn, created_at, call_id"),
        {"ids": list(ids)},
    )
    calls: dict[str, list[records.Call]] = {trajectory_id: [] for trajectory_id in ids}
    for row in rows:
        calls[row.trajectory_id].append(_call(row))
    return calls


def with_id(session: Session, call_id: str) -> tuple[str, records.Call] | None:
    """The trajectory's id and the call stored under ``call_id``, or None."""
    row = session.execute(text(f"{READ} where call_id = :call_id"), {"call_id": call_id}).one_or_none()
    return (row.trajectory_id, _call(row)) if row else None


def _call(row: Row[Any]) -> records.Call:
    return records.Call(
        call_id=row.call_id,
        turn=row.turn,
        model=row.model,
        messages=row.body["messages"],
        response=row.body["response"],
        prompt_token_ids=row.prompt_token_ids,
        token_ids=row.token_ids,
        logprobs=row.logprobs,
        temperature=row.temperature,
        finish_reason=row.finish_reason,
    )
