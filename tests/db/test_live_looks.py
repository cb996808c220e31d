"""What a look at a live canary costs: its time, its plan, and that it is alone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import TextClause, text

from db import live
from db.session import engine, transaction
from rl.errors import DatabaseUnavailable
from rl.live import SLOTS
from rl.release_plan import Plan
from tests.conftest_database import empty
from tests.db import traffic
from tests.db.test_live import CANARY, STABLE, begin


@pytest.fixture
def begun(database: str) -> Iterator[None]:
    """A canary that other transactions see."""
    with transaction() as opened:
        empty(opened)
        begin(opened)
    yield
    with transaction() as opened:
        empty(opened)


def test_a_look_that_takes_too_long_is_given_up_by_the_server_too(begun: None) -> None:
    going_on = text("select query from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()")
    with transaction() as first:
        first.execute(text("lock table rlfleet.calls in access exclusive mode"))
        with pytest.raises(DatabaseUnavailable, match="statement timeout"), transaction() as other:
            live.seen(other, traffic.canary_of(other), patience=0.2)
        assert not [query for query in first.scalars(going_on) if "with spans" in query]
    with transaction() as other:
        assert live.seen(other, traffic.canary_of(other), patience=60).requests == 0
    with transaction() as other:
        assert other.scalar(text("show statement_timeout")) == "0", "other transactions have no limit"


def test_of_two_who_look_at_a_canary_one_is_alone_with_it(begun: None) -> None:
    with transaction() as first:
        canary = traffic.canary_of(first)
        assert live.is_alone(first, canary)
        with transaction() as other:
            assert not live.is_alone(other, canary)
    with transaction() as other:
        assert live.is_alone(other, canary)


WEEK = """
    insert into rlfleet.calls (trajectory_id, turn, call_id, at, line, model, agent_id, body, created_at)
    select 't' || n, 0, 't' || n || '/0', now() - n * interval '1 second', 'main',
           case when n % 4 = 0 then :canary when n % 4 = 1 then :stable else 'another' end, 'agent-' || n % 100,
           jsonb_build_object('messages', repeat(md5(n::text), 40)), now() - n * interval '1 second'
      from generate_series(1, 20000) as s(n)
"""


HOLDERS = text("""
    select count(*) from pg_stat_activity
     where backend_xmin is not null and pid <> pg_backend_pid() and datname = current_database()
""")
"""Statements that may still see what was there before. One whose client gave it up goes on to its end."""


@pytest.fixture(scope="module")
def week(database: str) -> Iterator[None]:
    """Calls as long as real ones, half of them of other models, and a planner that knows of them."""
    with transaction() as opened:
        empty(opened)
        traffic.start(opened, Plan(), 12.0)
        opened.execute(text(WEEK), {"canary": CANARY, "stable": STABLE})
    with engine().connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        deadline = time.monotonic() + 60
        while connection.scalar(HOLDERS):  # else pages are not marked as seen by all, and an index alone is not enough
            assert time.monotonic() < deadline
            time.sleep(0.02)
        connection.execute(text("vacuum analyze rlfleet.calls"))
    yield
    with transaction() as opened:
        empty(opened)


@pytest.mark.parametrize("statement", [live.ATTEMPTS, live.REWARDS])
def test_calls_are_read_from_their_index_and_from_weeks_of_the_canary(week: None, statement: TextClause) -> None:
    with transaction() as session:
        values = live.values_of(traffic.canary_of(session))
        plan = session.scalars(text(f"explain {statement}"), values).all()
    assert any("Index Only Scan" in line and "on calls_" in line for line in plan), "\n".join(plan)
    assert not any("Seq Scan on calls_2" in line or "2025w03" in line for line in plan), "\n".join(plan)


def test_slots_without_refusals_come_as_one_a_stretch(week: None) -> None:
    with transaction() as session:
        values = live.values_of(traffic.canary_of(session))
        rows = session.execute(live.ATTEMPTS, values).all()
        hour = traffic.hours_ago(session, 2).replace(minute=0, second=0, microsecond=0)
        calm = live.seen(session, traffic.canary_of(session)).attempts
        traffic.fail(session, CANARY, hour, asked=False)
        refused = session.execute(live.ATTEMPTS, values).all()
        session.rollback()
    stretches = 20000 // 600
    assert 2 * stretches <= len(rows) <= 2 * (stretches + 2)
    assert SLOTS // 2 < len(refused) - len(rows) < 2 * SLOTS, "one stretch came slot by slot"
    assert sum(a.canary[1] + a.stable[1] for a in calm) > 4000, "some units are no version's by share"
