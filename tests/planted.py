"""Looking for a secret in every column of every table, as text."""

from __future__ import annotations

from sqlalchemy import text

from db.session import transaction

TABLES = text("select tablename from pg_tables where schemaname = 'rlfleet' order by 1")


def tables_with(secret: str) -> list[str]:
    """The tables of our schema in which some row's text holds the secret, in letters of either case."""
    found = []
    with transaction() as session:
        for table in session.scalars(TABLES).all():
            like = f"select count(*) from rlfleet.{table} as one where strpos(lower(one::text), lower(:secret)) > 0"  # noqa: S608
            if session.execute(text(like), {"secret": secret}).scalar_one():
                found.append(str(table))
    return found
