"""One engine a process, one way to open a transaction, and a bound on every wait for the server."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, CursorResult, Engine, Row, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from db.settings import settings
from rl.errors import DatabaseRefused, DatabaseUnavailable

PATIENCE_SECONDS = 60.0
"""The longest wait for the answer to one statement."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""A connection that was used within this time is taken to be alive."""
POOL_SECONDS = 30.0
"""The longest wait for a connection while all of this process's are in use, unless ``limit_pool_wait`` says less."""

SERVER = {
    "timezone": "UTC",
    "plan_cache_mode": "force_generic_plan",  # see ``prepared``
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What the server is told of each connection. It, too, must notice soon that the other end is gone: a transaction that
was open then holds its locks until it does, and with the kernel's own times that is between a quarter and two hours."""

INSUFFICIENT_PRIVILEGE = "42501"
OUR_TABLE = re.compile(r'relation "(rlfleet\.[a-z_]+)" does not exist')
"""How Postgres says that a database is empty, or of an older revision."""

_waiting = threading.local()
_pool_seconds = [POOL_SECONDS]


@lru_cache(maxsize=1)
def _engine(pid: int, url: str, pool_seconds: float) -> Engine:
    extensions.set_wait_callback(_wait)
    made = create_engine(
        url,
        pool_size=5,
        max_overflow=10,
        pool_timeout=pool_seconds,
        hide_parameters=True,  # errors end up in job rows, logs and alerts; conversations must not
        connect_args={
            "application_name": f"rlfleet-{pid}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": " ".join(f"-c {name}={value}" for name, value in SERVER.items()),
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
    return _engine(os.getpid(), settings().sqlalchemy_url, _pool_seconds[0])


def limit_pool_wait(seconds: float) -> None:
    """From now on nobody in this process waits longer for a connection: people are better told to ask again."""
    if seconds != _pool_seconds[0]:
        dispose()
        _pool_seconds[0] = seconds


@contextmanager
def transaction(patience: float = PATIENCE_SECONDS) -> Iterator[Session]:
    """A session in one transaction: committed at the end of the block, rolled back by any exception.

    No statement in it is waited for longer than ``patience`` seconds, also where the server's host is gone and its
    connections stay open.

    Raises:
        DatabaseUnavailable: the server cannot be reached, went away, did not answer in time, or has no tables of ours;
            or all connections of this process are in use. Whether a commit that was under way has happened is not
            known then.
        DatabaseRefused: the login of ``DATABASE_URL`` may not do that.
    """
    with (
        _absence_named() as absence,
        waiting(patience),
        Session(engine(), expire_on_commit=False) as session,
        session.begin(),
    ):
        try:
            yield session
        except BaseException as error:
            # A signal that interrupts a wait closes the connection, and the rollback's complaint would hide it.
            absence.first = error
            raise


def within(session: Session | None, patience: float = PATIENCE_SECONDS) -> AbstractContextManager[Session]:
    """The caller's ``session``, or a transaction of its own where there is none."""
    return transaction(patience) if session is None else nullcontext(session)


def alone(name: str, statement: str, patience: float = PATIENCE_SECONDS, **values: object) -> list[Row[Any]]:
    """The rows of one statement that is its own transaction, planned once a connection; see ``prepared``.

    Raises:
        DatabaseUnavailable, DatabaseRefused: as in ``transaction``.
    """
    with _absence_named(), waiting(patience), engine().connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        return list(_prepared(connection, name, statement, values))


@dataclass
class _Absence:
    first: BaseException | None = None


@contextmanager
def _absence_named() -> Iterator[_Absence]:
    """Tells the absence of the database from what it refuses. ``first`` is what a block raised before the rollback."""
    absence = _Absence()
    try:
        yield absence
    except PoolTimeout as error:
        raise DatabaseUnavailable("all connections of this process to the database are in use") from error
    except DBAPIError as error:
        if absence.first is not None and not isinstance(absence.first, DBAPIError):
            raise absence.first from None
        if missing := OUR_TABLE.match(str(error.orig)):
            remedy = "`rlfleet up` and `python -m db.migrate` make it"
            raise DatabaseUnavailable(f"the database has no table {missing[1]}: {remedy}") from error
        if getattr(error.orig, "pgcode", None) == INSUFFICIENT_PRIVILEGE:
            # No wrong input: that would be held against the record that was to be stored.
            remedy = "give the login of DATABASE_URL the role that it needs (docs/perimeter.md)"
            raise DatabaseRefused(f"{str(error.orig).strip().splitlines()[0]}: {remedy}") from error
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


def prepared(session: Session, name: str, statement: str, **values: object) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement that Postgres plans once a connection; planning is most of what a small one costs.

    ``statement`` has its parameters as ``$1``, ``$2``, ..., each cast to its type, in the order of ``values``.
    """
    return _prepared(session.connection(), name, statement, values)


def _prepared(
    connection: Connection, name: str, statement: str, values: Mapping[str, object]
) -> CursorResult[*tuple[Any, ...]]:
    if name not in connection.info:
        connection.exec_driver_sql(f"prepare {name} as {statement}")
        connection.info[name] = True
    places = ", ".join(["%s"] * len(values))
    return connection.exec_driver_sql(f"execute {name} ({places})", tuple(values.values()))


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
