"""What waits to be trained on, counted by the database: the numbers that ``rl.readiness`` judges.

Windows that a training which has not ended is to learn from wait no longer, unless it waits in vain (``db.waits``).
Once the numbers are enough, the freeze itself is asked what it would use.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import freezing, held_out, job_views, lines, readiness_settings
from db.tables import Line
from db.waits import IN_VAIN
from rl.held_out import HeldOut
from rl.readiness import Readiness, Stats, Thresholds, readiness, shortage
from rl.records import ON_PURPOSE_REASONS, ON_PURPOSE_SOURCES

WAITS = "state not in ('trained', 'skipped')"
SPAN = f"""
    select min(starts_at) filter (where {WAITS}) as since, max(starts_at) filter (where {WAITS}) as until,
           min(starts_at) as since_lately, max(starts_at) as until_lately
      from rlfleet.windows
     where line_id = :line_id and run_id is null and state not in ('open', 'closed')
       and ({WAITS} or starts_at > now() - interval '7 days')
"""  # noqa: S608 (of a constant)
"""When the first and the last of the windows begin that are counted: rows lie in partitions by week."""
WAITING = f"""
    with learned as materialized (
        select o.window_id, o.dataset_id from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
          join rlfleet.datasets d on d.id = o.dataset_id join rlfleet.versions v on v.job_id = d.job_id
         where w.line_id = :line_id
    ), asked_for as materialized (
        select jsonb_array_elements_text(j.inputs -> 'windows') as name from rlfleet.jobs j
         where j.kind = 'train' and j.line_id = :line_id and j.state in ('queued', 'running')
           and not exists (select 1 from rlfleet.versions v where v.job_id = j.id) and not {IN_VAIN}
    ), waiting as (
        select w.id, t.scenario_id,
               exists (select 1 from rlfleet.scores s where s.trajectory_id = t.trajectory_id) as scored,
               exists (select 1 from learned o join rlfleet.dataset_trajectories d
                           on d.dataset_id = o.dataset_id and d.trajectory_id = t.trajectory_id
                        where o.window_id = w.id) as trained
          from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
           and t.at between :since and :until
         where w.line_id = :line_id and w.run_id is null and w.state not in ('trained', 'skipped')
           and w.name not in (select name from asked_for)
    ), sizes as (
        select count(*) as total, count(*) filter (where scored and not trained) as scored,
               count(*) filter (where not scored and not trained) as unscored,
               count(*) filter (where trained) as trained, {held_out.IS_HELD_OUT} as held_out
          from waiting group by id, scenario_id
    )
    select coalesce(sum(total) filter (where not held_out), 0), coalesce(sum(scored) filter (where not held_out), 0),
           coalesce(sum(unscored) filter (where not held_out), 0),
           coalesce(sum(trained) filter (where not held_out), 0),
           count(*) filter (where scored >= :min_group_size and not held_out),
           coalesce(sum(total) filter (where held_out), 0)
      from sizes
"""  # noqa: S608 (of a constant)

LATELY = """
    with recent as (
        select w.id, w.starts_at from rlfleet.windows w
         where w.line_id = :line_id and w.run_id is null
           and (w.state not in ('trained', 'skipped') or w.starts_at > now() - interval '7 days')
    )
    select (select count(*) from recent r join rlfleet.trajectories t on t.window_id = r.id and t.at = r.starts_at
                and t.at between :since_lately and :until_lately
             where t.created_at > now() - interval '7 days'),
           (select count(*) from rlfleet.quarantine q
             where q.line_id = :line_id and q.created_at > now() - interval '7 days'
               and q.source <> all(:sources) and q.reason <> all(:reasons)
               and (q.window_id is null or q.window_id in (select id from recent))),
           (select extract(epoch from now() - max(v.created_at)) / 3600
              from rlfleet.versions v join rlfleet.jobs j on j.id = v.job_id
             where v.line_id = :line_id and coalesce(j.inputs -> 'windows' ->> 0, '') not like 'run/%')
"""
"""Usable and quarantined rows that came in 7 days, of windows that wait or are as new, so that few partitions are
read; and the hours since the newest version that no run made. What was left out on purpose is neither."""
ON_PURPOSE = {"sources": sorted(ON_PURPOSE_SOURCES), "reasons": sorted(ON_PURPOSE_REASONS)}


def stats_of(session: Session, line_id: int, min_group_size: int | None = None, held: HeldOut | None = None) -> Stats:
    """The line's numbers by the database's clock; groups of at least ``min_group_size``, by default the threshold's.

    ``held`` says which scenarios are kept for evaluation.
    """
    least = Thresholds().min_group_size if min_group_size is None else min_group_size
    values = {"line_id": line_id, "min_group_size": least} | ON_PURPOSE | held_out.values_of(held)
    values |= session.execute(text(SPAN), values).one()._asdict()
    waiting = session.execute(text(WAITING), values).one()
    total, scored, unscored, trained, groups, kept = (int(count) for count in waiting)
    usable, quarantined, hours = session.execute(text(LATELY), values).one()
    read = usable + quarantined
    return Stats(
        total=total,
        scored=scored,
        unscored=unscored,
        trained=trained,
        groups=groups,
        quality=usable / read if read else None,
        hours_since=None if hours is None else float(hours),
        held_out=kept,
    )


def readiness_of(session: Session, line: Line, thresholds: Thresholds | None = None) -> Readiness:
    """Whether the line's logs are worth a training, with what the line trains with, and the freeze would use enough.

    Not while the newest training failed or died on what waits, or was cancelled, and nothing was scored since: it would
    not be asked for again. Judged by ``thresholds``; without them by those that the line sets, then by the
    environment's, then by the built-in ones.

    Raises:
        InvalidSettings: a threshold of the environment cannot be used.
    """
    config = lines.config_of(line)
    least = thresholds or config.readiness.over(readiness_settings.thresholds())
    objective = config.train.objective if config.train else None
    stats = stats_of(session, line.id, least.min_group_size, config.held_out)
    found = readiness(stats, least, objective)
    if not found.ready or config.train is None:
        return found
    train = config.train.model_dump(mode="json")
    waiting = _waiting(session, line.id)
    reason = _unusable(session, line, list(waiting), train, least) or _failed(session, line.id, waiting, train)
    return found if reason is None else found.model_copy(update={"ready": False, "reason": reason})


def _waiting(session: Session, line_id: int) -> dict[int, str]:
    """Ids and names of the hours that the daily training would learn from."""
    query = text("""
        select id, name from rlfleet.windows
         where line_id = :line_id and run_id is null and state = 'scored' and name <> all(:asked)
    """)
    asked = sorted(job_views.being_trained(session, line_id))
    return {int(row[0]): str(row[1]) for row in session.execute(query, {"line_id": line_id, "asked": asked})}


def _unusable(
    session: Session, line: Line, window_ids: list[int], train: Mapping[str, Any], least: Thresholds
) -> str | None:
    found = freezing.usable_of(session, line, window_ids, train)
    sizes = Counter(one.group for one in found.kept)
    return shortage(sizes, found.reasons, least, train["objective"])


ENDED = {"failed": "failed on what waits", "dead": "died on what waits", "cancelled": "was cancelled"}
FAILED = text("""
    select j.id, j.state from rlfleet.jobs j
     where j.id = (select max(id) from rlfleet.jobs where kind = 'train' and line_id = :line_id
                      and coalesce(inputs -> 'windows' ->> 0, '') not like 'run/%')
       and j.state in ('failed', 'dead', 'cancelled')
       and j.config = cast(:train as jsonb) and j.inputs -> 'windows' <@ cast(:names as jsonb)
       and not exists (
           select 1 from rlfleet.trajectory_keys k join rlfleet.scores s on s.trajectory_id = k.trajectory_id
            where k.window_id = any(:ids) and s.created_at > j.finished_at)
""")


def _failed(session: Session, line_id: int, waiting: Mapping[int, str], train: Mapping[str, Any]) -> str | None:
    values = {"train": json.dumps(dict(train)), "names": json.dumps(list(waiting.values())), "ids": list(waiting)}
    found = session.execute(FAILED, values | {"line_id": line_id}).one_or_none()
    if found is None:
        return None
    job_id, state = found
    return f"Need new scores, or `rlfleet jobs requeue {job_id}`: job {job_id} {ENDED[state]}"
