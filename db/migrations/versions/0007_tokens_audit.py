"""Tokens of the admin API, and what was done with them"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"


def _moment(name: str, *, default: bool = False) -> sa.Column[datetime]:
    kind = sa.DateTime(timezone=True)
    return sa.Column(name, kind, server_default=sa.text("now()") if default else None, nullable=not default)


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created_at", default=True),
        _moment("expires_at"),
        _moment("revoked_at"),
        _moment("used_at"),
        sa.CheckConstraint("role in ('viewer','operator')", name=op.f("ck_tokens_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        schema=SCHEMA,
    )
    live = sa.text("revoked_at is null")
    op.create_index("uq_tokens_name", "tokens", ["name"], unique=True, schema=SCHEMA, postgresql_where=live)
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _moment("at", default=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("token_id", sa.BigInteger()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.CheckConstraint("outcome in ('done','refused','failed')", name=op.f("ck_audit_outcome")),
        sa.ForeignKeyConstraint(["token_id"], [f"{SCHEMA}.tokens.id"], name=op.f("fk_audit_token_id_tokens")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_at", "audit", ["at"], schema=SCHEMA)


def downgrade() -> None:
    """Drop them; who did what is forgotten."""
    op.drop_table("audit", schema=SCHEMA)
    op.drop_table("tokens", schema=SCHEMA)
