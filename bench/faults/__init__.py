"""Fault injection: real Postgres, real Valkey, real Celery workers, broken from outside, judged by the database."""
