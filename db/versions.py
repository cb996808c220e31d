"""Versions and their checkpoints, evaluations, decisions: what a training job leaves behind."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import datasets
from db.tables import Checkpoint, Dataset, Job, Line, Release, Version
from rl.errors import UnknownVersion


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
        UnknownVersion: there is no such version.
    """
    row = session.execute(
        select(Version, Checkpoint).join(Checkpoint, Checkpoint.id == Version.checkpoint_id).where(Version.name == name)
    ).one_or_none()
    if row is None:
        raise UnknownVersion("version", name, _no_such(session, name))
    return row[0], row[1]


def _no_such(session: Session, name: str) -> str:
    every = list(session.scalars(select(Version.name).order_by(Version.id.desc())))
    prefix, number, _ = name.rpartition("-v")
    names = [one for one in every if number and one.rpartition("-v")[0] == prefix] or every
    near = difflib.get_close_matches(name, names, n=3)
    which, shown = ("near ones", near) if near else ("the newest", names[:3])
    return f"no such version; {which} are: {', '.join(shown) or 'none yet'}"


@dataclass(frozen=True)
class Made:
    """What a version was made of. ``config`` is its job's, with what attempts changed because memory ran out."""

    version: Version
    checkpoint: Checkpoint
    dataset: Dataset | None
    parent: str | None
    config: dict[str, Any]
    adjust: dict[str, Any]


def made(session: Session, name: str) -> Made:
    """What the version called ``name`` was made of.

    Raises:
        UnknownVersion: there is no such version.
    """
    version, checkpoint = named(session, name)
    job = session.scalars(select(Job).where(Job.id == version.job_id)).one()
    parent = session.scalar(select(Version.name).where(Version.id == version.parent_id)) if version.parent_id else None
    adjust = dict(job.adjust or {})
    dataset = datasets.of_job(session, job.id)
    return Made(version, checkpoint, dataset, parent, {**job.config, **adjust}, adjust)


def sha256_of(session: Session, folder: str) -> str | None:
    """The hash of the checkpoint that lies in ``folder``; None when it is none of ours."""
    return session.scalar(select(Checkpoint.sha256).where(Checkpoint.uri == folder).limit(1))


def root_of(session: Session, folder: str) -> str:
    """The folder that the weights in ``folder`` go back to: the first one that no training of ours wrote."""
    seen: set[str] = set()
    while folder not in seen:
        seen.add(folder)
        folder = session.scalar(select(Checkpoint.base_uri).where(Checkpoint.uri == folder).limit(1)) or folder
    return folder


def remote_at(session: Session, line_id: int, step: int, uri: str | None = None) -> str | None:
    """The name of the line's newest version that lies with a service as that ``step``; None when there is none.

    One that lies there as ``uri``, where that is known: steps of other models have the same numbers.
    """
    query = select(Version.name).join(Checkpoint, Checkpoint.id == Version.checkpoint_id)
    query = query.where(Version.line_id == line_id, Checkpoint.kind == "remote", Checkpoint.step == step)
    query = query.where(Checkpoint.uri == uri) if uri else query
    return session.scalars(query.order_by(Version.number.desc()).limit(1)).one_or_none()


def remote_named(session: Session, line_id: int, uri: str) -> str | None:
    """The name of the line's version that lies with a service as ``uri``; None when there is none."""
    query = select(Version.name).join(Checkpoint, Checkpoint.id == Version.checkpoint_id)
    query = query.where(Version.line_id == line_id, Checkpoint.kind == "remote", Checkpoint.uri == uri)
    return session.scalars(query.where(Version.state != "rejected").limit(1)).one_or_none()


def places(session: Session, line_id: int) -> dict[str, int]:
    """The place of each of the line's versions among them, by name, the oldest at 0."""
    names = session.scalars(select(Version.name).where(Version.line_id == line_id).order_by(Version.number))
    return {name: place for place, name in enumerate(names)}


def stable_name(session: Session, line_id: int) -> str | None:
    """The name of the line's stable version, or None before its first release."""
    query = select(Version.name).join(Release, Release.version_id == Version.id)
    live = query.where(Release.line_id == line_id, Release.stage == "stable", Release.ended_at.is_(None))
    return session.scalars(live).one_or_none()


def set_state(session: Session, version_ids: Sequence[int], state: str, reason: str) -> None:
    """Mark versions ``ready`` or ``rejected``, with the reason in words."""
    if version_ids:
        session.execute(update(Version).where(Version.id.in_(version_ids)).values(state=state, reason=reason))
