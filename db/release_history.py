"""The releases of lines as a person looks at them: what is live, what the last look said, and what was before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import lines
from db.released import LineReleases
from db.tables import Line
from db.watching import UNWATCHED_SECONDS
from rl.live import Look
from rl.records import utc
from rl.release_plan import Plan

MOST = 20


@dataclass(frozen=True)
class Past:
    """A release row; times are ISO 8601. ``ended`` None: it is live. ``look`` is the last one at its traffic.

    ``is_unwatched`` says of a live canary that nobody looked at it for ten minutes.
    """

    stage: str
    version: str
    state: str
    share: int
    reason: str
    began: str
    ended: str | None
    ended_reason: str | None
    plan: Plan | None
    look: Look | None
    looked_at: str | None
    is_unwatched: bool = False


@dataclass(frozen=True)
class LineHistory:
    """A line's releases, the newest first. Not ``ok``: its last canary was rolled back, and nothing released since.

    ``waiting`` are the versions whose release a person must approve.
    """

    line: str
    ok: bool
    releases: tuple[Past, ...]
    waiting: tuple[str, ...] = ()

    def live(self, stage: str) -> Past | None:
        """The live release at that stage."""
        return next((one for one in self.releases if one.stage == stage and one.ended is None), None)


# The live ones are shown however many came after them.
RELEASES = text("""
    select r.stage, v.name as version, v.state, r.share, r.reason, r.created_at, r.ended_at, r.ended_reason, r.plan,
           r.looked, r.looked_at,
           r.stage = 'canary' and r.ended_at is null
           and coalesce(r.looked_at, r.created_at) < now() - make_interval(secs => :unwatched) as is_unwatched
      from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
     where r.line_id = :line_id
       and (r.ended_at is null
            or r.id in (select id from rlfleet.releases where line_id = :line_id order by id desc limit :most))
     order by r.id desc
""")
ROLLED_BACK = text("""
    select exists (
        select 1 from rlfleet.releases c join rlfleet.versions v on v.id = c.version_id
         where c.line_id = :line_id and c.stage = 'canary' and c.ended_at is not null and v.state = 'rejected'
           and not exists (select 1 from rlfleet.releases n where n.line_id = c.line_id and n.created_at >= c.ended_at))
""")
WAITING = text("""
    select v.name from rlfleet.versions v
      join rlfleet.decisions d on d.version_id = v.id and d.approval = 'waiting'
     where v.line_id = :line_id and v.state <> 'rejected'
     group by v.id order by v.id
""")


def of_lines(session: Session, name: str | None = None, most: int = MOST) -> list[LineHistory]:
    """Every line by name, or one alone; of each the live releases and the ``most`` newest.

    Raises:
        InvalidInput: there is no line of that name.
    """
    found = [lines.named(session, name)] if name else session.scalars(select(Line).order_by(Line.name)).all()
    return [_history(session, line, most) for line in found]


def plain(one: LineHistory, now: LineReleases) -> dict[str, Any]:
    """The line as JSON has it: who answers its agents ``now``, and what was before, the newest first."""
    return {
        "line": one.line,
        "ok": one.ok,
        "killed": now.killed,
        "pinned": now.pinned.name if now.pinned else None,
        "pin_counts": now.pinned is not None and now.pinned.state == "ready",
        "stable": _release(one.live("stable")),
        "canary": _release(one.live("canary")),
        "waiting": list(one.waiting),
        "history": [_release(past) for past in one.releases if past.ended is not None],
    }


def _release(past: Past | None) -> dict[str, Any] | None:
    if past is None:
        return None
    return vars(past) | {
        "plan": past.plan.model_dump(mode="json") if past.plan else None,
        "look": past.look.model_dump(mode="json") if past.look else None,
    }


def _history(session: Session, line: Line, most: int) -> LineHistory:
    values: dict[str, Any] = {"line_id": line.id, "most": most}
    rows = session.execute(RELEASES, values | {"unwatched": UNWATCHED_SECONDS}).all()
    is_rolled_back = bool(session.execute(ROLLED_BACK, values).scalar_one())
    waiting = tuple(session.scalars(WAITING, values))
    return LineHistory(line.name, not is_rolled_back, tuple(_past(row) for row in rows), waiting)


def _past(row: Any) -> Past:
    return Past(
        stage=row.stage,
        version=row.version,
        state=row.state,
        share=row.share,
        reason=row.reason,
        began=utc(row.created_at),
        ended=utc(row.ended_at) if row.ended_at else None,
        ended_reason=row.ended_reason,
        plan=Plan.model_validate(row.plan) if row.plan else None,
        look=Look.model_validate(row.looked) if row.looked else None,
        looked_at=utc(row.looked_at) if row.looked_at else None,
        is_unwatched=row.is_unwatched,
    )
