"""One engine a process, one way to open a transaction, and a bound on every wait for the server."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.orm import Session

from db.settings import settings
from rl.errors import DatabaseUnavailable

PATIENCE_SECONDS = 60.0
"""The longest wait for the answer to one statement."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""A connection that was used within this time is taken to be alive."""

_waiting = threading.local()


@lru_cache(maxsize=1)
def _engine(pid: int, url: str) -> Engine:
    extensions.set_wait_callback(_wait)
    made = create_engine(
        url,
        pool_size=5,
        max_overflow=10,
        hide_parameters=True,  # errors end up in job rows, logs and alerts; conversations must not
        connect_args={
            "application_name": f"rlfleet-{pid}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": "-c timezone=UTC",
        },
    )
    event.listen(made, "checkin", _note_use)
    event.listen(made, "checkout", _ask_whether_alive)
    return made


def _note_use(_: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _ask_whether_alive(connection: Any, record: Any, _: Any) -> None:
    """Before a connection that lay idle is used: a server that was restarted meanwhile must not cost a job its claim.

    Asking each time, as the pool's own option does, is a third of what a small transaction costs.
    """
    used = record.info.get("used")
    if used is None or time.monotonic() - used < IDLE_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        connection.rollback()
    except psycopg2.Error as error:
        raise DisconnectionError from error  # the pool then opens another


def engine() -> Engine:
    """The engine of this process; a forked child gets its own, since sockets cannot be shared."""
    return _engine(os.getpid(), settings().sqlalchemy_url)


@contextmanager
def transaction(patience: float = PATIENCE_SECONDS) -> Iterator[Session]:
    """A session in one transaction: committed at the end of the block, rolled back by any exception.

    No statement in it is waited for longer than ``patience`` seconds, also where the server's host is gone and its
    connections stay open.

    Raises:
        DatabaseUnavailable: the server cannot be reached, went away, or did not answer in time. Whether a commit
            that was under way has happened is not known then.
    """
    first: BaseException | None = None
    try:
        with waiting(patience), Session(engine(), expire_on_commit=False) as session, session.begin():
            try:
                yield session
            except BaseException as error:
                first = error
                raise
    except DBAPIError as error:
        # A signal that interrupts a wait closes the connection, and the rollback's complaint would hide it.
        if first is not None and not isinstance(first, DBAPIError):
            raise first from None
        if not (isinstance(error, OperationalError) or error.connection_invalidated):
            raise
        said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        raise DatabaseUnavailable(f"the database did not answer: {said[0]}") from error


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Within the block this thread waits at most ``seconds`` for the answer to one statement."""
    before = getattr(_waiting, "seconds", PATIENCE_SECONDS)
    _waiting.seconds = seconds
    try:
        yield
    finally:
        _waiting.seconds = before


def dispose() -> None:
    """Close this process's connections, if it has any."""
    if _engine.cache_info().currsize:
        engine().dispose()


def _wait(connection: Any) -> None:
    """Wait for the server as psycopg2 asks, but not for ever, and let signal handlers of Python run meanwhile.

    Without it libpq waits in C: a server that went away silently hangs the process, and so does a signal. psycopg2
    closes the connection when this raises.
    """
    seconds = getattr(_waiting, "seconds", PATIENCE_SECONDS)
    if connection.status == extensions.STATUS_SETUP:
        seconds = min(seconds, CONNECT_SECONDS)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    while (state := connection.poll()) != extensions.POLL_OK:
        descriptor = connection.fileno()
        poll.register(descriptor, select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            # The dialect knows a lost connection by these words.
            raise psycopg2.OperationalError(f"could not receive data from server: no answer within {seconds:g} s")
        with contextlib.suppress(KeyError):
            poll.unregister(descriptor)
