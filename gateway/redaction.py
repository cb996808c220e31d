"""Redacting what is on its way into the database: captured calls, and what agents report.

Rules and hooks are given the one record that all paths can make, a ``Trajectory``. Here it is a part of one: a call
that was captured has one call, a step one turn with its calls, a start or an end only metadata; feedback has its
``comment`` and ``author`` as metadata. Of a part ``scenario_id`` and ``agent_id`` are empty where they are not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pydantic import ValidationError

from db import redacting
from db.calls import NewCall
from db.feedback import NewFeedback
from db.recordings import End, Event, Start, Step
from db.session import transaction
from gateway.ingest import Rejected
from rl.errors import InvalidRow
from rl.records import Action, Call, Trajectory, Turn
from rl.redaction import Redaction, redact_text

READ_SECONDS = 5.0
"""For the lines' redactions to be read, before the patience with the commit begins."""

Rules = Sequence[Redaction]


def rules_of(events: Mapping[int, Event]) -> dict[int, Rules]:
    """What is to be applied to each event; events to which nothing is are left out.

    Raises:
        InvalidSettings: a line's redaction is not understood.
        DatabaseUnavailable: the lines could not be read.
    """
    with transaction(READ_SECONDS) as session:
        redactions = redacting.of_lines(session)
        if not redactions.is_set:
            return {}
        owners = redacting.owners_of(session, [key for one in events.values() if (key := _call_id(one))])
        ids = {_trajectory_id(one, owners) for one in events.values()}
        known = redacting.lines_of(session, sorted(ids))
    begun = {one.trajectory_id: one.line for one in events.values() if isinstance(one, Start)}
    lines = begun | known
    found = {
        index: redactions.of(lines.get(_trajectory_id(one, owners)))
        for index, one in events.items()
        if not (isinstance(one, Start) and one.consent is False)  # nothing of it is stored, whatever a hook does
    }
    return {index: one for index, one in found.items() if one}


def of_rejected(bad: Sequence[Rejected]) -> list[Rejected]:
    """Events that cannot be used as they may be told of: their type and the names of their fields may be anything.

    Raises:
        InvalidSettings: a line's redaction is not understood.
        DatabaseUnavailable: the lines could not be read.
    """
    with transaction(READ_SECONDS) as session:
        redactions = redacting.of_lines(session)
    return [_told(one, redactions.of(one.line)) for one in bad]


def _told(one: Rejected, rules: Rules) -> Rejected:
    names = ("type", "field", "row")
    return dataclasses.replace(one, **{name: reduce(redact_text, rules, getattr(one, name)) for name in names})


def _call_id(event: Event) -> str | None:
    return event.call_id if isinstance(event, NewFeedback) else None


def _trajectory_id(event: Event, owners: Mapping[str, str]) -> str:
    if isinstance(event, NewFeedback) and event.call_id is not None:
        return owners.get(event.call_id, "")
    return event.trajectory_id or ""


def changed(event: Event, rules: Rules) -> Event | InvalidRow:
    """The event as it may be stored, or why it may not.

    Raises:
        InvalidSettings: a hook is not there.
    """
    try:
        return _changed(event, rules)
    except InvalidRow as error:
        return error


def _changed(event: Event, rules: Rules) -> Event:
    if isinstance(event, Step):
        return _of_step(event, rules)
    if isinstance(event, NewFeedback):
        said = {"comment": event.comment, "author": event.author}
        kept = _clean(_part(event.trajectory_id or "", event.at, metadata=said), rules).metadata
        comment, author = _words(kept.get("comment")), _words(kept.get("author"))
        return dataclasses.replace(event, comment=comment, author=author)
    if isinstance(event, End):
        part = _clean(_part(event.trajectory_id, event.ended_at, metadata=event.metadata), rules)
        return dataclasses.replace(event, metadata=part.metadata, status=reduce(redact_text, rules, event.status))
    known = {"scenario_id": event.scenario_id or "", "agent_id": event.agent_id, "archetype": event.archetype}
    part = _clean(_part(event.trajectory_id, event.started_at, metadata=event.metadata, **known), rules)
    return dataclasses.replace(event, metadata=part.metadata, archetype=part.archetype)


def _words(value: object) -> str | None:
    return None if value is None else str(value)


def _of_step(step: Step, rules: Rules) -> Step:
    try:
        action = None if step.action is None else Action.model_validate(step.action)
        state, outcome = dict(step.state), dict(step.outcome)
        turn = Turn(turn=step.turn, at=step.at, state=state, action=action, reward=step.reward, outcome=outcome)
    except ValidationError:
        raise _unreadable() from None
    agent = next((call.agent_id for call in step.calls if call.agent_id), "")
    spoken = [_call(one) for one in step.calls]
    part = _clean(_part(step.trajectory_id, step.at, agent_id=agent, calls=spoken, turns=[turn]), rules)
    kept = part.turns[0]
    return dataclasses.replace(
        step,
        state=kept.state,
        action=None if kept.action is None else kept.action.model_dump(),
        reward=kept.reward,
        outcome=kept.outcome,
        calls=[_stored(one, was, now) for one, was, now in zip(step.calls, spoken, part.calls, strict=True)],
    )


def of_call(call: NewCall, rules: Rules) -> NewCall:
    """The call as it may be stored.

    Raises:
        InvalidRow: a hook refused it or failed, or it is no call.
        InvalidSettings: a hook is not there.
    """
    spoken = _call(call)
    part = _clean(_part(call.trajectory_id, call.at, agent_id=call.agent_id or "", calls=[spoken]), rules)
    return _stored(call, spoken, part.calls[0])


def _call(call: NewCall) -> Call:
    names = set(Call.model_fields)
    try:
        return Call.model_validate({name: getattr(call, name) for name in names})
    except ValidationError:
        raise _unreadable() from None


def _unreadable() -> InvalidRow:
    return InvalidRow("call", "<not shown>", "cannot be read, so the line's redaction cannot be applied to it")


def _stored(new: NewCall, before: Call, after: Call) -> NewCall:
    """``new`` with what became of it; the very same where nothing did."""
    if after == before:
        return new
    changed = NewCall.of(after, trajectory_id=new.trajectory_id, line=new.line, agent_id=new.agent_id, place=new.place)
    return dataclasses.replace(changed, at=new.at)


def _part(trajectory_id: str, at: datetime | None, **known: Any) -> Trajectory:
    moment = at or datetime.now(UTC)
    unknown = {"scenario_id": "", "agent_id": "", "calls": []}
    fields = unknown | known
    return Trajectory(trajectory_id=trajectory_id, started_at=moment, ended_at=moment, reward=0.0, **fields)


def _clean(part: Trajectory, rules: Rules) -> Trajectory:
    return reduce(lambda one, redaction: redacting.clean(one, redaction)[0], rules, part)
