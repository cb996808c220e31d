from __future__ import annotations

import pytest
from sqlalchemy import text

from db import rejections
from db.session import transaction

pytestmark = pytest.mark.usefixtures("fresh")


def test_equal_ones_are_added_up_with_the_latest_example() -> None:
    rejections.count("unknown_task", "rlfleet.x", "first")
    rejections.count("unknown_task", "rlfleet.x", "second" + "." * 300, 4)
    rejections.count("undecodable", "application/json", "{")
    found = {(one.reason, one.subject): (one.count, one.example) for one in rejections.listing()}
    assert found == {
        ("unknown_task", "rlfleet.x"): (5, "second" + "." * 194),
        ("undecodable", "application/json"): (1, "{"),
    }


def test_what_postgres_cannot_store_is_replaced() -> None:
    rejections.count("unknown_task", "a\0b\ud800", "\0" * 300)
    (one,) = rejections.listing()
    assert (one.subject, one.example) == ("a\ufffdb?", "\ufffd" * 200)


def test_a_sender_of_endless_names_does_not_fill_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections, "SUBJECTS", 3)
    for number in range(5):
        rejections.count("unknown_task", f"task{number}", "")
    rejections.count("unknown_task", "task1", "")
    assert sorted((one.subject, one.count) for one in rejections.listing()) == [
        ("(others)", 2),
        ("task0", 1),
        ("task1", 2),
        ("task2", 1),
    ]


def test_a_person_hears_once_an_hour_for_a_reason() -> None:
    for subject in ("a", "b"):
        rejections.count("unknown_task", subject, "x")
    with transaction() as session:
        rows = session.execute(text("select name, subject, detail from rlfleet.alerts")).all()
    detail = {"reason": "unknown_task", "subject": "a", "messages": 1, "example": "x"}
    assert [tuple(row) for row in rows] == [("message_rejected", "unknown_task", detail)]
