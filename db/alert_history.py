"""Alerts as people look at them: those that nobody has taken yet, and those of before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rl.records import utc


@dataclass(frozen=True)
class Told:
    """One alert. ``sent_at`` None: it waits, was tried so often, and ``error`` says why the last try did not succeed.

    Moments are ISO 8601.
    """

    alert_id: int
    name: str
    subject: str
    detail: dict[str, Any]
    created_at: str
    sent_at: str | None
    tries: int
    error: str | None


def listing(
    session: Session, limit: int = 100, before: int | None = None, *, waiting: bool | None = None
) -> list[Told]:
    """The newest first: all, or those that wait, or those that do not. ``before`` is the oldest id known already."""
    rows = session.execute(
        text("""
            select id, name, subject, detail, created_at, sent_at, tries, error from rlfleet.alerts
             where (cast(:before as bigint) is null or id < :before)
               and (cast(:waiting as boolean) is null or (sent_at is null) = :waiting)
             order by id desc limit :limit
        """),
        {"before": before, "waiting": waiting, "limit": limit},
    )
    return [
        Told(int(row[0]), row[1], row[2], row[3], utc(row[4]), utc(row[5]) if row[5] else None, int(row[6]), row[7])
        for row in rows
    ]
