"""What people asked for through the admin API and the command line, and whether it was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from rl.records import utc

Outcome = Literal["done", "refused", "failed"]
LONGEST = 500
"""Characters of a subject, an actor or a detail's text that are kept."""


@dataclass(frozen=True)
class Entry:
    """One row; ``at`` is ISO 8601."""

    entry_id: int
    at: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    outcome: str
    address: str


def note(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    outcome: Outcome,
    *,
    detail: Mapping[str, Any] | None = None,
    token_id: int | None = None,
    address: str = "",
) -> None:
    """Keep who asked for what, and whether it was done."""
    session.execute(
        text("""
            insert into rlfleet.audit (actor, token_id, action, subject, detail, outcome, address)
            values (:actor, :token_id, :action, :subject, cast(:detail as jsonb), :outcome, :address)
        """),
        {
            "actor": _storable(actor),
            "token_id": token_id,
            "action": action,
            "subject": _storable(subject),
            "detail": json.dumps({name: _short(value) for name, value in (detail or {}).items()}),
            "outcome": outcome,
            "address": _storable(address),
        },
    )


def listing(session: Session, limit: int = 100, before: int | None = None) -> list[Entry]:
    """The newest first; ``before`` is the id of the oldest row that is known already."""
    rows = session.execute(
        text("""
            select id, at, actor, action, subject, detail, outcome, address from rlfleet.audit
             where cast(:before as bigint) is null or id < :before order by id desc limit :limit
        """),
        {"before": before, "limit": limit},
    )
    return [Entry(int(row[0]), utc(row[1]), *row[2:]) for row in rows]


def _short(value: Any) -> Any:
    return _storable(value) if isinstance(value, str) else value


def _storable(words: str) -> str:
    """Postgres takes no NUL, and JSON no half of a pair."""
    clean = words.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return clean[:LONGEST]
