"""Who may administer the fleet, and what they did."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Key, Moment


class Token(Base):
    """A bearer token of the admin API: its hash, never itself. ``used_at`` is exact to a minute."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("role in ('viewer','operator')", name="role"),
        Index("uq_tokens_name", "name", unique=True, postgresql_where=text("revoked_at is null")),
    )

    id: Mapped[Key]
    name: Mapped[str]
    role: Mapped[str]
    sha256: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment | None]
    revoked_at: Mapped[Moment | None]
    used_at: Mapped[Moment | None]


class SignIn(Base):
    """A browser that was signed in with a token: the hash of what its cookie holds. It is over with the token."""

    __tablename__ = "sessions"

    id: Mapped[Key]
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"))
    sha256: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment] = mapped_column(index=True)


class Audit(Base):
    """One thing that a person asked for: who, what, about what, from where, and whether it was done."""

    __tablename__ = "audit"
    __table_args__ = (CheckConstraint("outcome in ('done','refused','failed')", name="outcome"),)

    id: Mapped[Key]
    at: Mapped[CreatedAt] = mapped_column(index=True)
    actor: Mapped[str]
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"))
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[Json] = mapped_column(JSONB)
    outcome: Mapped[str]
    address: Mapped[str]
