"""What agents reported, read back as trajectories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

import sources
from db import calls, partitions, recordings
from db.recordings import End, Event, Start, Step
from db.session import transaction
from rl.errors import InvalidInput
from rl.records import Quarantined, Trajectory
from rl.windows import parse
from sources import recorded
from tests.conftest_database import add_line, database, database_url, empty, postgres_url

__all__ = ["database", "database_url", "postgres_url"]

AT = datetime(2025, 1, 15, 10, 20, tzinfo=UTC)
HOUR = parse("2025-01-15T10:00")


@pytest.fixture
def source(database: str) -> recorded.Recorded:
    with transaction() as session:
        empty(session)
        add_line(session)
    found = sources.connect("recorded://main")
    assert isinstance(found, recorded.Recorded)
    return found


def store(*events: Event) -> None:
    with transaction() as session:
        recordings.store(session, events)


def episode(
    key: str, *, ended_at: datetime = AT, said: str = "BUY", rewards: tuple[float, ...] = (1.0,), **more: Any
) -> None:
    steps = []
    for turn, reward in enumerate(rewards):
        response = {"role": "assistant", "content": said} if said else {"role": "assistant"}
        call = calls.NewCall(
            f"{key}/{turn}", key, turn, "main", "gpt", None, [{"role": "user", "content": "Go."}], response
        )
        steps.append(Step(key, turn, reward=reward, state={"cash": turn}, action={"kind": "BUY"}, calls=[call]))
    start = Start(key, "a1", started_at=AT - timedelta(minutes=30), **more)
    store(start, *steps, End(key, ended_at, metadata={"pnl": 3}))


def keys(source: recorded.Recorded, window: str | None) -> list[str]:
    rows = source.read(parse(window) if window else None)
    return [one.trajectory_id if isinstance(one, Trajectory) else f"bad {one.row}" for one in rows]


def test_an_episode_is_a_trajectory_of_the_hour_it_ended_in(source: recorded.Recorded) -> None:
    episode("t1", rewards=(0.5, 0.25), archetype="trader", consent=True)
    (found,) = source.read(HOUR)
    assert isinstance(found, Trajectory)
    assert (found.agent_id, found.scenario_id, found.reward) == ("a1", "2025-01-15T09:00", 0.75)
    assert (found.started_at, found.ended_at) == (AT - timedelta(minutes=30), AT)
    assert (found.archetype, found.consent) == ("trader", True)
    assert found.metadata == {"pnl": 3, "finalStatus": "completed"}
    assert [(turn.turn, turn.reward, turn.state) for turn in found.turns] == [
        (0, 0.5, {"cash": 0}),
        (1, 0.25, {"cash": 1}),
    ]
    assert [call.response.content for call in found.calls] == ["BUY", "BUY"]


def test_windows(source: recorded.Recorded) -> None:
    episode("t1")
    episode("t2", ended_at=AT + timedelta(hours=1))
    episode("t3", window="2025-01-15T11:00")
    episode("t4", window="run/demo/0003")
    episode("other", line="shop")
    store(Start("going on", "a1"))
    assert keys(source, "2025-01-15T10:00") == ["t1"]
    assert keys(source, "2025-01-15T11:00") == ["t3", "t2"]
    assert keys(source, "run/demo/0003") == ["t4"]
    assert sorted(keys(source, None)) == ["t1", "t2", "t3", "t4"]
    assert source.holds(HOUR)
    assert not source.holds(parse("2025-01-15T12:00"))
    assert source.hours() == {"2025-01-15T10:00": 1, "2025-01-15T11:00": 2}
    assert source.hours(since=datetime(2025, 1, 15, 11, 30, tzinfo=UTC)) == {"2025-01-15T11:00": 2}
    assert source.hours(until=datetime(2025, 1, 15, 11, tzinfo=UTC)) == {"2025-01-15T10:00": 1}


def test_what_cannot_be_used_is_said(source: recorded.Recorded) -> None:
    episode("silent", said="")
    store(Step("unknown", 0), End("unknown", AT))
    found = {one.row: one for one in source.read(HOUR) if isinstance(one, Quarantined)}
    assert {key: one.field for key, one in found.items()} == {"silent": "calls", "unknown": "agent_id"}
    assert source.hours() == {HOUR.text: 2}


def test_rewards_beyond_all_numbers_are_said(source: recorded.Recorded) -> None:
    episode("t1", rewards=(1.7e308, 1.7e308))
    (found,) = source.read(HOUR)
    assert isinstance(found, Quarantined)
    assert found.field == "reward"


def test_without_consent_there_is_nothing(source: recorded.Recorded) -> None:
    episode("t1", consent=False)
    assert keys(source, None) == []
    assert source.hours() == {}


def test_an_episode_that_was_abandoned(source: recorded.Recorded) -> None:
    store(
        Start("t1", "a1"), Step("t1", 0, reward=2.0, calls=[calls.NewCall("c", "t1", 0, "main", "gpt", None, [], SAID)])
    )
    partitions.ensure([datetime.now(UTC) - timedelta(hours=25)])
    assert keys(source, None) == []
    with transaction() as session:
        session.execute(text("update rlfleet.recordings set created_at = created_at - interval '25 hours'"))
        session.execute(text("update rlfleet.turns set at = at - interval '25 hours'"))
        session.execute(text("update rlfleet.calls set at = at - interval '25 hours'"))
        last = session.scalar(text("select at from rlfleet.turns"))
    (found,) = source.read(None)
    assert isinstance(found, Trajectory)
    assert (found.ended_at, found.metadata, found.reward) == (last, {"finalStatus": "abandoned"}, 2.0)


SAID = {"role": "assistant", "content": "BUY"}


def test_many_are_read_in_parts(source: recorded.Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "BATCH", 2)
    for number in range(5):
        episode(f"t{number}")
    assert keys(source, HOUR.text) == [f"t{number}" for number in range(5)]


@pytest.mark.parametrize("url", ["recorded://", "recorded://main/more", "recorded://none"])
def test_a_line_that_is_not_there_is_refused(source: recorded.Recorded, url: str) -> None:
    with pytest.raises(InvalidInput):
        sources.connect(url)
