"""The database fixtures, and tables without rows."""

from __future__ import annotations

import pytest

from db.session import transaction
from tests.conftest_database import database, database_url, empty, postgres_url

__all__ = ["database", "database_url", "fresh", "postgres_url"]


@pytest.fixture
def fresh(database: str) -> str:
    """The URL of the database, every table of it empty."""
    with transaction() as session:
        empty(session)
    return database
