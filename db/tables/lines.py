"""Lines, runs and windows: what is collected, in which order, and how far each has come."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment


class Line(Base):
    """One lineage of versions: a base model and the population of agents it serves."""

    __tablename__ = "lines"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    config: Mapped[Json]
    created_at: Mapped[CreatedAt]


class Run(Base):
    """A chain of windows on environments, with its config as given and how it ended.

    ``patient_from`` is the place in the chain of versions from which on they use up the patience of an early stop;
    with ``finishing`` it ends as if all its rounds had been played.
    """

    __tablename__ = "runs"
    __table_args__ = (CheckConstraint("state in ('running','paused','finished','stopped')", name="state"),)

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    config: Mapped[Json]
    state: Mapped[str] = mapped_column(server_default="running")
    reason: Mapped[str | None]
    base_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id", use_alter=True))
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
    patient_from: Mapped[int] = mapped_column(Integer, server_default="0")
    finishing: Mapped[bool] = mapped_column(server_default=text("false"))


class Window(Base):
    """A bucket of trajectories: ``open -> closed -> collected -> scored -> trained | skipped``.

    ``again`` counts how often rows that came late were added to it. ``rows_read`` is how many rows its source had for
    it when it was last read; ``known`` stands for the feedback and outcomes that its scores heed (``db.late``).
    ``removed_at`` is when retention removed its trajectories.
    """

    __tablename__ = "windows"
    __table_args__ = (
        UniqueConstraint("line_id", "name"),
        CheckConstraint("state in ('open','closed','collected','scored','trained','skipped')", name="state"),
    )

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="open")
    reason: Mapped[str | None]
    round: Mapped[int | None]
    again: Mapped[int] = mapped_column(Integer, server_default="0")
    rows_read: Mapped[int | None] = mapped_column(Integer)
    known: Mapped[int] = mapped_column(server_default="0")
    removed_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    starts_at: Mapped[Moment] = mapped_column(server_default=func.now())
    ends_at: Mapped[Moment | None]
