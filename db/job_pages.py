"""One job as a page shows it: its moments, its holder, its config, the curves of its training; and a window's jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.job_views import SUMMARY, Summary
from db.tables.jobs import WINDOWS


@dataclass(frozen=True)
class Times:
    """When a job was asked for, is due, began and ended, and when its holder last said that it works."""

    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None


@dataclass(frozen=True)
class Detail:
    """What a page says of a job beside its summary. ``owner`` is the host and the pid of its last holder.

    ``devices`` are those of the workers that serve its queue on that host.
    """

    times: Times
    queue: str
    owner: str | None
    max_attempts: int
    cancel_requested: bool
    config: dict[str, Any]
    curves: dict[str, list[Any]]
    devices: list[str]


DETAIL = text("""
    select j.created_at, j.run_at, j.started_at, j.finished_at, j.heartbeat_at, j.queue, j.owner, j.max_attempts,
           j.cancel_requested, j.config, coalesce(j.progress -> 'curves', '{}'),
           array(select distinct w.device from rlfleet.workers w
                  where j.queue = any(w.queues) and w.device <> ''
                    and split_part(w.name, '@', 2) = split_part(j.owner, ':', 1) order by 1)
      from rlfleet.jobs j where j.id = :job_id
""")


def detail(session: Session, job_id: int) -> Detail | None:
    """None: there is no such job."""
    row = session.execute(DETAIL, {"job_id": job_id}).one_or_none()
    return None if row is None else Detail(Times(*row[:5]), *row[5:])


def times(session: Session, job_ids: Iterable[int]) -> dict[int, Times]:
    """The moments of these jobs."""
    query = text("""
        select id, created_at, run_at, started_at, finished_at, heartbeat_at from rlfleet.jobs where id = any(:ids)
    """)
    return {int(row[0]): Times(*row[1:]) for row in session.execute(query, {"ids": list(job_ids)})}


ABOUT = text(f"select id from rlfleet.jobs where line_id = :line_id and {WINDOWS} @> to_jsonb(cast(:window as text))")  # noqa: S608 (of a constant)


def of_window(session: Session, line_id: int, window: str, limit: int = 50) -> tuple[list[Summary], int]:
    """The newest jobs that collect, score or train on the window, the newest first, and how many there are."""
    ids = sorted(session.scalars(ABOUT, {"line_id": line_id, "window": window}), reverse=True)
    where = text(f"{SUMMARY} where j.id = any(:ids) order by j.id desc")
    return [Summary(*row) for row in session.execute(where, {"ids": ids[:limit]})], len(ids)
