"""Jobs: intent, lease and outcome; the events that replay to their state."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment

UNSENT = "state = 'queued' and last_sent_at is null"
RUNG = "state = 'queued' and last_sent_at is not null"
UNFINISHED = "state <> 'succeeded'"
HELD_TO_THE_END = "state in ('succeeded', 'failed', 'dead')"
"""Jobs whose ``finished_at`` is when their holder left them; cancelled ones may never have had one."""
WINDOWS = "coalesce(inputs -> 'windows', inputs -> 'window')"
"""The windows that a job is about: a name, or an array of them. Either is found by ``@> to_jsonb(name)``."""


class Job(Base):
    """One row per (kind, line, inputs, config) over all states: a planner cannot loop.

    ``fence`` grows on every claim and is checked by every write of the holder. ``after`` lists jobs that
    must have succeeded first. ``devices`` is how many one worker must have. ``resume`` says where a state of
    this job was saved, and ``adjust`` what an attempt changed in the config because memory ran out. ``heartbeat_at`` is
    when a holder last claimed it or renewed its lease.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("kind", "line_id", "dedup_key"),
        CheckConstraint("state in ('queued','running','succeeded','failed','dead','cancelled')", name="state"),
        CheckConstraint("(state = 'running') = (lease_until is not null)", name="lease"),
        CheckConstraint("attempt between 0 and max_attempts", name="attempt"),
        # Not on the lease: a heartbeat that changes no index is an update in place.
        Index("ix_jobs_running", "id", postgresql_where=text("state = 'running'")),
        Index("ix_jobs_ended", "kind", "finished_at", postgresql_where=text("state in ('failed', 'dead')")),
        Index("ix_jobs_unsent", "queue", "priority", "id", postgresql_where=text(UNSENT)),
        Index("ix_jobs_rung", "queue", "last_sent_at", postgresql_where=text(RUNG)),
        Index("ix_jobs_unfinished", "state", "kind", "queue", postgresql_where=text(UNFINISHED)),
        Index("ix_jobs_gpu_ended", "finished_at", postgresql_where=text(f"queue = 'gpu' and {HELD_TO_THE_END}")),
        Index(
            "ix_jobs_trained", "line_id", "finished_at", postgresql_where=text(f"kind = 'train' and {HELD_TO_THE_END}")
        ),
        Index("ix_jobs_windows", text(f"({WINDOWS})"), postgresql_using="gin"),
        Index(
            "uq_jobs_training_serial",
            "line_id",
            unique=True,
            postgresql_where=text("state = 'running' and kind = 'train'"),
        ),
    )

    id: Mapped[Key]
    kind: Mapped[str]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    dedup_key: Mapped[str]
    queue: Mapped[str]
    inputs: Mapped[Json]
    config: Mapped[Json]
    after: Mapped[list[int]] = mapped_column(ARRAY(BIGINT), server_default="{}")
    priority: Mapped[int] = mapped_column(Integer, server_default="100")
    state: Mapped[str] = mapped_column(server_default="queued")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    max_attempts: Mapped[int] = mapped_column(Integer, server_default="3")
    interruptions: Mapped[int] = mapped_column(Integer, server_default="0")
    fence: Mapped[int] = mapped_column(server_default="0")
    owner: Mapped[str | None]
    lease_until: Mapped[Moment | None]
    heartbeat_at: Mapped[Moment | None]
    run_at: Mapped[Moment] = mapped_column(server_default=text("now()"))
    last_sent_at: Mapped[Moment | None]
    sends: Mapped[int] = mapped_column(Integer, server_default="0")
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    devices: Mapped[int] = mapped_column(Integer, server_default="1")
    resume: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    adjust: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]


class JobEvent(Base):
    """One change of a job's state, fence or attempt, written by a trigger; replaying them gives the row."""

    __tablename__ = "job_events"

    id: Mapped[Key]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    fence: Mapped[int]
    attempt: Mapped[int] = mapped_column(Integer)
    owner: Mapped[str | None]
    reason: Mapped[str | None]
    at: Mapped[CreatedAt]
