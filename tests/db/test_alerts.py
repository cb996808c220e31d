from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from db import alerts
from db.session import transaction

pytestmark = pytest.mark.usefixtures("fresh")


def raised(name: str = "queue_old", subject: str = "gpu") -> bool:
    with transaction() as session:
        return alerts.raise_alert(session, name, subject, {"n": 1})


def change(assignment: str) -> None:
    with transaction() as session:
        session.execute(text(f"update rlfleet.alerts set {assignment}"))  # noqa: S608 - words of this file


def test_the_same_alert_is_quiet_for_an_hour_sent_or_not() -> None:
    assert [raised(), raised(), raised(subject="score"), raised(name="worker_silent")] == [True, False, True, True]
    change("sent_at = now()")
    assert not raised(), "sent, and less than an hour old"
    change("created_at = now() - interval '61 minutes'")
    assert raised()
    change("created_at = now() - interval '61 minutes'")
    assert raised(), "one that nobody takes does not hold up the next"
    assert not raised()


def test_two_at_once_are_one() -> None:
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(raised())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]


def test_one_that_is_being_sent_is_out_of_sight_until_its_sender_is_given_up() -> None:
    raised()
    (taken,) = alerts.take_due(5)
    assert (taken.name, taken.subject, taken.detail, taken.tries) == ("queue_old", "gpu", {"n": 1}, 1)
    assert alerts.take_due(5) == []
    assert not alerts.any_due()
    change("next_at = next_at - interval '120 seconds'")
    assert alerts.any_due()
    assert [one.tries for one in alerts.take_due(5)] == [2]


def test_the_longest_due_is_taken_first_and_a_sent_one_never_again() -> None:
    for subject in ("a", "b", "c"):
        raised(subject=subject)
    first = alerts.take_due(2)
    assert [one.subject for one in first] == ["a", "b"]
    for one in first:
        alerts.sent(one.alert_id)
    change("next_at = now()")
    assert [one.subject for one in alerts.take_due(5)] == ["c"]
    assert [one.subject for one in alerts.waiting()] == ["c"]


def test_the_back_off_doubles_up_to_an_hour() -> None:
    raised()
    for tries, seconds in ((1, 30), (2, 60), (7, 1920), (8, 3600), (9, 3600), (100, 3600)):
        change(f"tries = {tries}")
        with transaction() as session:
            before = session.execute(text("select now()")).scalar_one()
        alerts.failed(1, "x" * 600)
        with transaction() as session:
            after, next_at, error = session.execute(text("select now(), next_at, error from rlfleet.alerts")).one()
        assert before <= next_at - timedelta(seconds=seconds) <= after, tries
        assert error == "x" * 500
