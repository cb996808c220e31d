"""Jobs as people and machines are told about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.counted import SUCCEEDED
from db.job_states import State
from db.jobs import Claim
from db.session import transaction, within
from db.tables.jobs import UNFINISHED
from db.waits import BLOCKERS, IN_VAIN
from rl.records import utc


@dataclass(frozen=True)
class Summary:
    """A job as people are told about it."""

    job_id: int
    kind: str
    line: str
    state: str
    attempt: int
    fence: int
    inputs: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    waits_for: list[int]
    progress: dict[str, Any] | None
    blocked_by: dict[str, str] = field(default_factory=dict)
    """The jobs, with their states, without which this one or one it waits for cannot begin: they ended in vain."""

    def __str__(self) -> str:
        about = ",".join(map(str, self.inputs.get("windows", []))) or self.inputs.get("window") or ""
        text_ = f"job {self.job_id} {self.kind} {self.line} {about}".rstrip() + f": {self.state}"
        if self.result and "version" in self.result:
            text_ += f" {self.result['version']}"
        if self.waits_for:
            text_ += " after job " + ", ".join(map(str, self.waits_for))
        for job_id, state in self.blocked_by.items():
            text_ += f"; waits for job {job_id}, which is {state}: `rlfleet jobs requeue {job_id}`"
        return text_ + (f" ({self.error})" if self.error and self.state != State.SUCCEEDED else "")


SUMMARY = f"""
    select j.id, j.kind, l.name, j.state, j.attempt, j.fence, j.inputs, j.result, j.error,
           array(select d.id from rlfleet.jobs d
                  where d.id = any(j.after) and d.state <> 'succeeded' and j.state = 'queued' order by d.id),
           (j.progress - 'curves')
               #- cast(case when j.state = 'running' then '{{}}' else '{{metrics,eta_seconds}}' end as text[]),
           (select coalesce(jsonb_object_agg(b.id, b.state order by b.id), '{{}}') from ({BLOCKERS}) b)
      from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
"""  # noqa: S608 (of constants)


def summary(job_id: int, session: Session | None = None) -> Summary | None:
    """What became of the job, or None if there is no such job."""
    with within(session) as mine:
        row = mine.execute(text(SUMMARY + " where j.id = :job_id"), {"job_id": job_id}).one_or_none()
    return Summary(*row) if row else None


def succeeded(claim: Claim, result: Mapping[str, Any]) -> Summary:
    """The same for a job that has just ended well, without asking for it."""
    done = (State.SUCCEEDED, claim.attempt, claim.fence, claim.inputs, dict(result))
    return Summary(claim.job_id, claim.kind, claim.line, *done, error=None, waits_for=[], progress=None)


def result_of(claim: Claim) -> dict[str, Any] | None:
    """The job's result if it ended with success under this very claim, else None."""
    with transaction() as session:
        row = session.execute(
            text("select result from rlfleet.jobs where id = :job_id and fence = :fence and state = 'succeeded'"),
            {"job_id": claim.job_id, "fence": claim.fence},
        ).one_or_none()
    return None if row is None else dict(row[0])


def listing(
    state: str | None = None,
    limit: int = 100,
    *,
    kind: str | None = None,
    line: str | None = None,
    before: int | None = None,
) -> list[Summary]:
    """The newest jobs first, optionally of one state, kind and line; ``before`` is the oldest id known already."""
    columns = {"state": "j.state =", "kind": "j.kind =", "line": "l.name =", "before": "j.id <"}
    wanted = {"state": state, "kind": kind, "line": line, "before": before}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " and ".join(f"{columns[name]} :{name}" for name in given)
    with transaction() as session:
        rows = session.execute(
            text(SUMMARY + (f" where {where}" if where else "") + " order by j.id desc limit :limit"),
            given | {"limit": limit},
        ).all()
    return [Summary(*row) for row in rows]


@dataclass(frozen=True)
class Delivered:
    """A message that reached a worker, which ``claimed``, ``skipped`` or ``requested`` the job; ``at`` is ISO 8601."""

    message_id: str
    job_id: int
    outcome: str
    at: str


def by_message(message_id: str) -> list[Delivered]:
    """The jobs that a Celery message was about, one row a delivery, the first delivery first."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select message_id, job_id, outcome, at from rlfleet.deliveries
                 where message_id = :message_id order by id limit 100
            """),
            {"message_id": message_id},
        ).all()
    return [Delivered(message, int(job), outcome, utc(at)) for message, job, outcome, at in rows]


def deliveries(job_id: int, limit: int = 20) -> list[Delivered]:
    """The job's latest messages, the oldest of them first."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select message_id, job_id, outcome, at from rlfleet.deliveries
                 where job_id = :job_id order by id desc limit :limit
            """),
            {"job_id": job_id, "limit": limit},
        ).all()
    return [Delivered(message, int(job), outcome, utc(at)) for message, job, outcome, at in reversed(rows)]


def carried_over(job_id: int) -> dict[str, Any]:
    """What the job's next attempt goes on from: ``resume`` (a saved state) and ``adjust`` (changes of the config)."""
    with transaction() as session:
        row = session.execute(
            text("select resume - 'curves', adjust, devices, interruptions from rlfleet.jobs where id = :job_id"),
            {"job_id": job_id},
        ).one()
    return {"resume": row[0], "adjust": row[1], "devices": int(row[2]), "interruptions": int(row[3])}


COUNTS = text(f"""
    select state, count(*) from rlfleet.jobs where {UNFINISHED} group by state
    union all
    select 'succeeded', ({SUCCEEDED})
""")  # noqa: S608 (of constants)


def counts() -> dict[str, int]:
    """Jobs by state; a state with none is 0."""
    with transaction() as session:
        rows = session.execute(COUNTS).all()
    return {state.value: 0 for state in State} | {str(row[0]): int(row[1]) for row in rows}


def live_training_of(
    session: Session, line_id: int, window: str, *, ended: bool = True, in_vain: bool = True
) -> int | None:
    """The newest training job on that window, alone or with others, that was not given up.

    ``ended`` ones too, and those that wait ``in_vain`` for a job that ended without success.
    """
    row = session.execute(
        text(f"""
            select j.id from rlfleet.jobs j
             where j.kind = 'train' and j.line_id = :line_id
               and j.inputs -> 'windows' @> to_jsonb(cast(:window as text))
               and (j.state in ('queued', 'running') or (j.state = 'succeeded' and :ended))
               and (:in_vain or not {IN_VAIN})
             order by j.id desc limit 1
        """),  # noqa: S608 (of a constant)
        {"line_id": line_id, "window": window, "ended": ended, "in_vain": in_vain},
    ).one_or_none()
    return int(row[0]) if row else None


def training_of(session: Session, line_id: int, window: str) -> int | None:
    """The newest training job on that window, if there is one."""
    row = session.execute(
        text("""
            select id from rlfleet.jobs
             where kind = 'train' and line_id = :line_id and inputs -> 'windows' @> to_jsonb(cast(:window as text))
             order by id desc limit 1
        """),
        {"line_id": line_id, "window": window},
    ).one_or_none()
    return int(row[0]) if row else None


def events(job_id: int) -> list[dict[str, Any]]:
    """The job's history, oldest first; moments are ISO 8601."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select from_state, to_state, fence, attempt, owner, reason, at
                  from rlfleet.job_events where job_id = :job_id order by id
            """),
            {"job_id": job_id},
        ).all()
    names = ("from", "to", "fence", "attempt", "owner", "reason")
    return [dict(zip(names, row[:6], strict=True)) | {"at": utc(row[6])} for row in rows]


def latest_training(session: Session, line_id: int) -> int | None:
    """The newest training job on hours of the line that has not ended and does not wait in vain."""
    found = session.execute(
        text(f"""
            select max(j.id) from rlfleet.jobs j
             where j.kind = 'train' and j.line_id = :line_id and j.state in ('queued', 'running') and not {IN_VAIN}
               and coalesce(j.inputs -> 'windows' ->> 0, '') not like 'run/%'
        """),  # noqa: S608 (of a constant)
        {"line_id": line_id},
    ).scalar_one()
    return None if found is None else int(found)


def being_trained(session: Session, line_id: int) -> set[str]:
    """The windows of the line's training jobs that have not ended, but for those that wait in vain (``db.waits``)."""
    rows = session.execute(
        text(f"""
            select jsonb_array_elements_text(j.inputs -> 'windows') from rlfleet.jobs j
             where j.kind = 'train' and j.line_id = :line_id and j.state in ('queued', 'running') and not {IN_VAIN}
        """),  # noqa: S608 (of a constant)
        {"line_id": line_id},
    )
    return {str(row[0]) for row in rows}
