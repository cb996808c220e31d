from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from db import slots
from db.session import transaction
from db.slots import take_slot

pytestmark = pytest.mark.usefixtures("fresh")

CENTURY = 100 * 365 * 86_400
"""No test runs into its next tick."""


def test_a_tick_is_taken_once_however_many_beats_send_it() -> None:
    barrier, answers = threading.Barrier(4), []

    def beat() -> None:
        barrier.wait()
        answers.append(take_slot("collect", CENTURY))

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, False, True]


def test_each_entry_has_ticks_of_its_own() -> None:
    assert [take_slot(name, CENTURY) for name in ("collect", "score", "collect")] == [True, True, False]


def test_the_next_tick_is_there_to_be_taken() -> None:
    assert take_slot("collect", CENTURY)
    with transaction() as session:
        session.execute(text("update rlfleet.schedule_slots set slot_at = slot_at - interval '1 day'"))
    assert take_slot("collect", CENTURY)


def test_a_tick_begins_at_a_whole_period() -> None:
    take_slot("train", 86_400)
    with transaction() as session:
        found = session.execute(
            text(
                "select slot_at = date_trunc('day', now() at time zone 'utc') at time zone 'utc'"
                " from rlfleet.schedule_slots"
            )
        ).scalar_one()
    assert found is True


def add_slot(name: str, at: str, taken: str | None = None) -> None:
    """A slot at that moment, as an expression of SQL."""
    with transaction() as session:
        session.execute(
            text(f"insert into rlfleet.schedule_slots (name, slot_at, taken_at) values (:name, {at}, {taken or at})"),  # noqa: S608
            {"name": name},
        )


def test_how_long_ago_a_tick_was_taken() -> None:
    assert slots.age_seconds("look-around") is None
    add_slot("look-around", "now() - interval '130 seconds'")
    add_slot("look-around", "now() - interval '200 seconds'")
    assert 130 <= (slots.age_seconds("look-around") or 0) < 190
    assert slots.age_seconds("collect") is None


def test_a_tick_is_missed_when_it_is_due_and_nobody_took_it_though_the_fleet_was_there() -> None:
    assert not slots.is_missed("train", CENTURY, 60), "the first tick of a fleet that was not there before"
    add_slot("reconcile", "to_timestamp(0)")
    assert slots.is_missed("train", CENTURY, 60)
    assert not slots.is_missed("train", CENTURY, CENTURY), "not due yet"
    take_slot("train", CENTURY)
    assert not slots.is_missed("train", CENTURY, 60)
