"""Which environments lines, runs and evaluations use, with verdicts, and where their episodes failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.rounds import FAILED

Rows = list[dict[str, Any]]


@dataclass
class Used:
    """One environment. ``verdicts`` has a row a split: ``split``, ``evaluations``, ``right``, ``wrong``, ``none``.

    ``failures`` count episodes by the boundary they crossed, those of rounds and those of evaluations: ``where``,
    ``boundary``, ``count``, ``example``.
    """

    name: str
    lines: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    verdicts: Rows = field(default_factory=list)
    failures: Rows = field(default_factory=list)


def used(session: Session) -> list[Used]:
    """Every environment that something here names, by name."""
    found: dict[str, Used] = {}

    def of(name: str) -> Used:
        return found.setdefault(name, Used(name))

    for name, line in session.execute(LINES):
        of(name).lines.append(line)
    for name, run in session.execute(RUNS):
        of(name).runs.append(run)
    for row in session.execute(VERDICTS).mappings():
        of(row["environment"]).verdicts.append(dict(row))
    for row in session.execute(FAILURES, {"failed": FAILED}).mappings():
        of(row["environment"]).failures.append(dict(row))
    return [found[name] for name in sorted(found)]


LINES = text("""
    select config -> 'validation' ->> 'environment', name from rlfleet.lines
     where config -> 'validation' ->> 'environment' is not null order by name
""")
RUNS = text("""
    select e.name, r.name from rlfleet.runs r,
           unnest(array[r.config -> 'rollout' ->> 'environment', r.config -> 'validation' ->> 'environment',
                        r.config -> 'held_out' ->> 'environment']) as e(name)
     where e.name is not null group by e.name, r.id order by r.id desc
""")
VERDICTS = text("""
    select e.task_set ->> 'environment' as environment, e.task_set ->> 'split' as split,
           count(distinct e.id) as evaluations, count(*) filter (where v."right") as right,
           count(*) filter (where not v."right") as wrong, count(v.scenario_id) filter (where v."right" is null) as none
      from rlfleet.evaluations e left join rlfleet.verdicts v on v.evaluation_id = e.id
     where e.task_set ->> 'environment' is not null group by 1, 2 order by 1, 2
""")
FAILURES = text("""
    select r.config -> 'rollout' ->> 'environment' as environment, 'rounds' as where, q.field as boundary,
           count(*) as count, min(q.reason) as example
      from rlfleet.quarantine q join rlfleet.windows w on w.id = q.window_id join rlfleet.runs r on r.id = w.run_id
     where q.source = :failed group by 1, 2, 3
    union all
    select e.task_set ->> 'environment', 'evaluations', split_part(v.reason, ':', 1), count(*), min(v.reason)
      from rlfleet.verdicts v join rlfleet.evaluations e on e.id = v.evaluation_id
     where v."right" is null and v.reason is not null and e.task_set ->> 'environment' is not null group by 1, 2, 3
     order by 1, 4 desc, 3
""")
