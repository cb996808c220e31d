"""What agents report while it happens: heads of trajectories, steps and their calls, in any order, each stored once.

A trajectory's events are stored one request at a time, under a lock on its head; of two that say the same the first
counts. Steps and calls lie at the moment of their arrival, by the database's clock, or where their trajectory does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import calls, feedback, outcomes, partitions, withdrawals
from db.call_rows import json_text
from db.calls import NewCall
from db.feedback import NewFeedback
from db.tables import Line, Quarantine, Recording
from db.windows import database_now
from rl.errors import InvalidRow
from rl.records import Quarantined

DEFAULT_LINE = "main"


@dataclass(frozen=True, slots=True)
class Start:
    """An episode begins. ``consent`` False: nothing of it is to be stored. ``started_at`` None is its arrival."""

    trajectory_id: str
    agent_id: str
    line: str = DEFAULT_LINE
    scenario_id: str | None = None
    window: str | None = None
    archetype: str | None = None
    started_at: datetime | None = None
    consent: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One agent step. ``action`` has the fields of ``rl.records.Action``; the calls' line and agent are the head's."""

    trajectory_id: str
    turn: int
    at: datetime | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    action: Mapping[str, Any] | None = None
    reward: float = 0.0
    outcome: Mapping[str, Any] = field(default_factory=dict)
    calls: Sequence[NewCall] = ()


@dataclass(frozen=True, slots=True)
class End:
    """An episode is over. ``reward`` None is the sum of its steps', ``ended_at`` None the arrival."""

    trajectory_id: str
    ended_at: datetime | None = None
    status: str = "completed"
    reward: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


Event = Start | Step | End | NewFeedback


@dataclass(slots=True)
class _Head:
    """A locked head. ``lies_at`` is where the collected trajectory lies, ``line`` the line that collected it."""

    row: Recording
    lies_at: datetime | None = None
    is_erased: bool = False
    line: str | None = None

    @property
    def is_closed(self) -> bool:
        return self.is_erased or self.row.consent is False

    @property
    def since(self) -> datetime:
        return min(self.row.created_at, self.lies_at or self.row.created_at)


def store(session: Session, events: Sequence[Event]) -> list[bool]:
    """Store the events. For each: True where it is the first to say so, False for a repeat.

    Starts are taken first, then steps, ends and feedback, whatever their order. Events of a trajectory without consent
    are taken and nothing of them is stored; what was stored before the refusal came is deleted.

    Raises:
        InvalidRow: the trajectory's id is another line's or another agent's.
    """
    ours = [one for one in events if not isinstance(one, NewFeedback)]
    heads, present = _locked(session, sorted({one.trajectory_id for one in ours}))
    _check_owners(heads, ours)
    is_new = {
        id(one): _start(session, heads[one.trajectory_id], one, present) for one in ours if isinstance(one, Start)
    }
    steps = [one for one in ours if isinstance(one, Step)]
    is_new |= _store_steps(session, heads, steps, present)
    is_new |= {id(one): _end(heads[one.trajectory_id], one, present) for one in ours if isinstance(one, End)}
    session.flush()
    given = [one for one in events if isinstance(one, NewFeedback)]
    if given:
        kept = feedback.insert(session, given, present)
        is_new |= {id(one): fresh for one, fresh in zip(given, kept, strict=True)}
    return [is_new[id(one)] for one in events]


def quarantine(session: Session, line: str, rows: Sequence[Quarantined]) -> int:
    """Keep what cannot be used, once each, of no window. Nothing where there is no such line. How many are new."""
    line_id = session.scalar(select(Line.id).where(Line.name == line))
    if line_id is None:
        return 0
    values = [row.model_dump() | {"line_id": line_id, "window_id": None} for row in rows]
    added = insert(Quarantine).on_conflict_do_nothing().returning(Quarantine.id)
    return len(session.scalars(added, values).all())


OWNED = "another line or agent has a trajectory of this id; ids are global, so give each agent its own prefix"


def _check_owners(heads: Mapping[str, _Head], events: Sequence[Start | Step | End]) -> None:
    """A start says whose it is, and the rest goes where it went. A refusal of consent holds wherever it comes from."""
    first = {one.trajectory_id: one for one in reversed(events) if isinstance(one, Start)}
    for one in events:
        head, start = heads[one.trajectory_id], first.get(one.trajectory_id)
        is_ours = head.row.agent_id is not None or head.lies_at is None or start is not None
        if isinstance(one, Start) and start is not None:
            whose = (head.row.line, head.row.agent_id) if head.row.agent_id else (start.line, start.agent_id)
            is_ours = one.consent is False or ((one.line, one.agent_id) == whose and head.line in (None, one.line))
        if not (is_ours or head.is_closed):
            raise InvalidRow("trajectoryId", one.trajectory_id, OWNED)


MAKE = text("""
    insert into rlfleet.recordings (trajectory_id, line) select one, :line from unnest(cast(:ids as text[])) as one
    on conflict do nothing
""")
KEYS = text("""
    select k.trajectory_id, k.at, k.erased_at is not null, l.name from rlfleet.trajectory_keys k
      join rlfleet.lines l on l.id = k.line_id where k.trajectory_id = any(:ids)
""")


def _locked(session: Session, ids: list[str]) -> tuple[dict[str, _Head], datetime]:
    """The heads, made where they are not there and locked in the order of their ids, and the present moment."""
    if ids:
        session.execute(MAKE, {"ids": ids, "line": DEFAULT_LINE})
    query = select(Recording).where(Recording.trajectory_id.in_(ids)).order_by(Recording.trajectory_id)
    rows = session.scalars(query.with_for_update()).all()
    keys = {row.trajectory_id: row[1:] for row in session.execute(KEYS, {"ids": ids})}
    heads = {row.trajectory_id: _Head(row, *keys.get(row.trajectory_id, ())) for row in rows}
    return heads, database_now(session)


def _start(session: Session, head: _Head, start: Start, present: datetime) -> bool:
    row = head.row
    if row.consent is False or (row.agent_id is not None and start.consent is not False):
        return False
    if start.consent is False:  # also of one that went on until then
        _forget(session, head)
        return True
    if head.is_erased:
        return True
    row.agent_id, row.scenario_id, row.window = start.agent_id, start.scenario_id, start.window
    row.archetype, row.consent = start.archetype, start.consent
    row.started_at, row.details = start.started_at or present, start.metadata | row.details
    if start.line != row.line:
        row.line = start.line
        session.execute(RENAME, {"line": start.line, "id": row.trajectory_id, "since": partitions.week_of(head.since)})
    return True


RENAME = text("update rlfleet.calls set line = :line where trajectory_id = :id and at >= :since")


def _forget(session: Session, head: _Head) -> None:
    """Nobody agreed: keep the id, so that what is reported of it later is not stored either."""
    row = head.row
    row.consent, row.line, row.details = False, DEFAULT_LINE, {}
    row.agent_id = row.scenario_id = row.window = row.archetype = None
    row.started_at = row.ended_at = row.status = row.reward = None
    session.flush()
    if withdrawals.delete(session, [row.trajectory_id]):
        session.expunge(row)  # its key says so from here on


def _end(head: _Head, end: End, present: datetime) -> bool:
    """An abandoned episode, which has no status, may still end; once it was collected its hour stays."""
    row = head.row
    if row.status is not None:
        return False
    if head.is_closed:
        return True
    if head.lies_at is None or row.ended_at is None:
        row.ended_at = end.ended_at or present
    row.status, row.reward, row.details = end.status, end.reward, row.details | end.metadata
    return True


KNOWN = text("select trajectory_id, turn from rlfleet.turns where trajectory_id = any(:ids) and at >= :since")


def _store_steps(
    session: Session, heads: Mapping[str, _Head], steps: Sequence[Step], present: datetime
) -> dict[int, bool]:
    """Whether each step, by its identity, is the first of its number."""
    if not steps:
        return {}
    since = min(heads[one.trajectory_id].since for one in steps)
    values = {"ids": sorted({one.trajectory_id for one in steps}), "since": partitions.week_of(since)}
    known = {(row.trajectory_id, row.turn) for row in session.execute(KNOWN, values)}
    is_new, fresh = {}, []
    for one in steps:
        key, head = (one.trajectory_id, one.turn), heads[one.trajectory_id]
        is_new[id(one)] = key not in known
        if key not in known and not head.is_closed:
            known.add(key)
            fresh.append(one)
            _revive(head)
    _insert_turns(session, heads, fresh, present)
    _store_outcomes(session, heads, steps, fresh)
    spoken = [_placed(call, heads[one.trajectory_id], present) for one in fresh for call in one.calls]
    calls.insert(session, spoken)
    feedback.adopt(session, [call.call_id for call in spoken])
    return is_new


def _revive(head: _Head) -> None:
    """A step of an episode that was taken to be abandoned: it goes on, unless it was collected."""
    if head.row.status is None and head.lies_at is None:
        head.row.ended_at = None


def _placed(call: NewCall, head: _Head, present: datetime) -> NewCall:
    return dataclasses.replace(call, line=head.row.line, agent_id=head.row.agent_id, at=head.lies_at or present)


# One array of text a column, as ``db.calls`` does.
INSERT = text("""
    insert into rlfleet.turns (trajectory_id, turn, at, action, reward, details)
    select trajectory_id, cast(turn as int), cast(at as timestamptz), action, cast(reward as float8),
           cast(details as json)
      from unnest(cast(:trajectory_id as text[]), cast(:turn as text[]), cast(:at as text[]), cast(:action as text[]),
                  cast(:reward as text[]), cast(:details as text[]))
        as new(trajectory_id, turn, at, action, reward, details)
""")


ADD_OUTCOME = text("""
    update rlfleet.turns set details = jsonb_set(details::jsonb, '{outcome}', cast(:outcome as jsonb))::json
     where trajectory_id = :id and turn = :turn and at >= :since and details is not null
""")


def _store_outcomes(session: Session, heads: Mapping[str, _Head], steps: Sequence[Step], fresh: Sequence[Step]) -> None:
    """What became known of steps: with the step until its trajectory is collected, and beside it from then on.

    A step that is reported again says nothing new but its outcome, of which the newest counts.
    """
    first = {id(one) for one in fresh}
    known = [(heads[one.trajectory_id], one) for one in steps if one.outcome]
    outcomes.add(session, {(one.trajectory_id, one.turn): one.outcome for head, one in known if head.lies_at})
    for head, one in known:
        if head.lies_at is None and id(one) not in first and not head.is_closed:
            values = {"id": one.trajectory_id, "turn": one.turn, "outcome": json_text(one.outcome)}
            session.execute(ADD_OUTCOME, values | {"since": partitions.week_of(head.since)})


def _insert_turns(session: Session, heads: Mapping[str, _Head], steps: Sequence[Step], present: datetime) -> None:
    if not steps:
        return
    places = [heads[one.trajectory_id].lies_at or present for one in steps]
    partitions.ensure(places)
    session.execute(
        INSERT,
        {
            "trajectory_id": [one.trajectory_id for one in steps],
            "turn": [str(one.turn) for one in steps],
            "at": [place.isoformat() for place in places],
            "action": [one.action and one.action["kind"] for one in steps],
            "reward": [repr(one.reward) for one in steps],
            "details": [json_text(_details(one, heads[one.trajectory_id])) for one in steps],
        },
    )


def _details(step: Step, head: _Head) -> dict[str, Any]:
    at = None if step.at is None else step.at.astimezone(UTC).isoformat()
    known_later = {"outcome": step.outcome} if step.outcome and head.lies_at is None else {}
    return {"at": at, "state": step.state, "action": step.action} | known_later
