"""Versions as machines are told about them: a page of them, and one with its checkpoints and decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rl.records import utc


@dataclass(frozen=True)
class Summary:
    """A version; ``stage`` is that of its live release, ``share`` the percentage of agents it has by that."""

    version_id: int
    name: str
    line: str
    number: int
    state: str
    reason: str | None
    parent: str | None
    base_model: str
    job_id: int
    created_at: str
    stage: str | None
    share: int


@dataclass(frozen=True)
class Step:
    """A checkpoint; ``is_own``: the one that the version stands for. ``removed_at``: retention gave its folder up."""

    step: int
    kind: str
    uri: str
    sha256: str
    metrics: dict[str, Any]
    created_at: str
    removed_at: str | None
    is_own: bool


@dataclass(frozen=True)
class Decided:
    """A decision about a version: by a job, or by ``actor``. ``stable`` is what it was compared with."""

    decision_id: int
    released: bool
    reason: str
    policy: str
    stable: str | None
    evidence: dict[str, Any]
    actor: str | None
    approval: str | None
    approved_by: str | None
    created_at: str


SUMMARY = """
    select v.id, v.name, l.name, v.number, v.state, v.reason, p.name, v.base_model, v.job_id, v.created_at,
           r.stage, coalesce(r.share, 0)
      from rlfleet.versions v join rlfleet.lines l on l.id = v.line_id
      left join rlfleet.versions p on p.id = v.parent_id
      left join lateral (select stage, share from rlfleet.releases
                          where version_id = v.id and ended_at is null order by stage limit 1) r on true
"""
LISTING = text(f"""
    {SUMMARY}
     where (cast(:line as text) is null or l.name = :line) and (cast(:state as text) is null or v.state = :state)
       and (cast(:before as bigint) is null or v.id < :before)
     order by v.id desc limit :limit
""")
ONE = text(f"{SUMMARY} where v.name = :name")
CHECKPOINTS = text("""
    select c.step, c.kind, c.uri, c.sha256, c.metrics, c.created_at, c.removed_at, c.id = v.checkpoint_id
      from rlfleet.versions v join rlfleet.checkpoints c on c.job_id = v.job_id
     where v.id = :version_id order by c.step
""")
DECISIONS = text("""
    select d.id, d.released, d.reason, d.policy, s.name, d.evidence, d.actor, d.approval, d.approved_by, d.created_at
      from rlfleet.decisions d left join rlfleet.versions s on s.id = d.stable_id
     where d.version_id = :version_id order by d.id desc
""")


def listing(
    session: Session, limit: int = 100, before: int | None = None, *, line: str | None = None, state: str | None = None
) -> list[Summary]:
    """The newest versions first; ``before`` is the oldest id that is known already."""
    rows = session.execute(LISTING, {"line": line, "state": state, "before": before, "limit": limit})
    return [Summary(*_plain(row)) for row in rows]


def summary(session: Session, name: str) -> Summary | None:
    """The version called ``name``, or None if there is none."""
    row = session.execute(ONE, {"name": name}).one_or_none()
    return None if row is None else Summary(*_plain(row))


def steps(session: Session, version_id: int) -> list[Step]:
    """Every checkpoint of the version's training, by step."""
    return [Step(*_plain(row)) for row in session.execute(CHECKPOINTS, {"version_id": version_id})]


def decisions(session: Session, version_id: int) -> list[Decided]:
    """What was decided about the version, the newest first."""
    return [Decided(*_plain(row)) for row in session.execute(DECISIONS, {"version_id": version_id})]


def _plain(row: Any) -> list[Any]:
    return [utc(one) if isinstance(one, datetime) else one for one in row]
