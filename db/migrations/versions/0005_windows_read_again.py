"""What a window knew when it was read and scored, so that what came later is seen, and when its rows were removed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"


def upgrade() -> None:
    """Add the columns, and the indexes by which new feedback and outcomes are found."""
    op.add_column("windows", sa.Column("rows_read", sa.Integer()), schema=SCHEMA)
    op.add_column("windows", sa.Column("known", sa.Integer(), server_default="0", nullable=False), schema=SCHEMA)
    op.add_column("windows", sa.Column("removed_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    for table in ("feedback", "outcomes"):
        op.create_index(f"ix_{table}_created_at", table, ["created_at"], schema=SCHEMA)


def downgrade() -> None:
    """Take them away."""
    for table in ("outcomes", "feedback"):
        op.drop_index(f"ix_{table}_created_at", table, schema=SCHEMA)
    for column in ("removed_at", "known", "rows_read"):
        op.drop_column("windows", column, schema=SCHEMA)
