"""Indexes by which jobs of a window, datasets of a window, late evaluations and failed episodes are found"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"
NAMED = sa.text("(coalesce(inputs -> 'windows', inputs -> 'window'))")


def upgrade() -> None:
    """Build them: tables can be read meanwhile."""
    op.create_index("ix_jobs_windows", "jobs", [NAMED], schema=SCHEMA, postgresql_using="gin")
    op.create_index(op.f("ix_dataset_windows_window_id"), "dataset_windows", ["window_id"], schema=SCHEMA)
    op.create_index(op.f("ix_evaluations_created_at"), "evaluations", ["created_at"], schema=SCHEMA)
    op.create_index("ix_quarantine_source", "quarantine", ["source", "created_at"], schema=SCHEMA)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_quarantine_source", "quarantine", schema=SCHEMA)
    op.drop_index(op.f("ix_evaluations_created_at"), "evaluations", schema=SCHEMA)
    op.drop_index(op.f("ix_dataset_windows_window_id"), "dataset_windows", schema=SCHEMA)
    op.drop_index("ix_jobs_windows", "jobs", schema=SCHEMA)
