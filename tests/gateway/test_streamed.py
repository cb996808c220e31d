"""Streamed completions over real HTTP: what the caller sees, what is recorded, and what happens when it goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import text

from db.session import transaction
from gateway import completions
from gateway.answers import Deadlines
from gateway.breaker import Limits
from gateway.forwarding import Engines
from rl.records import Message
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_completions import VERSION, problem
from tests.recorder.doubles import wait_until

USER = {"role": "user", "content": "You see: red ball 3 ahead"}
REASON = "X-Rlfleet-Reason"
EVERYTHING: dict[str, Any] = {"logprobs": True, "return_token_ids": True, "stream_options": {"include_usage": True}}


def ids(call: str = "c1", trajectory: str = "t1") -> dict[str, str]:
    return {"X-Agent-Id": "a1", "X-Trajectory-Id": trajectory, "X-Turn": "0", "X-Call-Id": call}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "main", "messages": [USER], "temperature": 0.7, "stream": True} | fields


def stream(gateway: httpx.Client, call: str = "c1", **fields: Any) -> tuple[httpx.Response, list[Any]]:
    """The answer and what its events hold; ``[DONE]`` is None."""
    response = gateway.post("/v1/chat/completions", json=body(**fields), headers=ids(call))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    return response, [None if one == "data: [DONE]" else json.loads(one.removeprefix("data: ")) for one in events]


def said(events: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for one in events if one for choice in one.get("choices", ()))


def impatient(key: str, deadlines: Deadlines, limits: Limits) -> Engines:
    """Engines that have a second to say something."""
    return Engines(key, replace(deadlines, first_byte=1.0), limits)


def failures() -> list[tuple[str, ...]]:
    """What was recorded of calls that a version did not answer; their records may come a moment after the answer."""
    with transaction() as session:
        rows = session.execute(text("select call_id, line, model, reason from rlfleet.call_failures order by call_id"))
        return [tuple(row) for row in rows]


def test_a_streamed_answer_is_recorded_with_its_tokens(world: World) -> None:
    engine = world.engine()
    world.release(0)

    response, events = stream(world.gateway(), max_tokens=6)

    assert (response.headers[VERSION], response.headers[REASON]) == (world.names[0], "stable")
    assert (response.headers["X-Call-Id"], response.headers["X-Trajectory-Id"]) == ("c1", "t1")
    asked = body(max_tokens=6, model=world.names[0], logprobs=True, return_token_ids=True)
    assert engine.asked == [asked]
    assert said(events) == "go to the red ball 1"
    assert events[-1] is None
    assert [one["choices"][0]["finish_reason"] for one in events[:-1]] == [None, None, None, "stop"]
    assert {key for one in events[:-1] for key in one["choices"][0]} == {"index", "delta", "finish_reason"}
    (call,) = world.calls()
    assert (call.call_id, call.model, call.temperature, call.finish_reason) == ("c1", world.names[0], 0.7, "stop")
    assert (call.prompt_token_ids, call.token_ids, call.logprobs) == ([5, 6, 7], [1, 2], [-0.25, -1.5])
    assert call.response == Message(role="assistant", content="go to the red ball 1")
    assert failures() == []


def test_the_usage_and_the_tokens_come_when_they_are_asked_for(world: World) -> None:
    world.engine()
    world.release(0)

    _, events = stream(world.gateway(), **EVERYTHING)

    assert events[0]["prompt_token_ids"] == [5, 6, 7]
    choices = [choice for one in events[:-1] for choice in one["choices"]]
    assert [choice.get("token_ids") for choice in choices] == [None, [1], [2], None]
    assert [one["usage"]["total_tokens"] for one in events[:-1] if "usage" in one] == [5]


def test_the_official_client_reads_a_stream(world: World) -> None:
    world.engine()
    world.release(0)
    url = f"{world.gateway().base_url}/v1"

    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        wanted: Any = {"model": "main", "messages": [USER], "stream": True, "stream_options": {"include_usage": True}}
        chunks = list(client.chat.completions.create(**wanted))

    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "go to the red ball 1"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("was_streamed", [True, False])
def test_a_repeated_call_gets_what_was_recorded(world: World, was_streamed: bool, is_streamed: bool) -> None:
    world.engine()
    world.release(0)
    gateway, restarted = world.gateway(), world.gateway()

    def answer(client: httpx.Client, is_streamed: bool) -> tuple[str, str]:
        if is_streamed:
            response, events = stream(client, **EVERYTHING)
            assert events[-1] is None
            return said(events), response.headers[REASON]
        response = client.post("/v1/chat/completions", json=body(stream=False), headers=ids())
        return response.json()["choices"][0]["message"]["content"], response.headers[REASON]

    assert answer(gateway, was_streamed) == ("go to the red ball 1", "stable")
    for client in (gateway, restarted):
        assert answer(client, is_streamed) == ("go to the red ball 1", "recorded before")
    assert world.count() == 1


def test_an_engine_that_fails_before_the_first_token_is_replaced(world: World) -> None:
    second, first = world.engine("second"), world.engine("first", fate="failed")
    world.release(0)

    response, events = stream(world.gateway())

    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert (response.headers[VERSION], response.headers[REASON], said(events)) == (
        world.names[0],
        "stable",
        "go to the red ball 1",
    )
    assert (world.count(), failures()) == (1, [])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"fate": "failed"}, "cpu@test: failed"),
        ({"fate": "dumb"}, "cpu@test: said nothing for 1 s"),
        ({"fate": "silent"}, "cpu@test: said nothing for 1 s"),
        ({"refusal": 500}, "cpu@test: answered 500"),
    ],
)
@pytest.mark.parametrize("can_upstream_stream", [True, False])
def test_the_base_model_stands_in_before_the_first_token(
    world: World, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], why: str, can_upstream_stream: bool
) -> None:
    """A limit that a silent engine is to meet is not that of the upstream, which may take its time."""
    engine, upstream = world.engine(**fields), FakeEngine(fate="" if can_upstream_stream else "whole")
    world.release(0)
    url = world.serve(upstream.app()) + "/v1"
    if "nothing" in why:
        monkeypatch.setattr(completions, "Engines", impatient)
    gateway = world.gateway(UPSTREAM_BASE_URL=url, RLFLEET_FIRST_BYTE_SECONDS="60")

    response, events = stream(gateway, stream_options={"include_usage": True})

    engine.fate = ""
    assert response.headers[VERSION] == "base"
    assert response.headers[REASON] == f"fallback: no engine answers for {world.names[0]}"
    assert (said(events), events[-1]) == ("go to the red ball 1", None)
    assert [one["usage"]["total_tokens"] for one in events[:-1] if one.get("usage")] == [5]
    (call,) = world.calls()
    assert (call.model, call.has_tokens) == ("base/random-qwen3", False)
    wait_until(lambda: failures() == [("c1", "main", world.names[0], why)], 30)


@pytest.mark.parametrize(("fate", "why"), [("fails", "failed: out of memory"), ("cut", "broke off in the middle")])
def test_after_the_first_token_nothing_stands_in(world: World, fate: str, why: str) -> None:
    world.engine(fate=fate)
    world.release(0)
    upstream = FakeEngine()
    gateway = world.gateway(UPSTREAM_BASE_URL=world.serve(upstream.app()) + "/v1")

    response, events = stream(gateway)

    assert (response.headers[VERSION], said(events)) == (world.names[0], "go to")
    assert set(events[-1]) == {"error"}
    assert events[-1]["error"]["code"] == "engine_unavailable"
    assert why in events[-1]["error"]["message"]
    assert (upstream.asked, world.count()) == ([], 0)
    wait_until(lambda: len(failures()) == 1, 30)
    assert failures()[0][:3] == ("c1", "main", world.names[0])
    assert failures()[0][3].startswith(why.removesuffix(": out of memory"))
    assert "memory" not in failures()[0][3]


@pytest.mark.slow
def test_a_stream_that_falls_silent_ends_with_an_error(world: World) -> None:
    engine = world.engine(fate="endless")
    world.release(0)

    _, events = stream(world.gateway(RLFLEET_FIRST_BYTE_SECONDS="15"))

    assert said(events) == "go to"
    assert "fell silent in the middle" in events[-1]["error"]["message"]
    wait_until(lambda: engine.gone == 1, 30)
    assert world.count() == 0


def test_the_official_client_hears_of_a_stream_that_broke(world: World) -> None:
    world.engine(fate="fails")
    world.release(0)
    url = f"{world.gateway().base_url}/v1"
    wanted: Any = {"model": "main", "messages": [USER], "stream": True}

    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        chunks = client.chat.completions.create(**wanted)
        with pytest.raises(openai.APIError, match="the answer cannot go on: the engine failed: out of memory"):
            list(chunks)


def test_a_caller_that_goes_away_frees_the_engine_and_nothing_is_recorded(world: World) -> None:
    engine = world.engine(fate="endless")
    world.release(0)
    gateway = world.gateway(RLFLEET_FIRST_BYTE_SECONDS="60")

    with gateway.stream("POST", "/v1/chat/completions", json=body(), headers=ids()) as response:
        assert b"go to" in next(response.iter_bytes())
        wait_until(lambda: engine.kept == 1, 30)
    wait_until(lambda: engine.gone == 1, 30)

    engine.fate = ""
    _, events = stream(gateway)
    assert said(events) == "go to the red ball 2"
    assert (world.count(), failures()) == (1, [])


def test_an_exact_version_has_no_other(world: World) -> None:
    world.engine(fate="failed")
    upstream = FakeEngine()
    gateway = world.gateway(UPSTREAM_BASE_URL=world.serve(upstream.app()) + "/v1")

    answer = gateway.post("/v1/chat/completions", json=body(model=world.names[2]), headers=ids())

    assert problem(answer)[:2] == (503, "engine_unavailable")
    assert (answer.headers["Retry-After"], upstream.asked) == ("2", [])


def test_an_engine_loads_a_version_before_it_streams(world: World) -> None:
    uri = "/checkpoints/" + world.names[0]
    engine = world.engine(versions={"another"}, loadable={uri})
    world.release(0)

    assert said(stream(world.gateway())[1]) == "go to the red ball 1"
    assert engine.loads == [{"lora_name": world.names[0], "lora_path": uri}]


def test_an_engine_that_cannot_stream_is_cut_up(world: World) -> None:
    world.engine(fate="whole")
    world.release(0)

    _, events = stream(world.gateway())

    assert (said(events), events[-1]) == ("go to the red ball 1", None)
    (call,) = world.calls()
    assert (call.token_ids, call.logprobs) == ([1, 2], [-0.25, -1.5])


def test_what_the_engine_says_of_a_streamed_request_is_passed_on(world: World) -> None:
    world.engine(refusal=400)
    world.release(0)

    response = world.gateway().post("/v1/chat/completions", json=body(), headers=ids())

    assert (response.status_code, response.json()) == (400, {"error": {"message": "no"}})
    assert (world.count(), failures()) == (0, [])


def test_with_capture_off_a_stream_is_given_without_a_record(world: World) -> None:
    world.engine()
    world.release(0)

    assert said(stream(world.gateway(RLFLEET_CAPTURE="off"))[1]) == "go to the red ball 1"
    assert world.count() == 0
