"""A read-only door to somebody else's Postgres: one snapshot, bounded waits, bounded memory, nothing written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg2
from psycopg2 import errors, extensions, sql

from db.foreign_conditions import EVERY_ROW, FIXED, Condition, Relation, column_of, hour_sql
from db.session import _wait, waiting
from rl.errors import DatabaseUnavailable, InvalidInput
from rl.secret_files import value_of

PATIENCE_SECONDS = 300.0
"""The longest wait for the answer to one statement, on both sides."""
LARGEST_VALUE = 16 << 20
"""Bytes of one value; a larger one stays where it is, and its row says which it was."""
BATCH_BYTES = 4 << 20
"""About so much is held at once, whatever the rows weigh."""
SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg2://")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, every value as Postgres writes it. ``too_large`` names the columns that were left where they are."""

    values: Mapping[str, str | None]
    too_large: Sequence[str] = ()


class Door:
    """What can be asked of a database that is not ours, within one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = itertools.count()
        self._raw = connection.encoding == "LATIN1"

    def relation(self, name: str) -> Relation | None:
        """The table or view called ``name`` or ``schema.name``, with the columns that this role may read.

        None when it is not there, or not for this role.
        """
        schema, _, table = name.rpartition(".")
        quoted = sql.Identifier(*filter(None, (schema, table))).as_string(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute(COLUMNS, (quoted,))
            columns = dict(cursor.fetchall())
        return Relation(schema, table, columns) if columns else None

    def batches(
        self,
        relation: Relation,
        columns: Sequence[str],
        where: Condition = EVERY_ROW,
        order: Sequence[str] = (),
    ) -> Iterator[list[Row]]:
        """The rows, a few megabytes at a time."""
        shown = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns]
        heavy = [name for name in columns if relation.columns[name] not in FIXED]
        selected = [_bounded(name) if name in heavy else one for name, one in zip(columns, shown, strict=True)]
        query = sql.SQL("select {}, {} from {} as source where {}{}").format(
            sql.SQL(", ").join(selected),
            _oversized(heavy),
            relation.identifier,
            where.sql(relation),
            _ordered(order),
        )
        with self._connection.cursor(name=f"rows_{next(self._numbers)}") as cursor:
            cursor.execute(query)
            size = 10
            while rows := cursor.fetchmany(size):
                texts = [_as_utf8(row) for row in rows] if self._raw else rows
                yield [Row(dict(zip(columns, row, strict=False)), _names(heavy, row[-1] or "")) for row in texts]
                weight = sum(len(value) for row in rows for value in row if value) / len(rows)
                size = max(1, min(1000, int(BATCH_BYTES / (weight + 1))))

    def any_row(self, relation: Relation, where: Condition) -> bool:
        """Whether some row is there."""
        query = sql.SQL("select 1 from {} where {} limit 1")
        return bool(self._all(query.format(relation.identifier, where.sql(relation))))

    def counts(self, relation: Relation, column: str, where: Condition = EVERY_ROW) -> dict[str, int]:
        """Rows by value of ``column``; those without one are left out."""
        query = sql.SQL("select {0}::text, count(*) from {1} where {0} is not null and {2} group by 1").format(
            column_of(relation, column), relation.identifier, where.sql(relation)
        )
        return {str(value): int(count) for value, count in self._all(query)}

    def hours(
        self,
        relation: Relation,
        column: str,
        where: Condition = EVERY_ROW,
        *,
        last_of: str | None = None,
        ticks: int = 1000,
    ) -> dict[datetime, int]:
        """Rows by the UTC hour of ``column``; with ``last_of``, distinct values of that by the hour of their last row.

        ``ticks`` are those of a second, where the column counts them from 1970 on.
        """
        hour = hour_sql(relation, column, ticks)
        if last_of is None:
            found = sql.SQL("select {} as hour from {} where {}").format(hour, relation.identifier, where.sql(relation))
        else:
            found = sql.SQL("select max({}) as hour from {} where {} group by {}").format(
                hour, relation.identifier, where.sql(relation), column_of(relation, last_of)
            )
        query = sql.SQL("select hour::text, count(*) from ({}) as found where isfinite(hour) group by 1").format(found)
        return {when: int(count) for text, count in self._all(query) if (when := _moment(text)) is not None}

    def plan(self, relation: Relation, where: Condition) -> str:
        """How Postgres would find those rows, as EXPLAIN says it."""
        query = sql.SQL("explain select * from {} where {}")
        return "\n".join(row[0] for row in self._all(query.format(relation.identifier, where.sql(relation))))

    def _all(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())


@contextmanager
def snapshot(url: str, patience: float = PATIENCE_SECONDS) -> Iterator[Door]:
    """One read-only transaction on the database at ``url``; a role that has SELECT alone is enough.

    Everything is set for this transaction only: a pooler between here and the server may give the connection to
    others afterwards.

    Raises:
        DatabaseUnavailable: it cannot be reached, went away, or did not answer in time.
        InvalidInput: the role may not read a relation, or the URL is none of Postgres.
    """
    extensions.set_wait_callback(_wait)  # without it libpq waits for ever, deaf to signals
    try:
        with waiting(patience):
            connection = _connected(url)
            try:
                _speak(connection)
                with connection.cursor() as cursor:
                    cursor.execute(BEGIN, (int(patience * 1000),))
                yield Door(connection)
            finally:
                connection.close()
    except (errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise InvalidInput("source", _said(error), "grant SELECT on it to the role that reads") from None
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise DatabaseUnavailable(f"the source's database did not answer: {_said(error)}") from None


def named(variable: str) -> str:
    """The Postgres URL in that environment variable, or in the file that ``<variable>_FILE`` names.

    Raises:
        InvalidInput: it is not set, or holds something else. What it holds is not shown.
    """
    url = value_of(os.environ, variable) or ""
    if not url.startswith(SCHEMES):
        found = "is not set" if not url else "holds no Postgres URL"
        remedy = f"the environment variable {variable} {found}; set it to postgresql://user:password@host/database"
        raise InvalidInput("line.source", f"<{variable}>", remedy)
    return "postgresql://" + url.split("://", 1)[1]


BEGIN = """
    set local statement_timeout = %s;
    set local default_transaction_read_only = on;
    set local timezone = 'UTC';
    set local datestyle = 'ISO';
    set local cursor_tuple_fraction = 1.0
"""

COLUMNS = """
    select attname, format_type(atttypid, null)
      from pg_attribute
     where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
       and has_column_privilege(attrelid, attnum, 'select')
     order by attnum
"""


def _connected(url: str) -> Any:
    try:
        return psycopg2.connect(
            url,
            application_name="rlfleet-source",
            client_encoding="UTF8",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )
    except psycopg2.ProgrammingError:  # its words would show the URL
        remedy = "not a Postgres URL; write postgresql://user:password@host/database, special characters as %XX"
        raise InvalidInput("source", "<hidden>", remedy) from None


def _speak(connection: Any) -> None:
    """A server without an encoding holds any bytes: as Latin-1 they all arrive, and are read as UTF-8 afterwards."""
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.set_client_encoding("LATIN1")
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)


def _as_utf8(row: Sequence[str | None]) -> list[str | None]:
    return [None if value is None else value.encode("latin-1").decode("utf-8", "replace") for value in row]


def _bounded(name: str) -> sql.Composed:
    return sql.SQL("case when octet_length({0}::text) <= {1} then {0}::text end").format(
        sql.Identifier(name), sql.Literal(LARGEST_VALUE)
    )


def _oversized(names: Sequence[str]) -> sql.Composed:
    """The places among ``names`` of values that are too large, joined by commas; an empty text for most rows."""
    tests = [
        sql.SQL("case when octet_length({}::text) > {} then {} end").format(
            sql.Identifier(name), sql.Literal(LARGEST_VALUE), sql.Literal(str(place))
        )
        for place, name in enumerate(names)
    ]
    return sql.SQL("concat_ws({})").format(sql.SQL(", ").join([sql.Literal(","), sql.SQL("null"), *tests]))


def _names(heavy: Sequence[str], places: str) -> Sequence[str]:
    return [heavy[int(place)] for place in places.split(",")] if places else ()


def _ordered(order: Sequence[str]) -> sql.Composable:
    """By the columns themselves: a bare name would mean the text that is selected under it."""
    names = sql.SQL(", ").join(sql.Identifier("source", name) for name in order)
    return sql.SQL(" order by {}").format(names) if order else sql.SQL("")


def _moment(text: str) -> datetime | None:
    """None for a year that Python does not know."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _said(error: psycopg2.Error) -> str:
    """What the server said, without the detail, in which it shows data."""
    words = error.diag.message_primary or str(error).strip()
    return words.splitlines()[0] if words else type(error).__name__
