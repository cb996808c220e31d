"""Browsers that are signed in to the admin pages"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"


def upgrade() -> None:
    """Make the table; who is signed in with an older version is asked for the token again."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], [f"{SCHEMA}.tokens.id"], name=op.f("fk_sessions_token_id_tokens")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        schema=SCHEMA,
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], schema=SCHEMA)


def downgrade() -> None:
    """Drop it; everybody is signed out."""
    op.drop_table("sessions", schema=SCHEMA)
