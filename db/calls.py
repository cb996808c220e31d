"""Calls of language models: stored in bulk, once each by id, and read back by trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import partitions
from db.call_rows import KINDS, CallRow, body_of, packed, unpacked
from db.session import alone
from rl import records


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be stored: ``rl.records.Call`` with where it belongs, its messages as plain JSON.

    ``messages`` and ``response`` have only the fields of ``rl.records.Message``. ``place`` orders the calls of one
    turn. ``made_at`` is when it was answered; None is this moment. ``at`` says which partition it lies in; None is
    where its trajectory lies, or ``made_at``.
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
    made_at: datetime | None = None

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


TYPED = {name: f"cast({name} as {KINDS.get(name, 'text')})" for name in CallRow._fields}
TYPED["created_at"] = f"coalesce({TYPED['created_at']}, now())"

INSERT = text(f"""
    with new as (
        select * from unnest({", ".join(f"cast(:{name} as text[])" for name in CallRow._fields)})
                   as new({", ".join(CallRow._fields)})
    ), fresh as (
        insert into rlfleet.call_keys (call_id, trajectory_id, at)
        select call_id, trajectory_id, cast(at as timestamptz) from new
        on conflict (call_id) do nothing returning call_id
    )
    insert into rlfleet.calls ({", ".join(CallRow._fields)})
    select {", ".join(TYPED.values())}
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
    return insert_rows(session, [row_of(call) for call in calls])


def insert_rows(session: Session, rows: Sequence[CallRow]) -> list[bool]:
    """``insert`` of calls that are text already."""
    if not rows:
        return []
    known = session.execute(KNOWN, {"ids": list({row.trajectory_id for row in rows})}).all()
    refused = {row.trajectory_id for row in known if row.refused}
    lies_at = {row.trajectory_id: row.at.isoformat() for row in known if row.at is not None}
    first = {row.call_id: row for row in reversed(rows) if row.trajectory_id not in refused}
    if not first:
        return [True] * len(rows)
    fresh = _insert(session, list(first.values()), lies_at)
    stored = []
    for row in rows:
        stored.append(row.call_id in fresh or row.trajectory_id in refused)
        fresh.discard(row.call_id)
    return stored


def _insert(session: Session, rows: Sequence[CallRow], lies_at: Mapping[str, str]) -> set[str]:
    """The ids that were not taken."""
    present = datetime.now(UTC).isoformat()
    given = [row.at or lies_at.get(row.trajectory_id) for row in rows]
    at = [one or row.created_at or present for one, row in zip(given, rows, strict=True)]
    partitions.ensure(map(datetime.fromisoformat, set(at) - set(lies_at.values())))
    placed = [row._replace(at=moment) for row, moment in zip(rows, at, strict=True)]
    columns = {name: list(column) for name, column in zip(CallRow._fields, zip(*placed, strict=True), strict=True)}
    return set(session.scalars(INSERT, columns))


def row_of(call: NewCall) -> CallRow:
    """The call as text.

    Raises:
        ValueError: a number that JSON does not have.
        OverflowError: a token that four bytes cannot hold.
    """
    return CallRow(
        call_id=call.call_id,
        trajectory_id=call.trajectory_id,
        turn=str(call.turn),
        place=str(call.place),
        at=_iso(call.at),
        line=call.line,
        model=call.model,
        agent_id=call.agent_id,
        body=body_of(call.messages, call.response, call.tools),
        prompt_token_ids=packed("i", call.prompt_token_ids),
        token_ids=packed("i", call.token_ids),
        logprobs=packed("f", call.logprobs),
        temperature=None if call.temperature is None else repr(call.temperature),
        finish_reason=call.finish_reason,
        created_at=_iso(call.made_at),
    )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


READ = """
    select call_id, trajectory_id, turn, model, body, prompt_token_ids, token_ids, logprobs, temperature, finish_reason
      from rlfleet.calls
"""
NO_TEXT = {"messages": [], "response": {"role": "assistant"}}


OF_TRAJECTORIES = f"""
    {READ} where trajectory_id = any(:ids) and at >= :since and at < :until
    order by trajectory_id, turn, place, created_at, call_id
"""
TOKENS_OF_TRAJECTORIES = OF_TRAJECTORIES.replace(" body,", " null as body,")


def of_trajectories(session: Session, ids: Sequence[str], *, texts: bool = True) -> dict[str, list[records.Call]]:
    """The calls of each trajectory by (turn, place, time of storing); one without calls has an empty list.

    Without ``texts`` they come without messages and with an empty answer.
    """
    if not ids:
        return {}
    since, until = _weeks_of(session, ids)
    statement = text(OF_TRAJECTORIES if texts else TOKENS_OF_TRAJECTORIES)
    rows = session.execute(statement, {"ids": list(ids), "since": since, "until": until})
    calls: dict[str, list[records.Call]] = {trajectory_id: [] for trajectory_id in ids}
    for row in rows:
        calls[row.trajectory_id].append(_call(row, row.body if texts else NO_TEXT))
    return calls


FIRST_OF = text("""
    select call_id, trajectory_id, turn, model, prompt_token_ids, token_ids, logprobs, temperature, finish_reason,
           case when row_number() over by_turn > :texts_from then body end as body
      from rlfleet.calls where trajectory_id = :id and at >= :since and at < :until
    window by_turn as (order by turn, place, created_at, call_id rows unbounded preceding)
     order by turn, place, created_at, call_id limit :limit
""")


def first_of(session: Session, trajectory_id: str, at: datetime, limit: int, texts_from: int = 0) -> list[records.Call]:
    """The first calls of a trajectory that lies at ``at``, in the order of ``of_trajectories``.

    Those before place ``texts_from``, counted from 0, come without messages and with an empty answer.
    """
    values = {"id": trajectory_id, "limit": limit, "texts_from": texts_from} | partitions.bounds(at)
    return [_call(row, row.body or NO_TEXT) for row in session.execute(FIRST_OF, values)]


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
    return None if row is None else (row.trajectory_id, _call(row, row.body))  # its week may be dropped at this moment


ASKED = "select call_id from rlfleet.call_keys where call_id = any($1::text[])"


def taken(ids: Sequence[str], patience: float) -> set[str]:
    """Which of the ids calls are stored under, asked in a transaction of its own.

    Raises:
        DatabaseUnavailable: the database did not answer within ``patience`` seconds.
    """
    return {row.call_id for row in alone("calls_taken", ASKED, patience, ids=list(ids))}


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


def _call(row: Row[Any], body: Mapping[str, Any]) -> records.Call:
    return records.Call(
        call_id=row.call_id,
        turn=row.turn,
        model=row.model,
        messages=body["messages"],
        response=body["response"],
        prompt_token_ids=unpacked("i", row.prompt_token_ids),
        token_ids=unpacked("i", row.token_ids),
        logprobs=unpacked("f", row.logprobs),
        temperature=row.temperature,
        finish_reason=row.finish_reason,
        tools=body.get("tools"),
    )
