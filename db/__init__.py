"""Postgres: tables, typed queries by noun, migrations. Postgres is the queue of record."""
