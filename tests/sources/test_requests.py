"""Logs of chat completions, in the shapes that exporters write, as trajectories."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rl.errors import InvalidInput, InvalidRow
from rl.records import Message, Quarantined, Trajectory
from rl.windows import parse as window
from sources import sessions
from sources.exchanges import is_exchange, parse
from sources.requests import connect

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
ANSWER = {"role": "assistant", "content": "4"}
AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
NOON = window("2025-01-15T10:00")


def request(messages: list[dict[str, Any]] = ASKED, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": messages, "temperature": 0.5, **fields}


def response(message: dict[str, Any] = ANSWER, number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number:020}",
        "object": "chat.completion",
        "created": int(AT.timestamp()),
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
        **fields,
    }


def logged(number: int = 1, session: str | None = None, at: str = "2025-01-15T10:05:00Z", **fields: Any) -> str:
    line = {"timestamp": at, "request": request(), "response": response(number=number), **fields}
    return json.dumps(line | ({"metadata": {"session_id": session, **fields.get("metadata", {})}} if session else {}))


def log(folder: Path, *lines: str) -> list[Trajectory | Quarantined]:
    path = folder / "calls.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return list(connect(f"requests://{path}").read(None))


def good(rows: Iterable[Trajectory | Quarantined]) -> list[Trajectory]:
    return [row for row in rows if isinstance(row, Trajectory)]


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


def spoilt(**fields: Any) -> str:
    return json.dumps({"timestamp": 1736935500, "request": request(), "response": response(), **fields})


PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
BAD = {
    "half": ('{"request": ', "line", "not JSON"),
    "list": ("[1]", "line", "not an object"),
    "429": (
        spoilt(response={"status": 429, "body": {"error": "slow"}}),
        "response.status",
        "the call failed with status 429",
    ),
    "500": (spoilt(response_status="500"), "response.status", "the call failed with status 500"),
    "failure": (spoilt(status="failure"), "response.error", "the call failed"),
    "error": (spoilt(response={"error": {"message": "no"}}), "response.error", "the call failed"),
    "no request": (json.dumps({"timestamp": 1736935500, "response": response()}), "request.messages", "missing"),
    "embeddings": (spoilt(request={"input": "text", "model": "e"}), "request.messages", "missing"),
    "no response": (json.dumps({"timestamp": 1736935500, "request": request()}), "response.choices", "missing"),
    "no choice": (spoilt(response={"choices": []}), "response.choices", "missing"),
    "no time": (json.dumps({"request": request(), "response": response(created=None)}), "timestamp", "missing"),
    "bad time": (spoilt(timestamp="yesterday"), "timestamp", "not a moment"),
    "picture": (spoilt(request=request(PICTURE)), "call", "no usable call"),
    "silence": (spoilt(response=response({"role": "assistant", "content": ""})), "call", "no usable call"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_call_that_cannot_be_used_is_quarantined_with_the_reason(tmp_path: Path, name: str) -> None:
    line, field, reason = BAD[name]
    with pytest.raises(InvalidRow):
        parse(line)
    first, bad, last = log(tmp_path, logged(1), line, logged(2))
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.row, bad.field, bad.reason) == ("requests", "calls.jsonl:2", field, reason)
    assert [isinstance(one, Trajectory) for one in (first, last)] == [True, True]


def test_no_excerpt_holds_a_key(tmp_path: Path) -> None:
    line = json.dumps({"headers": {"Authorization": "Bearer sk-verysecretverysecret"}, "status": 500})
    (bad,) = log(tmp_path, line)
    assert isinstance(bad, Quarantined)
    assert "verysecret" not in bad.excerpt


def test_a_lone_call_is_a_trajectory_of_its_own(tmp_path: Path) -> None:
    (found,) = good(log(tmp_path, logged(1)))
    assert found.trajectory_id == "chatcmpl-00000000000000000001"
    assert (found.agent_id, found.started_at, found.ended_at) == ("unknown", AT, AT)
    assert (found.reward, found.metadata["reward"], found.consent) == (0.0, None, None)
    assert found.metadata["usage"] == {"prompt_tokens": 20, "completion_tokens": 1}


def test_calls_of_one_session_are_one_trajectory_in_the_order_of_time(tmp_path: Path) -> None:
    more = [*ASKED, ANSWER, {"role": "user", "content": "And 3 + 3?"}]
    lines = [
        logged(2, "s1", "2025-01-15T11:00:01Z", request=request(more), response=response(number=2), user="u1"),
        logged(9),
        logged(1, "s1", "2025-01-15T10:59:00Z", score=0.25),
        logged(3, "s2", metadata={"scenario": "sums", "reward": "1", "agent_id": "a", "consent": "true"}),
        logged(1, "s1", "2025-01-15T10:59:00Z", score=0.25),
    ]
    lone, first, second = good(log(tmp_path, *lines))
    assert len(lone.calls) == 1
    assert [(call.turn, len(call.messages)) for call in first.calls] == [(0, 2), (1, 4)]
    assert (first.trajectory_id, first.agent_id, first.reward) == ("s1", "u1", 0.25)
    assert first.ended_at == datetime(2025, 1, 15, 11, 0, 1, tzinfo=UTC)
    assert (second.scenario_id, second.agent_id, second.reward, second.consent) == ("sums", "a", 1.0, True)
    assert {"reward", "scenario_id"} & set(second.metadata) == set()


def test_turns_that_are_named_order_a_session(tmp_path: Path) -> None:
    lines = [logged(1, "s", metadata={"turn": 7}), logged(2, "s", metadata={"turn": "3"})]
    (found,) = good(log(tmp_path, *lines))
    assert [(call.turn, call.call_id[-1]) for call in found.calls] == [(3, "2"), (7, "1")]


def test_a_session_belongs_to_the_hour_it_ended_in(tmp_path: Path) -> None:
    lines = [logged(1, "s", "2025-01-15T10:59:00Z"), logged(2, "s", "2025-01-15T11:01:00Z"), logged(3)]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(lines))
    source = connect(f"requests://{path}")
    assert [one.trajectory_id[-1] for one in good(source.read(NOON))] == ["3"]
    assert [one.trajectory_id for one in good(source.read(window("2025-01-15T11:00")))] == ["s"]
    assert source.hours() == {"2025-01-15T10:00": 1, "2025-01-15T11:00": 1}
    assert source.hours(since=datetime(2025, 1, 15, 11, tzinfo=UTC)) == {"2025-01-15T11:00": 1}
    assert source.hours(until=datetime(2025, 1, 15, 11, tzinfo=UTC)) == {"2025-01-15T10:00": 1}
    assert [source.holds(window(f"2025-01-15T{hour}:00")) for hour in ("09", "10", "11")] == [False, True, True]


def test_without_a_scenario_the_same_words_are_one(tmp_path: Path) -> None:
    other = request([{"role": "user", "content": "3 + 3?"}])
    first, second, third = good(log(tmp_path, logged(1), logged(2), logged(3, request=other)))
    assert first.scenario_id == second.scenario_id != third.scenario_id
    assert first.metadata["scenario_id"] is None


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


def test_a_session_that_never_ends_is_no_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_CALLS", 2)
    monkeypatch.setattr("sources.requests.MOST_CALLS", 2)
    kept, bad = log(tmp_path, *[logged(n, "ok") for n in (1, 2)], *[logged(n, "ever") for n in (3, 4, 5)])
    assert isinstance(kept, Trajectory)
    assert isinstance(bad, Quarantined)
    assert (bad.row, bad.field, bad.reason, bad.excerpt) == ("calls.jsonl:3", "session", "too large", "ever")


def test_gzip_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join([logged(1), logged(2, "s")]).encode()))
    assert len(good(connect(f"requests://{path}").read(None))) == 2


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file; give an absolute path after requests://"):
        connect(f"requests://{tmp_path / 'none.jsonl'}")


def test_a_trajectory_of_ours_is_no_request() -> None:
    assert is_exchange(json.loads(logged(1)))
    assert not is_exchange({"trajectory_id": "t", "calls": [{"messages": ASKED}]})
