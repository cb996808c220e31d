from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db import alerts, calls, captured, failures
from db.calls import NewCall
from db.captured import Captured, Kind
from db.failures import NewFailure
from db.session import transaction
from rl.errors import InvalidRow
from tests.conftest_database import add_line, empty

AT = datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=UTC)
SAID = {"role": "assistant", "content": "go"}
FAILURE = NewFailure("f1", "main", "v1", "answered 500", AT, unit="agent")


@pytest.fixture(autouse=True)
def _rows(database: str) -> None:
    with transaction() as session:
        empty(session)
        add_line(session)


def call(call_id: str, *, turn: int = 0, trajectory_id: str = "t1", made_at: datetime | None = AT) -> Captured:
    new = NewCall(call_id, trajectory_id, turn, "main", "v1", None, [], SAID, made_at=made_at)
    return Captured(Kind.CALL, calls.row_of(new))


def rows(statement: str) -> list[tuple[object, ...]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


@pytest.fixture
def _without_right() -> Iterator[None]:
    with transaction() as session:
        session.execute(text("alter table rlfleet.call_failures rename column reason to because"))
    yield
    with transaction() as session:
        session.execute(text("alter table rlfleet.call_failures rename column because to reason"))


def test_a_call_lies_where_and_is_as_old_as_it_was_made() -> None:
    long_ago = AT - timedelta(days=40)
    before = datetime.now(UTC)
    assert captured.store([call("c1"), call("c2", made_at=long_ago), call("c3", made_at=None)]) == [True] * 3

    found = rows("select call_id, at, created_at, at >= created_at from rlfleet.calls order by call_id")
    assert found[:2] == [("c1", AT, AT, True), ("c2", long_ago, long_ago, True)]
    assert str(found[2][1]) > str(before)


def test_the_calls_of_a_turn_are_read_in_the_order_they_were_made_in() -> None:
    late, early = call("a", made_at=AT + timedelta(seconds=1)), call("b")
    captured.store([late])
    captured.store([early])

    with transaction() as session:
        assert [one.call_id for one in calls.of_trajectories(session, ["t1"])["t1"]] == ["b", "a"]


def test_only_what_cannot_be_stored_is_not() -> None:
    batch = [call(f"c{number}", turn=2**31 if number in (3, 40) else 0) for number in range(64)]
    future = call("future", made_at=datetime.now(UTC) + timedelta(days=400))

    outcomes = captured.store([*batch, future, call("c0")])

    refused = {index: str(one) for index, one in enumerate(outcomes) if isinstance(one, InvalidRow)}
    assert refused.keys() == {3, 40, 64}
    assert "DataError 22003" in refused[3]
    assert outcomes[0] is True
    assert outcomes[65] is False
    assert rows("select count(*) from rlfleet.calls") == [(62,)]
    assert captured.store(batch[:1]) == [False], "it is stored again under its id"


@pytest.mark.usefixtures("_without_right")
def test_what_refuses_all_alike_is_nobodys_own() -> None:
    failed = captured.of_failure(FAILURE)
    with pytest.raises(ProgrammingError):
        captured.store([failed, captured.of_failure(replace(FAILURE, call_id="f2"))])
    with pytest.raises(ProgrammingError):
        captured.store([failed])
    assert isinstance(captured.store([call("c1"), failed])[1], InvalidRow), "another is stored, so it is to blame"


def test_a_failure_is_stored_once() -> None:
    with transaction() as session:
        assert failures.insert(session, []) == []
        assert failures.insert(session, [FAILURE, FAILURE]) == [True, False]
        assert failures.insert(session, [replace(FAILURE, reason="again")]) == [False]
    assert rows("select * from rlfleet.call_failures") == [("f1", "main", "v1", "answered 500", AT, True, "agent")]


def test_a_refusal_goes_before_what_it_refuses() -> None:
    assert captured.store([call("c1"), captured.of_refusal("t1", None), call("c2", trajectory_id="t2")]) == [True] * 3
    assert rows("select call_id from rlfleet.calls") == [("c2",)]
    assert rows("select consent from rlfleet.recordings") == [(False,)]
    assert captured.store([call("c3")]) == [True], "it is no repeat"
    assert rows("select call_id from rlfleet.calls") == [("c2",)]


def test_people_are_told_of_what_cannot_be_stored_once_an_hour() -> None:
    for number in (2, 3):
        captured.alert(number, "/spool")
    (found,) = alerts.waiting()
    assert (found.name, found.subject, found.detail) == (
        "capture_refused",
        "/spool",
        {"records": 2, "folder": "/spool"},
    )
