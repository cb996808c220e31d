"""What a pass of retention would remove now. Only looked at: nothing is marked or locked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import checkpoints, retention
from db.checkpoints import GivenUp
from db.prune import KEEP_DAYS, OLD_ROWS
from db.session import transaction
from db.tables import Line, Version
from rl.checkpoint_retention import removable
from rl.config import LineConfig

ALL: Final = 2**31 - 1


def old_rows(session: Session) -> dict[str, int]:
    """How many rows are old enough, by table."""
    return {table: _count(session, str(delete)) for table, delete in OLD_ROWS.items()}


def _count(session: Session, delete: str) -> int:
    """Of a statement that deletes the rows which an inner one selects: how many that one finds."""
    inner = delete.partition("array(")[2].rpartition("))")[0]
    return int(session.execute(text(f"select count(*) from ({inner}) old"), {"batch": ALL}).scalar_one())  # noqa: S608


def windows(session: Session) -> list[tuple[str, str, int]]:
    """The line, name and number of trajectories of each window that may go, oldest first."""
    rows = session.execute(
        text("""
            select l.name, w.name, count(k.trajectory_id)
              from rlfleet.windows w join rlfleet.lines l on l.id = w.line_id
              join rlfleet.trajectory_keys k on k.window_id = w.id and k.erased_at is null
             where w.id = any(:ids) group by l.name, w.name, w.starts_at, w.id order by w.starts_at, w.id
        """),
        {"ids": retention.may_go(session)},
    )
    return [(str(line), str(name), int(count)) for line, name, count in rows]


def steps(session: Session) -> list[GivenUp]:
    """The checkpoints that no version needs."""
    found = []
    for version_id in session.scalars(checkpoints.SEVERAL).all():
        version = session.get_one(Version, version_id)
        config = session.scalars(select(Line.config).where(Line.id == version.line_id)).one()
        kept = LineConfig.model_validate(config).retention.checkpoints
        if given_up := removable(checkpoints.training(session, version), kept):
            found.append(GivenUp(version.name, tuple(given_up)))
    return found


def without_state(job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs need no saved state any more, as ``db.prune.forget_states`` would find."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select id from rlfleet.jobs
                 where id = any(:ids) and (state = 'succeeded' or (state in ('failed', 'dead', 'cancelled')
                                           and finished_at < now() - make_interval(days => :days)))
            """),
            {"ids": list(job_ids), "days": KEEP_DAYS},
        )
        return {int(row[0]) for row in rows}
