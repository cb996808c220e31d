from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import text

from db.session import transaction
from gateway.routing import place
from rl.records import Message
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine, served

VERSION = "X-Rlfleet-Version"
USER = {"role": "user", "content": "You see: red ball 3 ahead"}


def ask(gateway: httpx.Client, model: str = "main", agent: str = "a1", **headers: str) -> httpx.Response:
    sent = {"X-Agent-Id": agent, "X-Trajectory-Id": "t1"} | {f"X-{name}-Id": value for name, value in headers.items()}
    body = {"model": model, "messages": [USER], "temperature": 0.7}
    return gateway.post("/v1/chat/completions", json=body, headers=sent)


def problem(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal, whose shape must be OpenAI's."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["message"]


def test_a_call_is_answered_by_the_stable_version_and_recorded(world: World) -> None:
    engine = world.engine()
    world.release(0)
    headers = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Turn": "2", "X-Call-Id": "c1"}

    body = {"messages": [USER], "temperature": 0.7, "max_tokens": 6}
    response = world.gateway().post("/v1/chat/completions", json=body, headers=headers)

    assert response.status_code == 200, response.text
    assert {name: response.headers[name] for name in (VERSION, "X-Trajectory-Id", "X-Turn", "X-Call-Id")} == {
        VERSION: world.names[0],
        "X-Trajectory-Id": "t1",
        "X-Turn": "2",
        "X-Call-Id": "c1",
    }
    assert response.json() == engine.completion(world.names[0], 1)
    assert engine.asked == [body | {"model": world.names[0], "logprobs": True, "return_token_ids": True}]
    (call,) = world.calls()
    assert (call.call_id, call.turn, call.model, call.temperature) == ("c1", 2, world.names[0], 0.7)
    assert (call.prompt_token_ids, call.token_ids, call.logprobs) == ([5, 6, 7], [1, 2], [-0.25, -1.5])
    assert call.messages == [Message(**USER)]
    assert call.response == Message(role="assistant", content="go to the red ball 1")
    with transaction() as session:
        assert session.execute(text("select line, agent_id from rlfleet.calls")).one() == ("main", "a1")


def test_ids_are_made_for_callers_that_send_none(world: World) -> None:
    world.engine()
    world.release(0)

    response = world.gateway().post("/v1/chat/completions", json={"messages": [USER]})

    (call,) = world.calls(response.headers["X-Trajectory-Id"])
    assert (call.call_id, call.turn, call.temperature) == (response.headers["X-Call-Id"], 0, 1.0)


def test_a_repeated_call_id_is_recorded_once_and_gets_what_was_recorded(world: World) -> None:
    engine = world.engine()
    world.release(0)
    gateway = world.gateway()

    first, second = ask(gateway, Call="c1"), ask(gateway, Call="c1")

    assert len(engine.asked) == 2
    assert world.count() == 1
    answers = [response.json()["choices"][0] for response in (first, second)]
    assert [one["message"]["content"] for one in answers] == ["go to the red ball 1"] * 2
    assert [one["token_ids"] for one in answers] == [[1, 2]] * 2
    assert [one["logprobs"]["content"][1]["logprob"] for one in answers] == [-1.5, -1.5]
    assert second.json()["prompt_token_ids"] == [5, 6, 7]
    assert second.headers[VERSION] == world.names[0]


def test_a_call_id_of_another_trajectory_is_refused(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway()
    assert ask(gateway, Call="c1").status_code == 200

    status, _, message = problem(ask(gateway, Call="c1", Trajectory="t2"))

    assert (status, message.split(":")[0]) == (400, "x-call-id")
    assert world.count() == 1


def test_many_calls_at_once_are_each_recorded_once(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway()

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda n: ask(gateway, Call=f"c{n % 100}"), range(200)))

    assert {response.status_code for response in responses} == {200}
    recorded = {call.call_id: call.response.content for call in world.calls()}
    assert len(recorded) == 100
    for response in responses:
        said = response.json()["choices"][0]["message"]["content"]
        assert said == recorded[response.headers["X-Call-Id"]]


def test_an_exact_version_answers_unless_it_is_rejected(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway(USE_RL_MODEL="false")

    assert ask(gateway, world.names[2]).headers[VERSION] == world.names[2]
    assert problem(ask(gateway, world.names[3]))[:2] == (404, "model_not_found")


def test_an_unknown_model_is_not_found(world: World) -> None:
    assert problem(ask(world.gateway(), "gpt-4o")) == (
        404,
        "model_not_found",
        "the model 'gpt-4o' does not exist: name a version, or a line: main",
    )


def test_the_pin_the_switch_and_the_release_decide_in_order(world: World) -> None:
    world.engine()
    world.release(0)
    upstream = world.serve(FakeEngine().app()) + "/v1"

    assert ask(world.gateway()).headers[VERSION] == world.names[0]
    assert ask(world.gateway(RL_MODEL_VERSION=world.names[1])).headers[VERSION] == world.names[1]
    off = {"USE_RL_MODEL": "false", "RL_MODEL_VERSION": world.names[1], "UPSTREAM_BASE_URL": upstream}
    assert ask(world.gateway(**off)).headers[VERSION] == "base"
    status, code, message = problem(ask(world.gateway(RL_MODEL_VERSION=world.names[2])))
    assert (status, code) == (503, "invalid_pin")
    assert "it is candidate" in message


def test_a_canary_gets_exactly_the_agents_of_its_share(world: World) -> None:
    world.engine()
    world.release(0)
    world.release(1, share=25, stage="canary")
    gateway = world.gateway()
    agents = [f"agent-{number}" for number in range(60)]

    twice = [[ask(gateway, agent=agent).headers[VERSION] for agent in agents] for _ in range(2)]

    assert twice[0] == twice[1]
    expected = [world.names[1] if place("main", agent) < 25 else world.names[0] for agent in agents]
    assert twice[0] == expected
    assert 5 <= expected.count(world.names[1]) <= 26


def test_a_release_takes_effect_within_a_second(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway()
    assert ask(gateway).headers[VERSION] == world.names[0]

    world.release(1)
    changed = asked = time.monotonic()
    while ask(gateway).headers[VERSION] != world.names[1]:
        assert asked - changed < 2  # one second of caching, and the database's own
        asked = time.monotonic()


def test_an_engine_loads_a_version_once_and_is_asked_again(world: World) -> None:
    uri = "/checkpoints/" + world.names[0]
    engine = world.engine(versions={"another"}, loadable={uri})
    world.release(0)
    gateway = world.gateway()

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: ask(gateway), range(8)))

    assert [response.headers.get(VERSION) for response in responses] == [world.names[0]] * 8
    assert engine.loads == [{"lora_name": world.names[0], "lora_path": uri}]


def test_a_version_that_no_engine_can_load_is_unavailable(world: World) -> None:
    world.engine(versions={"another"})
    world.release(0)

    status, code, message = problem(ask(world.gateway()))

    assert (status, code) == (503, "engine_unavailable")
    assert f"cannot load {world.names[0]} from /checkpoints/{world.names[0]} (400)" in message


def test_another_engine_answers_when_the_newest_is_gone_or_draining(world: World) -> None:
    older = world.engine("older")
    newer = world.engine("newer", is_draining=True)
    with served(FakeEngine().app()) as gone:
        world.announce("newest", gone)
    world.release(0)

    assert ask(world.gateway()).headers[VERSION] == world.names[0]
    assert (len(older.asked), len(newer.asked)) == (1, 0)


def test_the_base_model_answers_when_no_engine_does_and_is_not_recorded_as_ours(world: World) -> None:
    world.engine(is_draining=True)
    world.release(0)
    upstream = FakeEngine(key="secret")
    gateway = world.gateway(UPSTREAM_BASE_URL=world.serve(upstream.app()) + "/v1", UPSTREAM_API_KEY="secret")

    response = ask(gateway)

    assert (response.status_code, response.headers[VERSION]) == (200, "base")
    assert upstream.asked == [{"model": "random-qwen3", "messages": [USER], "temperature": 0.7}]
    (call,) = world.calls()
    assert (call.model, call.has_tokens) == ("base/random-qwen3", False)


def test_an_exact_version_never_falls_back(world: World) -> None:
    world.engine(is_draining=True)
    upstream = FakeEngine()
    gateway = world.gateway(UPSTREAM_BASE_URL=world.serve(upstream.app()) + "/v1")

    assert problem(ask(gateway, world.names[2]))[:2] == (503, "engine_unavailable")
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "set UPSTREAM_BASE_URL"),
        (
            {"RL_FALLBACK_TO_BASE": "false", "UPSTREAM_BASE_URL": "http://127.0.0.1:9/v1"},
            "set RL_FALLBACK_TO_BASE=true",
        ),
    ],
)
def test_without_a_fallback_the_caller_is_told_to_wait(world: World, variables: dict[str, str], says: str) -> None:
    gateway = world.gateway(**variables)
    nothing_released = ask(gateway)
    assert nothing_released.headers["Retry-After"] == "2"
    status, code, message = problem(nothing_released)
    assert (status, code) == (503, "base_unavailable")
    assert "the line 'main' has no released version yet" in message
    assert says in message

    world.engine("draining", is_draining=True)
    world.release(0)
    status, code, message = problem(ask(world.gateway(**variables)))
    assert (status, code) == (503, "engine_unavailable")
    assert "draining: answered 503" in message
    assert says in message


@pytest.mark.parametrize("status", [400, 429])
def test_what_the_engine_says_of_the_request_is_passed_on(world: World, status: int) -> None:
    world.engine(refusal=status)
    world.release(0)

    response = ask(world.gateway())

    assert (response.status_code, response.json()) == (status, {"error": {"message": "no"}})
    assert response.headers["Retry-After"] == "9"
    assert world.count() == 0


def test_a_wrong_engine_key_is_not_blamed_on_the_caller(world: World) -> None:
    world.engine(key="engine-key")
    world.release(0)

    status, _, message = problem(ask(world.gateway(RLFLEET_ENGINE_KEY="another")))
    assert status == 503
    assert "answered 401: RLFLEET_ENGINE_KEY is not the engine's" in message
    assert ask(world.gateway(RLFLEET_ENGINE_KEY="engine-key")).status_code == 200


def test_a_wrong_upstream_key_is_not_blamed_on_the_caller(world: World) -> None:
    upstream = world.serve(FakeEngine(key="upstream-key").app())

    assert problem(ask(world.gateway(UPSTREAM_BASE_URL=f"{upstream}/v1"))) == (
        503,
        "upstream_unavailable",
        "the server at UPSTREAM_BASE_URL refused UPSTREAM_API_KEY",
    )


def test_answers_without_tokens_are_recorded_without_tokens(world: World) -> None:
    world.engine(has_tokens=False)
    world.release(0)

    assert ask(world.gateway()).status_code == 200
    (call,) = world.calls()
    assert (call.model, call.has_tokens) == (world.names[0], False)


@pytest.mark.parametrize("sent", [b"{", b'{"messages": 3}', b"\xff"])
def test_bad_json_is_a_bad_request(world: World, sent: bytes) -> None:
    response = world.gateway().post("/v1/chat/completions", content=sent)

    assert problem(response)[:2] == (400, "invalid_request")


@pytest.mark.parametrize("turn", ["-1", "two", "99999999999999", "²"])
def test_a_bad_turn_is_a_bad_request(world: World, turn: str) -> None:
    headers = {b"X-Turn": turn.encode("latin-1")}
    response = world.gateway().post("/v1/chat/completions", json={"messages": [USER]}, headers=headers)

    assert problem(response)[2].startswith("x-turn: must be a whole number")


def test_capture_off_answers_without_a_record(world: World) -> None:
    world.engine()
    world.release(0)

    assert ask(world.gateway(RLFLEET_CAPTURE="off")).status_code == 200
    assert world.count() == 0


def completion_arguments() -> dict[str, Any]:
    return {"model": "main", "messages": [USER], "temperature": 0.5}


def test_the_official_client_works(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway(RLFLEET_GATEWAY_KEYS="one,two")
    with openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="two", max_retries=0) as client:
        headers = {"X-Trajectory-Id": "t9", "X-Capture": "committed"}
        completion = client.chat.completions.create(**completion_arguments(), extra_headers=headers)
        raw = client.chat.completions.with_raw_response.create(**completion_arguments())
        models = [model.id for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="gpt-4o", messages=[USER])

    assert completion.choices[0].message.content == "go to the red ball 1"
    assert completion.model == world.names[0] == raw.headers[VERSION]
    assert [call.temperature for call in world.calls("t9")] == [0.5]
    assert models == ["main", world.names[0]]
    with openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="three", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError, match="RLFLEET_GATEWAY_KEYS"):
            stranger.chat.completions.create(**completion_arguments())
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
