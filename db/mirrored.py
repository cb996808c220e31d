"""Trainings as they are copied elsewhere: which a target lacks something of, and what the rows say of each.

How far a version has come is the count of what was said of it: its state, evaluations, decisions and releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import evaluation_counts, mirrors, version_summaries, versions
from db.evaluation_counts import Evaluated
from db.tables import Checkpoint, Version
from db.version_summaries import Decided

ENDED: Final = "j.state in ('succeeded', 'failed', 'dead', 'cancelled')"
FACTS: Final = """
    select v.id, v.job_id,
           (v.state <> 'candidate')::int + (v.erased_at is not null)::int + coalesce(e.n, 0) + coalesce(d.n, 0)
           + coalesce(r.n, 0) as facts
      from rlfleet.versions v
      left join (select version_id, count(*) as n from rlfleet.evaluations group by 1) e on e.version_id = v.id
      left join (select version_id, count(*) as n from rlfleet.decisions group by 1) d on d.version_id = v.id
      left join (select version_id, count(*) + count(ended_at) as n from rlfleet.releases group by 1) r
             on r.version_id = v.id
"""
# A training that goes on is copied again when it has a tenth more steps, so that all copies together cost no more than
# some ten times the last. One that lies in another place is copied again, unless no place is named.
DUE: Final = text(f"""
    with told as ({FACTS})
    select j.id
      from rlfleet.jobs j
      left join told v on v.job_id = j.id
      left join rlfleet.mirrors t on t.target = :target and t.kind = 'training' and t.ref = j.id
      left join rlfleet.mirrors m on m.target = :target and m.kind = 'version' and m.ref = v.id
     where j.kind = 'train' and j.fence > 0
       and ((coalesce(t.next_at, now()) <= now()
             and case when :place <> '' and t.place <> :place then true
                      when {ENDED} then t.done_at is null or t.done_at < j.finished_at
                      else coalesce((j.progress ->> 'step')::bigint, 0)
                           >= coalesce(t.sent, 0) + greatest(1, coalesce(t.sent, 0) / 10) end)
            or (v.id is not null and coalesce(m.next_at, now()) <= now() and m.sent is distinct from v.facts))
     order by j.id
""")  # noqa: S608 (of constants)
JOB: Final = text(f"""
    select j.id, l.name as line, j.fence, j.state, {ENDED} as ended, j.config, j.inputs,
           j.progress -> 'curves' as curves, extract(epoch from j.created_at)::float8 as created,
           v.id as version_id, v.facts
      from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
      left join ({FACTS}) v on v.job_id = j.id
     where j.id = :job
""")  # noqa: S608 (of constants)
ORIGIN: Final = text("""
    select j.id, l.name as line, extract(epoch from j.created_at)::float8 as created
      from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
     where j.id = :job
""")
# Nobody is told that a training has ended which was started again since.
ARRIVED: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, sent, place, done_at)
    select :target, 'training', j.id, :step, :place, case when :ended and j.fence = :fence then now() end
      from rlfleet.jobs j where j.id = :job
    on conflict (target, kind, ref) do update
       set sent = excluded.sent, tries = 0, error = null, next_at = now(), done_at = excluded.done_at,
           place = excluded.place
""")
STAGES: Final = text("""
    select stage from rlfleet.releases where version_id = :version and ended_at is null order by stage
""")


@dataclass(frozen=True)
class Trained:
    """A version of the training with all that was said of it; ``live`` are the stages of its releases that hold."""

    version: Version
    checkpoint: Checkpoint
    parent: str | None
    evaluations: list[Evaluated]
    decisions: list[Decided]
    live: list[str]


@dataclass(frozen=True)
class Origin:
    """What of a job never changes. ``created`` is in Unix seconds."""

    job: int
    line: str
    created: float


@dataclass(frozen=True)
class Training(Origin):
    """A training job as its row was when it was read; ``curves`` as in its progress."""

    fence: int
    state: str
    ended: bool
    config: dict[str, Any]
    windows: list[str]
    curves: dict[str, list[Any]]
    facts: int
    trained: Trained | None


def due(session: Session, target: str, place: str = "") -> list[int]:
    """The training jobs of which ``target`` lacks something now, the oldest first; see ``backends.sinks.Sink``."""
    return list(session.scalars(DUE, {"target": target, "place": place}))


def read(session: Session, job_id: int) -> Training:
    """The training; the counts are read before what they count, so that nothing is taken for copied that is not."""
    row = session.execute(JOB, {"job": job_id}).one()
    return Training(
        job=row.id,
        fence=row.fence,
        line=row.line,
        state=row.state,
        ended=row.ended,
        created=row.created,
        config=dict(row.config),
        windows=list(row.inputs.get("windows") or ()),
        curves=dict(row.curves or {}),
        facts=row.facts or 0,
        trained=None if row.version_id is None else _trained(session, row.version_id),
    )


def origin(session: Session, job_id: int) -> Origin | None:
    """Where the job comes from; None where there is no such job."""
    row = session.execute(ORIGIN, {"job": job_id}).first()
    return None if row is None else Origin(job=row.id, line=row.line, created=row.created)


def _trained(session: Session, version_id: int) -> Trained:
    version = session.scalars(select(Version).where(Version.id == version_id)).one()
    made = versions.made(session, version.name)
    return Trained(
        version=version,
        checkpoint=made.checkpoint,
        parent=made.parent,
        evaluations=[one for one in evaluation_counts.of_version(session, version) if one.is_newest],
        decisions=list(reversed(version_summaries.decisions(session, version_id))),
        live=list(session.scalars(STAGES, {"version": version_id})),
    )


def arrived(session: Session, target: str, mark: Mapping[str, Any]) -> None:
    """``target`` has the training as it was when ``mark`` was made."""
    values = {name: mark[name] for name in ("job", "fence", "step", "ended")} | {"place": mark.get("place")}
    session.execute(ARRIVED, {"target": target, **values})
    if mark["version"] is not None:
        mirrors.note(session, target, "version", mark["version"], mark["facts"])


def failed(session: Session, target: str, job_id: int, error: str) -> None:
    """The copy of the training, and of its version if there is one, failed."""
    mirrors.failed(session, target, "training", job_id, error)
    for version_id in session.scalars(select(Version.id).where(Version.job_id == job_id)):
        mirrors.failed(session, target, "version", version_id, error)
