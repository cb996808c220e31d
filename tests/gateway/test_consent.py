"""Nothing is stored of whom nobody agreed to, whichever path saw it and whenever the refusal came."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import windows
from db.session import transaction
from db.trajectories import insert_trajectories
from rl.records import Trajectory
from rl.windows import parse
from tests.gateway.conftest import World
from tests.gateway.test_ingest_http import CALL, END, START, STEP, rows, send
from tests.planted import tables_with

WORD = "hunter2"


@pytest.fixture
def client(world: World) -> httpx.Client:
    world.release(0)
    world.engine(versions={world.names[0]})
    return world.gateway()


def chat(client: httpx.Client, call_id: str = "c1", **headers: str) -> httpx.Response:
    ids = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Turn": "0", "X-Call-Id": call_id}
    body = {"model": "main", "messages": [{"role": "user", "content": WORD}]}
    return client.post("/v1/chat/completions", json=body, headers=ids | headers)


def step(number: int = 0) -> dict[str, Any]:
    said = CALL | {"response": WORD, "callId": f"t1/{number}"}
    return STEP | {"stepNumber": number, "environmentState": {"a": WORD}, "llmCalls": [said], "outcome": {"b": WORD}}


FEEDBACK = {"type": "feedback", "trajectoryId": "t1", "value": 1.0, "comment": WORD}


def collect(line_id: int) -> None:
    """What an hour's collection stores of t1."""
    hour = parse("2025-01-15T10:00")
    assert hour.hour is not None
    one = Trajectory(
        trajectory_id="t1",
        scenario_id="s",
        agent_id="a1",
        started_at=hour.hour,
        ended_at=hour.hour,
        reward=0,
        calls=[],
        metadata={"who": WORD, "outcome": {"won": WORD}},
    )
    with transaction() as session:
        window = windows.ensure(session, line_id, hour)
        insert_trajectories(session, line_id, window, "jsonl", [one])


def test_a_call_by_header_is_answered_and_not_stored(world: World, client: httpx.Client) -> None:
    answer = chat(client, **{"X-Consent": "false"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("go to")
    assert (answer.headers["X-Trajectory-Id"], answer.headers["X-Call-Id"]) == ("t1", "c1")
    assert (world.count(), tables_with(WORD)) == (0, [])
    assert rows("select trajectory_id, agent_id, consent from rlfleet.recordings") == [("t1", None, False)]


def test_a_refusal_by_header_holds_for_what_was_before_and_comes_after(world: World, client: httpx.Client) -> None:
    chat(client, "c1")
    assert world.count() == 1
    chat(client, "c2", **{"X-Consent": "False"})
    assert chat(client, "c3").status_code == 200
    assert chat(client, "c1", **{"X-Consent": "true"}).status_code == 200
    assert send(client, START, step(), FEEDBACK, END)["rejected"] == []
    assert (world.count(), rows("select 1 from rlfleet.call_keys"), tables_with(WORD)) == (0, [], [])


def test_consent_by_header_is_true_or_false(world: World, client: httpx.Client) -> None:
    answer = chat(client, **{"X-Consent": "no"})
    assert answer.status_code == 400
    assert "x-consent: must be true or false" in answer.json()["error"]["message"]
    assert chat(client, **{"X-Consent": "true"}).status_code == 200
    assert world.count() == 1


def test_calls_of_a_trajectory_that_was_refused_at_its_start_are_not_captured(
    world: World, client: httpx.Client
) -> None:
    send(client, START | {"consent": False, "metadata": {"a": WORD}})
    first, again = chat(client), chat(client)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (world.count(), rows("select 1 from rlfleet.call_keys"), tables_with(WORD)) == (0, [], [])


def test_calls_of_a_trajectory_that_was_erased_are_not_captured(world: World, client: httpx.Client) -> None:
    collect(world.line.id)
    with transaction() as session:
        session.execute(text("update rlfleet.trajectory_keys set erased_at = now()"))
    assert chat(client).status_code == 200
    assert (world.count(), rows("select 1 from rlfleet.call_keys")) == (0, [])


@pytest.mark.parametrize("collected", [False, True])
def test_a_refusal_that_comes_late_takes_everything_with_it(
    world: World, client: httpx.Client, collected: bool
) -> None:
    assert send(client, START | {"metadata": {"a": WORD}}, step(0), FEEDBACK, END)["accepted"] == 4
    chat(client, "t1/captured")
    if collected:
        collect(world.line.id)
        send(client, step(1), FEEDBACK | {"value": 2.0})
    assert tables_with(WORD) != []
    refusal = START | {"consent": False, "metadata": {"b": WORD}}
    assert send(client, refusal)["accepted"] == 1
    assert send(client, START, step(2), FEEDBACK | {"value": 3.0}, END | {"metadata": {"c": WORD}})["rejected"] == []
    chat(client, "t1/later")
    assert (world.count(), rows("select 1 from rlfleet.call_keys"), tables_with(WORD)) == (0, [], [])
    gone = [(True,)] if collected else []
    assert rows("select erased_at is not null from rlfleet.trajectory_keys") == gone


def test_a_refusal_in_the_middle_of_a_batch_holds_for_all_of_it(world: World, client: httpx.Client) -> None:
    collect(world.line.id)
    answer = send(client, step(0), START | {"consent": False}, step(1), END | {"metadata": {"a": WORD}}, FEEDBACK)
    assert answer["rejected"] == []
    assert (world.count(), tables_with(WORD)) == (0, [])
