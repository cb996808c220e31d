"""What the fleet knows of itself: workers, engines, slots of the schedule, messages, pauses and alerts."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Double, Index, Integer, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment


class ScheduleSlot(Base):
    """One tick of one schedule entry, taken once however many beats run."""

    __tablename__ = "schedule_slots"

    name: Mapped[str] = mapped_column(primary_key=True)
    slot_at: Mapped[Moment] = mapped_column(primary_key=True)
    taken_at: Mapped[CreatedAt]


class Engine(Base):
    """An engine that serves versions: where it is and when it last said so."""

    __tablename__ = "engines"

    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    device: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    seen_at: Mapped[CreatedAt]


class Worker(Base):
    """A Celery worker: what it serves, how many tasks at once, and when its event loop last said that it turns."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    concurrency: Mapped[int] = mapped_column(Integer)
    device: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]


class Delivery(Base):
    """A message that reached a worker, the job that it was about, and whether it led to work."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("outcome in ('claimed','skipped','requested')", name="outcome"),
        Index("ix_deliveries_message_id", "message_id"),
    )

    id: Mapped[Key]
    message_id: Mapped[str]
    job_id: Mapped[int] = mapped_column(index=True)
    outcome: Mapped[str]
    at: Mapped[CreatedAt]


class Rejection(Base):
    """Messages that no task could be made of, counted by reason and by what they asked for."""

    __tablename__ = "rejections"

    reason: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(server_default="1")
    example: Mapped[str]
    first_at: Mapped[CreatedAt]
    last_at: Mapped[CreatedAt]


class Pause(Base):
    """A kind of job that is not rung and not claimed until a person resumes it."""

    __tablename__ = "pauses"

    kind: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[CreatedAt]


class Resume(Base):
    """When a person last resumed a kind of job: what died before does not pause it again."""

    __tablename__ = "resumes"

    kind: Mapped[str] = mapped_column(primary_key=True)
    resumed_at: Mapped[CreatedAt]


class Alert(Base):
    """Something a person should hear of; sent by each channel until its receiver takes it.

    ``taken`` names the channels whose receiver has it, and ``sent_at`` is when the last of them took it.
    """

    __tablename__ = "alerts"
    __table_args__ = (Index("ix_alerts_due", "next_at", postgresql_where=text("sent_at is null")),)

    id: Mapped[Key]
    name: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[Json] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
    next_at: Mapped[Moment] = mapped_column(server_default=text("now()"))
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    taken: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")
    sent_at: Mapped[Moment | None]
    error: Mapped[str | None]


class Counted(Base):
    """Rows of ``source`` with an id up to this one are in ``totals``, so that they may be removed."""

    __tablename__ = "counted"

    source: Mapped[str] = mapped_column(primary_key=True)
    up_to: Mapped[int]


class Total(Base):
    """How often something happened to jobs of a kind, in rows that were counted; a sum of seconds is one too."""

    __tablename__ = "totals"

    counter: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(Double)
