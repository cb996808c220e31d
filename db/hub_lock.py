"""One publication at a time in each repository of the Hub, from whatever host: a lock that a connection holds.

Postgres lets go of it with that connection, so nothing waits for a process that was killed or a host that is gone. Who
holds it looks at each step whether it still does: each commit says which one it is made on top of, so one that another
publication came before is refused by the Hub, and the next look ends whoever lost the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db.session import engine
from rl.errors import DatabaseUnavailable, Later

KEY: Final = "hashtextextended('publish to ' || lower(:repository), 0)"  # the Hub does not tell cases apart
LONGEST_NAME: Final = 63
"""Bytes of a connection's name that Postgres keeps."""

TAKE: Final = text(f"select pg_try_advisory_lock({KEY})")
FREE: Final = text(f"select pg_advisory_unlock({KEY})")
CALL: Final = text("select set_config('application_name', :name, false)")
LOOK: Final = text("select 1")
HOLDER: Final = text(f"""
    select coalesce(a.application_name, 'another process') as name, a.backend_start
      from pg_locks l
      left join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 1
       and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32) | l.objid::bigint = {KEY}
     limit 1
""")  # noqa: S608 (of a constant)


@contextmanager
def alone(repository: str, name: str) -> Iterator[Callable[[], None]]:
    """Hold the repository within the block, as ``name``, of which ``LONGEST_NAME`` bytes are told.

    What it gives is to be called before each step.

    That raises ``DatabaseUnavailable`` where the connection is lost, and with it perhaps the lock.

    Raises:
        Later: somebody else holds it; says who.
        DatabaseUnavailable: the database went away.
    """
    with _own_connection() as connection:
        _ask(connection, CALL, {"name": name.encode()[:LONGEST_NAME].decode(errors="ignore")})
        if not _ask(connection, TAKE, {"repository": repository}):
            with Session(connection) as session:
                who = holder(session, repository)
            under_way = f"another publication goes there: {who or 'another process'}"
            raise Later(f"{repository}: {under_way}; give the same command again once that has ended")
        try:
            yield lambda: _look(connection, repository)
        finally:
            with suppress(SQLAlchemyError):  # the server lets go by itself, but a while after the connection ended
                connection.execute(FREE, {"repository": repository})


def holder(session: Session, repository: str) -> str | None:
    """Who publishes to the repository, and since when; None where nobody does."""
    row = session.execute(HOLDER, {"repository": repository}).first()
    if row is None:
        return None
    return f"{row.name} (since {row.backend_start:%Y-%m-%d %H:%M:%S} UTC)" if row.backend_start else str(row.name)


@contextmanager
def _own_connection() -> Iterator[Connection]:
    """A connection that is closed at the end of the block, where others go back to the pool with what they hold."""
    try:
        connection = engine().connect()
    except SQLAlchemyError as error:
        raise _away(error) from error
    with connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        yield connection


def _look(connection: Connection, repository: str) -> None:
    try:
        connection.execute(LOOK)
    except SQLAlchemyError as error:
        lost = f"{repository}: the connection to the database is lost, and another publication may begin"
        raise DatabaseUnavailable(f"{lost}; give the same command again, which goes on from here") from error


def _ask(connection: Connection, statement: TextClause, values: Mapping[str, Any]) -> Any:
    try:
        return connection.execute(statement, values).scalar()
    except SQLAlchemyError as error:
        raise _away(error) from error


def _away(error: SQLAlchemyError) -> DatabaseUnavailable:
    said = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
    return DatabaseUnavailable(f"the database did not answer: {said[0]}")
