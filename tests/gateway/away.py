"""A database that is out of reach, while its server stays up for others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from db import session as db_session


@contextmanager
def out_of_reach(postgres_url: str, database_url: str) -> Iterator[None]:
    """The database refuses connections, and those it had are cut.

    Afterwards this process opens new ones: its pool does not ask a connection used a moment ago whether it is alive.
    """
    name = database_url.rsplit("/", 1)[1]
    connection = psycopg2.connect("postgresql://" + postgres_url.split("://", 1)[1])
    connection.autocommit = True
    cursor = connection.cursor()
    try:
        cursor.execute(f"alter database {name} allow_connections false")
        cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        yield
    finally:
        cursor.execute(f"alter database {name} allow_connections true")
        connection.close()
        db_session.dispose()
