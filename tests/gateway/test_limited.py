"""Limits of upstreams over real HTTP: exactly so many calls are sent, and what callers hear beyond."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from gateway import upstream
from gateway.limits import DAY, Gate
from tests.gateway.adapter_servers import Vllm
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_adapters import configured
from tests.gateway.test_completions import ask, problem
from tests.gateway.test_streamed import body, failures, ids
from tests.gateway.test_upstreams import openai_table
from tests.recorder.doubles import wait_until


@pytest.fixture
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the limits; the minute and the day do not end while calls are made."""
    monkeypatch.setattr(upstream, "Gate", partial(Gate, clock=lambda: 1000.0, wall=lambda: 20_000.5 * DAY))


@pytest.mark.usefixtures("_no_time_passes")
def test_beyond_so_many_a_minute_the_next_is_asked_and_then_callers_wait(world: World, tmp_path: Path) -> None:
    first, second = FakeEngine(), FakeEngine()
    tables = {
        "first": openai_table(world, first, "per_minute = 3"),
        "second": openai_table(world, second, "per_day = 2"),
    }
    gateway = world.gateway(**configured(tmp_path, **tables))

    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda number: ask(gateway, Call=f"c{number}"), range(9)))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 4
    assert (len(first.asked), len(second.asked)) == (3, 2)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "60"
    assert problem(refused)[1:] == (
        "rate_limit_exceeded",
        "first has reached its limit of calls; try again in 60 s",
    )
    assert world.count() == 5
    states = gateway.get("/ready").json()["upstreams"]
    assert states == {"first": "limited for another 60 s", "second": f"limited for another {DAY // 2} s"}


def test_calls_at_once_are_those_that_are_not_answered_yet(world: World, tmp_path: Path) -> None:
    slow = FakeEngine(fate="silent")
    gateway = world.gateway(**configured(tmp_path, slow=openai_table(world, slow, "concurrent = 2")))

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, gateway, Call=f"c{number}") for number in range(2)]
        wait_until(lambda: slow.kept == 2, 60)
        assert (ask(gateway).status_code, ask(gateway).headers["Retry-After"]) == (429, "2")
        slow.fate = ""
        assert [one.result().status_code for one in waiting] == [200, 200]

    assert len(slow.asked) == 2
    assert ask(gateway).status_code == 200


def test_a_stream_holds_its_place_until_it_ends_or_its_caller_goes(world: World, tmp_path: Path) -> None:
    slow = FakeEngine(fate="endless")
    gateway = world.gateway(**configured(tmp_path, slow=openai_table(world, slow, "concurrent = 1")))

    with gateway.stream("POST", "/v1/chat/completions", json=body(), headers=ids()) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces)
        assert ask(gateway, Call="c2").status_code == 429

    slow.fate = ""
    wait_until(lambda: ask(gateway).status_code == 200, 60)


@pytest.mark.parametrize("fate", ["cut", "fails", "failed", "dumb"])
def test_a_stream_that_the_upstream_breaks_off_frees_its_place(world: World, tmp_path: Path, fate: str) -> None:
    broken = FakeEngine(fate=fate)
    tables = {"broken": openai_table(world, broken, "concurrent = 1")}
    first_byte = {"RLFLEET_FIRST_BYTE_SECONDS": "1"} if fate == "dumb" else {}
    gateway = world.gateway(**configured(tmp_path, **tables), **first_byte)

    answer = gateway.post("/v1/chat/completions", json=body(), headers=ids())
    assert (answer.status_code, "[DONE]" in answer.text) == (200 if fate in ("cut", "fails") else 503, False)
    broken.fate = ""
    assert ask(gateway, Call="c2").status_code == 200


@pytest.mark.usefixtures("_no_time_passes")
def test_versions_on_a_limited_server_go_to_our_engine_and_then_callers_wait(world: World, tmp_path: Path) -> None:
    server = Vllm(folders={f"/checkpoints/{world.names[0]}"})
    table = f'kind = "vllm"\nurl = "{world.serve(server.app())}/v1"\nserves = ["versions"]\nper_minute = 2'
    world.release(0)
    gateway = world.gateway(**configured(tmp_path, gpu=table))

    assert [ask(gateway).status_code for _ in range(3)] == [200, 200, 429]
    assert failures() == [], "who is full has not failed"
    engine = world.engine()
    wait_until(lambda: ask(gateway).status_code == 200, 60)
    assert (len(server.asked), len(engine.asked)) == (2, 1)
