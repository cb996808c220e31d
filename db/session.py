"""One engine a process, and one way to open a transaction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.settings import settings
from rl.errors import DatabaseUnavailable


@lru_cache(maxsize=1)
def _engine(pid: int, url: str) -> Engine:
    return create_engine(
        url,
        pool_size=5,
        max_overflow=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": f"rlfleet-{pid}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": "-c timezone=UTC",
        },
    )


def engine() -> Engine:
    """The engine of this process; a forked child gets its own, since sockets cannot be shared."""
    return _engine(os.getpid(), settings().sqlalchemy_url)


@contextmanager
def transaction() -> Iterator[Session]:
    """A session in one transaction: committed at the end of the block, rolled back by any exception.

    Raises:
        DatabaseUnavailable: the server cannot be reached, or went away.
    """
    try:
        with Session(engine(), expire_on_commit=False) as session, session.begin():
            yield session
    except OperationalError as error:
        raise DatabaseUnavailable(f"the database did not answer: {str(error.orig).strip().splitlines()[0]}") from error


def dispose() -> None:
    """Close this process's connections, if it has any."""
    if _engine.cache_info().currsize:
        engine().dispose()
