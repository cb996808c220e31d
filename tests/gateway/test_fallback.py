"""Engines that fail, and what a person says of a line, over real HTTP: who answers then, and what the caller hears."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import text
from starlette.responses import Response

from db import controls
from db.session import transaction
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine, pass_seconds
from tests.gateway.test_completions import VERSION, ask, problem
from tests.gateway.test_streamed import REASON, failures, said, stream
from tests.recorder.doubles import wait_until

USER = {"role": "user", "content": "You see: red ball 3 ahead"}


def longest(status: int | None) -> dict[str, str]:
    """The deadline of a whole answer that a test can reach: of an engine whose health hangs too."""
    return {"RLFLEET_ANSWER_SECONDS": "4"} if status is None else {}


def base(world: World) -> dict[str, str]:
    return {"UPSTREAM_BASE_URL": world.serve(FakeEngine().app()) + "/v1"}


def were_asked() -> list[bool]:
    """Of the calls that failed, in their order: whether an engine was asked at all."""
    with transaction() as session:
        return list(session.scalars(text("select asked from rlfleet.call_failures order by call_id")))


def test_the_breaker_opens_and_closes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = world.engine(refusal=500)
    world.release(0)
    gateway = world.gateway(**base(world), RLFLEET_BREAKER_FAILURES="3", RLFLEET_BREAKER_SECONDS="600")
    reached: list[int] = []
    plain = engine.complete

    async def counted(request: Any) -> Any:
        reached.append(1)
        return await plain(request)

    engine.complete = counted  # type: ignore[method-assign]
    world.announce("cpu@test", world.serve(engine.app()))

    answers = [ask(gateway, Call=f"c{number}") for number in range(8)]

    assert {answer.headers[VERSION] for answer in answers} == {"base"}
    assert len(reached) == 3
    wait_until(lambda: len(failures()) == 8, 30)
    assert "failed repeatedly, and is not asked for another" in failures()[7][3]
    assert were_asked() == [True] * 3 + [False] * 5

    engine.refusal = None
    assert ask(gateway).headers[VERSION] == "base"
    pass_seconds(monkeypatch, 600)
    assert ask(gateway).headers[VERSION] == world.names[0]
    assert {ask(gateway).headers[VERSION] for _ in range(5)} == {world.names[0]}
    assert len(reached) == 9


def test_an_open_breaker_of_an_exact_version_is_a_503(world: World) -> None:
    engine = world.engine(refusal=500)
    gateway = world.gateway(RLFLEET_BREAKER_FAILURES="1", RLFLEET_BREAKER_SECONDS="600")
    assert "answered 500" in problem(ask(gateway, world.names[2]))[2]

    engine.refusal = None
    status, code, message = problem(ask(gateway, world.names[2]))
    assert (status, code) == (503, "engine_unavailable")
    left = re.search(r"cpu@test: failed repeatedly, and is not asked for another (\d+) s", message)
    assert left is not None
    assert 500 < int(left[1]) <= 600
    # A breaker is one version's: what one version breaks, another may still answer.
    assert ask(gateway, world.names[0]).headers[VERSION] == world.names[0]


@pytest.mark.parametrize("status", [400, 429])
def test_what_is_the_requests_own_fault_opens_no_breaker(world: World, status: int) -> None:
    engine = world.engine(refusal=status)
    world.release(0)
    gateway = world.gateway(RLFLEET_BREAKER_FAILURES="1", RLFLEET_BREAKER_SECONDS="60")
    assert ask(gateway).status_code == status

    engine.refusal = None
    assert ask(gateway).status_code == 200
    assert failures() == []


def test_an_engine_that_is_full_sends_the_call_to_another(world: World) -> None:
    older = world.engine("older")
    world.engine("newer", refusal=429)
    world.release(0)

    assert ask(world.gateway()).headers[VERSION] == world.names[0]
    assert len(older.asked) == 1


@pytest.mark.parametrize("status", [None, 500])
def test_an_engine_that_hangs_is_given_up_though_nothing_is_streamed(world: World, status: int | None) -> None:
    engine = world.engine(fate="silent")

    async def health(request: Any) -> Response:
        return await engine.complete(request) if status is None else Response(status_code=status)

    engine.health = health  # type: ignore[method-assign, assignment]
    world.announce("cpu@test", world.serve(engine.app()))
    world.release(0)

    answer = ask(world.gateway(**base(world), RLFLEET_FIRST_BYTE_SECONDS="0.2", **longest(status)))

    engine.fate = ""
    assert (answer.headers[VERSION], answer.headers[REASON]) == (
        "base",
        f"fallback: no engine answers for {world.names[0]}",
    )


@pytest.mark.parametrize("status", [200, 404])
def test_an_engine_that_lives_may_take_its_time(world: World, status: int) -> None:
    engine = world.engine(fate="silent")
    world.release(0)
    asked = []

    async def health(_: Any) -> Response:
        asked.append(1)
        if len(asked) >= 3:
            engine.fate = ""
        return Response(status_code=status)

    engine.health = health  # type: ignore[method-assign, assignment]
    world.announce("cpu@test", world.serve(engine.app()))

    answer = ask(world.gateway(**base(world), RLFLEET_FIRST_BYTE_SECONDS="0.1"))

    assert answer.headers[VERSION] == world.names[0]
    assert len(asked) >= 3


def test_an_answer_that_is_no_completion_is_the_engines_failure(world: World) -> None:
    engine = world.engine()
    engine.completion = lambda model, number: {"choices": [], "model": model}  # type: ignore[method-assign]
    world.release(0)

    assert ask(world.gateway(**base(world))).headers[VERSION] == "base"
    wait_until(lambda: len(failures()) == 1, 30)
    assert "not a chat completion" in failures()[0][3]


def test_nothing_is_kept_of_a_failure_in_an_episode_that_nobody_agreed_to(world: World) -> None:
    world.engine(is_draining=True)
    world.release(0)
    gateway = world.gateway(**base(world))
    headers = {"X-Trajectory-Id": "t1", "X-Call-Id": "c1", "X-Consent": "false"}

    answer = gateway.post("/v1/chat/completions", json={"messages": [USER]}, headers=headers)
    assert answer.headers[VERSION] == "base"
    assert ask(gateway, Call="c2", Trajectory="t2").headers[VERSION] == "base"

    wait_until(lambda: failures() != [], 30)
    assert [one[0] for one in failures()] == ["c2"]


def test_a_kill_and_a_pin_are_heeded_within_two_seconds(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway(**base(world))

    def heard_within_two_seconds(say: Callable[[Any], object], version: str, reason: str) -> None:
        with transaction() as session:
            say(session)
        changed = asked = time.monotonic()
        while (answer := ask(gateway)).headers[VERSION] != version:
            assert asked - changed < 2
            asked = time.monotonic()
        assert answer.headers[REASON] == reason
        streamed, events = stream(gateway, call=f"c-{reason}-{version}")
        assert (streamed.headers[VERSION], events[-1]) == (version, None)

    line, pinned = world.line.id, world.versions[1].id
    stable = (world.names[0], "stable")
    assert ask(gateway).headers[REASON] == "stable"
    heard_within_two_seconds(lambda s: controls.kill(s, line, True, "a test", "a test"), "base", "killed")
    heard_within_two_seconds(lambda s: controls.kill(s, line, False, "a test", "a test"), *stable)
    heard_within_two_seconds(lambda s: controls.pin(s, line, pinned, "a test", "a test"), world.names[1], "pinned")
    heard_within_two_seconds(lambda s: controls.kill(s, line, True, "a test", "a test"), "base", "killed")
    heard_within_two_seconds(lambda s: controls.kill(s, line, False, "a test", "a test"), world.names[1], "pinned")
    heard_within_two_seconds(lambda s: controls.pin(s, line, None, "a test", "a test"), *stable)


def test_a_call_that_names_the_version_does_not_heed_the_kill(world: World) -> None:
    world.engine()
    with transaction() as session:
        controls.kill(session, world.line.id, True, "a test", "a test")

    answer = ask(world.gateway(), world.names[2])

    assert (answer.headers[VERSION], answer.headers[REASON]) == (world.names[2], "named by the caller")


def test_an_answer_says_how_long_who_took(world: World) -> None:
    world.engine()
    world.release(0)

    timing = ask(world.gateway()).headers["Server-Timing"]

    engine, gateway = (part.strip().split(";dur=") for part in timing.split(","))
    assert (engine[0], gateway[0]) == ("engine", "gateway")
    assert float(engine[1]) >= 0
    assert float(gateway[1]) >= 0


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_request_that_is_too_large_is_refused_before_it_is_read(world: World, is_chunked: bool) -> None:
    engine = world.engine()
    world.release(0)
    gateway = world.gateway(RLFLEET_GATEWAY_MOST_MB="1")
    large = b'{"messages": [{"role": "user", "content": "' + b"x" * 2**21 + b'"}]}'
    content: Any = iter([large[: 2**20], large[2**20 :]]) if is_chunked else large

    try:
        answer = gateway.post("/v1/chat/completions", content=content)
    except httpx.WriteError:  # the gateway had answered and closed the connection
        assert is_chunked
    else:
        assert problem(answer)[:2] == (413, "request_too_large")
        assert "RLFLEET_GATEWAY_MOST_MB" in problem(answer)[2]
    assert ask(gateway).status_code == 200
    assert len(engine.asked) == 1
    url = f"{gateway.base_url}/v1"
    with (
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIError) as refused,
    ):
        client.chat.completions.create(model="main", messages=[{"role": "user", "content": "x" * 2**21}])
    assert isinstance(refused.value, openai.APIStatusError)
    assert refused.value.status_code == 413


def test_models_are_lines_and_versions_and_each_can_be_asked_for(world: World) -> None:
    world.release(0)
    url = f"{world.gateway().base_url}/v1"

    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["main", world.names[0]]
        assert client.models.retrieve("main").id == "main"
        assert client.models.retrieve(world.names[2]).id == world.names[2]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.models.retrieve("gpt-4o")


def test_a_repeat_is_answered_while_no_engine_is(world: World) -> None:
    engine = world.engine()
    world.release(0)
    assert said(stream(world.gateway())[1]) == "go to the red ball 1"

    engine.is_draining = True
    gateway = world.gateway(**base(world))

    response, events = stream(gateway)
    assert (response.headers[REASON], said(events)) == ("recorded before", "go to the red ball 1")
    # The repeat was no failure of the version; a new call is one.
    assert ask(gateway, Call="c2").headers[VERSION] == "base"
    wait_until(lambda: failures() != [], 30)
    assert [one[0] for one in failures()] == ["c2"]


def test_a_failure_says_whose_call_it_was(world: World) -> None:
    world.engine(refusal=500)
    world.release(0)
    gateway = world.gateway()
    for agent, call_id in (("a7", "c1"), ("", "c2")):
        assert ask(gateway, agent=agent, Call=call_id).status_code == 503

    def whose() -> list[tuple[str, ...]]:
        with transaction() as session:
            rows = session.execute(text("select call_id, unit from rlfleet.call_failures order by call_id"))
            return [tuple(row) for row in rows]

    wait_until(lambda: whose() == [("c1", "a7"), ("c2", "t1")], 30)


def test_an_engines_own_words_are_for_the_caller_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.engine(refusal=500)
    world.release(0)

    refused = ask(world.gateway(RLFLEET_BREAKER_FAILURES="1"))

    assert problem(refused)[2].startswith(
        f"""no engine can answer for {world.names[0]} (cpu@test: answered 500: {{"err"""
    )
    wait_until(lambda: [one[3] for one in failures()] == ["cpu@test: answered 500"], 30)
    assert "is not asked" in caplog.text
    assert '"error"' not in caplog.text
