from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from db.feedback import NewFeedback
from db.recordings import End, Start, Step
from gateway.ingest import decode, parse, rejected
from rl.errors import InvalidRow

CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Balance: 100"}], "response": "BUY"}
START = {"type": "startTrajectory", "trajectoryId": "t1", "agentId": "a1"}
STEP = {"type": "recordStep", "trajectoryId": "t1", "stepNumber": 0}
FEEDBACK = {"type": "feedback", "trajectoryId": "t1", "value": 1}


def step(**fields: Any) -> Step:
    found = parse(STEP | fields)
    assert isinstance(found, Step)
    return found


def test_the_least_of_each_event() -> None:
    assert parse(START) == Start("t1", "a1", "main")
    assert step() == Step("t1", 0, calls=[])
    assert parse({"type": "endTrajectory", "trajectoryId": "t1"}) == End("t1", None, "completed", None, {})
    given = parse(FEEDBACK)
    assert isinstance(given, NewFeedback)
    assert (given.trajectory_id, given.call_id, given.name, given.value) == ("t1", None, "rating", 1.0)


def test_null_is_the_same_as_left_out() -> None:
    assert parse(START | {"metadata": None, "line": None, "consent": None}) == parse(START)


@pytest.mark.parametrize("moment", [1736935200000, "2025-01-15T10:00:00Z", "2025-01-15T11:00:00.000+01:00"])
def test_moments(moment: object) -> None:
    assert step(timestamp=moment).at == datetime(2025, 1, 15, 10, tzinfo=UTC)


@pytest.mark.parametrize("moment", ["2025-01-15T10:00:00", "soon", True, [], 1736935200, 10**30, "0001-01-01T00:00Z"])
def test_what_is_no_moment_is_refused(moment: object) -> None:
    with pytest.raises(InvalidRow, match="ISO 8601 with a zone") as caught:
        step(timestamp=moment)
    assert caught.value.field == "timestamp"


def test_a_call_with_prompts_gets_messages_and_an_id() -> None:
    call = {"model": "m", "systemPrompt": "You trade.", "userPrompt": "Go.", "response": "BUY", "reasoning": "cheap"}
    (stored,) = step(stepNumber=3, llmCalls=[call]).calls
    assert stored.call_id == "t1-call-3-0"
    assert stored.messages == [{"role": "system", "content": "You trade."}, {"role": "user", "content": "Go."}]
    assert stored.response == {"role": "assistant", "content": "BUY", "reasoning_content": "cheap"}


def test_openai_messages_keep_what_is_recorded() -> None:
    tool = {"id": "x", "type": "function", "function": {"name": "buy", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "You "}, {"type": "text", "text": "trade."}]},
        {"role": "assistant", "content": None, "tool_calls": [tool], "refusal": None, "audio": None},
        {"role": "tool", "tool_call_id": "x", "content": "done"},
    ]
    response = {"content": "ok", "reasoning": "because", "annotations": []}
    calls = step(llmCalls=[CALL | {"messages": messages, "response": response}]).calls
    assert calls[0].messages == [
        {"role": "system", "content": "You trade."},
        {"role": "assistant", "tool_calls": [tool]},
        {"role": "tool", "content": "done", "tool_call_id": "x"},
    ]
    assert calls[0].response == {"role": "assistant", "content": "ok", "reasoning_content": "because"}


def test_an_action_is_in_our_words() -> None:
    found = step(action={"actionType": "BUY", "parameters": {"n": 1}, "success": True}).action
    assert found == {"kind": "BUY", "parameters": {"n": 1}, "success": True, "result": None, "error": None}


@pytest.mark.parametrize(
    ("event", "field", "reason"),
    [
        ("start", "event", "must be an object"),
        ({}, "type", "must be one of startTrajectory"),
        ({"type": ["feedback"]}, "type", "must be one of"),
        (START | {"agentId": ""}, "agentId", "at least 1 character"),
        (START | {"agentId": "a\nb"}, "agentId", "match pattern"),
        (START | {"agent_id": "a"}, "agent_id", "not permitted"),
        (START | {"windowId": "2025-01-15"}, "windowId", "write a UTC hour"),
        (START | {"consent": "false"}, "consent", "valid boolean"),
        (STEP | {"stepNumber": -1}, "stepNumber", "greater than or equal to 0"),
        (STEP | {"stepNumber": 2**31}, "stepNumber", "less than"),
        (STEP | {"stepNumber": True}, "stepNumber", "valid integer"),
        (STEP | {"reward": "1"}, "reward", "valid number"),
        (STEP | {"llmCalls": [CALL | {"messages": []}]}, "llmCalls.0", "give messages, or"),
        (STEP | {"llmCalls": [CALL | {"logprobs": [-1.0]}]}, "llmCalls.0", "or none of them"),
        (STEP | {"llmCalls": [CALL | {"model": ""}]}, "llmCalls.0.model", "at least 1"),
        (STEP | {"llmCalls": [CALL | {"response": {"role": "user"}}]}, "llmCalls.0.response.role", "assistant"),
        (STEP | {"llmCalls": [CALL | {"messages": [{"role": "x"}]}]}, "llmCalls.0.messages.0.role", "system"),
        (STEP | {"llmCalls": [CALL | {"messages": [{"role": "user", "content": [{}]}]}]}, None, "only text parts"),
        (FEEDBACK | {"callId": "c"}, "event", "one of them"),
        ({"type": "feedback", "value": 1}, "event", "one of them"),
        ({"type": "feedback", "trajectoryId": "t"}, "value", "required"),
    ],
)
def test_what_cannot_be_used_is_refused_by_field(event: object, field: str | None, reason: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        parse(event)
    assert reason in caught.value.remedy
    if field is not None:
        assert caught.value.field == field


def test_tokens_need_all_three() -> None:
    tokens = {"promptTokenIds": [1, 2], "tokenIds": [3], "logprobs": [-0.5]}
    (stored,) = step(llmCalls=[CALL | tokens]).calls
    assert (stored.prompt_token_ids, stored.token_ids, stored.logprobs) == ([1, 2], [3], [-0.5])
    with pytest.raises(InvalidRow):
        step(llmCalls=[CALL | tokens | {"logprobs": [-0.5, -0.5]}])
    with pytest.raises(InvalidRow, match="logprobs"):
        step(llmCalls=[CALL | tokens | {"logprobs": [1e39]}])


def test_the_same_feedback_has_the_same_id_and_another_has_not() -> None:
    ids = [parse(FEEDBACK | more).feedback_id for more in ({}, {"name": "rating"}, {"value": 2}, {"comment": "no"})]  # type: ignore[union-attr]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_what_postgres_cannot_hold_is_replaced() -> None:
    assert decode(rb'["a\u0000b", "\ud83d", {"x\u0000": 1e999}]') == ["a\ufffdb", "?", {"x\ufffd": None}]
    assert decode(rb'"\ud83d\ude00"') == "\U0001f600"


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000])
def test_what_is_not_json(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(raw)


def test_a_rejected_event_keeps_only_its_ids() -> None:
    found = rejected(4, STEP | {"stepNumber": -1, "environmentState": {"secret": 1}}, "stepNumber", "no")
    assert (found.row, found.type, found.line) == ("recordStep t1 -1", "recordStep", "main")
    assert found.shown() == {"index": 4, "type": "recordStep", "field": "stepNumber", "reason": "no"}
    assert rejected(4, 7, "event", "no").row == "event 4"
