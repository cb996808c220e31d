"""Many cheap jobs at once: scoring windows in which nothing happened."""

from __future__ import annotations

from bench.faults.bench import Bench

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


def score_jobs(bench: Bench, *, lines: int, jobs: int, first: int = 0) -> list[int]:
    """So many queued jobs, spread over so many lines, number ``first`` and on. Their effect is to find nothing.

    Calling it again for other numbers uses the lines that are there.
    """
    names = [f"bulk-{number}" for number in range(lines)]
    known = {str(row[0]) for row in bench.ground.rows("select name from rlfleet.lines")}
    for name in names:
        if name not in known:
            _line(name)
    rows = bench.ground.rows(INSERT, lines=names, window="2025-01-15T10:00", jobs=jobs, first=first)
    return sorted(int(row[0]) for row in rows)


def _line(name: str) -> None:
    from db import lines
    from db.session import transaction
    from rl.config import LineConfig

    with transaction() as session:
        lines.put(session, name, LineConfig(base_model="no-model", automatic=False))
