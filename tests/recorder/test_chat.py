"""A real OpenAI client against a model behind HTTP."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import openai
import pytest

from recorder import Recorder
from tests.recorder.chat_server import ChatServer
from tests.recorder.doubles import Scripted

ASK: list[Any] = [{"role": "user", "content": "where?"}]
TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "go", "arguments": '{"to": 1}'}}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}]


def calls(recorder: Recorder, server: Scripted) -> list[dict[str, Any]]:
    """The calls of the only step, without their times."""
    assert recorder.flush(30.0)
    (step,) = [event for event in server.stored if event["type"] == "recordStep"]
    return [{name: value for name, value in call.items() if name != "timestamp"} for call in step.get("llmCalls", [])]


def test_a_wrapped_client_records_calls_inside_turns_and_tells_the_gateway_their_ids(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    assert recorder.wrap(recorder.wrap(client)) is client
    client.chat.completions.create(model="main", messages=ASK)
    with recorder.trajectory(agent_id="agent-7", trajectory_id="e1") as episode:
        client.chat.completions.create(model="main", messages=ASK)
        with episode.turn():
            for temperature in (0.5, openai.omit):
                answer = client.chat.completions.create(
                    model="main", messages=ASK, temperature=temperature, extra_headers={"X-Mine": "1"}
                )
                assert answer.choices[0].message.content == "go left"
    assert calls(recorder, server) == [
        {
            "callId": f"e1-call-0-{index}",
            "model": "spoke-1",
            "messages": ASK,
            **temperature,
            "response": {"role": "assistant", "content": "go left"},
            "finishReason": "stop",
        }
        for index, temperature in enumerate([{"temperature": 0.5}, {}])
    ]
    names = ("x-agent-id", "x-trajectory-id", "x-turn", "x-call-id", "x-mine")
    outside, between, first, second = [tuple(sent.get(name) for name in names) for sent in model.headers]
    assert outside == between == (None,) * 5
    assert first == ("agent-7", "e1", "0", "e1-call-0-0", "1")
    assert second == ("agent-7", "e1", "0", "e1-call-0-1", "1")


def test_tool_calls_reasoning_tokens_and_logprobs_are_recorded(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [TOOL_CALL]}
    tokens = [{"token": "go", "logprob": -0.5, "top_logprobs": []}, {"token": "!", "logprob": -1.5, "top_logprobs": []}]
    model.choice = {"finish_reason": "tool_calls", "logprobs": {"content": tokens}, "token_ids": [7, 8]}
    model.extra = {"prompt_token_ids": [1, 2, 3]}
    with recorder.trajectory(agent_id="a", trajectory_id="e1") as episode, episode.turn() as turn:
        answer = turn.chat(client, model="main", messages=ASK, tools=TOOLS)
        follow_up = [*ASK, answer.choices[0].message, {"role": "tool", "tool_call_id": "t1", "content": "done"}]
        turn.chat(client, model="main", messages=follow_up)
    first, second = calls(recorder, server)
    assert first == {
        "callId": "e1-call-0-0",
        "model": "spoke-1",
        "messages": ASK,
        "tools": TOOLS,
        "response": {"role": "assistant", "tool_calls": [TOOL_CALL]},
        "reasoning": "hm",
        "finishReason": "tool_calls",
        "promptTokenIds": [1, 2, 3],
        "tokenIds": [7, 8],
        "logprobs": [-0.5, -1.5],
    }
    assert second["messages"] == [
        *ASK,
        {"role": "assistant", "tool_calls": [TOOL_CALL], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "t1", "content": "done"},
    ]


def test_tokens_without_as_many_logprobs_are_left_out_and_counted(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.choice = {"logprobs": {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]}, "token_ids": [7, 8]}
    with recorder.trajectory(agent_id="a") as episode, episode.turn() as turn:
        turn.chat(client, model="main", messages=ASK)
    (call,) = calls(recorder, server)
    assert call.keys() & {"tokenIds", "logprobs", "promptTokenIds"} == set()
    assert recorder.stats.bad_values == 1


def test_an_error_of_the_model_passes_through_and_is_no_call(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    with recorder.trajectory(agent_id="a") as episode, episode.turn() as turn:
        model.status = 400
        with pytest.raises(openai.BadRequestError):
            turn.chat(client, model="main", messages=ASK)
        model.status = 200
        turn.chat(client, model="main", messages=ASK, extra_headers={"x-call-id": "mine"})
    assert [call["callId"] for call in calls(recorder, server)] == ["mine"]
    assert model.headers[1]["x-call-id"] == "mine"


def test_the_raw_response_of_a_wrapped_client_is_recorded_too(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    recorder.wrap(client)
    with recorder.trajectory(agent_id="a") as episode, episode.turn():
        raw = client.chat.completions.with_raw_response.create(model="main", messages=ASK)
        assert raw.parse().choices[0].message.content == "go left"
    (call,) = calls(recorder, server)
    assert call["response"] == {"role": "assistant", "content": "go left"}


def test_tasks_of_one_loop_and_threads_keep_their_own_turns(
    recorder: Recorder, server: Scripted, model: ChatServer
) -> None:
    async def play(client: openai.AsyncOpenAI, name: str) -> None:
        with recorder.trajectory(agent_id=name, trajectory_id=name) as episode:
            for _ in range(3):
                with episode.turn():
                    await client.chat.completions.create(model="main", messages=[{"role": "user", "content": name}])

    async def play_all() -> None:
        async with openai.AsyncOpenAI(base_url=model.url, api_key="k") as client:
            recorder.wrap(client)
            await asyncio.gather(*(play(client, f"task{index}") for index in range(5)))

    asyncio.run(play_all())
    assert recorder.flush(30.0)
    steps = [event for event in server.stored if event["type"] == "recordStep"]
    found = {
        (step["trajectoryId"], step["stepNumber"], step["llmCalls"][0]["messages"][0]["content"]) for step in steps
    }
    assert found == {(f"task{index}", turn, f"task{index}") for index in range(5) for turn in range(3)}


def test_a_thread_that_runs_in_a_copy_of_the_context_is_in_the_turn(
    recorder: Recorder, server: Scripted, client: openai.OpenAI
) -> None:
    recorder.wrap(client)

    def ask() -> None:
        client.chat.completions.create(model="main", messages=ASK)

    with recorder.trajectory(agent_id="a", trajectory_id="e1") as episode, episode.turn():
        for target, arguments in ((ask, ()), (contextvars.copy_context().run, (ask,))):
            thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
            thread.start()
            thread.join()
    assert [call["callId"] for call in calls(recorder, server)] == ["e1-call-0-0"]


def test_calls_of_ones_own_take_the_headers_and_give_the_id_back(recorder: Recorder, server: Scripted) -> None:
    with recorder.trajectory(agent_id="a", trajectory_id="e1") as episode, episode.turn() as turn:
        headers = turn.headers()
        turn.record_call({"model": "m", "messages": ASK}, "left", call_id=headers["X-Call-Id"])
    assert headers == {"X-Agent-Id": "a", "X-Trajectory-Id": "e1", "X-Turn": "0", "X-Call-Id": "e1-call-0-0"}
    assert [call["callId"] for call in calls(recorder, server)] == ["e1-call-0-0"]


def test_ids_that_no_header_can_carry_are_not_sent_and_the_call_is_recorded(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    with recorder.trajectory(agent_id="агент", trajectory_id="e1") as episode, episode.turn() as turn:
        turn.chat(client, model="main", messages=ASK)
    assert len(calls(recorder, server)) == 1
    assert "x-trajectory-id" not in model.headers[0]


def test_what_is_no_client_is_refused_when_it_is_wrapped(recorder: Recorder) -> None:
    with pytest.raises(TypeError, match=r"object has no chat\.completions\.create"):
        recorder.wrap(object())
