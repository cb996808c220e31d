"""A whole Babylon-style database, read through a role that may only read: every row once, good or with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import sources
from db.foreign import snapshot
from rl.records import Quarantined, Trajectory
from rl.windows import parse as window
from sources.babylon import trajectories_of
from sources.babylon_windows import in_window
from tests.sources.babylon import RIGHT, SENTINEL, SYSTEM, Expected, build, checksums, reader

ROWS = 2000
Found = list[Trajectory | Quarantined]


@dataclass
class World:
    """The database's own URL, the reading role's, and what reading must give."""

    owner: str
    reader: str
    expected: Expected
    source: sources.Source
    everything: Found


@pytest.fixture(scope="module")
def world(database_url: str) -> Iterator[World]:
    expected = build(database_url, ROWS, seed=1)
    with reader(database_url) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BABYLON_URL", url)
        source = sources.connect("babylon://BABYLON_URL")
        yield World(database_url, url, expected, source, list(source.read(None)))


def usable(found: Found) -> dict[str, Trajectory]:
    return {one.trajectory_id: one for one in found if isinstance(one, Trajectory)}


def test_every_row_comes_once_usable_or_with_its_reason(world: World) -> None:
    expected = world.expected
    assert len(world.everything) == expected.rows == ROWS
    assert set(usable(world.everything)) == expected.usable
    bad = {one.row: (one.field, one.reason) for one in world.everything if isinstance(one, Quarantined)}
    assert bad == expected.quarantined
    assert expected.reasons == {
        "no steps": 20,
        "not JSON": 10,
        "nested too deeply": 10,
        "a number has too many digits": 5,
        "not a list": 5,
        "not an object": 5,
        "no usable call": 5,
        "not a finite number": 15,
        "an evaluation": 5,
        "not training data": 5,
        "synthetic id": 20,
        "missing": 10,
        "not a moment": 5,
        "not an hour window": 5,
    }


def test_excerpts_are_short_and_the_source_is_named(world: World) -> None:
    bad = [one for one in world.everything if isinstance(one, Quarantined)]
    assert {one.source for one in bad} == {"babylon"}
    assert max(len(one.excerpt) for one in bad) == 200


def test_the_hours_together_are_everything(world: World) -> None:
    hours = world.source.hours()
    assert hours == dict(sorted(world.expected.windows.items()))
    found = [row for hour in hours for row in world.source.read(window(hour))]
    placed = [
        row for row in world.everything if not (isinstance(row, Quarantined) and row.row in world.expected.unplaced)
    ]
    assert Counter(map(repr, found)) == Counter(map(repr, placed))


def test_a_window_has_the_rows_of_its_hour_however_that_is_written(world: World) -> None:
    written = set()
    for hour in ("2025-01-13T03:00", "2025-01-13T04:00"):
        found = list(world.source.read(window(hour)))
        assert len(found) == world.expected.windows[hour]
        written |= {row.metadata.get("windowId") for row in usable(found).values()}
    assert written == {None, "2025-01-13T03:00", "2025-01-13-03", "2025-01-13T04:00"}
    assert world.source.holds(window("2025-01-13T03:00"))
    assert not world.source.holds(window("2025-01-12T03:00"))
    assert not world.source.holds(window("run/demo/0001"))
    assert list(world.source.read(window("run/demo/0001"))) == []


def test_hours_can_be_bounded(world: World) -> None:
    bounds = datetime(2025, 1, 13, 22, 30, tzinfo=UTC), datetime(2025, 1, 14, 1, 0, tzinfo=UTC)
    names = ["2025-01-13T22:00", "2025-01-13T23:00", "2025-01-14T00:00"]
    assert world.source.hours(*bounds) == {name: world.expected.windows[name] for name in names}
    assert min(world.source.hours(since=bounds[1])) == "2025-01-14T01:00"
    assert max(world.source.hours(until=bounds[0])) == "2025-01-13T22:00"


def test_nothing_of_the_future_is_in_a_call(world: World) -> None:
    for one in usable(world.everything).values():
        for call in one.calls:
            assert SENTINEL not in call.model_dump_json()
        assert SENTINEL not in repr([(turn.state, turn.action) for turn in one.turns])
        apart = one.model_dump(exclude={"calls": True, "turns": {"__all__": {"outcome"}}, "metadata": {"outcome"}})
        assert SENTINEL not in repr(apart)


def test_what_became_known_later_is_kept_beside(world: World) -> None:
    told = [one for one in usable(world.everything).values() if one.trajectory_id not in world.expected.from_logs]
    for one in told:
        later = one.metadata["outcome"]
        assert later["gameKnowledge"]["futureOutcomes"] == [SENTINEL]
        assert {row.get("stockTicker", row.get("predictionMarketId")) for row in later["markets"]} == {
            *("ACME", "BOLT", "CRUX"),
            *("m-1", "m-2", "m-3"),
        }
        for turn in one.turns:
            assert turn.outcome["note"] == SENTINEL
            assert turn.outcome["predictionCorrect"] is (turn.reward == 1)
            assert turn.outcome["actualOutcome"] == "YES"
            assert turn.outcome["market"]["finalProbability"] == 0.99


def test_calls_are_told_as_they_were_sent_and_all_of_them(world: World) -> None:
    found = usable(world.everything)
    assert sum(len(one.calls) for one in found.values()) == world.expected.calls
    for one in found.values():
        for call in one.calls:
            assert call.model == "gpt-4o-mini-2024-07-18"
            assert call.temperature in (0.7, None), "the book's shape has none"
            assert call.call_id.startswith(f"{one.trajectory_id}-call-{call.turn}-")
            assert call.messages[0].content == SYSTEM
            assert call.response.reasoning_content == f"So {call.response.content}."


def test_calls_of_silent_steps_come_from_the_log(world: World) -> None:
    found = usable(world.everything)
    assert len(world.expected.from_logs) == 4 * ROWS // 400
    for name in world.expected.from_logs:
        assert [(call.call_id, call.model) for call in found[name].calls] == [
            (f"{name}-call-{turn}-0", "gpt-4o-mini-2024-07-18") for turn in range(3)
        ]


def test_the_reward_says_which_answer_was_right(world: World) -> None:
    for one in usable(world.everything).values():
        if one.trajectory_id in world.expected.from_logs or len(one.calls) != 3:
            continue
        right = 0
        for turn, call in zip(one.turns, one.calls, strict=True):
            news = next(word for word in RIGHT if word in str(call.messages[1].content))
            assert (call.response.content == RIGHT[news]) is (turn.reward == 1)
            right += turn.reward == 1
        assert one.reward == 2 * right - 3


def test_scenarios_agents_and_metadata(world: World) -> None:
    found = usable(world.everything)
    assert {(one.agent_id, one.archetype) for one in found.values()} == {
        ("ada", "trader"),
        ("bob", "degen"),
        ("cyd", "researcher"),
        ("dan", None),
    }
    sizes = Counter(Counter(one.scenario_id for one in found.values()).values())
    assert sizes[1] > 100
    assert sizes[4] > 50
    lone = found["traj-000005"]
    assert (lone.scenario_id, lone.metadata["scenario_id"]) == ("2025-01-13T05:00", None)
    assert lone.metadata["finalPnL"] == 10 * lone.reward
    assert lone.metadata["episodeLength"] == 3
    assert lone.metadata["rewardComponents"] == {"environmentReward": lone.reward}
    assert lone.metadata["base_models"] == {"gpt-4o-mini-2024-07-18": "gpt-4o-mini"}
    assert lone.started_at.tzinfo is UTC


def test_a_window_is_found_by_its_index(world: World) -> None:
    with snapshot(world.reader) as door:
        relation = trajectories_of(door)
        where = in_window(relation, window("2025-01-13T03:00"))
        assert where is not None
        plan = door.plan(relation, where)
    assert "windowId" in plan
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_the_source_is_as_it_was(world: World) -> None:
    before = checksums(world.owner)
    assert len(list(world.source.read(None))) == ROWS
    assert sum(world.source.hours().values()) == ROWS - len(world.expected.unplaced)
    assert checksums(world.owner) == before
