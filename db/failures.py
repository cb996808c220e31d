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

    ``asked`` is false where circuit breakers kept the call from every engine.
    """

    call_id: str
    line: str
    model: str
    reason: str
    at: datetime
    asked: bool = True


INSERT = text("""
    insert into rlfleet.call_failures (call_id, line, model, reason, at, asked)
    select call_id, line, model, reason, cast(at as timestamptz), asked
      from unnest(cast(:call_id as text[]), cast(:line as text[]), cast(:model as text[]),
                  cast(:reason as text[]), cast(:at as text[]), cast(:asked as boolean[]))
        as new(call_id, line, model, reason, at, asked)
    on conflict (call_id) do nothing returning call_id
""")


def insert(session: Session, failures: Sequence[NewFailure]) -> list[bool]:
    """Store the failures in one statement. For each: False when one was stored under its id before."""
    if not failures:
        return []
    columns: dict[str, list[object]] = {
        name: [getattr(one, name) for one in failures] for name in ("call_id", "line", "model", "reason", "asked")
    }
    columns["at"] = [one.at.isoformat() for one in failures]
    fresh = set(session.scalars(INSERT, columns))
    stored = []
    for one in failures:
        stored.append(one.call_id in fresh)
        fresh.discard(one.call_id)
    return stored
