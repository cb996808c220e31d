"""The canaries that are live, each with its plan, its place in it and what the last look said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from db.tables import Line, Release, Version
from rl.release_plan import Plan


@dataclass(frozen=True)
class Canary:
    """A canary's live row, which holds since ``began``. ``stable`` is the version it is compared with.

    ``first_began`` is when the row of its first place began. ``seen`` is what the last look said, at ``seen_at``.
    """

    release_id: int
    line_id: int
    line: str
    version_id: int
    version: str
    stable_id: int | None
    stable: str | None
    decision_id: int
    place: int
    share: int
    plan: Plan
    began: datetime
    first_began: datetime
    seen: dict[str, Any] | None
    seen_at: datetime | None


def canaries(session: Session) -> list[Canary]:
    """Every live canary, by line."""
    stable, baseline, first = aliased(Release), aliased(Version), aliased(Release)
    began = (
        select(func.min(first.created_at))
        .where(first.decision_id == Release.decision_id, first.stage == "canary", first.id <= Release.id)
        .scalar_subquery()
    )
    is_stable = (stable.line_id == Release.line_id) & (stable.stage == "stable") & stable.ended_at.is_(None)
    rows = session.execute(
        select(Release, Line.name, Version.name, baseline.id, baseline.name, began)
        .join(Line, Line.id == Release.line_id)
        .join(Version, Version.id == Release.version_id)
        .outerjoin(stable, is_stable)
        .outerjoin(baseline, baseline.id == stable.version_id)
        .where(Release.stage == "canary", Release.ended_at.is_(None))
        .order_by(Line.name)
        .execution_options(populate_existing=True)
    )
    return [_canary(*row) for row in rows]


def looked(session: Session, release_id: int, dump: dict[str, Any]) -> None:
    """Store what a look at the canary's traffic said."""
    values = {"looked": dump, "looked_at": func.clock_timestamp()}
    session.execute(update(Release).where(Release.id == release_id).values(values))


def _canary(
    row: Release, line: str, version: str, stable_id: int | None, stable: str | None, first_began: datetime
) -> Canary:
    return Canary(
        release_id=row.id,
        line_id=row.line_id,
        line=line,
        version_id=row.version_id,
        version=version,
        stable_id=stable_id,
        stable=stable,
        decision_id=row.decision_id,
        place=row.place,
        share=row.share,
        plan=Plan.model_validate(row.plan or {}),
        began=row.created_at,
        first_began=first_began,
        seen=row.looked,
        seen_at=row.looked_at,
    )
