"""Counts that outlive their rows, when a holder was last heard, and which channels took an alert"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"


def upgrade() -> None:
    """Add two tables and two columns; alerts that were sent had one channel, and nobody asks them for it again."""
    op.create_table(
        "counted",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_counted")),
        schema=SCHEMA,
    )
    op.create_table(
        "totals",
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "kind", name=op.f("pk_totals")),
        schema=SCHEMA,
    )
    op.add_column("jobs", sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True), schema=SCHEMA)
    taken: sa.Column[list[str]] = sa.Column("taken", postgresql.ARRAY(sa.TEXT()), server_default="{}", nullable=False)
    op.add_column("alerts", taken, schema=SCHEMA)


def downgrade() -> None:
    """Drop them; counters begin again with the rows that are kept."""
    op.drop_column("alerts", "taken", schema=SCHEMA)
    op.drop_column("jobs", "heartbeat_at", schema=SCHEMA)
    op.drop_table("totals", schema=SCHEMA)
    op.drop_table("counted", schema=SCHEMA)
