"""Databases that are not quite as expected: columns and tables that are not there, odd values, and URLs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

import sources
from db import foreign
from rl.errors import DatabaseUnavailable, InvalidInput
from rl.records import Quarantined, Trajectory
from rl.windows import parse as window
from sources.babylon_windows import spellings, window_of
from tests.sources.babylon_tables import reader

CALL = {"model": "m", "userPrompt": "q", "response": "a"}
STEPS = json.dumps([{"stepNumber": 0, "llmCalls": [CALL], "reward": 0.25}, {"stepNumber": 1, "reward": 0.5}])
LEAST = 'create table trajectories ("trajectoryId" text, "agentId" text, "stepsJson" text, "endTime" timestamp(3))'


@pytest.fixture
def cursor(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Statements that are committed at once, on a database without a table."""
    monkeypatch.setenv("BABYLON_URL", database_url)
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    found = connection.cursor()
    found.execute("drop table if exists trajectories, llm_call_logs, market_outcomes, reward_judgments cascade")
    yield found
    connection.close()


def everything() -> list[Trajectory | Quarantined]:
    return list(sources.connect("babylon://BABYLON_URL").read(None))


def one() -> Trajectory:
    (found,) = everything()
    assert isinstance(found, Trajectory), found
    return found


def add(cursor: Any, **values: object) -> None:
    row = {"trajectoryId": "t", "agentId": "a", "stepsJson": STEPS, "endTime": "2025-01-15 10:59:59.999"} | values
    names = ", ".join(f'"{name}"' for name in row)
    cursor.execute(f"insert into trajectories ({names}) values %s", (tuple(row.values()),))  # noqa: S608


def test_four_columns_are_enough(cursor: Any) -> None:
    cursor.execute(LEAST)
    add(cursor)
    found = one()
    assert (found.trajectory_id, found.agent_id, found.scenario_id) == ("t", "a", "2025-01-15T10:00")
    assert (found.reward, found.started_at, found.archetype, found.consent) == (0.75, found.ended_at, None, None)
    assert found.ended_at.isoformat() == "2025-01-15T10:59:59.999000+00:00"
    assert found.metadata == {"scenario_id": None}
    source = sources.connect("babylon://BABYLON_URL")
    assert source.hours() == {"2025-01-15T10:00": 1}
    assert source.holds(window("2025-01-15T10:00"))
    assert not source.holds(window("2025-01-15T11:00"))


@pytest.mark.parametrize("name", ["trajectoryId", "agentId", "stepsJson", "endTime"])
def test_a_column_that_nothing_can_replace_is_named(cursor: Any, name: str) -> None:
    cursor.execute(LEAST)
    cursor.execute(f'alter table trajectories drop column "{name}"')
    with pytest.raises(InvalidInput, match=rf"source = '{name}': trajectories has no such column for this role"):
        everything()


def test_a_missing_table_is_named(cursor: Any) -> None:
    with pytest.raises(InvalidInput, match="source = 'trajectories': no such table for this role; grant SELECT"):
        everything()


def test_a_role_without_select_is_told_so(cursor: Any, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor.execute(LEAST)
    cursor.execute("create table reward_judgments (id text)")
    with reader(database_url, "reward_judgments") as url:
        monkeypatch.setenv("BABYLON_URL", url)
        with pytest.raises(InvalidInput, match="no such table for this role; grant SELECT"):
            everything()


def test_a_read_works_without_the_two_other_tables_being_readable(
    cursor: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor.execute(LEAST)
    cursor.execute('create table llm_call_logs ("trajectoryId" text, response text)')
    cursor.execute('create table market_outcomes ("windowId" text)')
    add(cursor)
    with reader(database_url, "trajectories") as url:
        monkeypatch.setenv("BABYLON_URL", url)
        assert one().calls[0].response.content == "a"


def test_columns_of_other_types(cursor: Any) -> None:
    cursor.execute(
        'create table trajectories ("trajectoryId" uuid, "agentId" bigint, "stepsJson" jsonb, "totalReward" text,'
        ' "endTime" timestamptz, "metadataJson" jsonb, "windowId" text)'
    )
    name = "8c1f0a52-0a3c-4b77-9d0e-3d5f1d7e0a11"
    more = json.dumps({"archetype": "degen", "consent": False, "futureOutcomes": ["x"], "note": 1})
    add(
        cursor,
        trajectoryId=name,
        agentId=7,
        totalReward="-2.5",
        endTime="2025-01-15 12:30+02",
        metadataJson=more,
        windowId="",
    )
    found = one()
    assert (found.trajectory_id, found.agent_id, found.reward) == (name, "7", -2.5)
    assert (found.archetype, found.consent) == ("degen", False)
    assert found.metadata["outcome"] == {"futureOutcomes": ["x"]}
    assert found.metadata["more"] == {"archetype": "degen", "consent": False, "note": 1}
    assert [row.trajectory_id for row in sources.connect("babylon://BABYLON_URL").read(window("2025-01-15T10:00"))] == [  # type: ignore[union-attr]
        name
    ]


def test_metadata_that_makes_no_sense_is_named_and_costs_no_row(cursor: Any) -> None:
    cursor.execute(LEAST)
    cursor.execute('alter table trajectories add "metadataJson" text, add "finalPnL" float8, add "metricsJson" text')
    add(cursor, metadataJson="{broken", finalPnL="NaN", metricsJson='{"errorCount": 1}')
    assert one().metadata == {
        "metrics": {"errorCount": 1},
        "scenario_id": None,
        "unreadable": ["finalPnL", "metadataJson"],
    }


def test_a_value_that_is_too_large_stays_where_it_is(cursor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LARGEST_VALUE", 1000)
    cursor.execute(LEAST)
    add(cursor, stepsJson="x" * 1001)
    add(cursor, trajectoryId="small")
    large, small = everything()
    assert isinstance(small, Trajectory)
    assert large == Quarantined(source="babylon", row="t", field="stepsJson", reason="too large")


SECRETS = "postgres://bob:pw@db/x Authorization: Bearer abc.def api_key='k-1' sk-proj-abcdefghijkl basic eHl6 oops"
SHOWN = "postgres://bob:***@db/x Authorization: *** api_key='***' *** basic *** oops"


def test_an_excerpt_shows_no_secret(cursor: Any) -> None:
    cursor.execute(LEAST)
    add(cursor, stepsJson=SECRETS)
    (bad,) = everything()
    assert isinstance(bad, Quarantined)
    assert bad.excerpt == SHOWN


def test_the_newest_outcome_of_a_market_counts(cursor: Any) -> None:
    cursor.execute(LEAST)
    cursor.execute(
        'create table market_outcomes ("windowId" text, "stockTicker" text, "changePercent" numeric, "createdAt" text)'
    )
    rows = [("2025-01-15-10", "ACME", "NaN", "2025-01-15"), ("2025-01-15T10:00", "ACME", "-3.5", "2025-01-17")]
    rows += [("2025-01-15T10:00", "ACME", "8", "2025-01-16"), ("2025-01-15T11:00", "ACME", "9", "2025-01-18")]
    for row in rows:
        cursor.execute("insert into market_outcomes values %s", (row,))
    step = {"llmCalls": [CALL], "action": {"actionType": "BUY", "parameters": {"ticker": "acme"}}}
    add(cursor, stepsJson=json.dumps([step]))
    found = one()
    assert found.turns[0].outcome["changePercent"] == -3.5
    assert [row["changePercent"] for row in found.metadata["outcome"]["markets"]] == [-3.5]


def test_every_spelling_of_an_hour_is_one_window() -> None:
    hour = window("2025-01-13T14:00")
    assert {"2025-01-13T14:00", "2025-01-13-14", "2025-01-13T14:00:00.000Z", "2025-01-13 14:00:00"} <= set(
        spellings(hour)
    )
    assert {window_of(text) for text in spellings(hour)} == {hour}
    for text in ("", "2025-01-13T14:30", "2025-13-45-14", "2025-01-13T25:00", "2025-01-13", "batch 7"):
        assert window_of(text) is None


@pytest.mark.parametrize(
    "url",
    [
        "babylon://",
        "babylon://user:hunter2@host/db",
        "babylon://host.example/db",
        "babylon://X?password=hunter2",
        "babylon:///X",
    ],
)
def test_only_the_name_of_a_variable_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput) as caught:
        sources.connect(url)
    assert "environment variable" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_refused_under_any_scheme() -> None:
    with pytest.raises(InvalidInput, match="put the postgresql:// URL into an environment variable") as caught:
        sources.connect("postgresql://user:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


def test_the_variable_must_hold_a_postgres_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(InvalidInput, match="the environment variable NOWHERE is not set"):
        sources.connect("babylon://NOWHERE")
    monkeypatch.setenv("NOWHERE", "mysql://user:hunter2@host/db")
    with pytest.raises(InvalidInput, match="the environment variable NOWHERE holds no Postgres URL") as caught:
        sources.connect("babylon://NOWHERE")
    assert "hunter2" not in str(caught.value)


def test_an_absent_database_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWHERE", "postgresql://user:hunter2@127.0.0.1:1/db")
    with pytest.raises(DatabaseUnavailable, match="the source's database did not answer") as caught:
        list(sources.connect("babylon://NOWHERE").read(None))
    assert "hunter2" not in str(caught.value)
