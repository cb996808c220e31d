"""The base model stands in for a version, or fails too: what the caller is told, and by whom."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_completions import USER, VERSION, ask, problem
from tests.gateway.test_fallback import base
from tests.gateway.test_streamed import REASON, failures, stream


def refusing(world: World, status: int) -> dict[str, str]:
    """The variable of a base model's server that says only this, and to come again after 9 s."""
    return {"UPSTREAM_BASE_URL": world.serve(FakeEngine(refusal=status).app()) + "/v1"}


def post(gateway: httpx.Client, **fields: Any) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json={"messages": [USER], **fields})


@pytest.mark.parametrize("is_streamed", [True, False])
def test_the_base_model_stands_in_where_all_engines_are_full(world: World, is_streamed: bool) -> None:
    world.engine(refusal=429)
    world.release(0)
    gateway = world.gateway(**base(world))

    answer = stream(gateway)[0] if is_streamed else ask(gateway)
    named = ask(gateway, world.names[0])

    assert (answer.headers[VERSION], answer.headers[REASON]) == ("base", "fallback: engines are busy")
    assert named.status_code == 429
    assert ask(world.gateway(**base(world), RL_FALLBACK_TO_BASE="false")).status_code == 429
    assert ask(world.gateway(UPSTREAM_BASE_URL="http://127.0.0.1:9/v1")).status_code == 429, "it does not answer"
    assert failures() == []


@pytest.mark.parametrize("status", [400, 404, 429, 500])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_engines_that_are_full_say_so_whatever_the_base_model_says(
    world: World, status: int, is_streamed: bool
) -> None:
    world.engine(refusal=429)
    world.release(0)

    answer = post(world.gateway(**refusing(world, status)), stream=is_streamed)

    assert (answer.status_code, answer.headers[VERSION]) == (429, world.names[0])


@pytest.mark.parametrize("status", [404, 500, 503])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_stand_in_that_fails_is_no_answer(world: World, status: int, is_streamed: bool) -> None:
    world.engine(is_draining=True)
    world.release(0)

    answer = post(world.gateway(**refusing(world, status)), stream=is_streamed)

    said = f"the server at UPSTREAM_BASE_URL, asked instead, answered {status}; try again"
    assert problem(answer)[:2] == (503, "upstream_unavailable")
    assert problem(answer)[2].startswith(f"no engine can answer for {world.names[0]} (cpu@test: answered 503")
    assert problem(answer)[2].endswith(said)
    assert answer.headers["Retry-After"] == "9"


def test_before_the_first_release_it_is_a_stand_in_too(world: World) -> None:
    answer = ask(world.gateway(**refusing(world, 404)))

    assert problem(answer)[:2] == (503, "upstream_unavailable")
    assert problem(answer)[2].startswith("the line 'main' has no released version yet; the server at")


@pytest.mark.parametrize("status", [400, 429])
def test_what_the_base_model_says_of_the_request_is_passed_on(world: World, status: int) -> None:
    world.engine(is_draining=True)
    world.release(0)

    answer = ask(world.gateway(**refusing(world, status)))

    assert (answer.status_code, answer.headers[VERSION], answer.headers["Retry-After"]) == (status, "base", "9")


@pytest.mark.parametrize("status", [404, 500])
def test_who_should_be_answered_by_the_base_model_hears_what_it_says(world: World, status: int) -> None:
    world.release(0)

    answer = ask(world.gateway(**refusing(world, status), RL_ROLLOUT_PERCENTAGE="0"))

    assert (answer.status_code, answer.headers[VERSION]) == (status, "base")
