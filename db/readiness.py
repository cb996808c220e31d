"""What waits to be trained on, counted by the database: the numbers that ``rl.readiness`` judges.

Windows that a training which has not ended is to learn from wait no longer.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines, readiness_settings
from db.tables import Line
from rl.readiness import Readiness, Stats, Thresholds, readiness

WAITING = """
    with learned as materialized (
        select o.window_id, o.dataset_id from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
          join rlfleet.datasets d on d.id = o.dataset_id join rlfleet.versions v on v.job_id = d.job_id
         where w.line_id = :line_id
    ), asked_for as materialized (
        select jsonb_array_elements_text(j.inputs -> 'windows') as name from rlfleet.jobs j
         where j.kind = 'train' and j.line_id = :line_id and j.state in ('queued', 'running')
           and not exists (select 1 from rlfleet.versions v where v.job_id = j.id)
    ), waiting as (
        select w.id, t.scenario_id,
               exists (select 1 from rlfleet.scores s where s.trajectory_id = t.trajectory_id) as scored,
               exists (select 1 from learned o join rlfleet.dataset_trajectories d
                           on d.dataset_id = o.dataset_id and d.trajectory_id = t.trajectory_id
                        where o.window_id = w.id) as trained
          from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
         where w.line_id = :line_id and w.run_id is null and w.state not in ('trained', 'skipped')
           and w.name not in (select name from asked_for)
    ), sizes as (
        select count(*) as total, count(*) filter (where scored and not trained) as scored,
               count(*) filter (where not scored and not trained) as unscored,
               count(*) filter (where trained) as trained
          from waiting group by id, scenario_id
    )
    select coalesce(sum(total), 0), coalesce(sum(scored), 0), coalesce(sum(unscored), 0), coalesce(sum(trained), 0),
           count(*) filter (where scored >= :min_group_size)
      from sizes
"""

LATELY = """
    with recent as (
        select w.id, w.starts_at from rlfleet.windows w
         where w.line_id = :line_id and w.run_id is null
           and (w.state not in ('trained', 'skipped') or w.starts_at > now() - interval '7 days')
    )
    select (select count(*) from recent r join rlfleet.trajectories t on t.window_id = r.id and t.at = r.starts_at
             where t.created_at > now() - interval '7 days'),
           (select count(*) from rlfleet.quarantine q
             where q.line_id = :line_id and q.created_at > now() - interval '7 days'
               and (q.window_id is null or q.window_id in (select id from recent))),
           (select extract(epoch from now() - max(v.created_at)) / 3600
              from rlfleet.versions v join rlfleet.jobs j on j.id = v.job_id
             where v.line_id = :line_id and coalesce(j.inputs -> 'windows' ->> 0, '') not like 'run/%')
"""
"""Usable and quarantined rows that came in 7 days, of windows that wait or are as new, so that few partitions are
read; and the hours since the newest version that no run made."""


def stats_of(session: Session, line_id: int, min_group_size: int | None = None) -> Stats:
    """The line's numbers by the database's clock; groups of at least ``min_group_size``, by default the threshold's."""
    least = Thresholds().min_group_size if min_group_size is None else min_group_size
    waiting = session.execute(text(WAITING), {"line_id": line_id, "min_group_size": least}).one()
    total, scored, unscored, trained, groups = (int(count) for count in waiting)
    usable, quarantined, hours = session.execute(text(LATELY), {"line_id": line_id}).one()
    read = usable + quarantined
    return Stats(
        total=total,
        scored=scored,
        unscored=unscored,
        trained=trained,
        groups=groups,
        quality=usable / read if read else None,
        hours_since=None if hours is None else float(hours),
    )


def readiness_of(session: Session, line: Line, thresholds: Thresholds | None = None) -> Readiness:
    """Whether the line's logs are worth a training, with what the line trains with.

    Judged by ``thresholds``; without them by those that the line sets, then by the environment's, then by the built-in
    ones.

    Raises:
        InvalidSettings: a threshold of the environment cannot be used.
    """
    config = lines.config_of(line)
    least = thresholds or config.readiness.over(readiness_settings.thresholds())
    objective = config.train.objective if config.train else None
    return readiness(stats_of(session, line.id, least.min_group_size), least, objective)
