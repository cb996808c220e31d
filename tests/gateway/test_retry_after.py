"""Whether a caller that got no answer is told to come again: only where waiting can help."""

from __future__ import annotations

from db import controls
from db.session import transaction
from gateway.routing import place
from tests.gateway.conftest import World
from tests.gateway.test_completions import ask, problem

OUTSIDE = next(agent for number in range(1000) if place("main", agent := f"agent-{number}") >= 50)
INSIDE = next(agent for number in range(1000) if place("main", agent := f"agent-{number}") < 50)


def test_a_switch_is_not_waited_out(world: World) -> None:
    world.engine()
    world.release(0)
    off = ask(world.gateway(USE_RL_MODEL="false"))
    with transaction() as session:
        controls.kill(session, world.line.id, True, "a test", "a test")
    killed = ask(world.gateway())

    assert problem(off) == (
        503,
        "base_unavailable",
        "USE_RL_MODEL is off; set UPSTREAM_BASE_URL to let the base model answer",
    )
    assert problem(killed)[2].startswith("the line 'main' is switched off (rlfleet kill --off --line main")
    assert "Retry-After" not in off.headers
    assert "Retry-After" not in killed.headers


def test_an_agent_outside_the_share_is_outside_the_next_time_too(world: World) -> None:
    engine = world.engine(is_draining=True)
    world.release(0, share=50)
    gateway = world.gateway()

    outside, inside = ask(gateway, agent=OUTSIDE), ask(gateway, agent=INSIDE)

    assert problem(outside)[1:] == (
        "base_unavailable",
        "this agent is outside the released share; set UPSTREAM_BASE_URL to let the base model answer",
    )
    assert "Retry-After" not in outside.headers
    assert (problem(inside)[1], inside.headers["Retry-After"]) == ("engine_unavailable", "2")
    engine.is_draining = False
    assert ask(gateway, agent=INSIDE).status_code == 200
