"""A Postgres whose databases stand for somebody else's."""

from __future__ import annotations

from tests.conftest_database import database_url, postgres_url

__all__ = ["database_url", "postgres_url"]
