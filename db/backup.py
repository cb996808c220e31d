"""Every row of the schema, out of one snapshot and back in: ``COPY``, which every version of Postgres reads.

The rows of each table and partition are one stream in COPY's text format. The migrations make the schema, at the
revision that the rows were taken at, and then go on to the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, BinaryIO

import psycopg2
from alembic import command
from alembic.script import ScriptDirectory
from psycopg2 import errors, extensions, sql

from db import partitions
from db.migrate import alembic_config, migrate
from db.session import engine
from db.settings import settings
from db.tables import SCHEMA
from rl.errors import DatabaseUnavailable, InvalidInput

Open = Callable[[str], AbstractContextManager[BinaryIO]]
"""From a table's name to the stream that its rows are written to or read from."""

OF_THE_MOMENT = frozenset({"alembic_version", "alerts", "engines", "pauses", "rejections", "schedule_slots", "workers"})
"""Tables that a fleet fills by merely running: rows in them do not make a database a used one."""
NOT_RESTORED = frozenset({"engines", "workers"})
"""Processes that ran when the rows were taken: they are not there any more, or announce themselves again."""
FOLDERS = (
    ("checkpoints", "uri", "uri", "{new}"),
    ("checkpoints", "base_uri", "base_uri", "{new}"),
    ("versions", "base_model", "base_model", "{new}"),
    ("lines", "config", "config->>'base_model'", "jsonb_set(config, array['base_model'], to_jsonb({new}))"),
    ("jobs", "resume", "resume->>'path'", "jsonb_set(resume, array['path'], to_jsonb({new}))"),
)
"""Where rows name folders of weights: table, column, the folder in it, and how the column is written with another."""


@dataclass(frozen=True)
class Table:
    """A table as it was copied: its columns in the order of the stream, and its number of rows."""

    name: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Dump:
    """What was copied: tables in an order in which references point backwards, and where each sequence stood.

    ``folders`` are the absolute paths of weights that the rows name.
    """

    revision: str
    tables: tuple[Table, ...]
    sequences: dict[str, int]
    folders: tuple[str, ...]


def dump(write: Open) -> Dump:
    """Copy every table out of one snapshot; the fleet may go on working meanwhile.

    Raises:
        DatabaseUnavailable: the server cannot be reached, refuses the password, or went away.
        InvalidInput: the database has no schema of ours.
    """
    with _connected(readonly=True) as cursor:
        revision = _revision(cursor)
        if revision is None:
            raise InvalidInput(
                "DATABASE_URL", "<hidden>", "this database has no schema rlfleet; there is nothing to save"
            )
        tables = tuple(_copy_out(cursor, name, write) for name in _tables(cursor))
        return Dump(revision, tables, _sequences(cursor), tuple(_folders(cursor)))


def check_empty(revision: str) -> None:
    """Make sure that rows of ``revision`` can be loaded here.

    Raises:
        InvalidInput: the database holds a fleet's rows, or this code is older than the rows.
        DatabaseUnavailable: the server cannot be reached, refuses the password, or went away.
    """
    known = {one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if revision not in known:
        remedy = "this code does not know it; restore with the code that saved it, or newer"
        raise InvalidInput("revision", revision, remedy)
    with _connected() as cursor:
        _check_empty(cursor)


def load(dumped: Dump, read: Open, moved: tuple[str, str] | None = None) -> None:
    """Fill an empty database: the schema at the rows' revision, the rows in one transaction, then newer migrations.

    Rows of ``NOT_RESTORED`` are left out.
    ``moved`` is the root that folders of weights lay under, and the one that they lie under now.

    Raises:
        InvalidInput: as ``check_empty``; nothing was changed then.
        DatabaseUnavailable: the server cannot be reached, refuses the password, or went away.
    """
    check_empty(dumped.revision)
    _make_schema(dumped.revision)
    partitions.forget()
    with _connected() as cursor:
        for name in sorted({table.name for table in dumped.tables} - set(_tables(cursor))):
            for statement in partitions.statements(name, dumped.revision):
                cursor.execute(statement)
        names = _tables(cursor)
        _lock(cursor, names)
        _check_empty(cursor)
        for name in reversed(names):
            cursor.execute(sql.SQL("delete from {}").format(_of(name)))
            # Triggers would write the history of jobs a second time.
            cursor.execute(sql.SQL("alter table {} disable trigger user").format(_of(name)))
        for table in dumped.tables:
            if table.name not in NOT_RESTORED:
                _copy_in(cursor, table, read)
        for column in FOLDERS if moved else ():
            _move(cursor, *column, *(moved or ("", "")))
        for name, value in dumped.sequences.items():
            cursor.execute("select setval(%s::regclass, %s)", (f"{SCHEMA}.{name}", value))
        for name in names:
            cursor.execute(sql.SQL("alter table {} enable trigger user").format(_of(name)))
    migrate()


def _make_schema(revision: str) -> None:
    """The tables at exactly that revision, without a row: a newer or older set of empty tables makes way.

    Raises:
        InvalidInput: the tables were filled meanwhile.
    """
    with _connected() as cursor:
        found = _revision(cursor)
        if found not in (None, revision):
            _lock(cursor, _tables(cursor))
            _check_empty(cursor)
        if found != revision:
            cursor.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(SCHEMA)))
    engine().dispose()  # its connections may know statements about the tables that are gone
    command.upgrade(alembic_config(), revision)


@contextmanager
def _connected(*, readonly: bool = False) -> Iterator[Any]:
    """A cursor in one transaction, which is committed at the end of the block.

    A reader has one snapshot; a writer sees what was committed before it got its locks.
    psycopg2 cannot copy while a wait callback is set, as ``db.session`` does for the whole process.
    """
    waiting = extensions.get_wait_callback()
    extensions.set_wait_callback(None)
    try:
        connection = psycopg2.connect(
            settings().sqlalchemy_url.replace("+psycopg2", "", 1),
            connect_timeout=5,
            application_name="rlfleet-backup",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
            client_encoding="UTF8",
            options="-c timezone=UTC",
        )
        try:
            connection.set_session(
                isolation_level="REPEATABLE READ" if readonly else "READ COMMITTED", readonly=readonly
            )
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()
    except (psycopg2.OperationalError, errors.InsufficientPrivilege) as error:
        raise DatabaseUnavailable(f"the database did not answer: {str(error).strip().splitlines()[0]}") from error
    finally:
        extensions.set_wait_callback(waiting)


def _lock(cursor: Any, names: list[str]) -> None:
    for name in names:
        cursor.execute(sql.SQL("lock table {} in access exclusive mode").format(_of(name)))


def _revision(cursor: Any) -> str | None:
    """The revision that the schema is at; None without one."""
    cursor.execute("select to_regclass(%s)", (f"{SCHEMA}.alembic_version",))
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute(sql.SQL("select version_num from {}").format(_of("alembic_version")))
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _tables(cursor: Any) -> list[str]:
    """Our tables, each after those that it refers to; one COPY checks what refers to its own table at its end."""
    cursor.execute("select relname from pg_class where relkind = 'r' and relnamespace = %s::regnamespace", (SCHEMA,))
    before: dict[str, set[str]] = {row[0]: set() for row in cursor.fetchall() if row[0] != "alembic_version"}
    cursor.execute(
        """
        select a.relname, b.relname from pg_constraint c
          join pg_class a on a.oid = c.conrelid join pg_class b on b.oid = c.confrelid
         where c.contype = 'f' and c.conrelid <> c.confrelid and c.connamespace = %s::regnamespace
        """,
        (SCHEMA,),
    )
    for name, referred in cursor.fetchall():
        before[name].add(referred)
    return list(TopologicalSorter({name: sorted(before[name]) for name in sorted(before)}).static_order())


def _columns(cursor: Any, table: str) -> tuple[str, ...]:
    cursor.execute(
        """
        select attname from pg_attribute
         where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum
        """,
        (f"{SCHEMA}.{table}",),
    )
    return tuple(row[0] for row in cursor.fetchall())


def _sequences(cursor: Any) -> dict[str, int]:
    """Where each used sequence stands. Read after the rows, and never behind them: sequences know no snapshots."""
    cursor.execute(
        "select sequencename, last_value from pg_sequences where schemaname = %s and last_value is not null", (SCHEMA,)
    )
    return dict(cursor.fetchall())


def _folders(cursor: Any) -> list[str]:
    """The absolute paths that rows name and that were not given up; another base model is one of a hub."""
    found = set[str]()
    for table, column, value, _ in FOLDERS:
        if column in (columns := _columns(cursor, table)):
            kept = sql.SQL("removed_at is null" if column == "uri" and "removed_at" in columns else "true")
            named = sql.SQL("select distinct {0} from {1} where {2} and starts_with({0}, '/')")
            cursor.execute(named.format(sql.SQL(value), _of(table), kept))
            found.update(row[0] for row in cursor.fetchall())
    return sorted(found)


def _copy_out(cursor: Any, name: str, write: Open) -> Table:
    columns = _columns(cursor, name)
    statement = sql.SQL("copy {} ({}) to stdout").format(_of(name), _names(columns))
    with write(name) as stream:
        cursor.copy_expert(statement, stream)
        return Table(name, columns, int(cursor.rowcount))


def _copy_in(cursor: Any, table: Table, read: Open) -> None:
    statement = sql.SQL("copy {} ({}) from stdin").format(_of(table.name), _names(table.columns))
    with read(table.name) as stream:
        cursor.copy_expert(statement, stream)
    if cursor.rowcount != table.rows:
        raise InvalidInput("rows", cursor.rowcount, f"{table.name} had {table.rows}; nothing was restored")


def _check_empty(cursor: Any) -> None:
    if _revision(cursor) is None:
        return
    for name in _tables(cursor):
        if name in OF_THE_MOMENT:
            continue
        cursor.execute(sql.SQL("select exists (select 1 from {})").format(_of(name)))
        if cursor.fetchone()[0]:
            remedy = f"{SCHEMA}.{name} has rows; restore into an empty database, nothing is merged or overwritten"
            raise InvalidInput("DATABASE_URL", "<hidden>", remedy)


def _move(cursor: Any, table: str, column: str, value: str, assigned: str, old: str, new: str) -> None:
    """Name the folders below ``old`` by where they lie below ``new``."""
    if column not in _columns(cursor, table):
        return
    path = sql.SQL("({new} || substr({value}, {after}))").format(
        new=sql.Literal(new), value=sql.SQL(value), after=sql.Literal(len(old) + 1)
    )
    cursor.execute(
        sql.SQL("update {table} set {column} = {there} where starts_with({value}, {old})").format(
            table=_of(table),
            column=sql.Identifier(column),
            there=sql.SQL(assigned).format(new=path),
            value=sql.SQL(value),
            old=sql.Literal(f"{old}/"),
        )
    )


def _of(table: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, table)


def _names(columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
