"""How far collecting, training and releasing are on a line, in the shape of the older system's status."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines, readiness
from rl.records import utc

NUMBERS = text("""
    select (select count(*) from rlfleet.trajectory_keys k join rlfleet.windows w on w.id = k.window_id
             where k.line_id = :line_id and k.erased_at is null and w.run_id is null
               and w.ends_at > now() - interval '24 hours' and k.at <= now()) as last_day,
           (select max(j.id) from rlfleet.jobs j
             where j.line_id = :line_id and j.kind = 'train' and j.state = 'running') as running,
           (select max(j.id) from rlfleet.jobs j
             where j.line_id = :line_id and j.kind = 'train' and j.state = 'queued') as queued,
           (select max(j.finished_at) from rlfleet.jobs j
             where j.line_id = :line_id and j.kind = 'train' and j.state = 'succeeded') as completed,
           (select v.name from rlfleet.versions v where v.line_id = :line_id order by v.number desc limit 1) as latest,
           (select v.name from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
             where r.line_id = :line_id and r.stage = 'stable' and r.ended_at is null) as deployed,
           (select count(*) from rlfleet.jobs j where j.line_id = :line_id and j.state = 'dead') as dead,
           (select count(*) from rlfleet.pauses) as paused,
           (select count(*) from rlfleet.workers where seen_at > now() - interval '60 seconds') as workers
""")


def status(session: Session, line: str) -> dict[str, Any]:
    """``status`` is ``degraded`` while a job of the line is dead, a kind of job is paused, or no worker is there.

    ``last24h`` is of hours that ended lately, 24 of them where all were collected; rounds of runs do not count.
    Moments are ISO 8601, and what there is none of is null.

    Raises:
        InvalidInput: no such line.
    """
    row = lines.named(session, line)
    found = session.execute(NUMBERS, {"line_id": row.id}).one()
    ready = readiness.readiness_of(session, row)
    well = not found.dead and not found.paused and found.workers
    current = found.running or found.queued
    return {
        "status": "healthy" if well else "degraded",
        "automation": {
            "dataCollection": {"last24h": int(found.last_day), "ratePerHour": round(found.last_day / 24, 2)},
            "training": {
                "currentJob": None if current is None else str(current),
                "lastCompleted": None if found.completed is None else utc(found.completed),
            },
            "models": {"latest": found.latest, "deployed": found.deployed},
        },
        "readiness": {
            "ready": ready.ready,
            "reason": ready.reason,
            "stats": {"totalTrajectories": ready.stats.scored, "scenarioGroups": ready.stats.groups},
        },
    }
