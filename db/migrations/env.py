"""Alembic's entry: one connection, one transaction, under an advisory lock so that two starts cannot race."""

from __future__ import annotations

import logging

from alembic import context
from sqlalchemy import Connection, text

from db import migrate, roles
from db.partitions import PARTITION
from db.session import engine
from db.tables import SCHEMA, Base
from rl.errors import InvalidSettings

LOCK = 0x726C666C  # "rlfl"
STANDING = text("""
    select r.rolname = 'rlfleet_migrate' as granted, pg_has_role(r.oid, 'member') as member
      from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = :schema
""")
"""Whether the schema belongs to those who migrate, and whether this is one of its owners; no row without a schema."""
log = logging.getLogger("db.migrate")


def _ours(name: str | None, kind: str, _: object) -> bool:
    if kind == "table":
        return name is not None and not PARTITION.fullmatch(name)
    return name == SCHEMA if kind == "schema" else True


def run() -> None:
    """Bring the schema to the newest revision."""
    with engine().begin() as connection:
        # A schema that is called like a superuser comes first otherwise, and others may define functions in it.
        connection.execute(text("set local search_path = pg_catalog, pg_temp"))
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        # Whoever waits for a table's lock holds up all that come after: better to give up and be run again.
        connection.execute(text(f"set local lock_timeout = {round(1000 * migrate.LOCK_SECONDS)}"))
        standing = connection.execute(STANDING, {"schema": SCHEMA}).one_or_none()
        granted = standing is not None and standing.granted
        if standing is None:
            connection.execute(text(f"create schema {SCHEMA}"))
        elif granted and standing.member:
            roles.act_as_owner(connection)
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            version_table_schema=SCHEMA,
            include_schemas=True,
            include_name=_ours,
            transaction_per_migration=False,
        )
        before = context.get_context().get_current_revision()
        context.run_migrations()
        after = context.get_context().get_current_revision()
        if after == context.get_head_revision() and (after != before or not granted):
            _grant(connection, needed=granted)


def _grant(connection: Connection, *, needed: bool) -> None:
    """Where the roles were ``needed`` before, workers may do nothing without: then nothing is to be changed."""
    if (said := roles.grant(connection)) is None:
        return
    if needed:
        remedy = f"{said}: migrate as who owns it and is a member of rlfleet_migrate, or as a superuser"
        remedy = f"{remedy}, or have an administrator make the roles that are missing"
        raise InvalidSettings("DATABASE_URL", "<hidden>", f"{remedy}; nothing was changed (docs/perimeter.md)")
    log.warning("every login keeps the rights it has, as the roles got none: %s (docs/perimeter.md)", said)


run()
