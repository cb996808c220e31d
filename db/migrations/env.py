"""Alembic's entry: one connection, one transaction, under an advisory lock so that two starts cannot race."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from db import migrate
from db.partitions import PARTITION
from db.session import engine
from db.tables import SCHEMA, Base

LOCK = 0x726C666C  # "rlfl"


def _ours(name: str | None, kind: str, _: object) -> bool:
    if kind == "table":
        return name is not None and not PARTITION.fullmatch(name)
    return name == SCHEMA if kind == "schema" else True


def run() -> None:
    """Bring the schema to the newest revision."""
    with engine().begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        # Whoever waits for a table's lock holds up all that come after: better to give up and be run again.
        connection.execute(text(f"set local lock_timeout = {round(1000 * migrate.LOCK_SECONDS)}"))
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            version_table_schema=SCHEMA,
            include_schemas=True,
            include_name=_ours,
            transaction_per_migration=False,
        )
        context.run_migrations()


run()
