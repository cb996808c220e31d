"""Whether a line learns, from its rows: what came in by hour, what it earned, and versions on held-out scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import results
from rl.report import Count

HOURS, VERSIONS, SETS_SHOWN = 48, 20, 2


@dataclass(frozen=True)
class Hour:
    """One hour: how many trajectories came in, and the mean reward of those that have one; None without any."""

    at: datetime
    trajectories: int
    reward: float | None
    rewarded: int


@dataclass(frozen=True)
class Judged:
    """One set of scenarios, and the counts of the line's versions on it in their order; None: not evaluated there."""

    task_set: dict[str, Any]
    versions: list[str]
    counts: list[Count | None]


BY_HOUR = text("""
    with hours as (
        select generate_series(date_trunc('hour', now()) - make_interval(hours => :hours - 1),
                               date_trunc('hour', now()), interval '1 hour') as at
    ), seen as (
        select date_trunc('hour', t.at) as at, count(*) as trajectories,
               avg(t.reward) filter (where t.details -> 'reward' is distinct from 'null') as reward,
               count(*) filter (where t.details -> 'reward' is distinct from 'null') as rewarded
          from rlfleet.trajectories t
         where t.line_id = :line_id and t.at >= date_trunc('hour', now()) - make_interval(hours => :hours - 1)
         group by 1
    )
    select h.at, coalesce(s.trajectories, 0), s.reward, coalesce(s.rewarded, 0)
      from hours h left join seen s using (at) order by h.at
""")
NEWEST = text("""
    select v.name, c.sha256 from rlfleet.versions v join rlfleet.checkpoints c on c.id = v.checkpoint_id
     where v.line_id = :line_id
       and exists (select 1 from rlfleet.evaluations e where e.checkpoint_sha256 = c.sha256)
     order by v.number desc limit :most
""")
SETS = text("""
    select task_set_hash, task_set, max(id) from rlfleet.evaluations where checkpoint_sha256 = any(:hashes)
     group by task_set_hash, task_set
""")


def hours(session: Session, line_id: int, most: int = HOURS) -> list[Hour]:
    """The last hours, the present one too, oldest first. A trajectory belongs to the hour that its window began in."""
    rows = session.execute(BY_HOUR, {"line_id": line_id, "hours": most})
    return [Hour(at, int(n), None if reward is None else float(reward), int(k)) for at, n, reward, k in rows]


def judged(session: Session, line_id: int, most: int = VERSIONS) -> list[Judged]:
    """The newest versions with verdicts, oldest first, on the sets that most of them were evaluated on.

    Sets that decisions are made on come before those that choose a checkpoint; of sets with as many versions the one
    that was evaluated last is the first. Of one set by two judges the newest counts.
    """
    rows = list(reversed(session.execute(NEWEST, {"line_id": line_id, "most": most}).all()))
    found = results.results(session, sorted({str(sha) for _, sha in rows}))
    charts = []
    for key, task_set, newest in session.execute(SETS, {"hashes": [str(sha) for _, sha in rows]}):
        known = {name: found[sha][key] for name, sha in rows if key in found.get(sha, {}) and found[sha][key].n}
        counts = [Count.of(known[name].k, known[name].n) if name in known else None for name, _ in rows]
        if known:
            order = (task_set.get("split") != "held_out", -len(known), -newest)
            charts.append((order, Judged(dict(task_set), [name for name, _ in rows], counts)))
    return [one for _, one in sorted(charts, key=lambda one: one[0])[:SETS_SHOWN]]
