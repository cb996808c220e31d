"""The database fixtures, and tables without rows."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db import partitions
from db.session import transaction
from tests.conftest_database import database, database_url, empty, postgres_url

__all__ = ["database", "database_url", "fresh", "postgres_url", "without_weeks"]


@pytest.fixture
def fresh(database: str) -> str:
    """The URL of the database, every table of it empty."""
    with transaction() as session:
        empty(session)
    return database


@pytest.fixture
def without_weeks(fresh: str) -> str:
    """The same without a partition, such as those that other modules of the session left empty."""
    query = """
        select relname from pg_class where relispartition and relkind = 'r' and relnamespace = 'rlfleet'::regnamespace
    """
    with transaction() as session:
        for name in session.scalars(text(query)).all():
            session.execute(text(f"drop table rlfleet.{name}"))
    partitions.forget()
    return fresh
