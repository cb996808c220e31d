"""Which rows of a foreign relation are meant: conditions as data, with every name quoted and every value a literal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from psycopg2 import sql

from rl.errors import InvalidInput

ZONED = "timestamp with time zone"
NAIVE = "timestamp without time zone"
NUMBERS = frozenset({"bigint", "integer", "numeric", "double precision", "real"})
FIXED = NUMBERS | {ZONED, NAIVE, "smallint", "boolean", "date", "uuid"}
"""Types whose values are never large."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view. ``columns`` is name to type, as ``format_type`` writes it; ``schema`` may be empty."""

    schema: str
    name: str
    columns: Mapping[str, str]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(*filter(None, (self.schema, self.name)))


class Condition(Protocol):
    """Which rows; ``sql`` raises InvalidInput where the relation lacks the column, or its type holds no time."""

    def sql(self, relation: Relation) -> sql.Composable: ...


@dataclass(frozen=True, slots=True)
class Among:
    """The column has one of the values."""

    column: str
    values: Sequence[str]

    def sql(self, relation: Relation) -> sql.Composable:
        name = column_of(relation, self.column)
        # The literal has the column's own type, so that its index serves.
        kind = sql.SQL(f"{relation.columns[self.column]}[]")
        return sql.SQL("{} = any({}::{})").format(name, sql.Literal(list(self.values)), kind)


@dataclass(frozen=True, slots=True)
class IsNull:
    """The column has no value."""

    column: str

    def sql(self, relation: Relation) -> sql.Composable:
        return sql.SQL("{} is null").format(column_of(relation, self.column))


@dataclass(frozen=True, slots=True)
class Between:
    """``start <= column < end`` of a column of text, in the order of its own collation."""

    column: str
    start: str
    end: str

    def sql(self, relation: Relation) -> sql.Composable:
        bounds = column_of(relation, self.column), sql.Literal(self.start), sql.Literal(self.end)
        return sql.SQL("{0} >= {1} and {0} < {2}").format(*bounds)


@dataclass(frozen=True, slots=True)
class During:
    """``start <= column < end`` in time. None is no bound. A time without a zone is in UTC.

    ``ticks`` are those of a second, where the column counts them from 1970 on.
    """

    column: str
    start: datetime | None
    end: datetime | None
    ticks: int = 1000

    def sql(self, relation: Relation) -> sql.Composable:
        name, kind = column_of(relation, self.column), time_type(relation, self.column)
        parts = [
            sql.SQL("{} {} {}").format(name, sql.SQL(sign), _moment(moment, kind, self.ticks))
            for sign, moment in ((">=", self.start), ("<", self.end))
            if moment is not None
        ]
        return sql.SQL(" and ").join(parts) if parts else sql.SQL("true")


@dataclass(frozen=True, slots=True)
class Listed:
    """The column's value is that of some row for which ``where`` holds."""

    column: str
    where: Condition

    def sql(self, relation: Relation) -> sql.Composable:
        name = column_of(relation, self.column)
        inner = self.where.sql(relation)
        return sql.SQL("{0} in (select {0} from {1} where {2})").format(name, relation.identifier, inner)


@dataclass(frozen=True, slots=True)
class Every:
    """All of them hold."""

    conditions: Sequence[Condition]

    def sql(self, relation: Relation) -> sql.Composable:
        return _joined(relation, self.conditions, " and ", "true")


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of them holds."""

    conditions: Sequence[Condition]

    def sql(self, relation: Relation) -> sql.Composable:
        return _joined(relation, self.conditions, " or ", "false")


EVERY_ROW = Every(())


def column_of(relation: Relation, name: str) -> sql.Identifier:
    """The column's quoted name.

    Raises:
        InvalidInput: the relation has no such column, or this role may not read it.
    """
    if name not in relation.columns:
        known = ", ".join(sorted(relation.columns))
        raise InvalidInput("column", name, f"{relation.name} has no such column for this role; it has {known}")
    return sql.Identifier(name)


def hour_sql(relation: Relation, name: str, ticks: int) -> sql.Composed:
    """The column's UTC hour, as a time without a zone."""
    column, kind = column_of(relation, name), time_type(relation, name)
    if kind in NUMBERS:
        moment = sql.SQL("to_timestamp({}::double precision / {}) at time zone 'UTC'").format(
            column, sql.Literal(ticks)
        )
    elif kind == ZONED:
        moment = sql.SQL("{} at time zone 'UTC'").format(column)
    else:
        moment = sql.SQL("{}").format(column)
    return sql.SQL("date_trunc('hour', {})").format(moment)


def time_type(relation: Relation, name: str) -> str:
    """The type of a column that holds a time.

    Raises:
        InvalidInput: it is not one that does.
    """
    column_of(relation, name)
    kind = relation.columns[name]
    if kind not in {ZONED, NAIVE, *NUMBERS}:
        remedy = "a time must be a timestamp, or a number that counts from 1970; read a view that casts it"
        raise InvalidInput(f"{relation.name}.{name}", kind, remedy)
    return kind


def _joined(relation: Relation, parts: Sequence[Condition], word: str, empty: str) -> sql.Composable:
    inner = [sql.SQL("({})").format(part.sql(relation)) for part in parts]
    return sql.SQL(word).join(inner) if inner else sql.SQL(empty)


def _moment(moment: datetime, kind: str, ticks: int) -> sql.Composable:
    if kind in NUMBERS:
        return sql.Literal(int(moment.timestamp() * ticks))
    there = moment.astimezone(UTC)
    if kind == NAIVE:
        there = there.replace(tzinfo=None)
    return sql.SQL("{}::{}").format(sql.Literal(there.isoformat(" ")), sql.SQL(kind))
