from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import calls, partitions, recorded, recordings, trajectories, windows
from db.calls import NewCall
from db.feedback import NewFeedback
from db.recordings import End, Event, Start, Step
from db.session import transaction
from rl import records
from rl.errors import InvalidRow
from rl.windows import parse
from tests.conftest_database import add_line

AT = datetime(2025, 1, 15, 10, 20, tzinfo=UTC)
START = Start("t1", "a1", scenario_id="s1", started_at=AT, metadata={"who": "start", "n": 1})
END = End("t1", AT + timedelta(minutes=5), reward=2.0, metadata={"who": "end"})


def step(turn: int = 0, trajectory_id: str = "t1", said: str = "BUY", **fields: Any) -> Step:
    key = f"{trajectory_id}-call-{turn}-0"
    asked = [{"role": "user", "content": "Go."}]
    call = NewCall(key, trajectory_id, turn, "main", "gpt", None, asked, {"role": "assistant", "content": said})
    return Step(trajectory_id, turn, at=AT, state={"cash": 5}, action={"kind": "BUY"}, calls=[call], **fields)


def store(*events: Event) -> list[bool]:
    with transaction() as session:
        return recordings.store(session, events)


def rows(statement: str) -> list[tuple[Any, ...]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def read() -> tuple[recorded.Head, list[records.Turn], list[records.Call]]:
    with transaction() as session:
        return (
            recorded.heads(session, ["t1"])["t1"],
            recorded.turns(session, ["t1"])["t1"],
            calls.of_trajectories(session, ["t1"])["t1"],
        )


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_of_arrival_does_not_matter(fresh: str, order: tuple[int, ...]) -> None:
    events: list[Event] = [START, step(0, reward=0.5), step(1, outcome={"won": True}), END]
    for index in order:
        assert store(events[index]) == [True]
    head, turns, spoken = read()
    assert (head.agent_id, head.scenario_id, head.status, head.reward) == ("a1", "s1", "completed", 2.0)
    assert (head.started_at, head.ended_at) == (START.started_at, END.ended_at)
    assert head.details == {"who": "end", "n": 1}
    assert [(one.turn, one.reward, one.state, one.outcome) for one in turns] == [
        (0, 0.5, {"cash": 5}, {}),
        (1, 0.0, {"cash": 5}, {"won": True}),
    ]
    assert [call.call_id for call in spoken] == ["t1-call-0-0", "t1-call-1-0"]


def test_the_first_writer_wins_within_a_request_and_across(fresh: str) -> None:
    other = replace(START, scenario_id="other")
    assert store(START, other, step(reward=1.0), step(reward=9.0)) == [True, False, True, False]
    assert store(other, step(reward=9.0), END, End("t1", status="late")) == [False, False, True, False]
    head, turns, spoken = read()
    assert (head.scenario_id, head.status, [one.reward for one in turns], len(spoken)) == ("s1", "completed", [1.0], 1)


def test_a_line_that_is_named_late_is_the_calls_line(fresh: str) -> None:
    store(step())
    store(Start("t1", "a1", line="shop"))
    store(step(1))
    assert rows("select line, count(*) from rlfleet.calls group by line") == [("shop", 2)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_without_consent_nothing_is_kept_but_the_refusal(fresh: str, order: tuple[int, ...]) -> None:
    refusal = Start("t1", "a1", line="shop", metadata={"n": 1}, consent=False)
    events: list[Event] = [refusal, step(), NewFeedback("f1", "t1", None, "rating", 1.0)]
    for index in order:
        assert store(events[index]) == [True]
    assert store(END, step(1), END) == [True, True, True]
    assert store(refusal, START) == [False, False]
    for table in ("turns", "calls", "call_keys", "feedback"):
        assert rows(f"select 1 from rlfleet.{table}") == []  # noqa: S608
    (kept,) = rows("select trajectory_id, consent, agent_id, line, ended_at, status, details from rlfleet.recordings")
    assert kept == ("t1", False, None, "main", None, None, {})


def test_what_was_erased_does_not_come_back(fresh: str) -> None:
    _collect()
    with transaction() as session:
        session.execute(text("update rlfleet.trajectory_keys set erased_at = now()"))
    assert store(START, step(5), NewFeedback("f1", "t1", None, "rating", 1.0)) == [True, True, True]
    assert rows("select 1 from rlfleet.turns where turn = 5") == rows("select 1 from rlfleet.feedback") == []


def test_a_late_step_lies_beside_the_trajectory_that_was_collected(fresh: str) -> None:
    _collect()
    assert store(START, step(5)) == [True, True]
    assert store(step(5)) == [False]
    hour = datetime(2025, 1, 15, 10, tzinfo=UTC)
    assert rows("select at from rlfleet.turns where turn = 5") == [(hour,)]
    assert rows("select at from rlfleet.calls where turn = 5") == [(hour,)]


def _collect() -> None:
    """A trajectory t1 of the window 2025-01-15T10:00 that another source brought."""
    with transaction() as session:
        line = add_line(session)
        window = windows.ensure(session, line.id, parse("2025-01-15T10:00"))
        one = records.Trajectory(
            trajectory_id="t1", scenario_id="s", agent_id="a", started_at=AT, ended_at=AT, reward=0, calls=[]
        )
        trajectories.insert_trajectories(session, line.id, window, "jsonl", [one])


def test_an_id_belongs_to_the_line_and_agent_that_said_it_first(fresh: str) -> None:
    assert store(START, step(0)) == [True, True]
    with pytest.raises(InvalidRow):
        store(replace(START, trajectory_id="t2"), replace(START, trajectory_id="t2", agent_id="a2"))
    for other in (replace(START, agent_id="a2"), replace(START, line="shop")):
        with pytest.raises(InvalidRow, match="trajectoryId = 't1': another line or agent has a trajectory of this id"):
            store(other)
    assert store(START) == [False]
    assert store(replace(START, agent_id="a2", line="shop", consent=False)) == [True], "a refusal holds"
    assert rows("select consent from rlfleet.recordings") == [(False,)]


def test_nothing_is_added_to_a_trajectory_that_came_from_elsewhere(fresh: str) -> None:
    collected = records.Trajectory(
        trajectory_id="t1", scenario_id="s", agent_id="b", started_at=AT, ended_at=AT, reward=0.0, calls=[]
    )
    with transaction() as session:
        line = add_line(session, "shop")
        window_id = windows.ensure(session, line.id, parse("2025-01-15T10:00"))
        trajectories.insert_trajectories(session, line.id, window_id, "jsonl:///x", [collected])
    for events in ([START], [step(0)], [END], [START, step(0), END]):
        with pytest.raises(InvalidRow, match="ids are global"):
            store(*events)
    assert rows("select count(*) from rlfleet.turns") == [(0,)]
    assert rows("select count(*) from rlfleet.recordings") == [(0,)]
    assert store(replace(START, line="shop"), step(0)) == [True, True]


def test_an_abandoned_episode_ends_and_goes_on_when_it_is_heard_of_again(fresh: str) -> None:
    store(START, step())
    _age(hours=23)
    assert _abandon() == []
    _age(hours=2)
    assert _abandon() == ["t1"]
    (at,) = rows("select at from rlfleet.turns")[0]
    assert rows("select ended_at, status from rlfleet.recordings") == [(at, None)]
    store(step(1))
    assert rows("select ended_at, status from rlfleet.recordings") == [(None, None)]
    assert _abandon() == []
    assert store(END) == [True]
    assert rows("select ended_at, status from rlfleet.recordings") == [(END.ended_at, "completed")]


def _abandon() -> list[str]:
    with transaction() as session:
        return recorded.abandon(session, "main")


def _age(hours: int) -> None:
    partitions.ensure([datetime.now(UTC) - timedelta(hours=25)])
    with transaction() as session:
        for table, column in (("recordings", "created_at"), ("turns", "at"), ("calls", "at")):
            older = f"update rlfleet.{table} set {column} = {column} - interval '{hours} hours'"  # noqa: S608
            session.execute(text(older))


def test_what_cannot_be_used_is_kept_once_and_only_for_a_line_there_is(fresh: str) -> None:
    row = records.Quarantined(source="ingest", row="recordStep t1 -1", field="stepNumber", reason="no")
    with transaction() as session:
        add_line(session)
        assert recordings.quarantine(session, "main", [row]) == 1
        assert recordings.quarantine(session, "main", [row]) == 0
        assert recordings.quarantine(session, "other", [row]) == 0


def test_what_is_reported_later_of_a_step_is_kept_with_it_and_beside_it_after_the_collection(fresh: str) -> None:
    store(START, step(0), step(1, outcome={"won": False}))
    assert store(step(0, outcome={"won": True}, reward=9.0), step(1, outcome={"won": True})) == [False, False]
    assert [(one.reward, one.outcome) for one in read_turns()] == [(0.0, {"won": True}), (0.0, {"won": True})]
    _collect()
    assert store(step(6), step(7, outcome={"late": 1})) == [True, True]
    assert store(step(6, outcome={"won": False})) == [False]
    assert store(step(7, outcome={"late": 1})) == [False]
    assert rows("select turn, body from rlfleet.outcomes order by id") == [(7, {"late": 1}), (6, {"won": False})]
    assert rows("select details::jsonb ? 'outcome' from rlfleet.turns where turn > 5") == [(False,), (False,)]


def read_turns() -> list[records.Turn]:
    with transaction() as session:
        return recorded.turns(session, ["t1"])["t1"]


def test_no_outcome_of_what_was_erased_or_refused_is_kept(fresh: str) -> None:
    _collect()
    with transaction() as session:
        session.execute(text("update rlfleet.trajectory_keys set erased_at = now()"))
    store(step(0, outcome={"won": True}))
    store(Start("t2", "a1", consent=False), step(0, "t2", outcome={"won": True}))
    assert rows("select 1 from rlfleet.outcomes") == []
    assert rows("select 1 from rlfleet.turns where trajectory_id = 't2'") == []
