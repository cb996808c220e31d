"""What the rows say of a live canary: rewards, feedback and failed requests of it and of the stable version.

Nothing is remembered between two looks: what comes late or is corrected counts at the next one, in the hour in which
its trajectory began. A trajectory belongs to the version that answered all of its calls that one of ours answered.
It counts where its unit's place says that a share chose that version: calls that name a version, and those of agents
that a pin holds elsewhere, are nobody's choice by chance, so they are not part of the comparison.
Rewards are those of a trajectory's end or, where that says none, of its steps; feedback called ``reward`` is newer and
counts instead. Steps and sources say 0 where nobody said anything, so their sums count once one of them is not 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.canaries import Canary
from db.session import PATIENCE_SECONDS
from db.windows import database_now
from rl.contrast import Reward
from rl.live import SLOTS, Counted, Seen, Slot, stretches

SLOT_SECONDS = 10
GRACE_SECONDS = 60
"""A request is stored this long after it was answered, at most; one that comes later is counted at the next look."""
BEFORE = timedelta(days=1)
"""How long before the canary a trajectory can have begun that is still answered during it."""
MOST_HOURS = 10_000_000
"""More hours than any date has had since 1970: cohorts of different stretches differ."""

PLACE = r"""
    (('x' || encode(substr(sha256(
        convert_to(cast(:line as text), 'UTF8') || '\x00'::bytea || convert_to(unit, 'UTF8')
    ), 1, 8), 'hex'))::bit(64) >> 11)::bigint::float8 * 100 / 9007199254740992
"""
"""The place of the column ``unit`` on the line, in [0, 100): what the gateway's routing goes by, bit by bit."""
IS_CHOSEN = f"""
    case when model = :canary then {PLACE} < canary_share
         else {PLACE} >= canary_share and {PLACE} < stable_share end
"""
"""Whether the shares gave the ``unit`` the version ``model``, which is the canary or the stable version."""

# Stretches of time in which neither version's share changed.
SPANS = """
    select c.share as canary_share, s.share as stable_share,
           row_number() over (order by greatest(c.created_at, s.created_at)) - 1 as stage, c.id = :release_id as here,
           greatest(c.created_at, s.created_at) as since, coalesce(least(c.ended_at, s.ended_at), 'infinity') as until
      from rlfleet.releases c
      join rlfleet.releases s on s.line_id = c.line_id and s.stage = 'stable' and s.version_id = :stable_id
       and s.created_at < coalesce(c.ended_at, 'infinity') and c.created_at < coalesce(s.ended_at, 'infinity')
     where c.line_id = :line_id and c.stage = 'canary' and c.version_id = :version_id
       and c.decision_id = :decision_id and c.id <= :release_id
"""
# Rounds of a run name their version themselves: no share has chosen it.
OF_AGENTS = "({0} is null or not starts_with({0}, 'rollout-run/'))"
LIVE = OF_AGENTS.format("one.agent_id")

# Slots of a stretch in which nothing was refused are one: what `stretches` makes of them is the same.
ATTEMPTS = text(f"""
    with spans as ({SPANS}), worst as (
        select m.unit from rlfleet.call_failures m join spans p on m.at >= p.since and m.at < p.until
         where m.line = :line and m.model = :canary and m.at >= :began and m.asked and {IS_CHOSEN}
           and {OF_AGENTS.format("m.unit")}
         group by m.unit order by count(*) desc, m.unit limit 1
    ), made as (
        select one.created_at as moment, one.model, 0 as failed, 0 as refused,
               coalesce(one.agent_id, one.trajectory_id) as unit from rlfleet.calls one
         where one.model in (:canary, :stable) and one.at >= :since and one.created_at >= :began and {LIVE}
        union all
        select one.at, one.model, one.asked::int, (not one.asked)::int, one.unit from rlfleet.call_failures one
         where one.line = :line and one.model in (:canary, :stable) and one.at >= :began
           and {OF_AGENTS.format("one.unit")}
    ), slots as (
        select p.stage, p.here, m.model = :canary as is_canary,
               floor(extract(epoch from m.moment) / :seconds) as slot,
               floor(extract(epoch from m.moment) / :seconds / :slots) as stretch,
               count(*) as n, sum(m.failed) as failed, sum(m.refused) as refused,
               count(*) filter (where m.is_one) as n1,
               coalesce(sum(m.failed) filter (where m.is_one), 0) as failed1,
               coalesce(sum(m.refused) filter (where m.is_one), 0) as refused1
          from (select *, model = :canary and unit = (select unit from worst) as is_one from made) m
          join spans p on m.moment >= p.since and m.moment < p.until
         where m.unit is null or {IS_CHOSEN}
         group by 1, 2, 3, 4, 5
    ), judged as (
        select *, sum(refused) over (partition by stage, stretch) > 0 as is_refused from slots
    )
    select stage, here, is_canary, case when is_refused then slot else stretch * :slots end as slot,
           stretch < floor((extract(epoch from now()) - :grace) / :seconds / :slots) as is_over,
           sum(n)::bigint as n, sum(failed)::bigint as failed, sum(refused)::bigint as refused,
           sum(n1)::bigint as n1, sum(failed1)::bigint as failed1, sum(refused1)::bigint as refused1
      from judged
     group by 1, 2, 3, 4, 5
""")  # noqa: S608 (of the constants above)

REWARDS = text(f"""
    with spans as ({SPANS}), spoken as (
        select one.trajectory_id, min(one.created_at) as began, min(one.agent_id) as agent_id,
               min(one.model) as model, min(one.model) <> max(one.model) as is_mixed
          from rlfleet.calls one
         where one.model in (select name from rlfleet.versions where line_id = :line_id)
           and one.at >= :since and {LIVE}
         group by one.trajectory_id
    ), found as (
        select s.trajectory_id, coalesce(s.agent_id, s.trajectory_id) as unit, s.model, s.is_mixed,
               case when t.source is null or starts_with(t.source, 'recorded:') then s.began
                    else least(s.began, t.started_at) end as began,
               case when t.details -> 'reward' = 'null' then null else t.reward end as collected
          from spoken s
          left join rlfleet.trajectories t on t.trajectory_id = s.trajectory_id and t.at >= :since
    ), placed as materialized (
        select f.trajectory_id, f.unit, f.is_mixed, f.collected, f.model = :canary as is_canary, p.stage,
               floor(extract(epoch from f.began) / 3600) as hour
          from found f join spans p on f.began >= p.since and f.began < p.until
         where f.is_mixed or (f.model in (:canary, :stable) and {IS_CHOSEN})
    ), said as (
        select trajectory_id, name, value, at, id from rlfleet.feedback
         where created_at >= :began and trajectory_id <> ''
        union all
        select k.trajectory_id, f.name, f.value, f.at, f.id
          from rlfleet.feedback f join rlfleet.call_keys k on k.call_id = f.call_id
         where f.created_at >= :began and f.trajectory_id = ''
    ), given as materialized (
        select distinct on (s.trajectory_id, s.name) s.trajectory_id, s.name, s.value,
               min(s.id) over (partition by s.name) as came
          from said s join placed p on p.trajectory_id = s.trajectory_id and not p.is_mixed
         order by s.trajectory_id, s.name, s.at desc, s.id desc
    ), ended as (
        select p.stage, p.hour, p.unit, p.is_canary, coalesce(g.value, r.reward) as told,
               case when r.trajectory_id is null then p.collected
                    when r.ended_at is not null then coalesce(p.collected, (
                        select sum(u.reward) from rlfleet.turns u
                         where u.trajectory_id = p.trajectory_id and u.at >= :since)) end as added
          from placed p
          left join given g on g.trajectory_id = p.trajectory_id and g.name = 'reward'
          left join rlfleet.recordings r on r.trajectory_id = p.trajectory_id
         where not p.is_mixed
    ), rewarded as (
        select stage, hour, unit, is_canary, coalesce(told, added) as value, told is not null as is_told,
               bool_or(told is null and added <> 0) over () as adds from ended
    )
    select 'reward' as name, stage, hour, unit, is_canary, sum(value) as total, count(*) as n, 0 as came from rewarded
     where value is not null and (is_told or adds) group by 2, 3, 4, 5
    union all
    select g.name, p.stage, p.hour, p.unit, p.is_canary, sum(g.value), count(*), min(g.came)
      from given g join placed p using (trajectory_id) where g.name <> 'reward' group by 1, 2, 3, 4, 5
    union all
    select null, null, null, case when is_mixed then 'several' when is_canary then 'canary' else 'stable' end, null,
           null, count(*), null from placed group by 4
     order by came
""")  # noqa: S608


ALONE = text("select pg_try_advisory_xact_lock(hashtextextended('look at release ' || :release_id, 0))")
LIMIT = text("select set_config('statement_timeout', :milliseconds, true)")


def is_alone(session: Session, canary: Canary) -> bool:
    """Whether nobody else looks at the canary; nobody else does until the transaction ends then."""
    return bool(session.execute(ALONE, {"release_id": str(canary.release_id)}).scalar_one())


def seen(session: Session, canary: Canary, patience: float = PATIENCE_SECONDS) -> Seen:
    """Everything that a look at the canary rests on, as it is at this moment.

    Raises:
        DatabaseUnavailable: adding it up takes longer than ``patience`` seconds. The server gives it up too, where it
            would go on with what nobody waits for.
    """
    values, until = values_of(canary), time.monotonic() + patience
    _limit(session, until)
    made = session.execute(ATTEMPTS, values).all()
    _limit(session, until)
    rows = session.execute(REWARDS, values).all()
    return Seen(
        hours=(database_now(session) - canary.began).total_seconds() / 3600,
        requests=sum(row.n for row in made if row.here and row.is_canary),
        rewards=_rewards(row for row in rows if row.name is not None),
        here=frozenset(session.scalars(text(f"select stage from ({SPANS}) p where here"), values)),  # noqa: S608
        attempts=stretches(_slot(row) for row in made if row.is_over),
        counted=Counted(**{row.unit: row.n for row in rows if row.name is None}),
    )


def _limit(session: Session, until: float) -> None:
    """The server ends a statement of this transaction that lasts until then, and at once what begins later."""
    left = max(int((until - time.monotonic()) * 1000), 1)
    session.execute(LIMIT, {"milliseconds": str(left)})


def values_of(canary: Canary) -> dict[str, Any]:
    """What the statements of this file ask for."""
    return {
        "release_id": canary.release_id,
        "line_id": canary.line_id,
        "line": canary.line,
        "version_id": canary.version_id,
        "decision_id": canary.decision_id,
        "stable_id": canary.stable_id,
        "canary": canary.version,
        "stable": canary.stable,
        "began": canary.first_began,
        "since": canary.first_began - BEFORE,
        "seconds": SLOT_SECONDS,
        "slots": SLOTS,
        "grace": GRACE_SECONDS,
    }


def _rewards(rows: Iterable[Row[Any]]) -> dict[str, list[Reward]]:
    found: dict[str, list[Reward]] = {}
    for row in rows:
        cohort = int(row.stage) * MOST_HOURS + int(row.hour)
        reward = Reward(int(row.stage), cohort, row.unit, row.is_canary, float(row.total), row.n)
        found.setdefault(row.name, []).append(reward)
    return found


def _slot(row: Row[Any]) -> Slot:
    of_one = (row.n1, row.failed1, row.refused1)
    return Slot(int(row.stage), int(row.slot), row.is_canary, row.n, row.failed, row.refused, of_one)
