from __future__ import annotations

from tests.conftest_database import database, database_url, postgres_url

__all__ = ["database", "database_url", "postgres_url"]
