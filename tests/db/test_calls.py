from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls
from db.calls import NewCall
from db.session import transaction
from rl import records
from tests.conftest_database import empty


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as opened:
        empty(opened)
        yield opened


def call(call_id: str, turn: int = 0, trajectory_id: str = "t1", **fields: object) -> NewCall:
    values = {
        "line": "main",
        "model": "babylon-agent-v1.0.0",
        "agent_id": "a1",
        "messages": [{"role": "user", "content": "You see: red ball 3 ahead"}],
        "response": {"role": "assistant", "content": "go to red ball"},
        "prompt_token_ids": [5, 6, 7],
        "token_ids": [1, 2],
        "logprobs": [-0.5, -1.25],
        "temperature": 1.0,
        "finish_reason": "stop",
    }
    return NewCall(call_id=call_id, trajectory_id=trajectory_id, turn=turn, **(values | fields))


def test_a_call_comes_back_as_it_was(session: Session) -> None:
    assert calls.insert(session, [call("c1", turn=2)]) == [True]

    assert calls.of_trajectories(session, ["t1"])["t1"] == [
        records.Call(
            call_id="c1",
            turn=2,
            model="babylon-agent-v1.0.0",
            messages=[records.Message(role="user", content="You see: red ball 3 ahead")],
            response=records.Message(role="assistant", content="go to red ball"),
            prompt_token_ids=[5, 6, 7],
            token_ids=[1, 2],
            logprobs=[-0.5, -1.25],
            temperature=1.0,
            finish_reason="stop",
        )
    ]


def test_no_trajectories_have_no_calls(session: Session) -> None:
    assert calls.of_trajectories(session, []) == {}


def test_a_call_of_another_model_has_no_tokens(session: Session) -> None:
    fields = {"prompt_token_ids": None, "token_ids": None, "logprobs": None, "temperature": None, "agent_id": None}
    calls.insert(session, [call("c1", model="base/gpt", **fields)])

    (found,) = calls.of_trajectories(session, ["t1"])["t1"]
    assert not found.has_tokens
    assert found.temperature is None


def test_an_id_is_stored_once_and_the_first_one_wins(session: Session) -> None:
    first, second = call("c1"), call("c1", response={"role": "assistant", "content": "turn left"})

    assert calls.insert(session, [first, second, call("c2", turn=1)]) == [True, False, True]
    assert calls.insert(session, [second, call("c3", turn=2)]) == [False, True]

    found = calls.of_trajectories(session, ["t1"])["t1"]
    assert [(one.call_id, one.response.content) for one in found] == [
        ("c1", "go to red ball"),
        ("c2", "go to red ball"),
        ("c3", "go to red ball"),
    ]


def test_calls_are_in_turn_order_whatever_order_they_came_in(session: Session) -> None:
    calls.insert(session, [call("c3", 2), call("c1", 0), call("x1", 0, trajectory_id="t2"), call("c2", 1)])

    found = calls.of_trajectories(session, ["t1", "t2", "t3"])
    assert {key: [one.call_id for one in value] for key, value in found.items()} == {
        "t1": ["c1", "c2", "c3"],
        "t2": ["x1"],
        "t3": [],
    }


def test_tokens_can_be_read_without_texts(session: Session) -> None:
    calls.insert(session, [call("c1")])

    (whole,) = calls.of_trajectories(session, ["t1"])["t1"]
    bare = whole.model_copy(update={"messages": [], "response": records.Message(role="assistant"), "tools": None})
    assert whole.messages
    assert calls.of_trajectories(session, ["t1"], texts=False)["t1"] == [bare]


def test_text_that_postgres_refuses_is_replaced(session: Session) -> None:
    said = "nul \0, half a pair \ud83d, a whole one \U0001f600, and a backslash \\u0000"
    calls.insert(session, [call("c1", response={"role": "assistant", "content": said})])

    stored = session.execute(text("select body->'response'->>'content' from rlfleet.calls")).scalar_one()
    assert stored == "nul \ufffd, half a pair ?, a whole one \U0001f600, and a backslash \\u0000"


def test_a_logprob_too_small_for_the_column_is_zero(session: Session) -> None:
    calls.insert(session, [call("c1", logprobs=[-1e-60, -2.0])])

    assert calls.of_trajectories(session, ["t1"])["t1"][0].logprobs == [0.0, -2.0]


def test_nothing_is_stored_of_nothing(session: Session) -> None:
    assert calls.insert(session, []) == []


def test_a_collected_call_is_stored_as_a_captured_one(session: Session) -> None:
    collected = records.Call(
        call_id="c1",
        turn=0,
        model="gpt-4o-mini",
        messages=[records.Message(role="user", content="hello")],
        response=records.Message(role="assistant", tool_calls=[{"id": "1", "type": "function"}]),
    )
    calls.insert(session, [NewCall.of(collected, trajectory_id="t1", line="main", agent_id=None)])

    assert calls.of_trajectories(session, ["t1"])["t1"] == [collected]
    assert calls.with_id(session, "c1") == ("t1", collected)
    assert calls.with_id(session, "c2") is None
