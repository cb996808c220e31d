"""Which environments lines, runs and evaluations use, with late verdicts, and where their episodes failed of late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.rounds import FAILED

Rows = list[dict[str, Any]]

DAYS = 30
"""Verdicts and failed episodes are those of so many last days."""
RUNS_NAMED = 10


@dataclass
class Used:
    """One environment. ``runs`` are the newest of ``run_count``.

    Of the last ``DAYS`` days ``verdicts`` has a row a split: ``split``, ``evaluations``, ``right``, ``wrong``,
    ``none``; and ``failures`` count episodes by the boundary they crossed, those of rounds and those of evaluations:
    ``where``, ``boundary``, ``count``, ``example``.
    """

    name: str
    lines: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    run_count: int = 0
    verdicts: Rows = field(default_factory=list)
    failures: Rows = field(default_factory=list)


def used(session: Session) -> list[Used]:
    """Every environment that a line or a run names, or an evaluation of the last ``DAYS`` days, by name."""
    found: dict[str, Used] = {}

    def of(name: str) -> Used:
        return found.setdefault(name, Used(name))

    for name, line in session.execute(LINES):
        of(name).lines.append(line)
    for name, runs, count in session.execute(RUNS, {"most": RUNS_NAMED}):
        of(name).runs, of(name).run_count = runs, count
    for row in session.execute(VERDICTS, {"days": DAYS}).mappings():
        of(row["environment"]).verdicts.append(dict(row))
    for statement in (OF_ROUNDS, OF_EVALUATIONS):
        for row in session.execute(statement, {"failed": FAILED, "days": DAYS}).mappings():
            of(row["environment"]).failures.append(dict(row))
    for one in found.values():
        one.failures.sort(key=lambda row: (-row["count"], row["boundary"]))
    return [found[name] for name in sorted(found)]


LINES = text("""
    select config -> 'validation' ->> 'environment', name from rlfleet.lines
     where config -> 'validation' ->> 'environment' is not null order by name
""")
RUNS = text("""
    with named as (
        select distinct e.name as environment, r.id, r.name from rlfleet.runs r,
               unnest(array[r.config -> 'rollout' ->> 'environment', r.config -> 'validation' ->> 'environment',
                            r.config -> 'held_out' ->> 'environment']) as e(name)
         where e.name is not null
    ), placed as (
        select *, row_number() over (partition by environment order by id desc) as place from named
    )
    select environment, array_agg(name order by id desc) filter (where place <= :most), count(*)
      from placed group by environment
""")
LATE = "created_at > now() - make_interval(days => :days)"
VERDICTS = text(f"""
    select task_set ->> 'environment' as environment, task_set ->> 'split' as split, count(*) as evaluations,
           sum(k) as right, sum(n - k) as wrong, sum(missing) as none
      from rlfleet.evaluations where {LATE} and task_set ->> 'environment' is not null group by 1, 2 order by 1, 2
""")  # noqa: S608 (of a constant)
OF_ROUNDS = text(f"""
    select r.config -> 'rollout' ->> 'environment' as environment, 'rounds' as where, q.field as boundary,
           count(*) as count, min(q.reason) as example
      from rlfleet.quarantine q join rlfleet.windows w on w.id = q.window_id join rlfleet.runs r on r.id = w.run_id
     where q.source = :failed and q.{LATE} group by 1, 3
""")  # noqa: S608 (of a constant)
# Only what lacks verdicts can have failed: others' verdicts are not read.
OF_EVALUATIONS = text(f"""
    select e.task_set ->> 'environment' as environment, 'evaluations' as where,
           split_part(v.reason, ':', 1) as boundary, count(*) as count, min(v.reason) as example
      from rlfleet.evaluations e join rlfleet.verdicts v on v.evaluation_id = e.id
     where e.{LATE} and e.missing > 0 and v."right" is null and v.reason is not null
       and e.task_set ->> 'environment' is not null group by 1, 3
""")  # noqa: S608 (of a constant)
