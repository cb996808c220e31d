from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import outcomes, trajectories, windows
from db.session import transaction
from rl.records import Trajectory, Turn
from rl.windows import parse
from tests.conftest_database import add_line

AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def episode(key: str, *of_turns: dict[str, Any], whole: dict[str, Any] | None = None) -> Trajectory:
    return Trajectory(
        trajectory_id=key,
        scenario_id="s",
        agent_id="a",
        started_at=AT,
        ended_at=AT,
        reward=0.0,
        calls=[],
        turns=[Turn(turn=number, outcome=outcome) for number, outcome in enumerate(of_turns)],
        metadata={"outcome": whole} if whole else {},
    )


def store(session: Session, *found: Trajectory) -> int:
    line = add_line(session).id
    window = windows.ensure(session, line, parse("2025-01-15T10:00"), state="closed")
    return trajectories.insert_trajectories(session, line, window, "jsonl", found)


def kept(session: Session) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(text("select trajectory_id, turn, body from rlfleet.outcomes"))]


def test_what_became_known_of_stored_trajectories_is_added_once(session: Session) -> None:
    assert store(session, episode("a", {"won": True}, {}), episode("b")) == 2
    later = [episode("a", {"won": True}, {"won": False}), episode("b", whole={"markets": [1]})]
    assert store(session, *later) == 0
    assert store(session, *later) == 0
    assert kept(session) == [("a", 0, {"won": True}), ("a", 1, {"won": False}), ("b", None, {"markets": [1]})]
    assert outcomes.insert(session, later) == set()
    assert outcomes.insert(session, [episode("a", {"won": False}, {"won": False})]) == {"a"}
    assert outcomes.of_trajectories(session, ["a", "b"]) == {
        "a": {0: {"won": False}, 1: {"won": False}},
        "b": {None: {"markets": [1]}},
    }


def test_what_was_said_before_can_be_said_again_and_counts(session: Session) -> None:
    store(session, episode("a", {"won": True}))
    for won in (False, True, True):
        outcomes.insert(session, [episode("a", {"won": won})])
    assert [body["won"] for _, _, body in kept(session)] == [True, False, True]


def test_of_two_rows_of_one_trajectory_the_later_says_what_became_known(session: Session) -> None:
    assert store(session, episode("a", {}), episode("a", {"won": True})) == 1
    assert kept(session) == [("a", 0, {"won": True})]


def test_nothing_is_kept_of_trajectories_that_are_not_there_or_were_erased(session: Session) -> None:
    store(session, episode("a"))
    session.execute(text("update rlfleet.trajectory_keys set erased_at = now()"))
    assert outcomes.insert(session, [episode("a", {"won": True}), episode("b", {"won": True})]) == set()
    assert kept(session) == []


def test_an_erasure_waits_for_what_is_being_added_and_finds_it(fresh: str) -> None:
    with transaction() as session:
        store(session, episode("a"))
    added, erased = threading.Event(), threading.Event()

    def erase() -> None:
        added.wait()
        with transaction() as session:
            session.execute(text("update rlfleet.trajectory_keys set erased_at = now()"))
            session.execute(text("delete from rlfleet.outcomes"))
        erased.set()

    thread = threading.Thread(target=erase)
    thread.start()
    with transaction() as session:
        outcomes.insert(session, [episode("a", {"won": True})])
        added.set()
        assert not erased.wait(0.2)
    thread.join()
    with transaction() as session:
        assert kept(session) == []
