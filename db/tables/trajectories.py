"""Trajectories with their turns and calls, their scores, and the rows that could not be used."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment


class Trajectory(Base):
    """One episode of one agent on one scenario, in the window it belongs to."""

    __tablename__ = "trajectories"
    __table_args__ = (
        Index(None, "window_id", "scenario_id"),
        CheckConstraint("abs(reward) < 'infinity'::float8", name="reward_finite"),
    )

    trajectory_id: Mapped[str] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    window_id: Mapped[int] = mapped_column(ForeignKey("windows.id"))
    scenario_id: Mapped[str]
    agent_id: Mapped[str]
    source: Mapped[str]
    reward: Mapped[float] = mapped_column(Double)
    started_at: Mapped[Moment]
    ended_at: Mapped[Moment]
    details: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[CreatedAt]


class Turn(Base):
    """One agent step: what it did and what that earned. ``action`` is the text of its last call."""

    __tablename__ = "turns"

    trajectory_id: Mapped[str] = mapped_column(
        ForeignKey("trajectories.trajectory_id", ondelete="CASCADE"), primary_key=True
    )
    turn: Mapped[int] = mapped_column(Integer, primary_key=True)
    action: Mapped[str | None]
    reward: Mapped[float] = mapped_column(Double)


class Call(Base):
    """One call of a language model, stored once by its id, whoever reports it.

    ``model`` is the model that spoke. Tokens and log-probabilities are the engine's own and are all
    present or all absent. A call can be stored before its trajectory is known.
    """

    __tablename__ = "calls"
    __table_args__ = (
        Index(None, "trajectory_id", "turn"),
        CheckConstraint(
            "(prompt_token_ids is null) = (token_ids is null) and (token_ids is null) = (logprobs is null)"
            " and (token_ids is null or cardinality(token_ids) = cardinality(logprobs))",
            name="tokens_together",
        ),
    )

    call_id: Mapped[str] = mapped_column(primary_key=True)
    trajectory_id: Mapped[str]
    turn: Mapped[int] = mapped_column(Integer)
    line: Mapped[str]
    model: Mapped[str]
    agent_id: Mapped[str | None]
    body: Mapped[Json]
    prompt_token_ids: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    token_ids: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    logprobs: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    temperature: Mapped[float | None] = mapped_column(Double)
    finish_reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Score(Base):
    """The number used to train, with where it came from. Rows are added, never changed."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("trajectory_id", "method", "method_version", "input_hash"),)

    id: Mapped[Key]
    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectories.trajectory_id", ondelete="CASCADE"))
    method: Mapped[str]
    method_version: Mapped[str]
    input_hash: Mapped[str]
    score: Mapped[float] = mapped_column(Double)
    rubric_hash: Mapped[str | None]
    judge: Mapped[str | None]
    cost: Mapped[float | None] = mapped_column(Double)
    explanation: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Quarantine(Base):
    """A row of a source that could not be used, kept once with the reason, under the first window that met it."""

    __tablename__ = "quarantine"
    __table_args__ = (UniqueConstraint("line_id", "source", "row", "field"),)

    id: Mapped[Key]
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    window_id: Mapped[int] = mapped_column(ForeignKey("windows.id"), index=True)
    source: Mapped[str]
    row: Mapped[str]
    field: Mapped[str]
    reason: Mapped[str]
    excerpt: Mapped[str]
    created_at: Mapped[CreatedAt]
