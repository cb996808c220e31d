from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from db import calls, feedback, recordings
from db.feedback import NewFeedback
from db.recordings import Event, Start, Step
from db.session import transaction

AT = datetime(2025, 1, 15, 10, 20, tzinfo=UTC)


def given(key: str, value: float, *, minutes: int | None = None, name: str = "rating", **of: Any) -> NewFeedback:
    of = of or {"trajectory_id": "t1"}
    at = None if minutes is None else AT + timedelta(minutes=minutes)
    return NewFeedback(key, of.get("trajectory_id"), of.get("call_id"), name, value, at=at)


def call(key: str = "c1", trajectory_id: str = "t1") -> calls.NewCall:
    return calls.NewCall(key, trajectory_id, 0, "main", "gpt", None, [], {"role": "assistant", "content": "x"})


def store(*events: Event) -> list[bool]:
    with transaction() as session:
        return recordings.store(session, events)


def newest(*ids: str) -> dict[str, dict[str, float]]:
    with transaction() as session:
        return feedback.newest(session, ids)


def test_the_newest_of_a_name_counts_whenever_it_came(fresh: str) -> None:
    assert store(given("f1", 1, minutes=5), given("f2", 2, minutes=3), given("f3", 7, name="thumbs")) == [True] * 3
    assert store(given("f4", -1, minutes=4), given("f1", 9, minutes=9)) == [True, False]
    assert newest("t1", "t2") == {"t1": {"rating": 1.0, "thumbs": 7.0}}
    store(given("f5", 3, minutes=6))
    assert newest("t1")["t1"]["rating"] == 3.0


def test_of_two_of_one_moment_the_later_row_counts(fresh: str) -> None:
    store(given("f1", 1, minutes=5), given("f2", 2, minutes=5))
    assert newest("t1") == {"t1": {"rating": 2.0}}


def test_a_repeat_within_a_request_is_one_row(fresh: str) -> None:
    assert store(given("f1", 1), given("f1", 1)) == [True, False]


def test_of_a_call_it_belongs_to_the_calls_trajectory(fresh: str) -> None:
    store(Start("t1", "a1"), Step("t1", 0, calls=[call()]))
    store(given("f1", 0.5, call_id="c1"))
    assert newest("t1") == {"t1": {"rating": 0.5}}


def test_of_a_call_that_is_reported_later(fresh: str) -> None:
    assert store(given("f1", 0.5, call_id="c1")) == [True]
    assert newest("t1") == {}
    store(Step("t1", 0, calls=[call()]))
    assert newest("t1") == {"t1": {"rating": 0.5}}
    with transaction() as session:
        assert session.scalars(text("select trajectory_id from rlfleet.feedback")).all() == ["t1"]


def test_of_a_call_that_is_captured_later(fresh: str) -> None:
    store(given("f1", 0.5, call_id="c1"))
    with transaction() as session:
        calls.insert(session, [call()])
    assert newest("t1") == {"t1": {"rating": 0.5}}
