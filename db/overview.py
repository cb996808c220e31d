"""Everything about one line at a glance: read fresh each time, since the rows are the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import job_views, lines
from db.session import transaction
from rl.config import TaskSet, digest
from rl.records import ids_sha256


@dataclass(frozen=True)
class Judged:
    """A version's count on one task set of a split; ``task_set`` is its hash."""

    version: str
    number: int
    split: str
    k: int
    n: int
    task_set: str


@dataclass
class Facts:
    """One look at a line: what runs, what is done, what is live.

    ``versions`` have their states, or ``waiting`` where a person must approve one. ``run_state`` and ``decision`` are
    of the run that is called as the line is.
    """

    line: str
    active: list[job_views.Summary] = field(default_factory=list)
    windows: dict[str, str] = field(default_factory=dict)
    rewards: dict[str, float] = field(default_factory=dict)
    trajectories: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    stable: str | None = None
    share: int = 0
    run_state: str | None = None
    jobs: dict[str, int] = field(default_factory=dict)
    decision: dict[str, Any] | None = None
    gateway_version: str | None = None

    @property
    def rounds(self) -> list[str]:
        """The windows of the run that is called as the line is."""
        return [name for name in self.windows if name.startswith(f"run/{self.line}/")]

    def result(self, version: str, task_set: TaskSet) -> Judged | None:
        """The version's count on that task set, if it was evaluated there."""
        wanted = version, digest(task_set)
        return next((one for one in self.judged if (one.version, one.task_set) == wanted), None)


def read(line: str) -> Facts:
    """Everything about the line called ``line``."""
    with transaction() as session:
        line_id = lines.named(session, line).id
        facts = Facts(line, active=_active(session, line_id))
        for name, state, count, reward in session.execute(WINDOWS, {"line_id": line_id}):
            facts.windows[name] = state
            facts.trajectories += count
            if count:
                facts.rewards[name] = float(reward)
        facts.quarantined = _counts(session, QUARANTINED, line_id)
        facts.jobs = {"succeeded": 0, "failed": 0, "dead": 0} | _counts(session, JOBS, line_id)
        facts.judged = [Judged(*row) for row in session.execute(JUDGED, {"line_id": line_id})]
        facts.versions = {str(row.name): str(row.state) for row in session.execute(VERSIONS, {"line_id": line_id})}
        live = session.execute(LIVE, {"line_id": line_id}).one_or_none()
        facts.stable, facts.share = (live[0], live[1]) if live else (None, 0)
        facts.run_state = session.execute(RUN, {"line_id": line_id, "run": line}).scalar()
        found = session.execute(DECISION, {"line_id": line_id, "run": line}).mappings().first()
        facts.decision = dict(found) if found else None
    return facts


def scenario_ids(line: str) -> dict[str, str]:
    """SHA-256 of the sorted scenario ids, one a line, of what was trained on, validated on and held out."""
    with transaction() as session:
        line_id = lines.named(session, line).id
        found: dict[str, set[str]] = {"train": set(session.scalars(TRAINED_ON, {"line_id": line_id}))}
        for split, scenario in session.execute(JUDGED_ON, {"line_id": line_id}):
            found.setdefault(split, set()).add(scenario)
    return {name: ids_sha256(ids) for name, ids in found.items()}


def _active(session: Session, line_id: int) -> list[job_views.Summary]:
    where = " where j.state = 'running' and j.line_id = :line_id order by j.id"
    return [job_views.Summary(*row) for row in session.execute(text(job_views.SUMMARY + where), {"line_id": line_id})]


def _counts(session: Session, query: Any, line_id: int) -> dict[str, int]:
    return {str(row[0]): int(row[1]) for row in session.execute(query, {"line_id": line_id})}


WINDOWS = text("""
    select w.name, w.state, count(t.trajectory_id), coalesce(avg(t.reward), 0)
      from rlfleet.windows w left join rlfleet.trajectories t on t.window_id = w.id
     where w.line_id = :line_id group by w.id order by w.id
""")
QUARANTINED = text("""
    select q.reason, count(*) from rlfleet.quarantine q join rlfleet.windows w on w.id = q.window_id
     where w.line_id = :line_id group by q.reason order by q.reason
""")
JOBS = text("select state, count(*) from rlfleet.jobs where line_id = :line_id group by state")
JUDGED = text("""
    select r.name, r.number, e.task_set ->> 'split', sum(e.k)::int, sum(e.n)::int, e.task_set_hash
      from rlfleet.versions r
      join rlfleet.checkpoints c on c.id = r.checkpoint_id
      join rlfleet.evaluations e on e.checkpoint_sha256 = c.sha256
     where r.line_id = :line_id
     group by r.name, r.number, e.task_set ->> 'split', e.task_set_hash, e.judge, e.prompt_hash
     order by r.number, min(e.id)
""")
VERSIONS = text("""
    select v.name, case when exists (select 1 from rlfleet.decisions d
                                      where d.version_id = v.id and d.approval = 'waiting')
                        then 'waiting' else v.state end as state
      from rlfleet.versions v where v.line_id = :line_id order by v.number
""")
LIVE = text("""
    select r.name, l.share from rlfleet.releases l join rlfleet.versions r on r.id = l.version_id
     where l.line_id = :line_id and l.stage = 'stable' and l.ended_at is null
""")
RUN = text("select state from rlfleet.runs where line_id = :line_id and name = :run")
DECISION = text("""
    select r.name as version, d.released, d.reason, d.policy, d.evidence
      from rlfleet.decisions d
      join rlfleet.versions r on r.id = d.version_id
      join rlfleet.runs u on u.id = d.run_id
     where d.line_id = :line_id and u.name = :run order by d.id desc limit 1
""")
TRAINED_ON = text("select distinct scenario_id from rlfleet.trajectories where line_id = :line_id")
JUDGED_ON = text("""
    select distinct e.task_set ->> 'split', v.scenario_id
      from rlfleet.versions r
      join rlfleet.checkpoints c on c.job_id = r.job_id
      join rlfleet.evaluations e on e.checkpoint_sha256 = c.sha256
      join rlfleet.verdicts v on v.evaluation_id = e.id
     where r.line_id = :line_id
""")
