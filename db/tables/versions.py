"""Datasets, checkpoints, versions, their evaluations and verdicts, decisions and releases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment


class Dataset(Base):
    """Exactly what one training job reads: frozen once, identified by the hash of its rows.

    ``erased_at`` is when trajectories of it were last erased at somebody's request; a version has the same mark.
    """

    __tablename__ = "datasets"

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    sha256: Mapped[str]
    manifest: Mapped[Json]
    created_at: Mapped[CreatedAt]
    erased_at: Mapped[Moment | None]


class DatasetWindow(Base):
    """A window whose trajectories are in a dataset."""

    __tablename__ = "dataset_windows"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    window_id: Mapped[int] = mapped_column(ForeignKey("windows.id"), primary_key=True, index=True)


class DatasetTrajectory(Base):
    """A trajectory of a dataset with the score, the row it came from, and the group it was frozen with."""

    __tablename__ = "dataset_trajectories"
    __table_args__ = (Index(None, "trajectory_id"),)

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectory_keys.trajectory_id"), primary_key=True)
    group: Mapped[str]
    score: Mapped[float] = mapped_column(Double)
    score_id: Mapped[int | None] = mapped_column(ForeignKey("scores.id"))


class Checkpoint(Base):
    """Weights that a training job wrote: full, or an adapter on the full weights in ``base_uri``.

    Those of a ``remote`` one lie with whoever trained and serves them; ``uri`` is their name there, and ``sha256`` the
    hash of that name. ``removed_at`` is when retention gave the folder up; the row stays.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("job_id", "step"),
        CheckConstraint("kind in ('full','adapter','remote')", name="kind"),
    )

    id: Mapped[Key]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    fence: Mapped[int]
    step: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str]
    uri: Mapped[str]
    base_uri: Mapped[str]
    sha256: Mapped[str]
    metrics: Mapped[Json]
    created_at: Mapped[CreatedAt]
    removed_at: Mapped[Moment | None]


class Version(Base):
    """A trained artifact with a number in its line: ``candidate -> ready | rejected``.

    ``number`` counts from 0 and is shown as ``v1.0.<number>``.
    """

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("line_id", "number"),
        UniqueConstraint("line_id", "id"),
        CheckConstraint("state in ('candidate','ready','rejected')", name="state"),
    )

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    number: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(server_default="candidate")
    reason: Mapped[str | None]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    fence: Mapped[int]
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    base_model: Mapped[str]
    manifest: Mapped[Json]
    created_at: Mapped[CreatedAt]
    erased_at: Mapped[Moment | None]


class Evaluation(Base):
    """One shard of a checkpoint's evaluation: one sample of the task set's scenarios from place ``first`` on.

    ``k`` of ``n`` verdicts were right; of ``missing`` scenarios there is none. ``against`` is what its answers were
    compared with: the hash of another checkpoint, ``logged``, or nothing where each answer was judged by itself; ``#``
    and its id in a row from before shards whose shard another row has.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint(
            "checkpoint_sha256",
            "task_set_hash",
            "judge",
            "prompt_hash",
            "against",
            "sample",
            "first",
            name="uq_evaluations_shard",
        ),
        Index("ix_evaluations_created_at", "created_at"),
    )

    id: Mapped[Key]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    fence: Mapped[int]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    task_set: Mapped[Json]
    task_set_hash: Mapped[str]
    judge: Mapped[str]
    prompt_hash: Mapped[str]
    ids_sha256: Mapped[str]
    checkpoint_sha256: Mapped[str]
    against: Mapped[str] = mapped_column(server_default="")
    sample: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    first: Mapped[int] = mapped_column(Integer, server_default="0")
    k: Mapped[int] = mapped_column(Integer)
    n: Mapped[int] = mapped_column(Integer)
    missing: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[CreatedAt]


class Verdict(Base):
    """Right or wrong on one held-out scenario; null is "no verdict", which is not "wrong", and ``reason`` says why.

    Of an evaluation against another, ``rival_right`` is the other's verdict; both are right where they are equal.
    ``type`` is the kind of scenario, by which versions are compared too.
    """

    __tablename__ = "verdicts"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    scenario_id: Mapped[str] = mapped_column(primary_key=True)
    sample: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    right: Mapped[bool | None]
    content_hash: Mapped[str]
    turns: Mapped[int] = mapped_column(Integer)
    type: Mapped[str] = mapped_column(server_default="")
    rival_right: Mapped[bool | None]
    reason: Mapped[str | None]


class Decision(Base):
    """Why a version was or was not released: the policy, the evidence and what would have changed it.

    A job made it, or a person, the ``actor``. ``approval`` is set where a person must agree before it is carried out;
    it is ``superseded`` where another decision about the version came first.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        CheckConstraint("approval in ('waiting','given','refused','superseded')", name="approval"),
        CheckConstraint("(job_id is null) = (actor is not null)", name="author"),
        UniqueConstraint("version_id", "id"),
    )

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    fence: Mapped[int | None]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    stable_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    policy: Mapped[str]
    released: Mapped[bool]
    reason: Mapped[str]
    evidence: Mapped[Json]
    created_at: Mapped[CreatedAt]
    actor: Mapped[str | None]
    approval: Mapped[str | None]
    approved_by: Mapped[str | None]
    approved_at: Mapped[Moment | None]


class Release(Base):
    """The only path to traffic: which version of a line gets which share. ``ended_at`` is null while it holds.

    A canary is one row for each share that it has had: ``place`` counts them, ``plan`` says how it grows and what it is
    tested by, ``looked`` is what the last look at its traffic said.
    """

    __tablename__ = "releases"
    __table_args__ = (
        CheckConstraint("stage in ('canary','stable')", name="stage"),
        CheckConstraint("share between 0 and 100", name="share"),
        ForeignKeyConstraint(["line_id", "version_id"], ["versions.line_id", "versions.id"]),
        ForeignKeyConstraint(["version_id", "decision_id"], ["decisions.version_id", "decisions.id"]),
        Index("uq_releases_live", "line_id", "stage", unique=True, postgresql_where=text("ended_at is null")),
    )

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    decision_id: Mapped[int] = mapped_column(ForeignKey("decisions.id"))
    stage: Mapped[str]
    share: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[str]
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Moment | None]
    place: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    looked: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    looked_at: Mapped[Moment | None]
    ended_reason: Mapped[str | None]


class Control(Base):
    """What a person said about a line's traffic: none for our versions, or one version for everybody."""

    __tablename__ = "controls"
    __table_args__ = (ForeignKeyConstraint(["line_id", "pinned_id"], ["versions.line_id", "versions.id"]),)

    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), primary_key=True)
    killed: Mapped[bool] = mapped_column(server_default=text("false"))
    pinned_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    actor: Mapped[str]
    reason: Mapped[str]
    changed_at: Mapped[CreatedAt]
