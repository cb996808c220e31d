"""Any table by a mapping: one row a trajectory or one a call, times and texts of several types, refusals by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

import sources
from rl.errors import InvalidInput
from rl.records import Quarantined, Trajectory
from rl.windows import parse as window
from tests.sources.babylon_tables import reader
from tests.sources.mappings import RUNS

TEN, ELEVEN = window("2025-01-15T10:00"), window("2025-01-15T11:00")
Connect = Callable[[str], sources.Source]


@pytest.fixture
def cursor(database_url: str) -> Iterator[Any]:
    """Statements that are committed at once, in an empty schema ``logs``."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    found = connection.cursor()
    found.execute("drop schema if exists logs cascade; create schema logs")
    yield found
    found.execute("drop schema logs cascade")
    connection.close()


@pytest.fixture
def connect(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """The source of a mapping that is given as TOML."""
    monkeypatch.setenv("LOGS_URL", database_url)

    def connected(mapping: str) -> sources.Source:
        path = tmp_path / "a mapping.toml"
        path.write_text(mapping)
        return sources.connect(f"table://{path}".replace(" ", "%20"))

    return connected


TALK = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u1"},
    {"role": "assistant", "content": "a1", "reasoning_content": "r1"},
    {"role": "user", "content": "u2"},
    {"role": "assistant", "content": "a2"},
    {"role": "user", "content": "thanks"},
]


@pytest.fixture
def runs(cursor: Any) -> Callable[..., None]:
    """Adds a row to a table with one row a trajectory."""
    cursor.execute("""
        create table logs."Runs" ("runId" bigint, who text, task text, began timestamptz, done timestamptz,
                                  score numeric, talk jsonb, kind text, "may learn" boolean, test boolean)
    """)

    def add(number: int, **values: Any) -> None:
        row = {"runId": number, "who": "ada", "task": "t1", "done": "2025-01-15 12:30+02", "score": "1.5"}
        row |= {"talk": json.dumps(TALK)} | values
        names = ", ".join(f'"{name}"' for name in row)
        cursor.execute(f'insert into logs."Runs" ({names}) values %s', (tuple(row.values()),))  # noqa: S608

    return add


def told(found: Trajectory | Quarantined) -> tuple[str, ...]:
    if isinstance(found, Trajectory):
        return (found.trajectory_id,)
    return (found.row, found.field, found.reason)


def test_a_conversation_in_one_row_is_a_call_for_each_answer(connect: Connect, runs: Callable[..., None]) -> None:
    runs(7, began="2025-01-15 12:00+02", kind="degen", **{"may learn": False})
    (found,) = connect(RUNS).read(TEN)
    assert isinstance(found, Trajectory)
    assert (found.trajectory_id, found.agent_id, found.scenario_id, found.reward) == ("7", "ada", "t1", 1.5)
    assert (found.started_at.isoformat(), found.ended_at.isoformat()) == (
        "2025-01-15T10:00:00+00:00",
        "2025-01-15T10:30:00+00:00",
    )
    assert (found.archetype, found.consent, found.turns, found.metadata) == ("degen", False, [], {})
    first, second = found.calls
    assert [message.content for message in first.messages] == ["s", "u1"]
    assert (first.response.content, first.response.reasoning_content) == ("a1", "r1")
    assert [message.content for message in second.messages] == ["s", "u1", "a1", "u2"]
    assert (second.response.content, second.call_id, second.turn, second.model) == (
        "a2",
        "7-call-1-0",
        1,
        "gpt-4o-mini",
    )


def test_bad_rows_never_stop_the_good_ones(connect: Connect, runs: Callable[..., None]) -> None:
    runs(1, test=True)
    runs(2, talk=json.dumps({"role": "user"}))
    runs(3, talk=json.dumps([TALK[0], 7]))
    runs(4, talk=json.dumps(TALK[:2]))
    runs(5, score="NaN")
    runs(6, done="infinity")
    runs(8, talk=None)
    runs(9, done=None)
    runs(10)
    assert sorted(map(told, connect(RUNS).read(None))) == [
        ("1", "test", "an evaluation"),
        ("10",),
        ("2", "talk", "not a list"),
        ("3", "talk", "not an object"),
        ("4", "talk", "no usable call"),
        ("5", "score", "not a finite number"),
        ("6", "done", "not a moment"),
        ("8", "talk", "not a list"),
        ("9", "done", "missing"),
    ]


def test_what_is_not_told_is_said_to_be_missing(connect: Connect, runs: Callable[..., None]) -> None:
    runs(1, task="", score=None)
    (found,) = connect(RUNS).read(None)
    assert isinstance(found, Trajectory)
    assert (found.scenario_id, found.reward) == ("2025-01-15T10:00", 0.0)
    assert found.metadata == {"reward": None, "scenario_id": None}


def test_windows_and_hours(connect: Connect, runs: Callable[..., None]) -> None:
    for number, done in enumerate(["2025-01-15 10:00Z", "2025-01-15 10:59:59.9Z", "2025-01-15 11:00Z"]):
        runs(number, done=done)
    source = connect(RUNS)
    assert sorted(map(told, source.read(TEN))) == [("0",), ("1",)]
    assert list(map(told, source.read(ELEVEN))) == [("2",)]
    assert source.hours() == {TEN.text: 2, ELEVEN.text: 1}
    assert source.hours(since=ELEVEN.hour) == {ELEVEN.text: 1}
    assert source.hours(until=ELEVEN.hour) == {TEN.text: 2}
    assert [source.holds(window(f"2025-01-15T{hour}:00")) for hour in ("09", "10", "11", "12")] == [
        False,
        True,
        True,
        False,
    ]
    assert not source.holds(window("run/demo/0001"))
    assert list(source.read(window("run/demo/0001"))) == []


CALLS = """
variable = "LOGS_URL"
relation = "logs.calls"
rows = "call"
epoch = "seconds"

[columns]
trajectory = "session"
order = "place"
ended = "at"
reward = "points"
system = "sys"
prompt = "asked"
response = "said"
model = "llm"
temperature = "heat"
prompt_token_ids = "p"
token_ids = "t"
logprobs = "l"
"""


@pytest.fixture
def calls(cursor: Any) -> Callable[..., None]:
    """Adds a row to a table with one row a call; its times are seconds from 1970 on, after ten on that day."""
    cursor.execute("""
        create table logs.calls (session text, place int, at bigint, points real, sys text, asked text, said text,
                                 llm text, heat real, p int[], t int[], l real[])
    """)

    def add(session: str | None, place: int, minute: int, points: float | None = 1.0, **values: Any) -> None:
        row = {"session": session, "place": place, "at": 1736935200 + 60 * minute, "points": points, "sys": "s"}
        row |= {"asked": f"q{place}", "said": f"a{place}", "llm": "m", "heat": 0.5} | values
        cursor.execute(f"insert into logs.calls ({', '.join(row)}) values %s", (tuple(row.values()),))  # noqa: S608

    return add


def test_rows_of_calls_become_one_trajectory_in_their_order(connect: Connect, calls: Callable[..., None]) -> None:
    calls("x", 10, 30, 0.5, p=[1, 2], t=[3], l=[-0.25])
    calls("x", 9, 20, 0.25)
    (found,) = connect(CALLS).read(TEN)
    assert isinstance(found, Trajectory)
    assert (found.trajectory_id, found.agent_id, found.reward) == ("x", "calls", 0.75)
    assert [(call.turn, call.messages[1].content, call.response.content) for call in found.calls] == [
        (0, "q9", "a9"),
        (1, "q10", "a10"),
    ]
    assert [call.has_tokens for call in found.calls] == [False, True]
    assert (found.calls[1].logprobs, found.calls[1].temperature) == ([-0.25], 0.5)
    assert [(turn.turn, turn.reward) for turn in found.turns] == [(0, 0.25), (1, 0.5)]
    assert (found.started_at.minute, found.ended_at.minute) == (20, 30)


def test_the_last_reward_can_be_that_of_the_trajectory(connect: Connect, calls: Callable[..., None]) -> None:
    calls("x", 0, 1, 0.5)
    calls("x", 1, 2, 0.75)
    (found,) = connect(CALLS.replace('rows = "call"', 'rows = "call"\nrewards = "last"')).read(TEN)
    assert isinstance(found, Trajectory)
    assert (found.reward, found.turns) == (0.75, [])


def test_a_trajectory_of_calls_is_of_the_hour_of_its_last(connect: Connect, calls: Callable[..., None]) -> None:
    calls("over the hour", 0, 55)
    calls("over the hour", 1, 65)
    calls("early", 0, 5)
    calls("late", 0, 70)
    calls(None, 0, 5)
    source = connect(CALLS)
    assert list(map(told, source.read(TEN))) == [("early",)]
    assert sorted(map(told, source.read(ELEVEN))) == [("late",), ("over the hour",)]
    assert source.hours() == {TEN.text: 1, ELEVEN.text: 2}
    assert source.hours(until=ELEVEN.hour) == {TEN.text: 1}
    assert source.hours(since=ELEVEN.hour) == {ELEVEN.text: 2}
    assert ("no id", "session", "missing") in set(map(told, source.read(None)))


def test_a_trajectory_with_too_many_rows_is_not_held(
    connect: Connect, calls: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sources import table

    monkeypatch.setattr(table, "MOST_CALLS", 2)
    for place in range(5):
        calls("long", place, 1)
    calls("short", 0, 1)
    assert sorted(map(told, connect(CALLS).read(TEN))) == [("long", "session", "too large"), ("short",)]


def test_a_role_that_may_only_select_is_enough(
    connect: Connect, calls: Callable[..., None], cursor: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls("x", 0, 1)
    with reader(database_url, "logs.calls") as url:
        cursor.execute(f"grant usage on schema logs to {url.split('://')[1].split(':')[0]}")
        monkeypatch.setenv("LOGS_URL", url)
        source = connect(CALLS)
        monkeypatch.setenv("LOGS_URL", "gone")
        assert list(map(told, source.read(TEN))) == [("x",)]


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        ('"logs.Runs"', '"logs.Walks"', "relation = 'logs.Walks': no such table or view for this role"),
        ('"who"', '"whom"', "column = 'whom': Runs has no such column for this role; it has began, done"),
        ('"done"', '"task"', "Runs.task = 'text': a time must be a timestamp"),
    ],
)
def test_a_mapping_that_does_not_fit_the_table_is_refused(
    connect: Connect, runs: Callable[..., None], old: str, new: str, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(connect(RUNS.replace(old, new, 1)).read(None))
    assert remedy in str(caught.value)


@pytest.mark.parametrize("broken", [{"talk": '"hunter2"'}, {"done": None}, {"test": True}])
def test_a_refusal_is_heard_of_a_row_that_cannot_be_used(
    connect: Connect, runs: Callable[..., None], broken: dict[str, Any]
) -> None:
    runs(7, **{"may learn": False}, **broken)
    (found,) = connect(RUNS).read(None)
    assert found == Quarantined(source="consent", row="7", field="consent", reason="its owner refused consent")
