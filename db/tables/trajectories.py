"""Trajectories with their turns and calls, what became known of them later, their scores, and rows without use.

What is long and comes for ever lies in partitions by ``at`` (``db.partitions``). A unique index cannot span them, so
that the ids lie in plain tables beside, which also say where to look: ``trajectory_keys`` and ``call_keys``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment

BY_WEEK = {"postgresql_partition_by": "range (at)"}


class TrajectoryKey(Base):
    """The id of a trajectory, the window it belongs to, and ``at``: the moment that says which partition it is in.

    The key stays when the trajectory was erased, so that it cannot come back.
    """

    __tablename__ = "trajectory_keys"
    __table_args__ = (Index(None, "window_id"),)

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    window_id: Mapped[int] = mapped_column(ForeignKey("windows.id"))
    at: Mapped[Moment]
    erased_at: Mapped[Moment | None]


class Trajectory(Base):
    """One episode of one agent on one scenario. ``at`` is when its window begins, so a window lies in one partition."""

    __tablename__ = "trajectories"
    __table_args__ = (
        Index(None, "window_id", "scenario_id"),
        CheckConstraint("abs(reward) < 'infinity'::float8", name="reward_finite"),
        BY_WEEK,
    )

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[Moment] = mapped_column(primary_key=True)
    line_id: Mapped[int]
    window_id: Mapped[int]
    scenario_id: Mapped[str]
    agent_id: Mapped[str] = mapped_column(index=True)
    source: Mapped[str]
    archetype: Mapped[str | None]
    reward: Mapped[float] = mapped_column(Double)
    started_at: Mapped[Moment]
    ended_at: Mapped[Moment]
    details: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[CreatedAt]


class Turn(Base):
    """One agent step: what it did and what that earned. ``action`` is in words; ``details`` holds state and action."""

    __tablename__ = "turns"
    __table_args__ = (BY_WEEK,)

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    turn: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[Moment] = mapped_column(primary_key=True)
    action: Mapped[str | None]
    reward: Mapped[float] = mapped_column(Double)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class CallKey(Base):
    """The id of a call and the moment that says which partition it is in, so that it is stored once."""

    __tablename__ = "call_keys"

    call_id: Mapped[str] = mapped_column(primary_key=True)
    trajectory_id: Mapped[str]
    at: Mapped[Moment]


class Call(Base):
    """One call of a language model, stored once by its id, whoever reports it.

    ``model`` is the model that spoke. ``place`` orders the calls of one turn. Tokens (big-endian int32) and
    log-probabilities (big-endian float32) are the engine's own and are all present or all absent. A call can be
    stored before its trajectory is known.
    """

    __tablename__ = "calls"
    __table_args__ = (
        CheckConstraint(
            "(prompt_token_ids is null) = (token_ids is null) and (token_ids is null) = (logprobs is null)"
            " and (token_ids is null or length(token_ids) = length(logprobs))",
            name="tokens_together",
        ),
        # All that watching a canary reads, so that it does not read conversations.
        Index("ix_calls_model", "model", "at", postgresql_include=["trajectory_id", "agent_id", "created_at"]),
        BY_WEEK,
    )

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    turn: Mapped[int] = mapped_column(Integer, primary_key=True)
    call_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[Moment] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(Integer, server_default="0")
    line: Mapped[str]
    model: Mapped[str]
    agent_id: Mapped[str | None]
    # As text, which is read faster than jsonb: nobody looks inside but who reads it whole.
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    prompt_token_ids: Mapped[bytes | None] = mapped_column(LargeBinary)
    token_ids: Mapped[bytes | None] = mapped_column(LargeBinary)
    logprobs: Mapped[bytes | None] = mapped_column(LargeBinary)
    temperature: Mapped[float | None] = mapped_column(Double)
    finish_reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class CallFailure(Base):
    """A call that the version ``model`` should have answered and did not, whether or not another answered in its place.

    ``at`` is when it was made. ``asked`` is false where circuit breakers kept the call from every engine: that says
    nothing new of the version. ``unit`` is whose call it was: the agent's id, or without one the trajectory's.
    """

    __tablename__ = "call_failures"
    __table_args__ = (
        Index("ix_call_failures_model", "line", "model", "at"),
        Index("ix_call_failures_unit", "unit"),
    )

    call_id: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[str]
    model: Mapped[str]
    reason: Mapped[str]
    at: Mapped[Moment]
    asked: Mapped[bool]
    unit: Mapped[str | None]


class Recording(Base):
    """A trajectory that an agent reports while it happens: its head, until the collection makes a trajectory of it.

    Its turns and calls lie with all others.
    """

    __tablename__ = "recordings"
    __table_args__ = (
        Index("ix_recordings_ended", "line", "ended_at", postgresql_where=text("ended_at is not null")),
        Index("ix_recordings_open", "line", "created_at", postgresql_where=text("ended_at is null")),
        Index("ix_recordings_window", "line", "window", postgresql_where=text('"window" is not null')),
    )

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[str]
    agent_id: Mapped[str | None]
    scenario_id: Mapped[str | None]
    window: Mapped[str | None]
    archetype: Mapped[str | None]
    consent: Mapped[bool | None]
    started_at: Mapped[Moment | None]
    ended_at: Mapped[Moment | None]
    status: Mapped[str | None]
    reward: Mapped[float | None] = mapped_column(Double)
    details: Mapped[Json] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[CreatedAt]


class Outcome(Base):
    """What became known of a trajectory, or of one of its turns, after it happened. The newest row counts."""

    __tablename__ = "outcomes"
    __table_args__ = (
        Index("ix_outcomes_trajectory_id", "trajectory_id", "turn", "id"),
        Index("ix_outcomes_created_at", "created_at"),
    )

    id: Mapped[Key]
    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectory_keys.trajectory_id", ondelete="CASCADE"))
    turn: Mapped[int | None] = mapped_column(Integer)
    sha256: Mapped[str]
    body: Mapped[Json] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]


class Feedback(Base):
    """What somebody thought of a trajectory or of one call, given at any time; the newest of a name counts."""

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint("abs(value) < 'infinity'::float8", name="value_finite"),
        Index("ix_feedback_created_at", "created_at"),
    )

    id: Mapped[Key]
    feedback_id: Mapped[str] = mapped_column(unique=True)
    trajectory_id: Mapped[str] = mapped_column(index=True)
    call_id: Mapped[str | None]
    name: Mapped[str]
    value: Mapped[float] = mapped_column(Double)
    comment: Mapped[str | None]
    author: Mapped[str | None]
    at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class Score(Base):
    """The number used to train, with where it came from. Rows are added, never changed; the newest counts.

    ``compared_in`` names the group that a relative score was made in; scores of different ones cannot be compared.
    """

    __tablename__ = "scores"
    __table_args__ = (Index("ix_scores_trajectory_id", "trajectory_id", "id"),)

    id: Mapped[Key]
    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectory_keys.trajectory_id", ondelete="CASCADE"))
    method: Mapped[str]
    method_version: Mapped[str]
    input_hash: Mapped[str]
    score: Mapped[float] = mapped_column(Double)
    rubric_hash: Mapped[str | None]
    judge: Mapped[str | None]
    cost: Mapped[float | None] = mapped_column(Double)
    explanation: Mapped[str | None]
    compared_in: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Judgement(Base):
    """A judge's answer, kept by the hash of what it was asked: the same question is paid for once."""

    __tablename__ = "judgements"
    __table_args__ = (Index(None, "judge", "created_at"),)

    request_sha256: Mapped[str] = mapped_column(primary_key=True)
    judge: Mapped[str]
    answer: Mapped[Json] = mapped_column(JSONB)
    prompt_tokens: Mapped[int] = mapped_column(Integer)
    completion_tokens: Mapped[int] = mapped_column(Integer)
    cost: Mapped[float] = mapped_column(Double)
    created_at: Mapped[CreatedAt]


class Quarantine(Base):
    """A row of a source that could not be used, kept once with the reason, under the first window that met it.

    ``window_id`` is null for what agents reported and no window met.
    """

    __tablename__ = "quarantine"
    __table_args__ = (
        UniqueConstraint("line_id", "source", "row", "field"),
        Index("ix_quarantine_source", "source", "created_at"),
    )

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    window_id: Mapped[int | None] = mapped_column(ForeignKey("windows.id"), index=True)
    source: Mapped[str]
    row: Mapped[str]
    field: Mapped[str]
    reason: Mapped[str]
    excerpt: Mapped[str]
    created_at: Mapped[CreatedAt]
