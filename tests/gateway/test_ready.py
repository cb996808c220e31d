"""What a balancer and a person are told of engines that refuse the key, hang, or failed their versions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from db import controls
from db.session import transaction
from gateway import probing
from tests.conftest_database import add_line, add_version, released
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine, pass_seconds
from tests.gateway.test_completions import ask

OPEN = {"RLFLEET_BREAKER_FAILURES": "1", "RLFLEET_BREAKER_SECONDS": "600"}


def ready(gateway: httpx.Client) -> tuple[int, str, str]:
    answer = gateway.get("/ready")
    return answer.status_code, answer.json()["status"], answer.json()["why"]


def details(gateway: httpx.Client) -> tuple[int, dict[str, Any]]:
    answer = gateway.get("/health")
    return answer.status_code, answer.json()


def base(world: World) -> dict[str, str]:
    return {"UPSTREAM_BASE_URL": world.serve(FakeEngine().app()) + "/v1"}


def test_an_engine_that_refuses_the_key_is_not_there(world: World) -> None:
    world.engine(key="right")
    world.release(0)
    refuses = "cpu@test refuses the key: check RLFLEET_ENGINE_KEY"

    wrong = world.gateway(RLFLEET_ENGINE_KEY="hush")
    assert ready(wrong) == (503, "unavailable", f"no engine answers: {refuses}")
    status, body = details(wrong)
    assert (status, body["engine"], body["engines"]) == (503, refuses, {"cpu@test": refuses.removeprefix("cpu@test ")})
    assert "hush" not in str(body)

    assert ready(world.gateway(RLFLEET_ENGINE_KEY="right")) == (200, "ok", "")
    helped = world.gateway(RLFLEET_ENGINE_KEY="hush", **base(world))
    instead = f"line main: nobody answers for {world.names[0]} ({refuses}), the base model answers"
    assert ready(helped) == (200, "degraded", instead)


def test_a_version_that_every_breaker_is_open_for_cannot_answer(world: World) -> None:
    world.engine(refusal=500)
    world.release(0)
    gateway, helped = world.gateway(**OPEN), world.gateway(**OPEN, **base(world))
    assert ready(gateway) == ready(helped) == (200, "ok", "")
    assert (ask(gateway).status_code, ask(helped).status_code) == (503, 200)

    status, said, why = ready(gateway)
    assert (status, said) == (503, "unavailable")
    assert why.startswith(f"line main: nobody answers for {world.names[0]} (cpu@test failed it, and is not asked for")
    code, body = details(gateway)
    assert (code, body["engine"], body["lines"]["main"]["status"]) == (503, "ok", "unavailable")
    assert 500 < body["breakers"][world.names[0]]["cpu@test"] <= 600

    status, said, why = ready(helped)
    assert (status, said, why.endswith(", the base model answers")) == (200, "degraded", True)
    assert details(helped)[0] == 200


def test_a_breaker_that_lets_a_call_try_makes_the_gateway_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.engine(refusal=500)
    world.release(0)
    gateway = world.gateway(**OPEN)
    assert ask(gateway).status_code == 503
    assert ready(gateway)[0] == 503
    pass_seconds(monkeypatch, 600)
    # Without calls nothing would ever close it, and a balancer sends none to who is not ready.
    assert ready(gateway) == (200, "ok", "")


def test_one_line_of_many_does_not_take_the_gateway_out(world: World) -> None:
    world.engine(refusal=500)
    world.release(0)
    with transaction() as session:
        other = add_line(session, "other")
        released(session, other.id, add_version(session, other, prefix="other").id)
        add_line(session, "new")
    gateway = world.gateway(**OPEN)
    assert ask(gateway).status_code == 503

    status, said, why = ready(gateway)
    assert (status, said) == (200, "degraded")
    assert why.startswith("line main: nobody answers for")
    code, body = details(gateway)
    assert (code, {name: one["status"] for name, one in body["lines"].items()}) == (
        200,
        {"main": "unavailable", "new": "idle", "other": "ok"},
    )

    assert ask(gateway, "other").status_code == 503
    assert ready(gateway)[0] == details(gateway)[0] == 503


def test_a_line_that_a_person_switched_off_is_as_it_should_be(world: World) -> None:
    world.engine()
    world.release(0)
    with transaction() as session:
        controls.kill(session, world.line.id, True, "a test", "a test")
    gateway = world.gateway()

    assert ready(gateway) == (200, "ok", "")
    line = {"status": "idle", "why": "killed, and UPSTREAM_BASE_URL is not set"}
    assert details(gateway)[1]["lines"] == {"main": line}


def test_a_pin_that_cannot_be_used_is_told_of_before_calls_come(world: World) -> None:
    world.engine()
    world.release(0)
    status, said, why = ready(world.gateway(RL_MODEL_VERSION="babylon-agent-v9"))
    assert (status, said) == (503, "unavailable")
    assert why.startswith("line main: RL_MODEL_VERSION = 'babylon-agent-v9': there is no such version")


def test_whoever_looks_often_does_not_keep_engines_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SECONDS", 600.0)
    engine = world.engine()
    gateway = world.gateway()
    for _ in range(10):
        assert ready(gateway)[0] == details(gateway)[0] == 200
    assert engine.probed == 1


def test_an_engine_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "ANSWER_SECONDS", 0.2)
    engine = FakeEngine(fate="silent")

    async def models(request: Request) -> JSONResponse:
        await engine._patient(request)
        return JSONResponse({})

    engine.models = models  # type: ignore[method-assign]
    world.announce("cpu@test", world.serve(engine.app()))

    assert ready(world.gateway()) == (503, "unavailable", "no engine answers: cpu@test does not answer")
    engine.fate = ""


@pytest.mark.parametrize(
    ("health", "models", "says"),
    [
        (404, 200, ""),
        (200, 404, ""),
        (404, 404, "no engine answers: cpu@test has neither /health nor /v1/models: check its address"),
        (200, 403, "no engine answers: cpu@test refuses the key: check RLFLEET_ENGINE_KEY"),
        (200, 500, "no engine answers: cpu@test does not answer"),
        (500, 200, "no engine answers: cpu@test does not answer"),
    ],
)
def test_some_servers_lack_a_page(world: World, health: int, models: int, says: str) -> None:
    engine = FakeEngine()

    async def healthy(_: Request) -> JSONResponse:
        return JSONResponse({}, health)

    async def listed(request: Request) -> JSONResponse:
        return JSONResponse({}, models)

    engine.health, engine.models = healthy, listed  # type: ignore[method-assign]
    world.announce("cpu@test", world.serve(engine.app()))

    assert ready(world.gateway()) == ((503, "unavailable", says) if says else (200, "ok", ""))
