"""One logged request, in the shapes that exporters write, as a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rl.records import Message
from sources.exchanges import is_exchange, parse
from tests.sources.exchanges import ANSWER, ASKED, AT, logged, request, response, spoilt

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"timestamp": "2025-01-15T10:05:00", "request": request(), "response": response()},
    "text": {"timestamp": 1736935500, "request": json.dumps(request()), "response": json.dumps(response())},
    "proxy": {
        "request": {"url": "https://x/v1/chat/completions", "headers": {"X-Request": "1"}, "body": request()},
        "response": {"status": 200, "body": response(), "time": 123},
        "created_at": "2025-01-15T10:05:00+00:00",
    },
    "batch": {"custom_id": "r-1", "body": request(), "response": {"status_code": 200, "body": response()}},
    "helicone": {
        "request_id": "b1",
        "request_created_at": "2025-01-15T10:05:00.000Z",
        "response_created_at": "2025-01-15T10:05:00.000Z",
        "request_body": request(),
        "response_body": response(),
        "response_status": 200,
    },
    "openpipe": {"requestedAt": 1736935500000, "reqPayload": request(), "respPayload": response(), "statusCode": 200},
    "langfuse": {"startTime": "2025-01-15T10:05:00Z", "input": request(), "output": response(), "type": "GENERATION"},
    "litellm": {
        "id": "chatcmpl-1",
        "status": "success",
        "startTime": AT.timestamp(),
        "endTime": AT.timestamp(),
        "model": "gpt-4o",
        "messages": ASKED,
        "model_parameters": {"temperature": 0.5},
        "response": response(),
        "error_str": None,
    },
    "stored": {**response(), "messages": ASKED, "temperature": 0.5, "metadata": {}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_call(shape: str) -> None:
    found = parse(json.dumps(SHAPES[shape]))
    assert (found.started_at, found.ended_at) == (AT, AT)
    assert found.call.call_id == "chatcmpl-00000000000000000001"
    assert [(one.role, one.content) for one in found.call.messages] == [("system", "Be brief."), ("user", "2 + 2?")]
    assert found.call.response == Message(role="assistant", content="4")
    assert (found.call.model, found.call.finish_reason, found.call.temperature) == ("gpt-4o-2024-08-06", "stop", 0.5)
    assert found.usage == {"prompt_tokens": 20, "completion_tokens": 1}
    assert found.session is None


def test_messages_and_text_alone_are_a_request_and_a_response() -> None:
    line = {"startTime": "2025-01-15T10:05:00Z", "model": "m", "input": ASKED, "output": "4"}
    assert parse(json.dumps(line)).call.response.content == "4"
    assert parse(json.dumps(line | {"output": ANSWER})).call.response.content == "4"


def test_tools_tool_calls_and_reasoning_are_kept() -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    asked = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [asked], "reasoning": "I add."}
    line = {"timestamp": 1736935500, "request": request(tools=[tool]), "response": response(answer)}
    call = parse(json.dumps(line)).call
    assert call.tools == [tool]
    assert call.response.tool_calls == [asked]
    assert (call.response.reasoning_content, call.response.content) == ("I add.", None)


def test_the_functions_of_old_are_tools() -> None:
    function = {"name": "add", "arguments": "{}"}
    line = {
        "timestamp": 1736935500,
        "request": request(functions=[{"name": "add"}]),
        "response": response({"role": "assistant", "content": None, "function_call": function}),
    }
    call = parse(json.dumps(line)).call
    assert call.tools == [{"type": "function", "function": {"name": "add"}}]
    assert call.response.tool_calls == [{"id": None, "type": "function", "function": function}]


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ({"prompt_token_ids": [1, 2], "token_ids": [3], "logprobs": [-0.5]}, True),
        ({"logprobs": [-0.5]}, False),
        ({"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-0.5]}, False),
        ({"token_ids": [3], "logprobs": [-0.5]}, False),
    ],
)
def test_log_probabilities_are_kept_with_all_token_ids_or_not_at_all(tokens: dict[str, Any], kept: bool) -> None:
    answer = response()
    content = [{"token": "4", "logprob": one} for one in tokens["logprobs"]]
    answer["choices"][0] |= {"logprobs": {"content": content}, "token_ids": tokens.get("token_ids")}
    answer["prompt_token_ids"] = tokens.get("prompt_token_ids")
    call = parse(json.dumps({"timestamp": 1736935500, "request": request(), "response": answer})).call
    assert call.has_tokens == kept
    assert (call.prompt_token_ids, call.token_ids, call.logprobs) == (([1, 2], [3], [-0.5]) if kept else (None,) * 3)


@pytest.mark.parametrize(
    "place",
    [
        {"headers": {"X-Session-Id": "s", "x-agent-id": "a"}},
        {"request": {"headers": {"Helicone-Session-Id": "s", "Helicone-User-Id": "a"}, "body": request()}},
        {"request": request(metadata={"conversation_id": "s"}, user="a")},
        {"request_properties": {"Helicone-Session-Id": "s"}, "request_user_id": "a"},
        {"metadata": {"requester_metadata": {"trajectory_id": "s", "agent": "a"}, "trace_id": "other"}},
        {"trace_id": "s", "end_user": "a"},
        {"sessionId": "s", "userId": "a"},
    ],
)
def test_ids_are_found_where_proxies_put_them(place: dict[str, Any]) -> None:
    found = parse(spoilt(**place))
    assert (found.session, found.agent) == ("s", "a")


@pytest.mark.parametrize(
    ("fields", "reward"),
    [
        ({"reward": -0.5}, -0.5),
        ({"scores": {"reward": {"value": 2}}}, 2.0),
        ({"scores": [{"name": "score", "value": "0.5"}]}, 0.5),
        ({"feedback_rating": True}, 1.0),
        ({"feedback_rating": False}, 0.0),
        ({"reward": float("nan")}, None),
        ({"reward": None, "score": None}, None),
    ],
)
def test_rewards_are_found_where_proxies_put_them(fields: dict[str, Any], reward: float | None) -> None:
    assert parse(spoilt(**fields)).reward == reward


def test_an_id_that_may_not_be_unique_is_not_taken() -> None:
    short = [parse(spoilt(response=response(id="chatcmpl-7"), at=at)).call.call_id for at in (1, 2, 1)]
    assert short[0] == short[2] != short[1]
    assert all(one.startswith("logged-") for one in short)


def test_what_cannot_be_stored_is_replaced() -> None:
    line = spoilt(response=response({"role": "assistant", "content": "a\0b\ud83d"}), session_id="s\0")
    found = parse(line)
    assert (found.call.response.content, found.session) == ("a\ufffdb?", "s\ufffd")


def test_a_trajectory_of_ours_is_no_request() -> None:
    assert is_exchange(json.loads(logged(1)))
    assert not is_exchange({"trajectory_id": "t", "calls": [{"messages": ASKED}]})
