"""What a line has with a service that trains for it: trainings that jobs asked for, and versions that lie there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import waits
from rl.protocol import Remote

AWAY_SECONDS: Final = 900
WRITTEN: Final = """
    case when cancel_requested and jsonb_typeof(cast(:resume as jsonb) -> 'remote') = 'object'
              and cast(:resume as jsonb) #>> '{remote,training}' is null
         then resume else coalesce(cast(:resume as jsonb), resume) end
"""
"""What a heartbeat leaves as a job's ``resume``: who is told to stop will not ask for what it intended."""
KEPT: Final = """
    case when resume #>> '{remote,training}' is not null and resume #>> '{remote,end}' is null and not resume ? 'erased'
         then jsonb_build_object('remote', resume -> 'remote') end
"""
"""What new attempts of a job know of its ``resume``: a training with a known id that was not given up."""

OPEN = text("""
    select id, state, resume -> 'remote' as remote from rlfleet.jobs
     where line_id = :line_id and kind = 'train' and id <> :job_id and state <> 'succeeded'
       and jsonb_typeof(resume -> 'remote') = 'object'
       and coalesce(resume #>> '{remote,end}', 'given up') = 'given up'
     order by id
""")
SETTLE = text("""
    update rlfleet.jobs set resume = jsonb_set(resume, '{remote}', cast(:remote as jsonb))
     where id = :job_id and state <> 'running' and (resume #>> '{remote,asked_at}')::float8 = :asked_at
""")
NEWER = text("""
    select v.name, v.state, c.step, r.stage
      from rlfleet.versions v join rlfleet.checkpoints c on c.id = v.checkpoint_id
      left join rlfleet.releases r on r.version_id = v.id and r.ended_at is null
     where v.line_id = :line_id and c.kind = 'remote' and starts_with(c.uri, :model) and c.step > :step
     order by c.step, v.number
""")


@dataclass(frozen=True)
class Open:
    """A training that a job asked for, and of which no end is known."""

    job_id: int
    state: str
    remote: Remote


@dataclass(frozen=True)
class Newer:
    """A version that lies there, and how it is released: ``canary``, ``stable`` or None."""

    name: str
    state: str
    step: int
    stage: str | None


def open_trainings(session: Session, line_id: int, job_id: int) -> list[Open]:
    """Those that jobs of the line other than ``job_id`` asked for, the oldest job first."""
    rows = session.execute(OPEN, {"line_id": line_id, "job_id": job_id})
    return [Open(int(row.id), str(row.state), Remote.model_validate(row.remote)) for row in rows]


def settle(session: Session, job_id: int, remote: Remote) -> None:
    """Write down the ``end`` of what the job asked for, unless it has asked for something else or is at it."""
    values = {"job_id": job_id, "remote": remote.model_dump_json(), "asked_at": remote.asked_at}
    session.execute(SETTLE, values)


def newer_versions(session: Session, line_id: int, model: str, step: int) -> list[Newer]:
    """The line's versions whose URI begins with ``model`` and that come after ``step``, by step."""
    rows = session.execute(NEWER, {"line_id": line_id, "model": model, "step": step})
    return [Newer(str(row.name), str(row.state), int(row.step), row.stage) for row in rows]


def alert_away(session: Session) -> list[int]:
    """Raise ``service_away`` for jobs that cannot reach a service for a while, once an hour each; their ids."""
    return waits.alert_put_off(session, "service_away", "ServiceAway", "^ServiceAway:", AWAY_SECONDS)
