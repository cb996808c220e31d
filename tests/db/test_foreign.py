"""The door to somebody else's database: it cannot write, waits for nothing without an end, and holds little."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import errors, sql

from db import foreign
from db.foreign import Door, snapshot
from db.foreign_conditions import Among, Between, During, Either, Every, IsNull, Listed
from rl.errors import DatabaseUnavailable, InvalidInput
from tests.conftest_database import _execute

ODD = 'od"d %s; drop table x --'


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    """A schema ``f`` with a table of odd names, and one of times in every type."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("drop schema if exists f cascade; create schema f")
        cursor.execute("create table f.times (k int, n timestamp, z timestamptz, e bigint, s float8)")
        cursor.execute(sql.SQL('create table f.{0} ({0} text, "camelCase" int)').format(sql.Identifier(ODD)))
        rows = "insert into f.{} values ('100%', 1), (null, 2), ('b''c', 3)"
        cursor.execute(sql.SQL(rows).format(sql.Identifier(ODD)))
        cursor.execute("""
            insert into f.times select i, t, t at time zone 'UTC', extract(epoch from t) * 1000, extract(epoch from t)
              from generate_series(0, 5) i, lateral (select timestamp '2025-01-15 10:00' + i * interval '30 min' as t) x
        """)
        cursor.execute("create table f.wide as select i, repeat('x', 20000) as body from generate_series(1, 2000) i")
    yield database_url
    connection.cursor().execute("drop schema f cascade")
    connection.close()


@pytest.fixture
def door(url: str) -> Iterator[Door]:
    with snapshot(url) as found:
        yield found


def keys(door: Door, condition: Any, column: str = "k") -> list[str | None]:
    relation = door.relation("f.times")
    assert relation is not None
    rows = [row for batch in door.batches(relation, [column], condition, [column]) for row in batch]
    return [row.values[column] for row in rows]


def test_nothing_can_be_written(door: Door) -> None:
    for statement in (
        "create table f.x (i int)",
        "delete from f.times",
        "create temp table x (i int); insert into f.times values (9)",
    ):
        with pytest.raises(errors.ReadOnlySqlTransaction), door._connection.cursor() as cursor:
            cursor.execute(statement)
        door._connection.rollback()


def test_every_transaction_of_it_is_read_only_and_bounded(door: Door) -> None:
    shown = [
        door._all(sql.SQL(f"show {name}"))[0][0] for name in ("transaction_read_only", "default_transaction_read_only")
    ]
    assert shown == ["on", "on"]
    assert door._all(sql.SQL("show transaction_isolation")) == [("repeatable read",)]
    assert door._all(sql.SQL("show statement_timeout")) == [("5min",)]


def test_it_takes_no_lock_but_that_of_reading(door: Door) -> None:
    assert len(keys(door, Every(()))) == 6
    modes = door._all(
        sql.SQL("select distinct mode from pg_locks where pid = pg_backend_pid() and relation is not null")
    )
    assert modes == [("AccessShareLock",)]


def test_one_read_sees_one_moment(url: str) -> None:
    with snapshot(url) as door:
        assert len(keys(door, Every(()))) == 6
        with psycopg2.connect(url) as other, other.cursor() as cursor:
            cursor.execute("insert into f.times (k) values (99)")
        other.close()
        assert len(keys(door, Every(()))) == 6
    with snapshot(url) as door:
        assert keys(door, Among("k", ["99"])) == ["99"]
    with psycopg2.connect(url) as other, other.cursor() as cursor:
        cursor.execute("delete from f.times where k = 99")
    other.close()


def test_names_and_values_are_never_statements(door: Door) -> None:
    relation = door.relation(f"f.{ODD}")
    assert relation is not None
    assert relation.columns == {ODD: "text", "camelCase": "integer"}
    (rows,) = door.batches(
        relation, [ODD, "camelCase"], Either((IsNull(ODD), Among(ODD, ["100%", "b'c"]))), ["camelCase"]
    )
    assert [row.values for row in rows] == [
        {ODD: "100%", "camelCase": "1"},
        {ODD: None, "camelCase": "2"},
        {ODD: "b'c", "camelCase": "3"},
    ]
    assert door.counts(relation, ODD) == {"100%": 1, "b'c": 1}
    assert door.counts(relation, ODD, Between(ODD, "a", "c")) == {"b'c": 1}
    assert door.relation("f.x") is None
    assert door.relation("no_schema.x") is None


@pytest.mark.parametrize(("column", "ticks"), [("n", 1000), ("z", 1000), ("e", 1000), ("s", 1)])
def test_times_of_every_type_are_bounded_and_counted_alike(door: Door, column: str, ticks: int) -> None:
    start, end = datetime(2025, 1, 15, 10, 30, tzinfo=UTC), datetime(2025, 1, 15, 12, tzinfo=UTC)
    assert keys(door, During(column, start, end, ticks)) == ["1", "2", "3"]
    assert keys(door, During(column, None, start, ticks)) == ["0"]
    assert keys(door, During(column, None, None, ticks)) == list("012345")
    assert keys(door, Listed("k", During(column, end, None, ticks))) == ["4", "5"]
    relation = door.relation("f.times")
    assert relation is not None
    ten = datetime(2025, 1, 15, 10, tzinfo=UTC)
    assert door.hours(relation, column, ticks=ticks) == {ten.replace(hour=hour): 2 for hour in (10, 11, 12)}
    assert door.hours(relation, column, last_of="k", ticks=ticks) == {
        ten.replace(hour=hour): 2 for hour in (10, 11, 12)
    }


def test_a_column_that_is_not_there_or_holds_no_time_is_refused(door: Door) -> None:
    with pytest.raises(
        InvalidInput, match="column = 'nope': times has no such column for this role; it has e, k, n, s, z"
    ):
        keys(door, IsNull("nope"))
    relation = door.relation("f.wide")
    assert relation is not None
    with pytest.raises(InvalidInput, match=r"wide.body = 'text': a time must be a timestamp"):
        door.hours(relation, "body")


def test_what_is_held_at_once_does_not_grow_with_the_rows(door: Door) -> None:
    relation = door.relation("f.wide")
    assert relation is not None
    sizes = [len(batch) for batch in door.batches(relation, ["i", "body"])]
    assert sum(sizes) == 2000
    assert max(sizes) * 20_000 <= foreign.BATCH_BYTES


def test_a_value_that_is_too_large_is_left_there(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LARGEST_VALUE", 19_999)
    relation = door.relation("f.wide")
    assert relation is not None
    first = next(door.batches(relation, ["i", "body"], Among("i", ["7"])))[0]
    assert (first.values, first.too_large) == ({"i": "7", "body": None}, ["body"])


def test_a_statement_without_an_end_is_given_up(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="did not answer: "), snapshot(url, patience=0.3) as door:
        door._all(sql.SQL("select pg_sleep(20)"))


def test_a_wrong_password_and_a_wrong_url_show_neither(url: str) -> None:
    wrong = (
        url.replace("://", "://nobody:hunter2@", 1)
        if "@" not in url
        else f"postgresql://nobody:hunter2@{url.split('@')[1]}"
    )
    with pytest.raises(DatabaseUnavailable) as caught, snapshot(wrong):
        pass
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidInput, match="not a Postgres URL") as refused, snapshot("postgresql://a:hunter2@[x/db"):
        pass
    assert "hunter2" not in str(refused.value)


def test_the_connection_is_closed_when_the_reader_stops_half_way(url: str) -> None:
    def some() -> Iterator[object]:
        with snapshot(url) as door:
            relation = door.relation("f.wide")
            assert relation is not None
            yield from door.batches(relation, ["i"])

    reading = some()
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    others = sql.SQL("""
        select state from pg_stat_activity
         where application_name = 'rlfleet-source' and pid <> pg_backend_pid() and datname = current_database()
    """)

    def left() -> set[tuple[str]]:
        with snapshot(url) as door:
            return set(door._all(others)) - {("idle",)}

    deadline = time.monotonic() + 60
    while found := left():  # the server hears a little later that a connection was closed
        assert time.monotonic() < deadline, found


def test_a_database_without_an_encoding_gives_every_row(url: str) -> None:
    name = f"bytes_{secrets.token_hex(4)}"
    _execute(url, f"create database {name} encoding 'SQL_ASCII' locale 'C' template template0")
    there = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    try:
        with psycopg2.connect(there) as other, other.cursor() as cursor:
            cursor.execute("create table x as select 1 as i, E'caf\\xc3\\xa9' as body union select 2, E'\\xff!'")
        other.close()
        with snapshot(there) as door:
            relation = door.relation("x")
            assert relation is not None
            (rows,) = door.batches(relation, ["body"], order=["i"])
        assert [row.values["body"] for row in rows] == ["café", "\ufffd!"]
    finally:
        _execute(url, f"drop database {name} with (force)")
