"""COPY under the wait callback of the process: no silence is waited out, and no other thread is disturbed."""

from __future__ import annotations

import threading

import pytest
from psycopg2.errors import DivisionByZero, UndefinedTable
from sqlalchemy import text

from db.copy_binary import SIGNATURE, Decoder
from db.copying import copy_out
from db.session import transaction
from rl.errors import DatabaseUnavailable
from tests.db.test_session import Wire, wire

__all__ = ["wire"]


def numbers(**values: object) -> list[int]:
    rows: list[list[bytes]] = []
    decoder = Decoder(rows.append)
    with transaction() as session:
        session.execute(text("create temporary table kept (n int) on commit drop"))
        session.execute(text("insert into kept select generate_series(1, 5)"))
        for piece in copy_out(session, "select n from kept where n = any(%(ids)s) order by n", values):
            decoder.write(piece)
        decoder.close()
        assert session.execute(text("select count(*) from kept")).scalar_one() == 5, "the connection is as before"
    return [int.from_bytes(row[0]) for row in rows]


def test_rows_of_the_transaction_are_copied_with_parameters(database: str) -> None:
    assert numbers(ids=[4, 2, 9]) == [2, 4]
    assert numbers(ids=[7]) == []


def test_a_copy_alone_is_in_a_transaction(database: str) -> None:
    with transaction() as session:
        assert b"".join(copy_out(session, "select 1", {})).startswith(SIGNATURE)
        assert session.execute(text("select now() = statement_timestamp()")).scalar_one() is False


def test_many_rows_come_whole(database: str) -> None:
    """More than a connection's buffers hold, under a statement that is longer than they are, too."""
    rows: list[list[bytes]] = []
    decoder = Decoder(rows.append)
    with transaction() as session:
        query = "select repeat(n::text, 100) from generate_series(1, 20000) n where n <> all(%(ids)s)"
        for piece in copy_out(session, query, {"ids": list(range(100_000, 500_000))}):
            decoder.write(piece)
    assert [row[0] for row in rows] == [str(n).encode() * 100 for n in range(1, 20_001)]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("select * from no_such_table", UndefinedTable),
        ("select 1 / (1000 - n) from generate_series(1, 2000) n", DivisionByZero),
    ],
)
def test_what_the_server_refuses_has_its_own_error(database: str, query: str, error: type[Exception]) -> None:
    """At once, or in the middle of the rows; the connection is still of use."""
    with transaction() as session:
        pid = session.execute(text("select pg_backend_pid()")).scalar_one()
        with pytest.raises(error), session.begin_nested():
            list(copy_out(session, query, {}))
        assert session.execute(text("select pg_backend_pid()")).scalar_one() == pid


def test_other_threads_go_on_while_rows_come(database: str) -> None:
    """Each thread asks and copies on its own connection."""
    found: list[int] = []

    def ask() -> None:
        for _ in range(20):
            with transaction() as session:
                found.append(int(session.execute(text("select 42")).scalar_one()))
            found.append(sum(numbers(ids=[20, 5])))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for one in threads:
        one.start()
    for _ in range(20):
        assert numbers(ids=[1, 2, 3]) == [1, 2, 3]
    for one in threads:
        one.join()
    assert sorted(found) == [5] * 60 + [42] * 60


def test_a_server_that_goes_silent_in_a_copy_is_given_up(wire: Wire) -> None:
    def read() -> None:
        slow = "select repeat('x', 1000), pg_sleep(0.001) from generate_series(1, 100000)"
        with transaction() as session:
            for _ in copy_out(session, slow, {}, patience=0.3):
                wire.frozen.set()

    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.3 s"):
        read()
    wire.frozen.clear()
    assert numbers(ids=[3]) == [3], "on another connection"


def test_a_server_that_goes_away_in_a_copy_is_named(database: str) -> None:
    def read() -> None:
        with transaction() as session:
            pid = session.execute(text("select pg_backend_pid()")).scalar_one()
            for _ in copy_out(session, "select n, pg_sleep(0.001) from generate_series(1, 100000) n", {}):
                with transaction() as other:
                    other.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(DatabaseUnavailable, match="the database did not answer"):
        read()
    assert numbers(ids=[3]) == [3]


def test_a_reader_that_breaks_off_leaves_no_half_copy(database: str) -> None:
    def read() -> None:
        with transaction() as session:
            for _ in copy_out(session, "select generate_series(1, 100000)", {}):
                raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        read()
    assert numbers(ids=[3]) == [3]
