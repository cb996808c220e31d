from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db import datasets, dispatch, trajectories, windows
from db.session import transaction
from db.tables import Quarantine, Trajectory
from rl import records
from rl.config import digest
from rl.records import Call, Message, Quarantined
from rl.scoring import by_reward
from rl.windows import parse
from tests.conftest_database import add_line

HOUR = "2025-01-15T10:00"


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


@pytest.fixture
def line(session: Session) -> int:
    return add_line(session).id


@pytest.fixture
def window(session: Session, line: int) -> int:
    return windows.ensure(session, line, parse(HOUR), state="closed")


def call(turn: int, said: str | None) -> Call:
    return Call(call_id=f"c{turn}", turn=turn, model="m", messages=[], response=Message(role="assistant", content=said))


def episode(trajectory_id: str, **fields: Any) -> records.Trajectory:
    values = {
        "scenario_id": "babyai/train/1",
        "agent_id": "a1",
        "started_at": datetime(2025, 1, 15, 10, 5, tzinfo=UTC),
        "ended_at": datetime(2025, 1, 15, 10, 6, tzinfo=UTC),
        "reward": 1.0,
        "calls": [call(0, "turn left"), call(1, "go to red ball")],
        "metadata": {"truncated": False},
    } | fields
    return records.Trajectory(trajectory_id=trajectory_id, **values)


def rows(session: Session, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(text(statement))]


def test_a_trajectory_is_stored_with_its_turns(session: Session, line: int, window: int) -> None:
    assert trajectories.insert_trajectories(session, line, window, "jsonl", [episode("t1", reward=0.5)]) == 1
    assert rows(session, "select trajectory_id, source, reward, details from rlfleet.trajectories") == [
        ("t1", "jsonl", 0.5, {"truncated": False})
    ]
    assert rows(session, "select turn, action, reward from rlfleet.turns order by turn") == [
        (0, "turn left", 0.0),
        (1, "go to red ball", 0.5),
    ]


def test_a_turn_says_what_its_last_call_said(session: Session, line: int, window: int) -> None:
    twice = [call(0, "thinking"), call(0, "turn left"), call(2, None)]
    trajectories.insert_trajectories(session, line, window, "jsonl", [episode("t1", calls=twice)])
    found = rows(session, "select turn, action, reward from rlfleet.turns order by turn")
    assert found == [(0, "turn left", 0.0), (2, None, 1.0)]


def test_what_is_stored_already_is_left_as_it_is(session: Session, line: int, window: int) -> None:
    both = [episode("t1"), episode("t2", reward=0.0)]
    assert trajectories.insert_trajectories(session, line, window, "jsonl", both) == 2
    changed = [episode("t1", reward=0.25, calls=[]), episode("t3"), episode("t3", reward=0.0)]
    assert trajectories.insert_trajectories(session, line, window, "jsonl", changed) == 1
    assert trajectories.insert_trajectories(session, line, window, "jsonl", []) == 0
    found = rows(session, "select trajectory_id, reward from rlfleet.trajectories order by 1")
    assert found == [("t1", 1.0), ("t2", 0.0), ("t3", 1.0)]
    assert rows(session, "select trajectory_id, count(*) from rlfleet.turns group by 1 order by 1") == [
        ("t1", 2),
        ("t2", 2),
        ("t3", 2),
    ]


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_the_database_too_refuses_a_reward_that_is_not_finite(
    session: Session, line: int, window: int, reward: float
) -> None:
    moment = datetime(2025, 1, 15, 10, tzinfo=UTC)
    row = Trajectory(
        trajectory_id="t1",
        at=moment,
        line_id=line,
        window_id=window,
        scenario_id="s",
        agent_id="a",
        source="jsonl",
        reward=reward,
        started_at=moment,
        ended_at=moment,
    )
    with pytest.raises(IntegrityError, match="ck_trajectories_reward_finite"), session.begin_nested():
        session.add(row)


def test_a_row_that_cannot_be_used_is_kept_once_in_a_line(session: Session, line: int, window: int) -> None:
    later = windows.ensure(session, line, parse("2025-01-15T11:00"))
    other_line = add_line(session, "other").id
    elsewhere = windows.ensure(session, other_line, parse(HOUR))
    bad = [Quarantined(source="jsonl", row="f:3", field="reward", reason="must be a finite number", excerpt="{")]
    other = Quarantined(source="jsonl", row="f:4", field="line", reason="not JSON")

    assert trajectories.insert_quarantine(session, line, window, bad) == 1
    assert trajectories.insert_quarantine(session, line, window, [*bad, other, other]) == 1
    assert trajectories.insert_quarantine(session, line, later, [*bad, other]) == 0
    assert trajectories.insert_quarantine(session, line, later, []) == 0
    assert trajectories.insert_quarantine(session, other_line, elsewhere, bad) == 1

    kept = session.execute(select(Quarantine.window_id, Quarantine.reason).order_by(Quarantine.id)).all()
    assert kept == [(window, "must be a finite number"), (window, "not JSON"), (elsewhere, "must be a finite number")]


def test_the_newest_score_counts_and_the_same_one_is_stored_once(session: Session, line: int, window: int) -> None:
    trajectories.insert_trajectories(session, line, window, "jsonl", [episode("t2"), episode("t1", reward=0.25)])
    first = [by_reward("t1", 0.25), by_reward("t2", 1.0)]
    assert trajectories.insert_scores(session, first) == 2
    assert trajectories.insert_scores(session, first) == 0
    assert trajectories.insert_scores(session, []) == 0
    assert trajectories.insert_scores(session, [by_reward("t2", 1.0) | {"input_hash": "feedback", "score": 0.75}]) == 1
    assert [(one.trajectory_id, one.reward, one.score) for one in trajectories.of_windows(session, [window])] == [
        ("t1", 0.25, 0.25),
        ("t2", 1.0, 0.75),
    ]


def test_trajectories_are_read_by_window_scenario_and_id(session: Session, line: int, window: int) -> None:
    later = windows.ensure(session, line, parse("2025-01-15T11:00"))
    trajectories.insert_trajectories(session, line, later, "jsonl", [episode("a", scenario_id="s0")])
    mixed = [episode("d", scenario_id="s2"), episode("c", scenario_id="s1"), episode("b", scenario_id="s2")]
    trajectories.insert_trajectories(session, line, window, "jsonl", mixed)
    found = [
        (one.window, one.scenario_id, one.trajectory_id, one.score)
        for one in trajectories.of_windows(session, [later, window])
    ]
    assert found == [
        (HOUR, "s1", "c", None),
        (HOUR, "s2", "b", None),
        (HOUR, "s2", "d", None),
        ("2025-01-15T11:00", "s0", "a", None),
    ]
    assert trajectories.of_windows(session, []) == []


def test_a_dataset_is_frozen_once_however_often_its_job_is_tried(session: Session, line: int, window: int) -> None:
    trajectories.insert_trajectories(session, line, window, "jsonl", [episode("t1"), episode("t2", reward=0.0)])
    trajectories.insert_scores(session, [by_reward("t1", 1.0), by_reward("t2", 0.0)])
    job = dispatch.request(session, dispatch.Spec("train", line, {"windows": [HOUR]}, {}, "gpu"))
    seen = trajectories.of_windows(session, [window])

    first = datasets.freeze(session, line, job, [window], seen, {"windows": [HOUR]})
    again = datasets.freeze(session, line, job, [window], seen[:1], {"windows": []})

    assert again.id == first.id
    assert first.sha256 == digest([["t1", "babyai/train/1", 1.0], ["t2", "babyai/train/1", 0.0]])
    assert first.manifest == {"windows": [HOUR], "trajectories": 2}
    assert [(one.trajectory_id, one.group, one.score) for one in datasets.rows_of(session, first.id)] == [
        ("t1", f"{HOUR} babyai/train/1", 1.0),
        ("t2", f"{HOUR} babyai/train/1", 0.0),
    ]


def test_a_dataset_keeps_the_scores_it_was_frozen_with(session: Session, line: int, window: int) -> None:
    trajectories.insert_trajectories(session, line, window, "jsonl", [episode("t1")])
    trajectories.insert_scores(session, [by_reward("t1", 1.0)])
    job = dispatch.request(session, dispatch.Spec("train", line, {"windows": [HOUR]}, {}, "gpu"))
    frozen = datasets.freeze(session, line, job, [window], trajectories.of_windows(session, [window]), {})
    trajectories.insert_scores(session, [by_reward("t1", 1.0) | {"input_hash": "feedback", "score": 0.0}])
    assert [one.score for one in datasets.rows_of(session, frozen.id)] == [1.0]


def test_a_dataset_may_be_empty(session: Session, line: int, window: int) -> None:
    job = dispatch.request(session, dispatch.Spec("train", line, {"windows": [HOUR]}, {}, "gpu"))
    frozen = datasets.freeze(session, line, job, [window], [], {})
    assert datasets.rows_of(session, frozen.id) == []
    assert frozen.manifest == {"trajectories": 0}
