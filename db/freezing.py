"""What a training takes of its windows at the moment it is frozen, and what becomes of the windows afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import datasets, lines, trajectories, windows
from db.tables import Dataset, Line, Window
from db.trajectories import Scored
from rl.usable import Rule, Usable, usable

LEARNED = """
    select distinct on (t.trajectory_id) t.trajectory_id, v.name
      from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id and w.run_id is null
      join rlfleet.datasets d on d.id = o.dataset_id join rlfleet.versions v on v.job_id = d.job_id
      join rlfleet.dataset_trajectories t on t.dataset_id = d.id
     where o.window_id = any(:ids) and v.line_id = :line_id
     order by t.trajectory_id, v.number
"""
TRAINED = """
    update rlfleet.windows w set state = 'trained', reason = :reason
      from rlfleet.dataset_windows o join rlfleet.datasets d on d.id = o.dataset_id
     where d.id = :dataset_id and o.window_id = w.id and w.state in ('scored', 'trained')
       and w.again = coalesce((d.manifest -> 'again' ->> w.name)::int, 0)
       and not coalesce(d.manifest -> 'unsettled' @> to_jsonb(w.name), false)
"""


def learned_from(session: Session, line_id: int, window_ids: Sequence[int]) -> dict[str, str]:
    """The first version that learned from a trajectory, of those in datasets of these windows; rounds of runs aside."""
    found = session.execute(text(LEARNED), {"ids": list(window_ids), "line_id": line_id})
    return {str(row[0]): str(row[1]) for row in found}


def rule_of(line: Line, config: Mapping[str, Any]) -> Rule:
    """What a training with that ``config`` uses of the line's trajectories."""
    return Rule.of(config, lines.config_of(line).scoring.lone_rule)


def usable_of(session: Session, line: Line, window_ids: Sequence[int], config: Mapping[str, Any]) -> Usable[Scored]:
    """What a training with that ``config`` would use of what is stored of the windows now."""
    rows = trajectories.of_windows(session, window_ids)
    return usable(rows, rule_of(line, config), learned_from(session, line.id, window_ids))


def freeze(session: Session, line: Line, job_id: int, names: Sequence[str], config: Mapping[str, Any]) -> Dataset:
    """The job's dataset: chosen of the windows' trajectories the first time, the same one on every later attempt.

    Its manifest counts what was ``left_out``, by reason in ``skipped``. ``again`` says how often each window had been
    added to; ``unsettled`` are windows that were being read or scored at that moment, so that more is to come. No
    rows are added to the windows before the caller's transaction ends.

    Raises:
        UnknownWindow: the line has no such window.
    """
    if (existing := datasets.of_job(session, job_id)) is not None:
        return existing
    rows = _held(session, [windows.named(session, line.id, name).id for name in names])
    found = usable_of(session, line, [row.id for row in rows], config)
    again = {row.name: row.again for row in rows if row.again}
    unsettled = [row.name for row in rows if row.state not in ("scored", "trained")]
    about = {"windows": list(names), "config": dict(config), "left_out": len(found.left_out)}
    told = {"skipped": found.reasons, "again": again, "unsettled": unsettled}
    about |= {name: value for name, value in told.items() if value}
    groups = {one.row.trajectory_id: one.group for one in found.kept}
    return datasets.freeze(
        session, line.id, job_id, [row.id for row in rows], [one.row for one in found.kept], about, groups
    )


def _held(session: Session, ids: Sequence[int]) -> list[Window]:
    """The windows, which nobody else changes before this transaction ends."""
    query = select(Window).where(Window.id.in_(ids)).order_by(Window.id).with_for_update(read=True)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def mark_trained(session: Session, dataset_id: int, reason: str) -> None:
    """The dataset's windows are ``trained``, but for those that rows were added to since it was frozen."""
    session.execute(text(TRAINED), {"dataset_id": dataset_id, "reason": reason})


def only_look(session: Session) -> None:
    """Have the database refuse whatever this transaction would write. To be called first."""
    session.execute(text("set transaction read only"))
