"""Failed and refused requests of a live canary: each number here is counted by hand from the rows above it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from gateway.routing import place
from rl.sequential import Attempts
from tests.db import traffic
from tests.db.test_live import CANARY, STABLE, begin, look, session

__all__ = ["session"]


def test_failures_are_counted_in_stretches_that_are_over(session: Session) -> None:
    hour = begin(session)
    for n, minutes in enumerate((1, 2, 11)):
        traffic.call(session, f"c{n}", CANARY, hour + timedelta(minutes=minutes))
        traffic.call(session, f"s{n}", STABLE, hour + timedelta(minutes=minutes), "b")
    traffic.fail(session, CANARY, hour + timedelta(minutes=3))
    traffic.fail(session, STABLE, hour + timedelta(minutes=12))
    traffic.fail(session, STABLE, hour + timedelta(minutes=25))
    traffic.fail(session, "babylon-agent-v1.0.7", hour + timedelta(minutes=26))
    traffic.fail(session, CANARY, traffic.hours_ago(session, 0))

    seen = look(session)

    assert seen.attempts == [Attempts((1, 3), (0, 2)), Attempts((0, 1), (1, 2)), Attempts((0, 0), (1, 1))]
    assert seen.requests == 5, "the failed one of this moment too"


def test_slots_in_which_a_breaker_refused_either_are_left_out_for_both(session: Session) -> None:
    hour = begin(session)
    for n, seconds in enumerate((0, 10, 20, 30)):
        traffic.call(session, f"c{n}", CANARY, hour + timedelta(seconds=seconds))
        traffic.call(session, f"s{n}", STABLE, hour + timedelta(seconds=seconds), "b")
    traffic.fail(session, CANARY, hour + timedelta(seconds=5))
    traffic.fail(session, CANARY, hour + timedelta(seconds=12))
    traffic.fail(session, CANARY, hour + timedelta(seconds=13), asked=False)
    traffic.fail(session, STABLE, hour + timedelta(seconds=35), asked=False)

    seen = look(session)

    assert seen.attempts == [Attempts((1, 3), (0, 2))]
    assert seen.requests == 7

    for seconds in (1, 22):
        traffic.fail(session, CANARY, hour + timedelta(seconds=seconds), asked=False)
    assert look(session).attempts == [Attempts((5, 8), (0, 3))], "refused alone in three of four slots"


def agents(share: float, number: int) -> list[str]:
    """So many agents whose place lies below the share."""
    return [name for name in map("agent-{}".format, range(1000)) if place("main", name) < share][:number]


def test_the_unit_with_most_of_the_canarys_failures_is_counted_apart(session: Session) -> None:
    hour = begin(session)
    often, once = agents(10, 2)
    for n, name in enumerate([often, often, once, once, once]):
        traffic.call(session, f"c{n}", CANARY, hour + timedelta(minutes=n), name)
    for minute in (1, 2):
        traffic.fail(session, CANARY, hour + timedelta(minutes=minute), agent=often)
    traffic.fail(session, CANARY, hour + timedelta(minutes=3), agent=once)
    traffic.fail(session, CANARY, hour + timedelta(minutes=4))
    for minute in (1, 2, 3):
        traffic.fail(session, STABLE, hour + timedelta(minutes=minute), agent="b")
    traffic.fail(session, CANARY, hour + timedelta(minutes=12), agent=often)

    assert look(session).attempts == [Attempts((4, 9), (3, 3), (2, 5)), Attempts((1, 1), (0, 0), (0, 0))]

    traffic.fail(session, CANARY, hour + timedelta(minutes=1), asked=False, agent=once)
    traffic.fail(session, CANARY, hour + timedelta(minutes=3), asked=False, agent=often)
    slots = look(session).attempts
    assert slots[0] == Attempts((2, 5), (1, 1), (1, 3)), "without the slots of two minutes"


def test_failures_of_units_that_no_share_gave_the_version_count_for_none(session: Session) -> None:
    hour = begin(session)
    traffic.fail(session, CANARY, hour, agent="b")
    traffic.fail(session, STABLE, hour, agent="h")
    traffic.fail(session, CANARY, hour, agent="h")
    assert look(session).attempts == [Attempts((1, 1), (0, 0), (0, 0))]


def test_failures_of_rounds_of_a_run_count_for_none(session: Session) -> None:
    hour = begin(session)
    round_ = next(name for name in map("rollout-run/demo/{:04}".format, range(1000)) if place("main", name) < 10)
    traffic.call(session, "c", CANARY, hour + timedelta(minutes=1))
    traffic.fail(session, CANARY, hour + timedelta(minutes=2))
    for minute in (1, 2, 3):
        traffic.call(session, f"round {minute}", CANARY, hour + timedelta(minutes=minute), round_)
        traffic.fail(session, CANARY, hour + timedelta(minutes=minute), agent=round_)
        traffic.fail(session, CANARY, hour + timedelta(minutes=minute), asked=False, agent=round_)

    assert look(session).attempts == [Attempts((1, 2), (0, 0))]
