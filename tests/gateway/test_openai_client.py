"""OpenAI's own client, sync and async, against a gateway process before a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai.types.chat import ChatCompletionChunk

from bench.gateway import servers
from bench.gateway.servers import Server
from db import calls
from db.session import transaction
from rl.records import Call
from tests.gateway.real import Stand, standing, storable
from tests.gateway.taught import starter, teach

USER: Any = {"role": "user", "content": "You see: wall 4 ahead"}
TOOL: Any = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
pytestmark = pytest.mark.slow

SPOKEN = 'I turn.\n<tool_call>\n{"name": "turn", "arguments": {"to": "left"}}\n</tool_call>'
VERSION = "x-rlfleet-version"


@dataclass(frozen=True)
class World:
    """``random`` is released to all agents of the line; ``taught`` calls a tool, and is only asked by name."""

    stand: Stand
    gateway: Server
    random: str
    taught: str

    @property
    def wanted(self) -> dict[str, Any]:
        return {"base_url": f"{self.gateway.url}/v1", "api_key": servers.GATEWAY_KEY, "timeout": 60, "max_retries": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights")
    weights = starter(folder / "starter")
    taught = teach(weights, folder / "taught", [{"conversation": [USER], "tools": [TOOL]}], SPOKEN)
    with standing() as stand:
        random, tools = servers.add_version(weights), servers.add_version(taught)
        servers.release(random)
        stand.engine(weights, random, "cpu@test")
        yield World(stand, stand.gateway(RLFLEET_GATEWAY_MOST_MB="1"), random, tools)


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**world.wanted) as client:
        yield client


@asynccontextmanager
async def asynchronous(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(**world.wanted) as client:
        yield client


def ids(call: str) -> dict[str, str]:
    """Headers of one call, whose record is there when the answer is."""
    return {"X-Agent-Id": "a1", "X-Trajectory-Id": call, "X-Call-Id": call, "X-Capture": "committed"}


def asked(call: str, **fields: Any) -> dict[str, Any]:
    given = {"model": "main", "messages": [USER], "max_tokens": 16, "temperature": 0.9, "extra_headers": ids(call)}
    return given | fields


def recorded(call: str) -> Call:
    with transaction() as session:
        (found,) = calls.of_trajectories(session, [call])[call]
    return found


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def finish_of(chunks: list[ChatCompletionChunk]) -> str | None:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1]


def test_the_models_are_the_lines_and_their_versions(world: World, client: openai.OpenAI) -> None:
    async def listed() -> list[str]:
        async with asynchronous(world) as other:
            return [model.id async for model in other.models.list()]

    assert [model.id for model in client.models.list()] == ["main", world.random]
    assert asyncio.run(listed()) == ["main", world.random]


def test_an_answer_is_recorded_as_it_was_given(world: World, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**asked("whole", seed=1, extra_body={"ignore_eos": True}))
    answer = raw.parse()

    assert raw.headers[VERSION] == world.random
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    call, choice = recorded("whole"), answer.choices[0]
    assert (call.model, call.response.content) == (world.random, storable(choice.message.content or ""))
    assert call.token_ids is not None
    assert len(call.token_ids) == len(call.logprobs or []) == 16
    assert len(call.prompt_token_ids or []) == answer.usage.prompt_tokens


def test_a_stream_says_and_leaves_what_the_whole_answer_does(client: openai.OpenAI) -> None:
    for seed in range(6):
        whole = client.chat.completions.create(**asked(f"whole-{seed}", seed=seed))
        chunks = list(client.chat.completions.create(**asked(f"stream-{seed}", seed=seed), stream=True))

        assert text_of(chunks) == whole.choices[0].message.content
        assert finish_of(chunks) == whole.choices[0].finish_reason
        assert chunks[0].choices[0].delta.role == "assistant"
        assert len({chunk.id for chunk in chunks}) == 1
        one, other = recorded(f"whole-{seed}"), recorded(f"stream-{seed}")
        assert (one.response, one.token_ids) == (other.response, other.token_ids)
        assert one.prompt_token_ids == other.prompt_token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_usage_comes_last_when_it_is_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    given = asked("usage", stream_options=options, extra_body={"ignore_eos": True})
    *chunks, last = client.chat.completions.create(**given, stream=True)
    assert (last.choices, last.usage and last.usage.completion_tokens) == ([], 16)
    assert all(chunk.usage is None for chunk in chunks)


def test_many_at_once(world: World) -> None:
    """Sixteen callers, every other one of them streaming, get what each alone would."""

    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        given = asked(f"many-{number}", seed=number // 2)
        if number % 2:
            return text_of([chunk async for chunk in await client.chat.completions.create(**given, stream=True)])
        return (await client.chat.completions.create(**given)).choices[0].message.content or ""

    async def all_of_them() -> list[str]:
        async with asynchronous(world) as client:
            return await asyncio.gather(*(one(client, number) for number in range(16)))

    said = asyncio.run(all_of_them())
    assert said[0::2] == said[1::2]
    assert len(set(said)) > 4
    assert [recorded(f"many-{number}").response.content or "" for number in range(16)] == list(map(storable, said))


def test_a_tool_is_called_whole_and_streamed(world: World, client: openai.OpenAI) -> None:
    given = {"model": world.taught, "tools": [TOOL], "temperature": 0, "max_tokens": 100}
    whole = client.chat.completions.create(**asked("tool", **given))
    with client.chat.completions.stream(**asked("tool-stream", **given)) as stream:
        streamed = stream.get_final_completion()

    for answer, call in ((whole, "tool"), (streamed, "tool-stream")):
        choice = answer.choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I turn.")
        (made,) = choice.message.tool_calls or []
        assert made.type == "function"
        assert (made.function.name, json.loads(made.function.arguments)) == ("turn", {"to": "left"})
        kept = recorded(call)
        assert [one["function"]["name"] for one in kept.response.tool_calls or []] == ["turn"]
        assert (kept.response.content, kept.finish_reason, kept.tools) == ("I turn.", "tool_calls", [TOOL])
    assert recorded("tool").token_ids == recorded("tool-stream").token_ids


def test_the_turn_after_a_tool_goes_on(world: World, client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": world.taught, "tools": [TOOL], "temperature": 0, "max_tokens": 100}
    said = client.chat.completions.create(**asked("turns", **given)).choices[0].message
    result = {"role": "tool", "tool_call_id": (said.tool_calls or [])[0].id, "content": "wall 3 ahead"}
    given["messages"] = [USER, said.model_dump(exclude_none=True), result]
    client.chat.completions.create(**asked("turns-2", **given))
    first, second = recorded("turns"), recorded("turns-2")
    held = (first.prompt_token_ids or []) + (first.token_ids or [])
    assert (second.prompt_token_ids or [])[: len(held)] == held


REFUSED: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], int]] = {
    "unknown model": ({"model": "gpt-4o"}, openai.NotFoundError, 404),
    "no messages": ({"messages": []}, openai.BadRequestError, 400),
    "two samples": ({"n": 2}, openai.BadRequestError, 400),
    "the engine's own": ({"max_tokens": 10**6}, openai.BadRequestError, 400),
    "too large": ({"messages": [{"role": "user", "content": "x" * 2**20}]}, openai.APIStatusError, 413),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_the_clients_own_exception(client: openai.OpenAI, name: str, stream: bool) -> None:
    fields, kind, status = REFUSED[name]
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(**asked("refused", **fields), stream=stream)
    assert (type(refused.value), refused.value.status_code) == (kind, status)
    assert refused.value.type == "invalid_request_error" or name == "the engine's own"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_wrong_key_is_refused(world: World, stream: bool) -> None:
    async def refused() -> None:
        async with openai.AsyncOpenAI(**world.wanted | {"api_key": "wrong"}) as client:
            await client.chat.completions.create(**asked("refused"), stream=stream)

    with openai.OpenAI(**world.wanted | {"api_key": "wrong"}) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**asked("refused"), stream=stream)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    with pytest.raises(openai.AuthenticationError):
        asyncio.run(refused())


def test_a_repeated_call_gets_the_first_answer(client: openai.OpenAI) -> None:
    """What the client's own retries rest on: whole or streamed, a call id is answered once."""
    first = client.chat.completions.create(**asked("again", seed=1)).choices[0].message.content
    second = client.chat.completions.create(**asked("again", seed=2)).choices[0].message.content
    third = text_of(list(client.chat.completions.create(**asked("again", seed=3), stream=True)))
    assert first == second == third


def test_a_stream_that_is_left_does_not_disturb_the_next(world: World) -> None:
    async def leave_and_ask() -> str:
        async with asynchronous(world) as client:
            given = asked("left", max_tokens=400, extra_body={"ignore_eos": True})
            async with await client.chat.completions.create(**given, stream=True) as stream:
                async for _ in stream:
                    break
            return (await client.chat.completions.create(**asked("after", seed=5))).choices[0].message.content or ""

    said = asyncio.run(leave_and_ask())
    assert storable(said) == recorded("after").response.content


def test_weights_of_a_version_are_loaded_when_it_is_first_asked_for(world: World, tmp_path: Path) -> None:
    added = servers.add_version(starter(tmp_path / "other", seed=5))
    with openai.OpenAI(**world.wanted) as client:
        raw = client.chat.completions.with_raw_response.create(**asked("loaded", model=added))
    assert raw.headers[VERSION] == added
    assert recorded("loaded").model == added
