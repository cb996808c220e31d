from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from recorder import Recorder
from recorder.streams import Stream, Sum
from tests.recorder.chat_server import ChatServer
from tests.recorder.doubles import Scripted
from tests.recorder.test_chat import ASK, calls

PIECES: list[dict[str, Any]] = [
    {"delta": {"role": "assistant", "reasoning_content": "h"}},
    {"delta": {"reasoning_content": "m"}},
    {"delta": {"content": "go "}, "token_ids": [7], "logprobs": {"content": [{"token": "go", "logprob": -0.5}]}},
    {"delta": {"content": "left"}, "token_ids": [8], "logprobs": {"content": [{"token": "left", "logprob": -1.0}]}},
    {"delta": {}, "finish_reason": "stop"},
]
TOOL_PIECES: list[dict[str, Any]] = [
    {"delta": {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "go"}}]}},
    {"delta": {"tool_calls": [{"index": 1, "id": "t2", "function": {"name": "look", "arguments": "{}"}}]}},
    {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"to"'}}]}},
    {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, "finish_reason": "tool_calls"},
]


def test_a_stream_is_passed_on_and_recorded_as_one_completion(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.pieces, model.extra = PIECES, {"prompt_token_ids": [1, 2]}
    with recorder.trajectory(agent_id="a", trajectory_id="e1") as episode, episode.turn() as turn:
        text = ""
        with turn.chat(client, model="main", messages=ASK, stream=True) as stream:
            assert stream.response.status_code == 200
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
    assert text == "go left"
    (call,) = calls(recorder, server)
    assert call == {
        "callId": "e1-call-0-0",
        "model": "spoke-1",
        "messages": ASK,
        "response": {"role": "assistant", "content": "go left"},
        "reasoning": "hm",
        "finishReason": "stop",
        "promptTokenIds": [1, 2],
        "tokenIds": [7, 8],
        "logprobs": [-0.5, -1.0],
    }


def test_streamed_tool_calls_are_put_together_by_their_index(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.pieces = TOOL_PIECES
    recorder.wrap(client)
    with recorder.trajectory(agent_id="a") as episode, episode.turn():
        for _ in client.chat.completions.create(model="main", messages=ASK, stream=True):
            pass
    (call,) = calls(recorder, server)
    assert call["response"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "go", "arguments": '{"to": 1}'}},
        {"id": "t2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ]


def test_the_clients_own_stream_helper_and_async_streams_are_recorded(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.pieces = PIECES
    recorder.wrap(client)

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=model.url, api_key="k") as asynchronous:
            stream = await turn.chat(asynchronous, model="main", messages=ASK, stream=True)
            async with stream:
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with recorder.trajectory(agent_id="a") as episode, episode.turn() as turn:
        with client.chat.completions.stream(model="main", messages=ASK) as stream:
            stream.until_done()
        assert asyncio.run(ask()) == "go left"
    assert [call["response"]["content"] for call in calls(recorder, server)] == ["go left", "go left"]


def test_a_stream_that_is_left_early_is_recorded_as_far_as_it_came(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.pieces = PIECES
    with recorder.trajectory(agent_id="a") as episode, episode.turn() as turn:
        stream = turn.chat(client, model="main", messages=ASK, stream=True)
        for _ in range(3):
            next(stream)
        stream.close()
    (call,) = calls(recorder, server)
    assert call["response"] == {"role": "assistant", "content": "go "}
    assert "finishReason" not in call


def test_a_stream_that_outlives_its_turn_is_counted_and_the_agent_gets_it_all(
    recorder: Recorder, server: Scripted, model: ChatServer, client: openai.OpenAI
) -> None:
    model.pieces = PIECES
    with recorder.trajectory(agent_id="a") as episode:
        with episode.turn() as turn:
            stream = turn.chat(client, model="main", messages=ASK, stream=True)
        assert len(list(stream)) == 5
    assert calls(recorder, server) == []
    assert recorder.stats.bad_values == 1


def test_the_recording_of_a_chunk_never_fails_the_agent() -> None:
    done: list[object] = []
    assert list(Stream(iter([1, {"choices": 7}]), done.append)) == [1, {"choices": 7}]
    assert done == [None]


def test_a_failing_stream_fails_as_it_would_and_is_recorded_once() -> None:
    def broken() -> Any:
        yield {"model": "m", "choices": [{"index": 0, "delta": {"content": "a"}}]}
        raise ConnectionError("lost")

    done: list[Any] = []
    stream = Stream(broken(), done.append)
    with pytest.raises(ConnectionError, match="lost"):
        list(stream)
    assert [found["choices"][0]["message"]["content"] for found in done] == ["a"]


def test_other_choices_than_the_first_are_not_mixed_in() -> None:
    total = Sum()
    for index, text in ((0, "a"), (1, "x"), (0, "b")):
        total.add({"choices": [{"index": index, "delta": {"content": text}}]})
    found = total.completion()
    assert found is not None
    assert found["choices"][0]["message"] == {"role": "assistant", "content": "ab"}
