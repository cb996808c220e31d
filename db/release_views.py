"""The releases of a line with who decided on each, and what can be gone back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import lines, releases
from db.tables import Release

A_PAGE = 30


@dataclass(frozen=True)
class Event:
    """A release row. ``by`` is the person who decided or approved, or the policy that did."""

    version: str
    state: str
    stage: str
    share: int
    reason: str
    by: str
    began: Any
    ended: Any
    ended_reason: str | None


def history(session: Session, line: str, page: int = 1) -> tuple[list[Event], int]:
    """A page of the line's releases, the newest first, and how many there are.

    Raises:
        InvalidInput: there is no such line.
    """
    line_id = lines.named(session, line).id
    count = int(session.execute(COUNT, {"line_id": line_id}).scalar_one())
    values = {"line_id": line_id, "limit": A_PAGE, "offset": (page - 1) * A_PAGE}
    return [Event(*row) for row in session.execute(HISTORY, values)], count


def earlier(session: Session, line: str) -> list[str]:
    """Versions that were stable on the line and still may be, but for the one that is: the last one first.

    Raises:
        InvalidInput: there is no such line.
    """
    return list(session.scalars(EARLIER, {"line_id": lines.named(session, line).id}))


def went_back(session: Session, line: str) -> str:
    """Why a version must be named to go back further, in words; empty where none need be.

    Raises:
        InvalidInput: there is no such line.
    """
    live = (Release.line_id == lines.named(session, line).id) & Release.ended_at.is_(None)
    stable = session.scalar(select(Release).where(live & (Release.stage == "stable")))
    return releases.went_back(session, stable) if stable is not None else ""


COUNT = text("select count(*) from rlfleet.releases where line_id = :line_id")
HISTORY = text("""
    select v.name, v.state, r.stage, r.share, r.reason,
           coalesce(d.actor, 'approved by ' || d.approved_by, 'policy ' || d.policy) as by,
           r.created_at, r.ended_at, r.ended_reason
      from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
      join rlfleet.decisions d on d.id = r.decision_id
     where r.line_id = :line_id order by r.id desc limit :limit offset :offset
""")
EARLIER = text("""
    select v.name from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
     where r.line_id = :line_id and r.stage = 'stable' and v.state = 'ready'
       and v.id not in (select version_id from rlfleet.releases
                         where line_id = :line_id and stage = 'stable' and ended_at is null)
     group by v.id order by max(r.id) desc limit 50
""")
