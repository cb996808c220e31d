"""What was copied elsewhere, and checkpoints that lie elsewhere"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"


def upgrade() -> None:
    """Make the table, and let a checkpoint be remote."""
    op.create_table(
        "mirrors",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint("kind in ('checkpoint','training','version')", name=op.f("ck_mirrors_kind")),
        sa.PrimaryKeyConstraint("target", "kind", "ref", name=op.f("pk_mirrors")),
        schema=SCHEMA,
    )
    op.drop_constraint(op.f("ck_checkpoints_kind"), "checkpoints", schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_checkpoints_kind"), "checkpoints", "kind in ('full','adapter','remote')", schema=SCHEMA
    )


def downgrade() -> None:
    """Drop it; with remote checkpoints there is no way back."""
    op.drop_constraint(op.f("ck_checkpoints_kind"), "checkpoints", schema=SCHEMA)
    op.create_check_constraint(op.f("ck_checkpoints_kind"), "checkpoints", "kind in ('full','adapter')", schema=SCHEMA)
    op.drop_table("mirrors", schema=SCHEMA)
