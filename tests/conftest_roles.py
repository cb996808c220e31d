"""Logins that may do what one of the roles of Postgres may do, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from db import partitions
from db import session as db_session
from tests.conftest_database import _execute, _forget


@contextmanager
def login(url: str, *roles: str, options: str = "") -> Iterator[str]:
    """The URL of the same database for a new login, a member of ``roles``; it is gone after the block."""
    name = f"login_{secrets.token_hex(6)}"
    _execute(url, f"create role {name} login password 'pw' {options}")
    try:
        for role in roles:
            _execute(url, f"grant {role} to {name}")
        parts = urlsplit(url)
        yield urlunsplit(parts._replace(netloc=f"{name}:pw@{parts.hostname}:{parts.port}"))
    finally:
        _execute(url, f"drop owned by {name} cascade")
        _execute(url, f"drop role {name}")


@contextmanager
def speaking(url: str) -> Iterator[None]:
    """Within the block ``db`` speaks to that database as that login."""
    db_session.dispose()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", url)
            _forget()
            partitions.forget()
            yield
    finally:
        db_session.dispose()
        _forget()
        partitions.forget()


@contextmanager
def member_of(url: str, role: str) -> Iterator[None]:
    """Within the block ``db`` speaks as a login that has the rights of ``role`` alone."""
    with login(url, role) as other, speaking(other):
        yield
