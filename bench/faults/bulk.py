"""Many cheap jobs at once: scoring windows with nothing or one trajectory in them."""

from __future__ import annotations

from datetime import UTC, datetime

from bench.faults.bench import Bench
from bench.faults.expect import expect

INSERT = """
    with line as (
        select l.id, l.name, row_number() over (order by l.id) - 1 as place, count(*) over () as lines
          from rlfleet.lines l where l.name = any(:lines)
    ), opened as (
        insert into rlfleet.windows (line_id, name, state)
        select id, :window, 'skipped' from line on conflict do nothing
    )
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config)
    select 'score', line.id, 'bulk-' || n, 'score', jsonb_build_object('window', cast(:window as text)), '{}'
      from generate_series(cast(:first as int), cast(:first + :jobs - 1 as int)) n
      join line on line.place = n % line.lines
 returning id
"""


INSERT_EACH = """
    with line as (
        select l.id, row_number() over (order by l.id) - 1 as place, count(*) over () as lines
          from rlfleet.lines l where l.name = any(:lines)
    ), job as (
        select 'bulk-' || n as name, line.id as line_id
          from generate_series(cast(:first as int), cast(:first + :jobs - 1 as int)) n
          join line on line.place = n % line.lines
    ), opened as (
        insert into rlfleet.windows (line_id, name, state) select line_id, name, 'scored' from job
     returning id, line_id, name, starts_at
    ), known as (
        insert into rlfleet.trajectory_keys (trajectory_id, line_id, window_id, at)
        select name, line_id, id, starts_at from opened
    ), played as (
        insert into rlfleet.trajectories (trajectory_id, at, line_id, window_id, scenario_id, agent_id, source, reward,
                                          started_at, ended_at)
        select name, starts_at, line_id, id, 'plain', 'agent', 'bulk', 1, now(), now() from opened
    )
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config)
    select 'score', line_id, name, 'score', jsonb_build_object('window', name), '{}' from opened
 returning id
"""


def score_jobs(bench: Bench, *, lines: int, jobs: int, first: int = 0, each: bool = False) -> list[int]:
    """So many queued jobs, spread over so many lines, number ``first`` and on.

    Their effect is to find nothing; with ``each``, one score of the one trajectory of a window of its own, which is
    dearer, because a line is planned with all its windows. Calling it again for other numbers uses the lines that are
    there.
    """
    names = [f"bulk-{number}" for number in range(lines)]
    known = {str(row[0]) for row in bench.ground.rows("select name from rlfleet.lines")}
    for name in names:
        if name not in known:
            _line(name)
    from db import partitions

    partitions.ensure([datetime.now(UTC)])
    values = {"lines": names, "jobs": jobs, "first": first}
    window = {} if each else {"window": "2025-01-15T10:00"}
    rows = bench.ground.rows(INSERT_EACH if each else INSERT, **values, **window)
    return sorted(int(row[0]) for row in rows)


def ends(bench: Bench) -> int:
    """How often these jobs came to their end by their histories: once each, or the row fails."""
    rows = bench.ground.rows("""
        select j.id, count(e.id) from rlfleet.jobs j
          left join rlfleet.job_events e on e.job_id = j.id and e.to_state = 'succeeded'
         where j.dedup_key like 'bulk-%' group by j.id having count(e.id) <> (j.state = 'succeeded')::int
    """)
    expect(not rows, f"jobs and how often they ended, which their state denies: {[tuple(row) for row in rows[:5]]}")
    query = """
        select count(*) from rlfleet.job_events e join rlfleet.jobs j on j.id = e.job_id
         where j.dedup_key like 'bulk-%' and e.to_state = 'succeeded'
    """
    return int(bench.ground.one(query)[0])


def scores(bench: Bench) -> int:
    """How many scores the jobs with ``each`` have written: one each, or the row fails."""
    rows = bench.ground.rows("""
        select t.trajectory_id, count(s.id) from rlfleet.trajectories t
          left join rlfleet.scores s on s.trajectory_id = t.trajectory_id
         where t.source = 'bulk' group by t.trajectory_id having count(s.id) <> 1
    """)
    expect(not rows, f"trajectories with their number of scores: {[tuple(row) for row in rows[:5]]}")
    return int(bench.ground.one("select count(*) from rlfleet.scores where trajectory_id like 'bulk-%'")[0])


def _line(name: str) -> None:
    from db import lines
    from db.session import transaction
    from rl.config import LineConfig

    with transaction() as session:
        lines.put(session, name, LineConfig(base_model="no-model", automatic=False))
