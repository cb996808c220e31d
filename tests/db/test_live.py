"""Each number here is counted by hand from the rows above it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import live, releases
from db.session import transaction
from db.tables import Line
from gateway.routing import place
from rl.live import Counted, Seen
from rl.release_plan import Plan
from rl.sequential import Attempts
from tests.conftest_database import add_version, empty, released
from tests.db import traffic

CANARY, STABLE = "babylon-agent-v1.0.1", "babylon-agent-v1.0.0"


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as opened:
        empty(opened)
        yield opened


def begin(session: Session, hours: float = 3.0) -> datetime:
    """A canary that began so long ago; the beginning of the second clock hour in it."""
    traffic.start(session, Plan(), hours)
    began = traffic.hours_ago(session, hours)
    return began.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def look(session: Session) -> Seen:
    return live.seen(session, traffic.canary_of(session))


def sums(seen: Seen, signal: str = "reward") -> list[tuple[str, bool, float, int]]:
    """(unit, whether the canary's, total, n), by unit."""
    return sorted((one.unit, one.is_canary, one.total, one.n) for one in seen.rewards.get(signal, ()))


def episode(
    session: Session, key: str, model: str, at: datetime, reward: float | None, agent: str | None = "h"
) -> None:
    traffic.call(session, key, model, at, agent)
    traffic.end(session, key, reward, at)


def test_rewards_are_summed_by_hour_agent_and_version(session: Session) -> None:
    hour = begin(session)
    for n, (agent, model, reward) in enumerate(
        [("h", CANARY, 1.0), ("h", CANARY, 0.5), ("b", STABLE, 0.25), ("c", STABLE, 1.0), (None, STABLE, 2.0)]
    ):
        episode(session, f"t{n}", model, hour + timedelta(minutes=n), reward, agent)
    episode(session, "t9", CANARY, hour + timedelta(minutes=61), 4.0, "h")

    seen = look(session)

    assert sums(seen) == [
        ("b", False, 0.25, 1),
        ("c", False, 1.0, 1),
        ("h", True, 1.5, 2),
        ("h", True, 4.0, 1),
        ("t4", False, 2.0, 1),
    ]
    first, second = sorted({one.cohort for one in seen.rewards["reward"]})
    assert second == first + 1
    assert {one.cohort for one in seen.rewards["reward"] if one.total != 4.0} == {first}
    assert (seen.here, seen.requests, seen.counted) == (frozenset({0}), 3, Counted(canary=3, stable=3))
    assert seen.hours == pytest.approx(3.0, abs=0.01)


def test_a_trajectory_that_two_versions_answered_counts_for_none(session: Session) -> None:
    hour = begin(session)
    episode(session, "both", CANARY, hour, 1.0)
    traffic.call(session, "both", STABLE, hour + timedelta(minutes=1), turn=1)
    episode(session, "fell back", CANARY, hour, 1.0)
    traffic.call(session, "fell back", "base/another", hour + timedelta(minutes=1), turn=1)
    episode(session, "before", STABLE, hour - timedelta(hours=3), 1.0, "b")
    episode(session, "of a run", STABLE, hour, 1.0, "rollout-run/demo/0001")
    episode(session, "of nobody", "base/another", hour, 1.0)

    seen = look(session)

    assert sums(seen) == [("h", True, 1.0, 1)]
    assert seen.counted == Counted(canary=1, several=1)
    assert seen.requests == 2


def test_the_newest_value_of_each_name_counts_and_corrections_change_the_past(session: Session) -> None:
    hour = begin(session)
    episode(session, "t0", CANARY, hour, 0.0)
    episode(session, "t1", STABLE, hour, 1.0, "b")
    traffic.think(session, "t0", "rating", 3.0, hour + timedelta(minutes=1))
    traffic.think(session, "t0", "rating", 5.0, hour + timedelta(minutes=3))
    traffic.think(session, "t0", "rating", 4.0, hour + timedelta(minutes=2))
    assert sums(look(session), "rating") == [("h", True, 5.0, 1)]
    assert sums(look(session)) == [("b", False, 1.0, 1), ("h", True, 0.0, 1)]

    traffic.think(session, "t0", "reward", 0.75, hour + timedelta(minutes=9))
    traffic.think(session, "t0", "rating", 1.0, hour + timedelta(minutes=9))

    assert sums(look(session), "rating") == [("h", True, 1.0, 1)]
    assert sums(look(session)) == [("b", False, 1.0, 1), ("h", True, 0.75, 1)]
    assert look(session).rewards == look(session).rewards, "a look leaves nothing behind"


def test_feedback_on_a_call_is_its_trajectorys(session: Session) -> None:
    hour = begin(session)
    traffic.call(session, "t0", CANARY, hour)
    traffic.think(session, "", "rating", 2.0, hour)
    session.execute(text("update rlfleet.feedback set call_id = 't0/0'"))
    session.execute(text("insert into rlfleet.call_keys values ('t0/0', 't0', :at)"), {"at": hour})
    assert sums(look(session), "rating") == [("h", True, 2.0, 1)]


def test_a_reward_that_nobody_gave_is_not_a_reward_of_zero(session: Session) -> None:
    hour = begin(session)
    episode(session, "t0", CANARY, hour, None)
    episode(session, "t1", STABLE, hour, None, "b")
    assert look(session).rewards == {}, "agents that log no reward"

    add_turn = text(
        "insert into rlfleet.turns (trajectory_id, turn, at, reward) values (:id, :turn, :at, cast(:reward as float8))"
    )
    for turn, reward in enumerate((0.25, 0.5)):
        session.execute(add_turn, {"id": "t0", "turn": turn, "at": traffic.hours_ago(session, 0), "reward": reward})
    session.execute(add_turn, {"id": "t1", "turn": 0, "at": traffic.hours_ago(session, 0), "reward": 0.0})
    assert sums(look(session)) == [("b", False, 0.0, 1), ("h", True, 0.75, 1)], "steps that earn something"

    traffic.call(session, "goes on", CANARY, hour)
    assert len(sums(look(session))) == 2


@pytest.mark.parametrize(("details", "expected"), [("{}", [("h", True, 0.5, 1)]), ('{"reward": null}', [])])
def test_what_a_source_brought_has_its_reward_and_its_own_beginning(
    session: Session, details: str, expected: list[tuple[str, bool, float, int]]
) -> None:
    hour = begin(session)
    traffic.call(session, "t0", CANARY, traffic.hours_ago(session, 0))
    session.execute(
        text("""
            insert into rlfleet.trajectories (trajectory_id, at, line_id, window_id, scenario_id, agent_id, source,
                                              reward, started_at, ended_at, details)
            values ('t0', :now, 1, 1, 's', 'a', 'jsonl:///a', 0.5, :hour, :hour, cast(:details as jsonb))
        """),
        {"now": traffic.hours_ago(session, 0), "hour": hour, "details": details},
    )
    assert sums(look(session)) == expected
    assert {one.cohort for one in look(session).rewards.get("reward", ())} <= {int(hour.timestamp()) // 3600}


def test_a_change_of_a_share_within_an_hour_makes_two_cohorts(session: Session) -> None:
    hour = begin(session)
    shift = text("update rlfleet.releases set created_at = :at where ended_at is null and stage = 'canary'")
    ended = text("update rlfleet.releases set ended_at = :at where ended_at is not null and stage = 'canary'")
    first = traffic.canary_of(session)
    second = releases.advance(session, first.release_id, 50, "on")
    session.execute(shift, {"at": hour + timedelta(minutes=30)})
    session.execute(ended, {"at": hour + timedelta(minutes=30)})
    for minute in (10, 50):
        episode(session, f"c{minute}", CANARY, hour + timedelta(minutes=minute), 1.0)
        episode(session, f"s{minute}", STABLE, hour + timedelta(minutes=minute), 0.0, "b")

    seen = look(session)

    assert traffic.canary_of(session).release_id == second
    found = {(one.stage, one.cohort) for one in seen.rewards["reward"]}
    assert {stage for stage, _ in found} == {0, 1}
    assert len(found) == 2
    assert (seen.here, seen.requests) == (frozenset({1}), 1)
    assert (len(seen.rewards["reward"]), len(seen.attempts)) == (4, 2)


def test_a_new_stable_version_starts_the_comparison_anew(session: Session) -> None:
    hour = begin(session)
    line = traffic.canary_of(session)
    episode(session, "c0", CANARY, hour, 1.0)
    episode(session, "s0", STABLE, hour, 0.0, "b")
    third = add_version(session, session.get_one(Line, line.line_id))
    released(session, line.line_id, third.id, reason="replaced while the canary was tried")
    session.execute(
        text("update rlfleet.releases set created_at = :at where stage = 'stable' and ended_at is null"),
        {"at": hour + timedelta(minutes=30)},
    )
    episode(session, "c1", CANARY, hour + timedelta(minutes=40), 0.5)
    episode(session, "s1", third.name, hour + timedelta(minutes=40), 0.25, "b")
    assert sums(look(session)) == [("b", False, 0.25, 1), ("h", True, 0.5, 1)]


def test_signals_come_in_the_order_in_which_they_were_first_given(session: Session) -> None:
    hour = begin(session)
    episode(session, "t0", CANARY, hour, 1.0)
    episode(session, "t1", STABLE, hour + timedelta(minutes=1), 1.0, "b")
    for trajectory, name, minute in (("t1", "z", 5), ("t0", "a", 2), ("t0", "z", 1), ("t1", "z", 9)):
        traffic.think(session, trajectory, name, 1.0, hour + timedelta(minutes=minute))
    assert list(look(session).rewards) == ["reward", "z", "a"], "by arrival, whatever moment they say"


def test_calls_that_no_share_gave_a_version_count_for_none(session: Session) -> None:
    hour = begin(session)
    places = {"h": 1.2, "b": 90.5}
    assert {agent: round(place("main", agent), 1) for agent in places} == places
    for agent in places:
        episode(session, f"c{agent}", CANARY, hour, 1.0, agent)
        episode(session, f"s{agent}", STABLE, hour, 0.0, agent)
    assert sums(look(session)) == [("b", False, 0.0, 1), ("h", True, 1.0, 1)]
    assert (look(session).counted, look(session).requests) == (Counted(canary=1, stable=1), 1)
    assert look(session).attempts == [Attempts((0, 1), (0, 1))]

    session.execute(text("update rlfleet.releases set share = 90 where stage = 'stable'"))
    assert sums(look(session)) == [("h", True, 1.0, 1)], "the base model answers b"


def test_places_are_those_that_the_gateway_routes_by(session: Session) -> None:
    chance = random.Random(0)
    units = ["", "h", "a b", "agent-1", "Größe", "\U0001f600", "%s:x\\", "x" * 256]
    units += ["".join(chance.choices("abcdefghij-0123456789é", k=chance.randint(1, 40))) for _ in range(2000)]
    for line in ("main", "other line", "ü"):
        query = text(f"select unit, {live.PLACE} from unnest(cast(:units as text[])) as u(unit)")  # noqa: S608
        found = session.execute(query, {"line": line, "units": units}).all()
        assert [(unit, at) for unit, at in found] == [(unit, place(line, unit)) for unit in units]
