"""What a training takes of its windows at the moment it is frozen, and what becomes of the windows afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import datasets, erasure, lines, trajectories, versions, windows
from db.tables import Dataset, Line, Window
from db.trajectories import Scored
from rl.usable import Rule, Usable, usable

LEARNED = """
    with recursive ancestors as (
        select id, parent_id from rlfleet.versions where line_id = :line_id and name = :origin
        union select v.id, v.parent_id from rlfleet.versions v join ancestors a on v.id = a.parent_id
    )
    select distinct on (t.trajectory_id) t.trajectory_id, v.name
      from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id and w.run_id is null
      join rlfleet.datasets d on d.id = o.dataset_id join rlfleet.versions v on v.job_id = d.job_id
      join rlfleet.dataset_trajectories t on t.dataset_id = d.id
     where o.window_id = any(:ids) and v.id in (select id from ancestors)
     order by t.trajectory_id, v.number
"""
TRAINED = """
    update rlfleet.windows w set state = 'trained', reason = :reason
      from rlfleet.dataset_windows o join rlfleet.datasets d on d.id = o.dataset_id
     where d.id = :dataset_id and o.window_id = w.id and w.state in ('scored', 'trained')
       and w.again = coalesce((d.manifest -> 'again' ->> w.name)::int, 0)
       and not coalesce(d.manifest -> 'unsettled' @> to_jsonb(w.name), false)
"""


def learned_from(
    session: Session, line_id: int, window_ids: Sequence[int], config: Mapping[str, Any]
) -> dict[str, str]:
    """What a training with that ``config`` knows already: by trajectory, the first version that learned from it.

    Of datasets of these windows, rounds of runs aside, and of the version that the training goes on from and those
    before it. One that begins at the base model knows nothing.
    """
    origin = goes_on_from(session, line_id, config)
    if origin is None:
        return {}
    values = {"ids": list(window_ids), "line_id": line_id, "origin": origin}
    return {str(row[0]): str(row[1]) for row in session.execute(text(LEARNED), values)}


def goes_on_from(session: Session, line_id: int, config: Mapping[str, Any]) -> str | None:
    """The version that a training on hours goes on from; None is the line's base model.

    An adapter goes on from the stable version's, full weights from the base model.
    """
    return versions.stable_name(session, line_id) if config.get("lora") is not None else None


def rule_of(line: Line, config: Mapping[str, Any]) -> Rule:
    """What a training with that ``config`` uses of the line's trajectories."""
    known = lines.config_of(line)
    return Rule.of(config, known.scoring.lone_rule, known.held_out)


def usable_of(session: Session, line: Line, window_ids: Sequence[int], config: Mapping[str, Any]) -> Usable[Scored]:
    """What a training with that ``config`` would use of what is stored of the windows now."""
    rows = trajectories.of_windows(session, window_ids)
    return usable(rows, rule_of(line, config), learned_from(session, line.id, window_ids, config))


def freeze(session: Session, line: Line, job_id: int, names: Sequence[str], config: Mapping[str, Any]) -> Dataset:
    """The job's dataset: chosen of the windows' trajectories the first time, the same one on every later attempt.

    One with a trajectory that may not be trained on any more is chosen anew; see ``thaw``, which says which files go.
    Its manifest counts what was ``left_out``, by reason in ``skipped``. ``again`` says how often each window had been
    added to; ``unsettled`` are windows that were being read or scored at that moment, so that more is to come;
    ``held_out`` by which share and salt no scenario of it was held out. No rows are added to the windows before the
    caller's transaction ends.

    Raises:
        UnknownWindow: the line has no such window.
    """
    thaw(session, job_id)
    if (existing := datasets.of_job(session, job_id)) is not None:
        return existing
    rows = _held(session, [windows.named(session, line.id, name).id for name in names])
    found = usable_of(session, line, [row.id for row in rows], config)
    again = {row.name: row.again for row in rows if row.again}
    unsettled = [row.name for row in rows if row.state not in ("scored", "trained")]
    about = {"windows": list(names), "config": dict(config), "left_out": len(found.left_out)}
    held = lines.config_of(line).held_out
    kept = {"share": held.share, "salt": held.salt} if held is not None else {}
    told = {"skipped": found.reasons, "again": again, "unsettled": unsettled, "held_out": kept}
    about |= {name: value for name, value in told.items() if value}
    groups = {one.row.trajectory_id: one.group for one in found.kept}
    return datasets.freeze(
        session, line.id, job_id, [row.id for row in rows], [one.row for one in found.kept], about, groups
    )


THAW = text("""
    delete from rlfleet.datasets d using rlfleet.jobs j
     where d.job_id = :job_id and j.id = d.job_id and j.state <> 'succeeded'
       and exists (select 1 from rlfleet.dataset_trajectories t
                     left join rlfleet.trajectory_keys k using (trajectory_id)
                     left join rlfleet.recordings r using (trajectory_id)
                    where t.dataset_id = d.id and (k.erased_at is not null or r.consent is false))
    returning 1
""")


def thaw(session: Session, job_id: int) -> bool:
    """Drop the dataset of a job that made nothing of it, where a trajectory in it was erased or refused since.

    The state that the job saved goes too, as it had learned from it. True: the caller removes the job's dataset files,
    and does not go on from a state that it knows of.
    """
    if session.execute(THAW, {"job_id": job_id}).one_or_none() is None:
        return False
    session.execute(erasure.NO_STATE, {"jobs": [job_id]})
    return True


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
