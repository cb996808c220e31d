"""What a window knew when it was read and scored, so that what came later is seen, and when its rows were removed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"

ONCE = {
    "scores": ("trajectory_id", "method", "method_version", "input_hash"),
    "outcomes": ("trajectory_id", "turn", "sha256"),
}
"""What was unique: the newest row counts, and it may say what an older one said."""
NEWEST = {"scores": ["trajectory_id", "id"], "outcomes": ["trajectory_id", "turn", "id"]}


def upgrade() -> None:
    """Add the columns, and the indexes by which new feedback and outcomes are found.

    Indexes come first: tables can be read while they are built. What keeps readers away comes last and takes a moment.
    """
    for table in ("feedback", "outcomes"):
        op.create_index(f"ix_{table}_created_at", table, ["created_at"], schema=SCHEMA)
    for table, indexed in NEWEST.items():
        op.create_index(f"ix_{table}_trajectory_id", table, indexed, schema=SCHEMA)
    op.add_column("windows", sa.Column("rows_read", sa.Integer()), schema=SCHEMA)
    op.add_column("windows", sa.Column("known", sa.BigInteger(), server_default="0", nullable=False), schema=SCHEMA)
    op.add_column("windows", sa.Column("removed_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    for table, columns in ONCE.items():
        op.drop_constraint(f"uq_{table}_{'_'.join(columns)}", table, schema=SCHEMA)


def downgrade() -> None:
    """Take them away; of rows that say the same, the later ones get a hash of their own."""
    for table, columns in ONCE.items():
        op.drop_index(f"ix_{table}_trajectory_id", table, schema=SCHEMA)
        same = " and ".join(f"a.{name} is not distinct from b.{name}" for name in columns)
        hashed = columns[-1]
        op.execute(
            f"update {SCHEMA}.{table} a set {hashed} = a.{hashed} || ' ' || a.id"  # noqa: S608 (of the names above)
            f" where exists (select 1 from {SCHEMA}.{table} b where b.id < a.id and {same})"
        )
        once = {"postgresql_nulls_not_distinct": True} if table == "outcomes" else {}
        op.create_unique_constraint(f"uq_{table}_{'_'.join(columns)}", table, list(columns), schema=SCHEMA, **once)
    for table in ("outcomes", "feedback"):
        op.drop_index(f"ix_{table}_created_at", table, schema=SCHEMA)
    for column in ("removed_at", "known", "rows_read"):
        op.drop_column("windows", column, schema=SCHEMA)
