"""Calls that a version should have answered and did not: what a release is judged by besides rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class NewFailure:
    """The version ``model`` of ``line`` did not answer the call. ``at`` (aware) is when; ``reason`` is for people.

    ``asked`` is false where circuit breakers kept the call from every engine. ``unit`` is whose call it was: the
    agent's id, or without one the trajectory's; None where nobody knows.
    """

    call_id: str
    line: str
    model: str
    reason: str
    at: datetime
    asked: bool = True
    unit: str | None = None


INSERT = text("""
    insert into rlfleet.call_failures (call_id, line, model, reason, at, asked, unit)
    select call_id, line, model, reason, cast(at as timestamptz), asked, unit
      from unnest(cast(:call_id as text[]), cast(:line as text[]), cast(:model as text[]),
                  cast(:reason as text[]), cast(:at as text[]), cast(:asked as boolean[]),
                  cast(:unit as text[]))
        as new(call_id, line, model, reason, at, asked, unit)
    on conflict (call_id) do nothing returning call_id
""")


def insert(session: Session, failures: Sequence[NewFailure]) -> list[bool]:
    """Store the failures in one statement. For each: False when one was stored under its id before."""
    if not failures:
        return []
    columns: dict[str, list[object]] = {
        name: [getattr(one, name) for one in failures]
        for name in ("call_id", "line", "model", "reason", "asked", "unit")
    }
    columns["at"] = [one.at.isoformat() for one in failures]
    fresh = set(session.scalars(INSERT, columns))
    stored = []
    for one in failures:
        stored.append(one.call_id in fresh)
        fresh.discard(one.call_id)
    return stored
