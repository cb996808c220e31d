"""Versions and their checkpoints, evaluations, decisions: what a training job leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Checkpoint, Evaluation, Line, Release, Verdict, Version
from rl.errors import InvalidInput


@dataclass(frozen=True)
class NewCheckpoint:
    """A checkpoint folder that a training job wrote."""

    step: int
    kind: str
    uri: str
    base_uri: str
    sha256: str
    metrics: Mapping[str, float]


def add(
    session: Session,
    *,
    line: Line,
    prefix: str,
    job_id: int,
    fence: int,
    checkpoints: Sequence[NewCheckpoint],
    parent_id: int | None,
    base_model: str,
    manifest: Mapping[str, Any],
) -> Version:
    """Allocate the line's next version for the job's last checkpoint.

    The row lock on the line makes numbers gapless and unique; the unique job makes a second one impossible.
    """
    session.execute(select(Line.id).where(Line.id == line.id).with_for_update())
    rows = [
        Checkpoint(
            job_id=job_id,
            fence=fence,
            step=one.step,
            kind=one.kind,
            uri=one.uri,
            base_uri=one.base_uri,
            sha256=one.sha256,
            metrics=dict(one.metrics),
        )
        for one in checkpoints
    ]
    session.add_all(rows)
    session.flush()
    highest = session.scalar(select(func.max(Version.number)).where(Version.line_id == line.id))
    number = 0 if highest is None else highest + 1
    version = Version(
        line_id=line.id,
        number=number,
        name=f"{prefix}-v1.0.{number}",
        job_id=job_id,
        fence=fence,
        checkpoint_id=rows[-1].id,
        parent_id=parent_id,
        base_model=base_model,
        manifest=dict(manifest),
    )
    session.add(version)
    session.flush()
    return version


def named(session: Session, name: str) -> tuple[Version, Checkpoint]:
    """The version called ``name`` and its checkpoint.

    Raises:
        InvalidInput: there is no such version.
    """
    row = session.execute(
        select(Version, Checkpoint).join(Checkpoint, Checkpoint.id == Version.checkpoint_id).where(Version.name == name)
    ).one_or_none()
    if row is None:
        newest = ", ".join(session.scalars(select(Version.name).order_by(Version.id.desc()).limit(3))) or "none yet"
        raise InvalidInput("version", name, f"no such version; the newest are: {newest}")
    return row[0], row[1]


def stable_name(session: Session, line_id: int) -> str | None:
    """The name of the line's stable version, or None before its first release."""
    query = select(Version.name).join(Release, Release.version_id == Version.id)
    live = query.where(Release.line_id == line_id, Release.stage == "stable", Release.ended_at.is_(None))
    return session.scalars(live).one_or_none()


def set_state(session: Session, version_ids: Sequence[int], state: str, reason: str) -> None:
    """Mark versions ``ready`` or ``rejected``, with the reason in words."""
    if version_ids:
        session.execute(update(Version).where(Version.id.in_(version_ids)).values(state=state, reason=reason))


def add_evaluation(session: Session, evaluation: Evaluation, verdicts: Sequence[Mapping[str, Any]]) -> int:
    """Store an evaluation with its verdicts. Returns its id."""
    session.add(evaluation)
    session.flush()
    session.execute(insert(Verdict), [dict(one) | {"evaluation_id": evaluation.id} for one in verdicts])
    return evaluation.id
