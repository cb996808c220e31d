"""Indexes by which jobs of a window or not yet done, datasets, late evaluations and failed episodes are found"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"
NAMED = sa.text("(coalesce(inputs -> 'windows', inputs -> 'window'))")
JOBS = {
    "ix_jobs_unfinished": (["state", "kind", "queue"], "state <> 'succeeded'"),
    "ix_jobs_gpu_ended": (["finished_at"], "queue = 'gpu' and state in ('succeeded', 'failed', 'dead')"),
    "ix_jobs_trained": (["line_id", "finished_at"], "kind = 'train' and state in ('succeeded', 'failed', 'dead')"),
}


def upgrade() -> None:
    """Build them: tables can be read meanwhile."""
    op.create_index("ix_jobs_windows", "jobs", [NAMED], schema=SCHEMA, postgresql_using="gin")
    for name, (columns, which) in JOBS.items():
        op.create_index(name, "jobs", columns, schema=SCHEMA, postgresql_where=sa.text(which))
    op.create_index(op.f("ix_dataset_windows_window_id"), "dataset_windows", ["window_id"], schema=SCHEMA)
    op.create_index(op.f("ix_evaluations_created_at"), "evaluations", ["created_at"], schema=SCHEMA)
    op.create_index("ix_quarantine_source", "quarantine", ["source", "created_at"], schema=SCHEMA)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_quarantine_source", "quarantine", schema=SCHEMA)
    op.drop_index(op.f("ix_evaluations_created_at"), "evaluations", schema=SCHEMA)
    op.drop_index(op.f("ix_dataset_windows_window_id"), "dataset_windows", schema=SCHEMA)
    for name in JOBS:
        op.drop_index(name, "jobs", schema=SCHEMA)
    op.drop_index("ix_jobs_windows", "jobs", schema=SCHEMA)
